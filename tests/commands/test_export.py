"""`export`: models and data with their cards, from a small finished run; `--push` against a stub for the hub.

The run is the real pipeline with a scripted model, and a trainer that copies weights. No hub was at hand: FakeApi has
HfApi's two calls that are used, with their names of arguments.
"""

import json
import re
import shutil
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
import yaml
from places import SMOKE_MODEL
from scripted import ScriptedEngine
from typer.testing import CliRunner

from dpr_mini import engines
from dpr_mini.chat.template import Template
from dpr_mini.cli import app
from dpr_mini.commands import export as release
from dpr_mini.files.rows import read_json, read_rows, write_json
from dpr_mini.models.resolve import EMBEDDED
from dpr_mini.reporting.cards import Lineage, model_card, without_paths
from dpr_mini.store import write_manifest
from dpr_mini.training import process
from dpr_mini.types import UserError

TOKEN = "hf_verySecretToken"
RECIPE = """\
name: small
model: {{name: {model}}}
problems:
  train: [{{file: train.jsonl}}]
  held_out: {{even: [{{file: even.jsonl}}], odd: [{{file: odd.jsonl}}]}}
dialogue: {{samples: 2, max_new_tokens: 60}}
pack: {{tokens_per_row: 4096}}
probe: {{samples: 2, max_new_tokens: 60}}
sample: {{quota: 2, max_tries: 4}}
evaluate: {{samples: 2, max_new_tokens: 60}}
"""


def invoke(*words):
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("somebody") / "private"
    folder.mkdir()
    (folder / "small.yaml").write_text(RECIPE.format(model=SMOKE_MODEL))
    files = {"train": range(1, 9), "even": range(10, 18, 2), "odd": range(11, 19, 2)}
    for name, numbers in files.items():
        rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n), "subject": "sums"} for n in numbers]
        rows += [{"problem": "What is 10 + 10?", "answer": "20"}] if name == "train" else []  # held out: to be dropped
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    template = Template.load(SMOKE_MODEL)

    def says(request):
        a, b = re.findall(r"(\d+) \+ (\d+)", template.decode(request.ids))[-1]
        return f"{a} + {b} = {int(a) + int(b) + (request.seed % 3 == 0)}"

    def train(folder, packs, model, config, seed, gpu, need):
        shutil.copytree(model, folder / "model", ignore=shutil.ignore_patterns("*.gguf"))
        return {"steps": 3, "tokens": 90, "trained_tokens": 60, "first_loss": 2.5, "last_loss": 1.5}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "open_engine", lambda *a, **k: ScriptedEngine(says, template.tokenizer))
        patch.setattr(process, "train", train)
        done = invoke("run", folder / "small.yaml", "--runs", folder / "runs", "--until", "eval-2")
    assert done.exit_code == 0, done.output
    return folder / "runs" / "small"


