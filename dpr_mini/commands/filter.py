"""`dpr-mini filter`: the pipeline's rules on anybody's rows, with the verdicts that the pipeline would give.

A row is {id, text, gold} for a one-turn answer or {id, turns: [text, ...], gold} for a dialogue. It may also have
finish      "stop" (default), "length" or "error": of the last turn, or a list with one for each turn
problem_id  or `problem` (its text): what `duplicate`, `near_duplicate` and `per_problem` group by
tokens      tokens of the answer, or a list with one number for each turn; words are counted where it is missing
instructions, prompts   one for each turn: the template's name (it chooses the bridge), and what was sent
A field that is null is as if absent; golds are read as everywhere (golds.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dpr_mini import recipe as recipes
from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import write_rows
from dpr_mini.grading.golds import FieldError, gold_text, mended, optional, plain, row_id, text_field
from dpr_mini.grading.grader import given_up
from dpr_mini.machine.target import writable
from dpr_mini.recipe import prompts
from dpr_mini.selection.case import Case, Rule
from dpr_mini.selection.judging import in_order, judge
from dpr_mini.selection.rules import Memory, build_rules, objections, refuse, remember
from dpr_mini.types import Dialogue, Finish, Problem, Turn, UserError, digest

# Without --rules and --recipe: what can be said of any answer.
DEFAULT = ("answered", "not_truncated", "answer_correct", "trajectory", "false_arithmetic", "repetition")
DEFAULT = (*DEFAULT, "template_leak", "working", "one_answer", "language", "duplicate")


@dataclass(frozen=True)
class Row:
    """One row as read: its id as it stands in the file, and the dialogue and problem that the rules see."""

    id: Any
    dialogue: Dialogue
    problem: Problem
    names_problem: bool
    counts_tokens: bool


def filter_file(path: Path, out: Path, rules: str | None = None, recipe: Path | None = None) -> dict[str, int]:
    """Write {id, keep, drops: [{rule, evidence}]} for every row, in the order of the file; print and return counts.

    `drops` has the rules that object, first the one that the pipeline records. `rules` are names separated by
    commas; without them those of the recipe's `filter`, else DEFAULT. The recipe also gives bridges, templates and the
    grader's settings. Its `limit`, `mix` and `prefixes` are no rules and do not apply. Raises UserError for a malformed
    row, an unknown rule, one that needs a verifier, which no row has, and where `out` cannot be written or is a file
    that is read, before any work.
    """
    writable(out, path, *([recipe] if recipe else []))
    settings = recipes.load(recipe) if recipe else None
    chosen: Sequence[Any] = settings.filter.rules if settings else DEFAULT
    if rules is not None:
        chosen = [name.strip() for name in rules.split(",")]
    built = build_rules(chosen)
    own = settings.dialogue if settings else recipes.DialogueConfig()
    rows = read(path, own)
    names = {name for name, _ in built}
    if "per_problem" in names and not all(r.names_problem for r in rows):
        print("per_problem is left out: not every row has a 'problem_id' or a 'problem'")
        built = [(name, rule) for name, rule in built if name != "per_problem"]
    if names & {"length", "longer_than_first"} and not all(r.counts_tokens for r in rows):
        print("length is counted in words where a row has no 'tokens'")
    bridges = own.words().bridges
    problems = {r.problem.id: r.problem for r in rows}
    refuse(built, problems.values())
    grader = settings.grader if settings else recipes.GraderConfig()
    masking = settings.filter.trained_turns is not False if settings else True
    cases = judge([r.dialogue for r in rows], problems, bridges, masking=masking, limits=grader)
    drops = verdicts(cases, built)
    write_rows(out, (_verdict(row, drops[row.dialogue.id]) for row in rows))
    counts = Counter(row_drops[0][0] for row_drops in drops.values() if row_drops)
    dropped_by_rule = ", ".join(f"{name} {n}" for name, n in counts.most_common()) or "nothing"
    print(f"kept {len(rows) - counts.total()} of {len(rows)}; dropped by {dropped_by_rule} -> {out}")
    lost = given_up(v for c in cases for v in (*c.verdicts, c.joined))
    if any(lost.values()):
        counted = ", ".join(f"{name} {n}" for name, n in lost.items())
        print(f"texts that the grader gave up on, none of them right: {counted}")
    return {"rows": len(rows), "kept": len(rows) - counts.total(), **counts}


def verdicts(cases: Sequence[Case], rules: Sequence[tuple[str, Rule]]) -> dict[str, list[tuple[str, str]]]:
    """{dialogue id: (rule, evidence) of every rule that objects}; a case is kept where that is empty.

    A `Memory` compares with cases that were kept before, so it is named only where it is the first that objects.
    """
    memories = {name for name, rule in rules if isinstance(rule, Memory)}
    drops = {}
    for case in in_order(cases):
        first, *more = [*objections(case, rules)] or [None]
        drops[case.dialogue.id] = [first, *(m for m in more if m[0] not in memories)] if first else []
        if not first:
            remember(case, rules)
    return drops


def _verdict(row: Row, drops: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": row.id,
        "keep": not drops,
        "drops": [{"rule": rule, "evidence": evidence} for rule, evidence in drops],
    }


# ---------------------------------------------------------------- reading


def read(path: Path, own: recipes.DialogueConfig) -> list[Row]:
    """All rows of a JSONL file, also gzipped. Raises UserError, naming file and line, for a malformed one."""
    rows: list[Row] = []
    ids: dict[str, str] = {}
    golds: dict[str, tuple[str, str]] = {}
    for where, raw in foreign_rows(path):
        row = _row(where, raw, own)
        gold, problem = row.problem.answer, row.problem.id
        if (before := ids.setdefault(row.dialogue.id, where)) != where:
            raise UserError(f"{where}: id {row.id!r} stands in {before} already")
        first_gold, at = golds.setdefault(problem, (gold, where))
        if first_gold != gold:
            raise UserError(f"{where}: gold is {gold!r:.60}, for the same problem in {at} it is {first_gold!r:.60}")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def _row(where: str, raw: Mapping[str, Any], own: recipes.DialogueConfig) -> Row:
    given = {key: value for key, value in raw.items() if value is not None or key in ("id", "gold")}
    absent = [k for k in ("id", "gold") if k not in given] + ["text"] * ("text" not in given and "turns" not in given)
    if absent:
        raise FieldError(f"{where}: {', '.join(absent)} missing; a row is {{id, text, gold}} or {{id, turns, gold}}")
    name, gold = row_id(given["id"], where), gold_text(given["gold"], where)
    texts = given.get("turns", [given.get("text")])
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        message = "turns must be a list of strings" if "turns" in given else "text must be a string"
        raise FieldError(f"{where}: {message}")
    n, token_counts = len(texts), given.get("tokens")
    last = given.get("finish", "stop")
    finish = _each(where, "finish", last if isinstance(last, list) else ["stop"] * (n - 1) + [last], n, str)
    if wrong := [f for f in finish if f not in get_args(Finish)]:
        raise FieldError(f"{where}: finish is one of {', '.join(get_args(Finish))}, got {wrong[0]!r}")
    sizes = [len(t.split()) for t in texts]
    if token_counts is not None:
        sizes = _each(where, "tokens", token_counts if isinstance(token_counts, list) else [token_counts], n, int)
        if min(sizes) < 0:
            raise FieldError(f"{where}: tokens must be 0 or more")
    named = _each(where, "instructions", given.get("instructions", [""] * n), n, str)
    sent = _each(where, "prompts", given.get("prompts", [_instructions(own, i) for i in range(n)]), n, str)
    turns = tuple(
        Turn(name, mended(prompt), (0,) * size, mended(text), end)
        for name, prompt, size, text, end in zip(named, sent, sizes, texts, finish, strict=True)
    )
    question = text_field(given.get("problem", ""), where, "problem")
    group = optional(given.get("problem_id"), where, "problem_id")
    problem = Problem(group or (digest(question)[:16] if question else f"gold {gold}"), "file", question, gold)
    dialogue = Dialogue(plain(name, where, "id"), problem.id, 0, turns, "file", 0)
    return Row(name, dialogue, problem, bool(question or group), token_counts is not None)


def _each(where: str, key: str, values: Any, n: int, kind: type) -> list[Any]:
    """`values` if it is a list with one `kind` for each of n turns."""
    good = isinstance(values, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not good or len(values) != n:
        raise UserError(f"{where}: {key} must have one {kind.__name__} for each of {n} turns, got {values!r:.60}")
    return values


def _instructions(own: recipes.DialogueConfig, turn: int) -> str:
    """Everything that a recipe may say in this turn, without the question."""
    templates = own.words().templates
    names = own.longest[min(turn, len(own.longest) - 1)]
    return "\n".join(prompts.fill(templates.get(name, ""), "\n") for name in names)
