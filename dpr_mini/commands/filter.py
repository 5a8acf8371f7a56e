"""`dpr-mini filter`: the pipeline's rules on anybody's rows, with the verdicts that the pipeline would give.

A row is {id, text, gold} for a one-turn answer or {id, turns: [text, ...], gold} for a dialogue. It may also have
finish      "stop" (default), "length" or "error": of the last turn, or a list with one for each turn
problem_id  or `problem` (its text): what `duplicate`, `near_duplicate` and `per_problem` group by
tokens      tokens of the answer, or a list with one number for each turn; words are counted where it is missing
instructions, prompts   one for each turn: the template's name (it chooses the bridge), and what was sent
A field that is null is as if absent; golds are read as everywhere (golds.py).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dpr_mini import recipe as recipes
from dpr_mini.files.aside import Sorted, Table
from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import dumps, write_lines
from dpr_mini.grading.golds import FieldError, gold_text, mended, optional, plain, row_id, text_field
from dpr_mini.grading.grader import GIVEN_UP, given_up
from dpr_mini.machine.target import writable
from dpr_mini.recipe import prompts
from dpr_mini.selection.asked import Asked
from dpr_mini.selection.case import Case, Rule
from dpr_mini.selection.judging import judged, place_in_order
from dpr_mini.selection.rules import Memory, build_rules, objections, refuse, remember
from dpr_mini.types import Dialogue, Finish, Problem, Turn, UserError, digest

# Without --rules and --recipe: what can be said of any answer.
DEFAULT = ("answered", "not_truncated", "answer_correct", "trajectory", "false_arithmetic", "repetition")
DEFAULT = (*DEFAULT, "template_leak", "working", "one_answer", "language", "duplicate")
MOST_TOKENS = 1_000_000_000  # of one answer


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
    settings = recipes.load(recipe) if recipe else None
    writable(out, path, *(settings.files if settings else []))
    chosen: Sequence[Any] = settings.filter.rules if settings else DEFAULT
    if rules is not None:
        chosen = [name.strip() for name in rules.split(",")]
    with recipes.placed(settings, "filter") if settings and rules is None else nullcontext():
        built = build_rules(chosen)
    own = settings.dialogue if settings else recipes.DialogueConfig()
    bridges, grader = own.words().bridges, settings.grader if settings else recipes.GraderConfig()
    masking = settings.filter.trained_turns is not False if settings else True
    with Sorted(out.parent) as rows, Sorted(out.parent) as lines:
        told = _lay_aside(rows, read(path, own))
        if not len(rows):
            raise UserError(f"{path}: no rows")
        names = {name for name, _ in built}
        if "per_problem" in names and not told.name_problems:
            print("per_problem is left out: not every row has a 'problem_id' or a 'problem'")
            built = [(name, rule) for name, rule in built if name != "per_problem"]
        if names & {"length", "longer_than_first"} and not told.count_tokens:
            print("length is counted in words where a row has no 'tokens'")
        refuse(built, [told.problems[told.first]])
        counts, lost = Counter[str](), Counter[str]()
        handed_out: deque[tuple[int, Any]] = deque()
        cases = judged(_dialogues(rows, handed_out), told.problems, bridges, masking, grader, total=len(rows))
        for case, drops in verdicts(cases, built):
            number, name = handed_out.popleft()
            lines.add(f"{number:012d}", dumps(_verdict(name, drops)))
            counts.update(rule for rule, _ in drops[:1])
            lost.update(given_up((*case.verdicts, case.joined)))
        write_lines(out, lines)
        count = len(rows)
    dropped_by_rule = ", ".join(f"{name} {n}" for name, n in counts.most_common()) or "nothing"
    print(f"kept {count - counts.total()} of {count}; dropped by {dropped_by_rule} -> {out}")
    if any(lost.values()):
        given = ", ".join(f"{name} {lost[name]}" for name in GIVEN_UP.values())
        print(f"texts that the grader gave up on, none of them right: {given}")
    return {"rows": count, "kept": count - counts.total(), **counts}


def verdicts(cases: Iterable[Case], rules: Sequence[tuple[str, Rule]]) -> Iterator[tuple[Case, list[tuple[str, str]]]]:
    """Every case with (rule, evidence) of every rule that objects; it is kept where there is none.

    A `Memory` compares with cases that were kept before, so it is named only where it is the first that objects.
    Cases come in the order of `place_in_order`.
    """
    memories = {name for name, rule in rules if isinstance(rule, Memory)}
    for case in cases:
        first, *more = [*objections(case, rules)] or [None]
        if not first:
            remember(case, rules)
        yield case, [first, *(m for m in more if m[0] not in memories)] if first else []


def _verdict(name: Any, drops: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": name,
        "keep": not drops,
        "drops": [{"rule": rule, "evidence": evidence} for rule, evidence in drops],
    }


# ---------------------------------------------------------------- reading


@dataclass
class _Told:
    """What is known of all rows together: their problems, the first one's id, whether every row has some field."""

    problems: Asked
    first: str = ""
    name_problems: bool = True
    count_tokens: bool = True


