"""What `export` does: a trained model or the kept dialogues out of a run, with their card, and to a hub when asked."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.chat.template import join_text
from dpr_mini.files import durable
from dpr_mini.files.rows import read_as, write_rows, write_text
from dpr_mini.messages import HIDDEN, printable, redacted
from dpr_mini.models.check import check
from dpr_mini.recipe.prompts import words
from dpr_mini.reporting.cards import Lineage, data_card, model_card
from dpr_mini.runs import beside, foreign, read_latest
from dpr_mini.types import Kept, Problem, UserError

FORMATS = {"hf": "train", "gguf": "train", "data": "filter"}  # format -> the stages that it exports
# What a model's folder is made of; all else that lies in it, code and pickles among it, stays there.
MODEL_FILES = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|merges\.txt"
    r"|vocab\.txt|(?:tokenizer|spiece|sentencepiece\.bpe)\.model|chat_template\.(?:jinja|json)"
    r"|model(?:-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|additional_chat_templates/[^/]+\.jinja"
)


def export(root: Path, out: Path, format: str, stage: str | None = None, push: str | None = None) -> None:
    """Write a stage of the run `root` to `out`, whole or not at all, and say so; with `push`, to that hub repository.

    hf: a Hugging Face folder. gguf: a folder with an F16 GGUF, or that file alone where `out` ends in .gguf. data: the
    kept dialogues of every finished filter stage, or of `stage`. Every folder has its card as README.md.
    Raises UserError, and ExportError for a model that has no GGUF.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
    stages = _chosen(root, FORMATS[format], stage, every=format == "data")
    alone = format == "gguf" and out.suffix == ".gguf"
    if push:
        if alone:
            raise UserError(f"--push needs a folder with its card: give --out {out.with_suffix('')}")
        _check_login(push)
    if out.exists():
        raise UserError(f"{out} exists; give another --out")
    with foreign(root):
        lineage = Lineage(root, read_latest(root), tuple(stages))
        if alone:
            _gguf(lineage, out)
        else:
            _whole(lineage, out, format)
    print(f"{', '.join(stages)} of {root} -> {out}" + (" (the file alone, without a card)" if alone else ""))
    if push:
        print(f"pushed to {_push(out, push, 'dataset' if format == 'data' else 'model')}")


def _whole(lineage: Lineage, out: Path, format: str) -> None:
    """A folder that is there whole and durably, or not at all."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    durable.sweep_beside(out)
    temporary.mkdir()
    try:
        _fill(lineage, temporary, format)
        durable.sync_tree(temporary)
        os.replace(temporary, out)
        durable.sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _chosen(root: Path, kind: str, stage: str | None, every: bool) -> list[str]:
    """The finished stages to export: the one asked for, else all of the kind or the last of them."""
    with foreign(root):
        stages = read_latest(root)["stages"]
    finished = [n for n, f in stages.items() if n.startswith(kind) and (root / f / store.MANIFEST).exists()]
    if stage is not None and stage not in finished:
        raise UserError(f"{root}: no finished {stage!r} to export; there are: {', '.join(finished) or 'none'}")
    if not finished:
        raise UserError(f"{root}: no {kind} stage is complete yet; run the recipe again, it goes on")
    return [stage] if stage else finished if every else finished[-1:]


def _fill(lineage: Lineage, folder: Path, format: str) -> None:
    if format == "data":
        files = {}
        for stage in lineage.ends:
            rows = _dialogues(lineage, stage)
            files[f"phase-{stage.rpartition('-')[2]}.jsonl"] = len(rows)
            write_rows(folder / f"phase-{stage.rpartition('-')[2]}.jsonl", rows)
        card = data_card(lineage, files)
    elif format == "gguf":
        _gguf(lineage, folder / f"{lineage.recipe['name']}-{lineage.ends[0]}-f16.gguf")
        card = model_card(lineage, "gguf")
    else:
        model = _model(lineage)
        check(model)
        _copy_model(model, folder)
        card = model_card(lineage, "transformers")
    write_text(folder / "README.md", card)


def _copy_model(model: Path, folder: Path) -> None:
    """Copy the files of a model by their names; a link is none of them."""
    there = {path.relative_to(model).as_posix(): path for path in durable.files_of(model)}
    taken = {name: path for name, path in there.items() if MODEL_FILES.fullmatch(name)}
    for name, path in taken.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(path, folder / name, follow_symlinks=False)
    left = {name for name in there if name not in taken} | {p.name for p in model.iterdir() if p.is_symlink()}
    if left := {name for name in left if not name.endswith(".gguf")}:
        print(printable(f"not exported, as no part of a model: {', '.join(sorted(left))}"))


def _gguf(lineage: Lineage, out: Path) -> None:
    from dpr_mini.models.gguf import write_gguf

    write_gguf(_model(lineage), out)


def _model(lineage: Lineage) -> Path:
    """The model's folder, as its training left it."""
    folder = lineage.folder(lineage.ends[0])
    store.verified(folder, weights=True)
    return folder / "model"


def _dialogues(lineage: Lineage, stage: str) -> list[dict[str, Any]]:
    """Kept rows as a training set reads them: the question and the one joined answer. A card names the fields."""
    bridges = words({}, lineage.recipe["dialogue"]["bridges"]).bridges
    folder = lineage.folder(stage)
    problems = beside(folder, store.verified(folder)["inputs"]["problems"])
    store.verified(problems)
    by_id = {p.id: p for p in read_as(Problem, problems / "rows.jsonl")}
    rows = []
    for case in read_as(Kept, folder / "rows.jsonl"):
        problem = by_id[case.problem_id]
        rows.append(
            {
                "id": case.id,
                "problem_id": problem.id,
                "stage": stage,
                "source": problem.source,
                "level": problem.level,
                "subject": problem.subject,
                "problem": problem.text,
                "answer": problem.answer,
                "kind": case.kind,
                "statuses": [v.status for v in case.verdicts],
                "messages": [
                    {"role": "user", "content": case.dialogue.turns[0].prompt},
                    {"role": "assistant", "content": join_text(case.dialogue, bridges)},
                ],
            }
        )
    return rows


# ---------------------------------------------------------------- the hub


def _check_login(repo: str) -> None:
    """Before anything is written: is this a repository's name, and has huggingface_hub a login of its own?"""
    from huggingface_hub import get_token

    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise UserError(f"--push {repo!r}: write it as OWNER/NAME")
    if not get_token():
        raise UserError(f"--push {repo}: not logged in to the Hugging Face hub; run: hf auth login")


def _push(folder: Path, repo: str, kind: str) -> str:
    """Upload a folder to a repository, which is made private if it is new; its address.

    The token stays with huggingface_hub; should an error quote it, it is blotted out.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HTTPError  # of the HTTP library that this version of the hub uses

    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="dpr-mini export")
    except (HTTPError, OSError, ValueError) as error:
        lines = str(error).strip().splitlines() or [""]
        why = redacted(lines[0].replace(get_token() or "\0", HIDDEN))[:200]
        raise UserError(
            f"--push {repo}: {type(error).__name__}: {why}; {folder} is complete: "
            f"hf upload {repo} {folder} --repo-type {kind}"
        ) from None
    return str(address)
