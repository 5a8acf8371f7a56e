"""How a server is started: which interpreter, which arguments, and files that its older transformers reads right."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from places import ROOT

from dpr_mini.engines.base import EngineError
from dpr_mini.engines.sglang import launch

FAKE = "#!/bin/sh\n{}\n"


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.format("\n".join(lines)))
    path.chmod(0o755)
    return path


# --- interpreter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpu", "fix"), [(True, launch.INSTALL), (False, launch.INSTALL_CPU)])
def test_no_interpreter_is_one_line_with_the_command_that_makes_one(tmp_path, monkeypatch, gpu, fix):
    monkeypatch.chdir(tmp_path)
    for named, says in ((None, "names no interpreter"), ("nowhere/python", "no interpreter 'nowhere/python'")):
        with pytest.raises(EngineError, match=says) as caught:
            launch.find_python(named, gpu)
        assert str(caught.value).endswith(fix) and "\n" not in str(caught.value)


def test_the_usual_places_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in reversed(launch.USUAL):
        made = program(tmp_path / place)
        assert launch.find_python(None, gpu=False) == str(made)


def test_a_named_interpreter_is_absolute_but_its_link_is_kept(tmp_path, monkeypatch):
    """A virtual environment's python is a link: resolved, it would be the system's, without SGLang."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env").mkdir()
    (tmp_path / "env/python").symlink_to(sys.executable)
    assert launch.find_python("env/python", gpu=False) == str(tmp_path / "env/python")
    monkeypatch.setenv("PATH", str(tmp_path / "env"), prepend=os.pathsep)
    assert launch.find_python("python", gpu=False) == str(tmp_path / "env/python")


def test_a_file_that_is_no_program_is_no_interpreter(tmp_path):
    (tmp_path / "python").write_text("")
    with pytest.raises(EngineError, match="no interpreter"):
        launch.find_python(str(tmp_path / "python"), gpu=False)


def test_versions_are_asked_of_that_interpreter(tmp_path):
    """A folder of package metadata is all that the question reads."""
    site = tmp_path / "site"
    for name, version in (("sglang", "0.5.9"), ("sgl_kernel", "0.3.21"), ("Torch", "2.9.1"), ("other", "1")):
        meta = site / f"{name}-{version}.dist-info" / "METADATA"
        meta.parent.mkdir(parents=True)
        meta.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (site / "broken-1.dist-info").mkdir()  # what an interrupted pip leaves: a package without a name
    (site / "broken-1.dist-info/METADATA").write_text("")
    code = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(site)!r}]; "
    wrapper = program(tmp_path / "python", f'exec {sys.executable} -S -I -c "{code}$3"')
    assert launch.versions(str(wrapper)) == {"sglang": "0.5.9", "sgl-kernel": "0.3.21", "torch": "2.9.1"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["true"], r"is no Python interpreter: it said ''"),
        (["echo [1]"], r"is no Python interpreter: it said '\[1\]"),
        (["printf '\\377'"], r"does not run: .*utf-8"),
        (['echo \'{"torch": "2.9.1"}\''], rf"has no sglang; run: .*python -m pip install sglang=={launch.RELEASE}"),
        (["echo some words >&2", "echo libpython is missing >&2", "exit 127"], "does not run: libpython is missing"),
        (["exit 3"], "does not run: no message"),
    ],
)
def test_an_interpreter_without_sglang_is_one_line(tmp_path, lines, says):
    python = program(tmp_path / "python", *lines)
    with pytest.raises(EngineError, match=says) as caught:
        launch.versions(str(python))
    assert "\n" not in str(caught.value)


def test_an_interpreter_that_cannot_be_executed_is_one_line(tmp_path):
    (tmp_path / "python").write_text("no program")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(EngineError, match=r"does not run: .*Exec format error"):
        launch.versions(str(tmp_path / "python"))