def _lay_aside(aside: Sorted, rows: Iterable[Row]) -> _Told:
    """Lay the dialogues aside in the order in which they are judged, their problems by id."""
    told = _Told(Asked())
    for number, row in enumerate(rows):
        told.first = told.first or row.problem.id
        told.name_problems &= row.names_problem
        told.count_tokens &= row.counts_tokens
        told.problems.add(row.problem)
        aside.add(place_in_order(row.dialogue.id), dumps({"number": number, "id": row.id, **_short(row.dialogue)}))
    return told


def _dialogues(aside: Sorted, handed_out: deque[tuple[int, Any]]) -> Iterator[Dialogue]:
    """What was laid aside. `handed_out` gets (number in the file, id as it stands there) of each as it is taken."""
    for text in aside:
        told = json.loads(text)
        handed_out.append((told["number"], told["id"]))
        yield _long(told)


def _short(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue that was read here, as JSON: of its token ids only their number is known."""
    turns = [(t.instruction, t.prompt, len(t.ids), t.text, t.finish) for t in dialogue.turns]
    return {"dialogue": dialogue.id, "problem": dialogue.problem_id, "turns": turns}


def _long(told: Mapping[str, Any]) -> Dialogue:
    turns = tuple(Turn(name, sent, range(size), text, end) for name, sent, size, text, end in told["turns"])
    return Dialogue(told["dialogue"], told["problem"], 0, turns, "file", 0)


def read(path: Path, own: recipes.DialogueConfig) -> Iterator[Row]:
    """The rows of a JSONL file, also gzipped. Raises UserError, naming file and line, for a malformed one."""
    ids, golds = Table(), Table()
    for where, raw in foreign_rows(path):
        row = _row(where, raw, own)
        gold, problem = row.problem.answer, row.problem.id
        if before := ids.get(row.dialogue.id):
            raise UserError(f"{where}: id {row.id!r} stands in {before} already")
        ids[row.dialogue.id] = where
        if not (told := golds.get(problem)):
            golds[problem] = dumps({"gold": gold, "at": where})
        elif (first := json.loads(told))["gold"] != gold:
            said = f"for the same problem in {first['at']} it is {first['gold']!r:.60}"
            raise UserError(f"{where}: gold is {gold!r:.60}, {said}")
        yield row


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
        if min(sizes) < 0 or max(sizes) > MOST_TOKENS:
            raise FieldError(f"{where}: tokens must be 0 or more, at most {MOST_TOKENS:,}, got {sizes!r:.60}")
    named = _each(where, "instructions", given.get("instructions", [""] * n), n, str)
    sent = _each(where, "prompts", given.get("prompts", [_instructions(own, i) for i in range(n)]), n, str)
    turns = tuple(
        Turn(mended(name), mended(prompt), range(size), mended(text), end)  # ids are counted, never looked at
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
