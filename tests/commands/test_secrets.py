"""No secret of the environment, a recipe or a server is in a file of a run, in the cache or in what is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from aiohttp import web
from places import SMOKE_MODEL
from stand_in import Stand
from typer.testing import CliRunner

from dpr_mini import runs
from dpr_mini.cli import app
from dpr_mini.recipe import Recipe
from dpr_mini.recipe.serving import AUTH
from dpr_mini.runs import remember
from dpr_mini.types import HIDDEN, SECRET_NAME, UserError, redacted

SECRETS = {"HF_TOKEN": "hf_S3CRETTOKEN01", "WANDB_API_KEY": "S3CRETWANDB0001", AUTH: "user:S3CRETPASS0001"}
FOUND = re.compile(r"S3CRET|dXNlcjpTM0NSRV")  # the second: as an Authorization header has it


def found(folder: Path) -> list[str]:
    """Files that hold a secret."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    return [str(p) for p in files if FOUND.search(p.read_bytes().decode(errors="replace"))]


@pytest.mark.slow  # a run of its own, and a report with figures
def test_a_whole_run_with_a_server_that_repeats_its_key_keeps_it_nowhere(tmp_path, monkeypatch, run_stand_in):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DPR_MINI_CACHE", str(tmp_path / "cache"))
    stand = Stand(str(SMOKE_MODEL), version=f"0.5.9 {SECRETS['HF_TOKEN']}", dtype=f"key {SECRETS['WANDB_API_KEY']}")
    headers = []

    async def says(request: web.Request) -> web.Response:
        headers.append(request.headers["Authorization"])
        return web.Response(status=400, text=f"bad: {headers[-1]} {SECRETS[AUTH]} \x1b[2J")

    stand.on_generate = lambda _, body: says if body["sampling_params"]["temperature"] else None
    rows = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(3)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "kept", "model": {"name": str(SMOKE_MODEL)}, "phases": [],
        "engine": {"kind": "sglang", "urls": [run_stand_in(stand).url], "check_cache": False, "patience": 0.1},
        "problems": {"held_out": {"sums": [{"file": "sums.jsonl"}]}},
        "evaluate": {"samples": 1, "greedy": True, "max_new_tokens": 16},
    }  # fmt: skip
    (tmp_path / "kept.yaml").write_text(json.dumps(recipe))
    said = ""
    for words in (("run", tmp_path / "kept.yaml"), ("run", tmp_path / "kept.yaml"), ("plan", tmp_path / "kept.yaml")):
        said += CliRunner().invoke(app, [str(w) for w in (*words, "--runs", tmp_path / "runs")]).output
    for words in (("report",), ("show",), ("show", "eval-0-answers")):
        said += CliRunner().invoke(app, [words[0], str(tmp_path / "runs/kept"), *words[1:]]).output
    assert headers and all(header.startswith("Basic ") for header in headers), "it was sent"
    assert not FOUND.search(said), said
    assert "HTTP 400: bad: Basic ***" in said or (list(tmp_path.glob("runs/kept/*/failed.jsonl")))
    assert found(tmp_path) == []
    assert HIDDEN in "".join(p.read_text() for p in tmp_path.glob("runs/kept/*/*.json*"))


def test_latest_json_holds_no_secret_whatever_a_recipe_may_come_to_hold(tmp_path, monkeypatch):
    """A recipe refuses secrets where they come in; what is written down is redacted all the same."""
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "t0kenOfService")
    recipe = Recipe.model_validate({"name": "r", "problems": {"train": [{"file": "t0kenOfService/x.jsonl"}]}})
    bad = {
        "engine": {"urls": ["http://u:S3CRET@h"], "arguments": {"admin_api_key": "S3CRET"}},
        "access_token": "S3CRET",
    }
    monkeypatch.setattr(Recipe, "model_dump", lambda self, mode: {"name": "r", "seed": 0, "x": "t0kenOfService"} | bad)
    remember(tmp_path, tmp_path, recipe, {})
    text = (tmp_path / runs.LATEST).read_text()
    assert "S3CRET" not in text and "t0kenOfService" not in text and '"name": "r"' in text


@pytest.mark.parametrize(
    "text",
    [
        "http://user:S3CRET@h:1/x", "http://S3CRET@h", "https://u:p@S3CRET@h", "at http://user:S3CRET",
        "user:S3CRET@h:1", "Authorization: Bearer S3CRET00000", "basic dXNlcjpTM0NSRVQ0", "hf_S3CRET0123456",
        "sk-S3CRET-01234567",
        "--api-key=S3CRET", "admin_api_key = 'S3CRET'", '{"password": "S3CRET"}', "?access_token=S3CRET&x=1",
        "ghp_S3CRET0123456", "github_pat_S3CRET012345", "AKIAS3CRET01234567",
    ],
)  # fmt: skip
def test_secrets_by_their_form(text):
    assert not FOUND.search(redacted(text)) and HIDDEN in redacted(text)
    assert not FOUND.search(str(UserError(f"it says {text}")))
    assert not FOUND.search(json.dumps(redacted({"a": [{"b": text}], text: 1})))


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:30000: no answer", "http://[::1]:3/x", "section.key=value", "pad_token: 5",
        "eos_token='</s>'", "max_new_tokens=16", "unexpected token: }", "basic arithmetic", "task-specific",
        "key 'x' is there twice",
        "README.md:12: no", "a ratio 3:4", "the secret: 5 apples", "https://huggingface.co/docs#tokens",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text == str(UserError(text))


def test_prompts_stay_as_a_model_reads_them():
    """They are read back from latest.json: the exported data is joined with these very bridges."""
    dialogue = {"templates": {"secret": "My password=5, http://a:b@c", "api_key": "x"}, "bridges": {"token": "Wait."}}
    assert redacted({"dialogue": dialogue}) == {"dialogue": dialogue}
    assert redacted("A password=5 apples", wording=True) == "A password=5 apples"


def test_which_names_are_those_of_secrets():
    for name in ("HF_TOKEN", "api_key", "admin-api-key", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "password", AUTH):
        assert SECRET_NAME.search(name), name
    for name in ("max_new_tokens", "TOKENIZERS_PARALLELISM", "key", "tokens_per_row", "keys", "author", "monkey"):
        assert not SECRET_NAME.search(name), name