@pytest.fixture
def copied(run, tmp_path):
    """The run's folder, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "small"))


def exported(run, out, *words):
    done = invoke("export", run, "--out", out, *words)
    assert done.exit_code == 0, done.output
    card = (out / "README.md").read_text() if out.is_dir() else ""
    return (yaml.safe_load(card.split("---\n")[1]), card.split("---\n", 2)[2]) if card else ({}, "")


def refused(*words):
    done = invoke(*words)
    assert done.exit_code == 1
    (line,) = [x for x in done.output.splitlines() if x.startswith("dpr-mini: ")]
    return line


def folder_of(run, stage):
    return run / read_json(run / "latest.json")["stages"][stage]


# ---------------------------------------------------------------- models


def test_a_model_comes_with_a_card_that_has_its_scores_lineage_and_recipe(run, tmp_path):
    front, body = exported(run, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert front["library_name"] == "transformers" and "arxiv:2601.05616" in front["tags"]
    assert "base_model" not in front and "license" not in front, "a local model has neither that we know"
    cards = read_json(folder_of(run, "eval-2") / "stage.json")["metrics"]["cards"]
    for name in ("even", "odd", "all"):
        card = cards[name]
        line = next(x for x in body.splitlines() if x.startswith(f"| {name}<br>n={card['n']}, k=2 |"))
        assert f"{card['mean']:.3f} \\[{card['low']:.3f}, {card['high']:.3f}\\]" in line
    for stage in ("problems", "dialogue-1", "filter-1", "train-1", "probe-2", "sample-2", "filter-2", "train-2"):
        assert f"| {stage} | {folder_of(run, stage).name.rpartition('-')[2]} |" in body
    assert "first\\_loss 2.5, last\\_loss 1.5" in body and "reproducible True" in body
    assert (
        "Held out: even, odd." in body and "50% of its 13-grams" in body and "Dropped, by rule: held\\_out 1." in body
    )
    assert "two-sided sign-flip test of the mean" in body and "train-2 - base" in body
    assert "Reason step by step" in body and "tokens\\_per\\_row: 4096" not in body and "tokens_per_row: 4096" in body


def test_every_score_on_the_hubs_index_has_n_k_and_interval(run, tmp_path):
    front, _ = exported(run, tmp_path / "out")
    results = front["model-index"][0]["results"]
    assert [r["dataset"]["name"] for r in results] == ["even", "odd"]
    for result in results:
        assert re.fullmatch(r"pass@1, n=4, k=2, 95 % \[0\.\d{3}, [01]\.\d{3}\]", result["metrics"][0]["name"])


def test_a_card_tells_nothing_of_this_machines_folders(run, tmp_path):
    for out, format in (("m", "hf"), ("d", "data")):
        exported(run, tmp_path / out, "--format", format)
        text = (tmp_path / out / "README.md").read_text()
        assert "somebody" not in text and str(SMOKE_MODEL.parent) not in text and "smoke-model" in text
    value = {
        "python": "/x/.sglang/bin/python",
        "urls": ["http://10.0.0.1"],
        "file": "../data/a.jsonl",
        "wording": "{t}/x",
    }
    assert without_paths([value]) == [{"file": "a.jsonl", "wording": "{t}/x"}]


def test_the_model_of_phase_1_has_only_what_it_was_made_from(run, tmp_path):
    front, body = exported(run, tmp_path / "out", "--stage", "train-1")
    assert front["model-index"][0]["name"] == "small train-1"
    assert "| benchmark | base | train-1 |" in body and "filter-2" not in body and "train-2" not in body


@pytest.mark.slow
def test_a_gguf_in_a_folder_with_a_card_or_as_a_file(run, tmp_path):
    front, _ = exported(run, tmp_path / "out", "--format", "gguf")
    assert front["library_name"] == "gguf"
    assert (tmp_path / "out" / "small-train-2-f16.gguf").read_bytes()[:4] == b"GGUF"
    exported(run, tmp_path / "m.gguf", "--format", "gguf")
    assert (tmp_path / "m.gguf").read_bytes()[:4] == b"GGUF"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "out"]


def lineage(run, stage="train-2", **model):
    latest = read_json(run / "latest.json")
    latest["recipe"]["model"] |= model
    return Lineage(run, latest, (stage,))


def test_base_model_and_licence_where_they_are_known(copied):
    embedded = model_card(lineage(copied, name=EMBEDDED), "transformers")
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in embedded and "license: apache-2.0" in embedded
    manifest = read_json(folder_of(copied, "dialogue-1") / "stage.json")
    manifest["config"]["base"] = "org/model@abc"
    write_manifest(folder_of(copied, "dialogue-1"), manifest)
    hub = model_card(lineage(copied, name="org/model", revision="abc"), "transformers")
    assert "base_model: org/model" in hub and "license:" not in hub and "that of org/model at revision abc" in hub


def test_a_model_that_was_not_evaluated_claims_nothing(copied, tmp_path):
    (folder_of(copied, "eval-2") / "stage.json").unlink()
    front, body = exported(copied, tmp_path / "out")
    assert "model-index" not in front and "was not evaluated in its run: nothing is claimed" in body


def test_a_run_that_shares_its_store_with_others(copied, tmp_path):
    """Its latest.json lies below the stages' folder; a stage measured against another run's is not made of it."""
    latest = read_json(copied / "latest.json")
    arm = copied / "arms" / "small-seed0"
    arm.mkdir(parents=True)
    write_json(arm / "latest.json", latest | {"stages": {n: f"../../{f}" for n, f in latest["stages"].items()}})
    manifest = read_json(folder_of(copied, "filter-1") / "stage.json")
    manifest["inputs"]["like filter-1"] = "filter-1-0fthe0th"
    write_manifest(folder_of(copied, "filter-1"), manifest)
    _, body = exported(arm, tmp_path / "out")
    assert "| benchmark | base | train-1 | train-2 |" in body and "0fthe0th" not in body
    exported(arm, tmp_path / "data", "--format", "data")


# ---------------------------------------------------------------- data


def test_the_kept_dialogues_as_a_data_set(run, tmp_path):
    front, body = exported(run, tmp_path / "out", "--format", "data")
    for phase in (1, 2):
        kept = list(read_rows(folder_of(run, f"filter-{phase}") / "rows.jsonl"))
        rows = list(read_rows(tmp_path / "out" / f"phase-{phase}.jsonl"))
        assert [r["id"] for r in rows] == [r["id"] for r in kept] and rows
        assert f"| phase-{phase}.jsonl | {len(rows)} |" in body
    first = next(read_rows(tmp_path / "out" / "phase-1.jsonl"))
    question, answer = first["messages"]
    assert question["content"].startswith(first["problem"]) and first["subject"] == "sums"
    assert [question["role"], answer["role"]] == ["user", "assistant"] and len(first["statuses"]) == 2
    assert re.search(r"Let me|Wait", answer["content"]), "the turns are joined by their bridge"
    assert front["configs"] == [{"config_name": f"phase-{i}", "data_files": f"phase-{i}.jsonl"} for i in (1, 2)]
    assert front["size_categories"] == "n<1K" or front["size_categories"] == ["n<1K"]
    only, _ = exported(run, tmp_path / "one", "--format", "data", "--stage", "filter-2")
    assert [c["config_name"] for c in only["configs"]] == ["phase-2"] and not (tmp_path / "one/phase-1.jsonl").exists()


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_exported_is_one_line(run, copied, tmp_path):
    (tmp_path / "there").mkdir()
    assert "there exists; give another --out" in refused("export", run, "--out", tmp_path / "there")
    assert "unknown format 'onnx'; there are: hf, gguf, data" in refused(
        "export", run, "--out", tmp_path / "x", "--format", "onnx"
    )
    line = refused("export", run, "--out", tmp_path / "x", "--stage", "filter-1")
    assert "no finished 'filter-1' to export; there are: train-1, train-2" in line
    for stage in ("train-1", "train-2"):
        (folder_of(copied, stage) / "stage.json").unlink()
    assert "no train stage is complete yet" in refused("export", copied, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_export_is_there_whole_or_not_at_all(run, tmp_path, monkeypatch):
    def fails(*_):
        raise UserError("the card cannot be written")

    monkeypatch.setattr(release, "model_card", fails)
    assert "the card cannot be written" in refused("export", run, "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- push


class FakeApi:
    """HfApi's `create_repo` and `upload_folder`; `calls` keeps what they were asked, `fails` what they raise."""

    calls: ClassVar[list] = []
    fails: ClassVar[Exception | None] = None

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        if FakeApi.fails:
            raise FakeApi.fails
        FakeApi.calls.append(("create_repo", repo_id, repo_type, private, exist_ok))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id, repo_type, folder_path, commit_message):
        FakeApi.calls.append(("upload_folder", repo_id, repo_type, sorted(p.name for p in Path(folder_path).iterdir())))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    monkeypatch.setattr(FakeApi, "calls", [])
    monkeypatch.setattr(FakeApi, "fails", None)
    return FakeApi