def test_the_lock_is_whole_and_of_the_release_that_is_told_to_install():
    """`pip install -r` with hashes refuses what is not pinned, and takes nothing but the wheels that were resolved."""
    root = ROOT
    path = root / f"tools/sglang-{launch.RELEASE}.lock"
    script = (root / launch.INSTALL.split()[0]).read_text()
    assert path.name in script and launch.INSTALL.endswith(" .sglang")
    packages = re.split(r"\n(?! )", re.sub(r"^#.*\n", "", path.read_text(), flags=re.M).strip())
    names = [re.fullmatch(r"([a-z0-9-]+)==[^ ]+((?: \\\n    --hash=sha256:[0-9a-f]{64})+)", p)[1] for p in packages]
    assert names == sorted(set(names)) and len(names) > 150
    assert {f"sglang=={launch.RELEASE}", "torch==2.14.1", "transformers==5.19.0"} <= {p.split(" ")[0] for p in packages}
    assert "://" not in path.read_text()


def test_the_compiler_in_sglangs_environment_is_found_once_it_can_be_used(tmp_path):
    python, home = tmp_path / "bin/python", tmp_path / "lib/python3.12/site-packages/nvidia/cu13"
    assert launch.cuda_home(str(python)) is None
    (home / "bin").mkdir(parents=True)
    (home / "bin/nvcc").touch()
    assert launch.cuda_home(str(python)) is None, "without libcudart.so nothing can be linked"
    (home / "lib").mkdir()
    (home / "lib/libcudart.so").touch()
    (home / "lib64").symlink_to("lib")
    assert launch.cuda_home(str(python)) == home


# --- arguments ------------------------------------------------------------------------------------------------------


def line(arguments=(), gpu=False, deterministic=False, release=launch.RELEASE) -> list[str]:
    return launch.command("py", Path("m"), 99, dict(arguments), gpu=gpu, deterministic=deterministic, release=release)


def test_the_servers_command_line():
    on_gpu, on_cpu = line(gpu=True), line()
    assert " ".join(on_gpu[:9]) == f"py -u {launch.SERVER} --model-path m --host 127.0.0.1 --port 99"
    assert launch.SERVER.is_file()
    assert "--schedule-policy lpm" in " ".join(on_gpu), "else the samples of a new prompt are all computed at once"
    assert "--device cpu" in " ".join(on_cpu) and "--dtype float32" in " ".join(on_cpu)
    assert not {"--device", "--dtype", "--mem-fraction-static", "--disable-overlap-schedule"} & set(on_gpu)
    assert "--enable-deterministic-inference" in line(deterministic=True)
    assert "--enable-deterministic-inference" not in on_gpu


def test_arguments_of_the_recipe_go_over_ours():
    got = " ".join(line({"dtype": "bfloat16", "schedule-policy": "fcfs", "tp_size": 2, "mem-fraction-static": 0.85}))
    assert "--dtype bfloat16" in got and "float32" not in got
    assert "--schedule-policy fcfs" in got and "lpm" not in got
    assert "--tp-size 2" in got and "--mem-fraction-static 0.85" in got


def test_flags_without_a_value():
    got = line({"enable_metrics": True, "disable_overlap_schedule": False, "max_total_tokens": None})
    assert "--enable-metrics" in got
    assert not {"--disable-overlap-schedule", "--max-total-tokens", "True", "False", "None"} & set(got)


@pytest.mark.parametrize("given", ["cuda_graph_max_bs", "cuda-graph-max-bs", "cuda_graph_max_bs_decode"])
@pytest.mark.parametrize(
    ("release", "flag"),
    [
        ("0.5.9", "--cuda-graph-max-bs"),
        ("0.5.13", "--cuda-graph-max-bs"),
        ("0.5.17", "--cuda-graph-max-bs-decode"),  # the first that was looked at which takes both: 0.5.15.post1
        ("0.5.23", "--cuda-graph-max-bs-decode"),
        ("0.6.0rc1", "--cuda-graph-max-bs-decode"),
    ],
)
def test_a_flag_with_two_names_is_given_by_the_one_that_the_release_knows(release, flag, given):
    got = line({given: 256}, release=release)
    assert got[-2:] == [flag, "256"] and sum("cuda-graph" in word for word in got) == 1