def test_a_model_is_copied_by_names_and_no_link_is_followed(copied, tmp_path):
    """Code, pickles and notes that somebody put beside the weights stay there; a link to a private file stops it."""
    model, secret = folder_of(copied, "train-2") / "model", tmp_path / "id_rsa"
    secret.write_text("precious")
    for name in ("modeling_x.py", "pytorch_model.bin", "notes.txt", "model.safetensors.bak", "tokenizer_x.pt"):
        (model / name).write_text("x")
    (model / "code").mkdir()
    (model / "code/deep.py").write_text("x")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates/tool_use.jinja").write_text("{{ messages }}")
    inside = model / "vocab.txt"
    inside.symlink_to(model / "chat_template.jinja")
    done = invoke("export", copied, "--out", tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    more = {"README.md", "additional_chat_templates"}
    assert names == {p.name for p in SMOKE_MODEL.iterdir() if p.suffix != ".gguf"} | more
    assert (tmp_path / "out/additional_chat_templates/tool_use.jinja").read_text() == "{{ messages }}"
    left = ("vocab.txt", "code/deep.py", "model.safetensors.bak", "modeling_x.py", "pytorch_model.bin")
    (said,) = re.findall(r"not exported, as no part of a model: (.*)", done.output)
    assert {*left, "notes.txt", "tokenizer_x.pt"} <= set(said.split(", "))
    (model / "tokenizer.model").symlink_to(secret)
    for format in ("hf", "gguf", "data"):
        assert "tokenizer.model is a link that leads out of" in refused(
            "export", copied, "--out", tmp_path / format, "--format", format
        )
        assert not (tmp_path / format).exists()


def test_a_damaged_model_or_row_is_not_exported(copied, tmp_path):
    for path, format in (("train-2", "hf"), ("train-2", "gguf"), ("filter-2", "data")):
        file = folder_of(copied, path) / ("model/model.safetensors" if path == "train-2" else "rows.jsonl")
        data = file.read_bytes()
        file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        line = refused("export", copied, "--out", tmp_path / format, "--format", format)
        assert f"{file.name}: has another content than when it was complete" in line
        assert not (tmp_path / format).exists()
        file.write_bytes(data)


def test_a_manifest_cannot_name_an_input_elsewhere(copied, tmp_path):
    for stage, format in (("filter-2", "data"), ("eval-2", "hf")):
        path = folder_of(copied, stage) / "stage.json"
        manifest = read_json(path)
        inputs = dict.fromkeys(manifest["inputs"], "../../outside")
        write_json(path, {k: v for k, v in manifest.items() if k != "digest"} | {"inputs": inputs})
        line = refused("export", copied, "--out", tmp_path / "out", "--format", format)
        assert "'../../outside' is no stage's folder" in line and not (tmp_path / "out").exists()
        write_json(path, manifest)


def test_nothing_is_pushed_without_the_flag(run, hub, tmp_path):
    exported(run, tmp_path / "out")
    assert hub.calls == []


def test_push_makes_a_private_repository_and_uploads_the_folder_with_its_card(run, hub, tmp_path):
    done = invoke("export", run, "--out", tmp_path / "out", "--push", "somebody/model")
    assert "pushed to https://hub/somebody/model" in done.output and TOKEN not in done.output
    assert hub.calls[0] == ("create_repo", "somebody/model", "model", True, True)
    assert hub.calls[1][:3] == ("upload_folder", "somebody/model", "model")
    assert {"README.md", "model.safetensors"} <= set(hub.calls[1][3])
    invoke("export", run, "--out", tmp_path / "data", "--format", "data", "--push", "somebody/data")
    assert hub.calls[2][2] == hub.calls[3][2] == "dataset"
    assert hub.calls[3][3] == ["README.md", "phase-1.jsonl", "phase-2.jsonl"]


def test_push_without_a_login_or_to_no_repository_writes_nothing(run, hub, tmp_path, monkeypatch):
    args = ("export", run, "--out", tmp_path / "out", "--push")
    assert "write it as OWNER/NAME" in refused(*args, "model")
    assert "write it as OWNER/NAME" in refused(*args, "../x/y")
    file = ("export", run, "--out", tmp_path / "m.gguf", "--format", "gguf", "--push", "a/b")
    assert "--push needs a folder with its card" in refused(*file)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "not logged in to the Hugging Face hub; run: hf auth login" in refused(*args, "somebody/model")
    assert hub.calls == [] and not list(tmp_path.iterdir())


def test_a_failed_push_keeps_the_folder_and_never_shows_the_token(run, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "fails", ConnectionError(f"cannot reach the hub with Bearer {TOKEN}\nmore"))
    line = refused("export", run, "--out", tmp_path / "out", "--push", "somebody/model")
    assert "ConnectionError: cannot reach the hub with Bearer ***;" in line and TOKEN not in line
    assert f"hf upload somebody/model {tmp_path / 'out'}" in line and (tmp_path / "out" / "README.md").exists()


def test_the_real_api_has_the_arguments_that_are_used():
    import inspect

    from huggingface_hub.hf_api import HfApi

    for name, fake in (("create_repo", FakeApi.create_repo), ("upload_folder", FakeApi.upload_folder)):
        real = inspect.signature(getattr(HfApi, name)).parameters
        assert set(inspect.signature(fake).parameters) - {"self"} <= set(real), name