def test_numbers_of_releases():
    assert launch.number("0.5.15.post1") == (0, 5, 15) < launch.number("0.5.23") < launch.number("1.0")
    assert launch.number("?") == () < launch.number("0")


@pytest.mark.parametrize("name", ["model_path", "model-path", "model", "host", "port", "trust_remote_code"])
def test_what_is_not_the_recipes_to_give(name):
    with pytest.raises(EngineError, match=r"engine\.arguments: .* is not to be set here"):
        line({name: "x"})


# --- files ----------------------------------------------------------------------------------------------------------


def folder(path: Path, config: dict, tokenizer: dict | None = None) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "model.gguf").write_bytes(b"an export of the same weights")
    (path / "chat_template.jinja").write_text("{{ x }}")
    (path / "checkpoint-3").mkdir()
    if tokenizer is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return path


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_config_of_transformers_5_also_speaks_to_4(tmp_path):
    """Without it 4 takes its default base of 10000 for the rotation, and answers nonsense."""
    config = {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}, "dtype": "bfloat16", "x": "é"}
    model = folder(tmp_path / "model", config)
    served = read(launch.serving_folder(model, tmp_path / "served") / "config.json")
    assert served == config | {"rope_theta": 500000.0, "torch_dtype": "bfloat16"}
    assert read(model / "config.json") == config, "the model itself is as it was"


def test_a_scaled_rotation_keeps_its_scale(tmp_path):
    rope = {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}
    model = folder(tmp_path / "model", {"rope_parameters": rope})
    served = read(launch.serving_folder(model, tmp_path / "served") / "config.json")
    assert served["rope_theta"] == 1e6 and served["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0}


def test_what_speaks_to_4_already_is_left_as_it_is(tmp_path):
    config = {"rope_theta": 7.0, "rope_scaling": None, "torch_dtype": "float16"}
    model = folder(tmp_path / "model", config)
    assert read(launch.serving_folder(model, tmp_path / "served") / "config.json") == config


def test_a_tokenizer_that_4_does_not_understand(tmp_path):
    new = {"tokenizer_class": "TokenizersBackend", "eos_token": "</s>", "model_max_length": 256}
    served = launch.serving_folder(folder(tmp_path / "new", {}, new), tmp_path / "a")
    assert read(served / "tokenizer_config.json") == new | {"tokenizer_class": "PreTrainedTokenizerFast"}
    tokens = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": ["<a>", "<b>"]}  # 4 fails: it wants keys
    served = launch.serving_folder(folder(tmp_path / "tokens", {}, tokens), tmp_path / "c")
    assert read(served / "tokenizer_config.json") == {
        "tokenizer_class": "Qwen2Tokenizer",
        "additional_special_tokens": ["<a>", "<b>"],
    }
    old = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image_token": "<i>"}}
    served = launch.serving_folder(folder(tmp_path / "old", {}, old), tmp_path / "b")
    assert read(served / "tokenizer_config.json") == old and (served / "tokenizer_config.json").is_symlink()


def test_weights_are_linked_and_a_gguf_beside_them_is_not_served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "model", {}, {})
    for _ in range(2):  # a second start makes it again, and what was left there is gone
        served = launch.serving_folder(Path("model"), Path("logs/served"))
        assert {f.name for f in served.iterdir()} == {
            "config.json", "model.safetensors", "chat_template.jinja", "tokenizer_config.json"
        }  # fmt: skip
        (served / "stale").touch()
    assert (served / "model.safetensors").is_symlink()
    assert (served / "model.safetensors").read_bytes() == b"weights"
    assert not (served / "config.json").is_symlink(), "writing through a link would change the model"


def test_a_model_of_this_project_is_readable_in_its_served_form(tiny_model, tmp_path):
    from transformers import AutoConfig, AutoTokenizer

    model = tiny_model("qwen2", rope_parameters={"rope_theta": 12345.0, "rope_type": "default"})
    served = launch.serving_folder(model, tmp_path / "served")
    assert read(served / "config.json")["rope_theta"] == 12345.0
    assert AutoConfig.from_pretrained(served).hidden_size == 64
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (model, served))
    assert ours("the cat sat").input_ids == theirs("the cat sat").input_ids
