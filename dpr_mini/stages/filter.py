"""Which dialogues to train on: graded turn by turn, put through `rules`, a line in the drop log for every one dropped.

Rules apply in the recipe's order; the first that objects is the one recorded, and none of them counts a case that is
not kept. Cases are judged in an order that is a hash of their id, so that what the remembering rules and the limits
keep neither depends on the order of the files nor favours early samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.grading.grader import given_up
from dpr_mini.recipe import FilterConfig, GraderConfig
from dpr_mini.selection import behaviours, mix
from dpr_mini.selection.case import KINDS, Case, Rule
from dpr_mini.selection.judging import PREFIX, in_order, judge, prefix
from dpr_mini.selection.masking import wrong_attempts
from dpr_mini.selection.rules import Memory, build_rules, objections, refuse, remember
from dpr_mini.store import Kind, Settings, Work, read_problems
from dpr_mini.types import Dialogue, Drop, Kept, from_row

DRAWN = ("dialogues", "probed", "sampled")  # roles of the stages whose dialogues are filtered


def apply(
    cases: Sequence[Case],
    rules: Sequence[tuple[str, Rule]],
    limit: int | None = None,
    quotas: Mapping[str, int] | None = None,
    prefixes: bool = False,
) -> tuple[list[Case], list[Drop]]:
    """(kept, dropped), both sorted by id; every case is in exactly one of them.

    After the rules, at most `quotas[problem id]` are kept of each problem ("quota"), then `limit` in all ("limit").
    With `prefixes` the right first turns of what the rules dropped are cases, too, judged after all others; not of what
    a `Memory` dropped, since another dialogue stands for it.
    """
    kept_cases, drops, per = [], [], Counter()
    memories = {name for name, rule in rules if isinstance(rule, Memory)}
    objected: list[Case] = []
    for case in chain(in_order(cases), _prefixes(objected)):
        verdict = next(objections(case, rules), None)
        if prefixes and verdict is not None and verdict[0] not in memories:
            objected.append(case)
        quota = None if quotas is None else quotas.get(case.problem.id, 0)
        if verdict is None and quota is not None and per[case.problem.id] >= quota:
            verdict = ("quota", f"{quota} wanted for this problem")
        if verdict is None and limit is not None and len(kept_cases) >= limit:
            verdict = ("limit", f"{limit} wanted in all")
        if verdict is None:
            kept_cases.append(case)
            per[case.problem.id] += 1
            remember(case, rules)
        else:
            drops.append(Drop(case.dialogue.id, *verdict))
    return sorted(kept_cases, key=lambda c: c.dialogue.id), sorted(drops, key=lambda d: d.dialogue_id)


def _prefixes(cases: Sequence[Case]) -> Iterator[Case]:
    """Right first turns of the cases that are there when the first one is asked for."""
    yield from in_order([first for case in cases if (first := prefix(case))])


@dataclass(frozen=True)
class FilterSettings(Settings):
    """Raises RecipeError for a rule that does not exist, or an option that it does not have."""

    config: FilterConfig
    bridges: Mapping[str, str]
    grader: GraderConfig = GraderConfig()  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        build_rules(self.config.rules)

    def key(self) -> dict[str, Any]:
        return {**self.config.model_dump(mode="json"), "bridges": dict(self.bridges)} | self.grader.key()


def run(work: Work) -> dict[str, Any]:
    """Grade every turn of every dialogue, keep what the rules let through, write why the rest was dropped.

    Inputs: `problems` and the stages that drew the dialogues (DRAWN); the budgets of `sampled` are quotas. Writes
    drops.jsonl and rows.jsonl, whole: the stage is quick, a rerun redoes it.
    Raises StoreError where nothing is kept or a kind of `mix` is missing (drops.jsonl is there to read), and UserError
    for a rule that executes answers where a problem has no verifier.
    """
    settings: FilterSettings = work.settings
    folder, config, bridges = work.folder, settings.config, settings.bridges
    dialogues = [work.inputs[role] for role in DRAWN if role in work.inputs]
    rules = build_rules(config.rules)
    problems = {p.id: p for p in read_problems(work.inputs["problems"], train=True)}
    refuse(rules, problems.values())
    talks = [from_row(Dialogue, row) for path in dialogues for row in read_rows(path / "rows.jsonl")]
    if not talks:
        raise StoreError(f"{folder.name}: no dialogues in {', '.join(p.name for p in dialogues)}; nothing to filter")
    masking = config.trained_turns is not False
    cases = judge(talks, problems, bridges, masking=masking, limits=settings.grader)
    quotas = None
    if "sampled" in work.inputs:
        quotas = {row["problem_id"]: row["wanted"] for row in read_rows(work.inputs["sampled"] / "budgets.jsonl")}
    limit = work.measured("kept") if isinstance(config.limit, str) else config.limit
    kept_cases, drops = apply(cases, rules, None if config.mix else limit, quotas, config.prefixes)
    tried = sum(c.prefix for c in kept_cases) + sum(d.dialogue_id.endswith(PREFIX) for d in drops)
    write_rows(folder / "drops.jsonl", map(asdict, drops))
    more: dict[str, Any] = {}
    if config.mix and kept_cases:
        mixed = mix.draw(kept_cases, config.mix, limit)
        kept_cases, drops = mixed.kept, sorted([*drops, *mixed.dropped], key=lambda d: d.dialogue_id)
        write_rows(folder / "drops.jsonl", map(asdict, drops))
        more["mix"] = mixed.metrics()
    if config.prefixes:
        more["prefixes"] = {"tried": tried, "kept": sum(c.prefix for c in kept_cases)}
    by_rule = Counter(d.rule for d in drops)
    if not kept_cases:
        worst = ", ".join(f"{name} {n}" for name, n in by_rule.most_common(3))
        raise StoreError(
            f"{folder.name}: none of {len(cases)} dialogues passed the rules (dropped by {worst}); read "
            f"{folder / 'drops.jsonl'}, then loosen filter.rules or draw more samples; dialogues are kept"
        )
    write_rows(folder / "rows.jsonl", (kept(case).to_row() for case in kept_cases))
    return metrics(cases, kept_cases, by_rule) | more


def kept(c: Case) -> Kept:
    """The case as later stages read it."""
    counts = dict(c.behaviours)
    known = Kept(c.dialogue.id, c.problem.id, c.kind, c.verdicts, counts, c.dialogue, c.attempt)
    return known if c.trace is None else replace(known, verifier=c.problem.verifier, wrong=wrong_attempts(c))


def metrics(cases: Sequence[Case], kept_cases: Sequence[Case], by_rule: Mapping[str, int]) -> dict[str, Any]:
    """Counts and shares; shares are of all dialogues unless the name says `kept`, and those are of what is kept.

    Prefixes count among what is kept and dropped, not among the dialogues.
    """

    def share(count: int, of: int) -> float:
        return round(count / of, 4) if of else 0.0

    def shown(of: Sequence[Case]) -> dict[str, float]:
        return {n: share(sum(c.behaviours[n] > 0 for c in of), len(of)) for n in behaviours.NAMES}

    turns = max(len(c.verdicts) for c in cases)
    statuses = [Counter(c.verdicts[i].status for c in cases if i < len(c.verdicts)) for i in range(turns)]
    kinds = Counter(c.kind for c in cases)
    return {
        "dialogues": len(cases),
        "kept": len(kept_cases),
        "drops": dict(sorted(by_rule.items(), key=lambda x: (-x[1], x[0]))),
        "kinds": {k: kinds[k] for k in KINDS},
        "kept_kinds": {k: sum(c.kind == k for c in kept_cases) for k in KINDS},
        "statuses_by_turn": [dict(sorted(s.items())) for s in statuses],
        "grader": given_up(verdict for c in cases for verdict in (*c.verdicts, c.joined)),
        "acc@t1": share(statuses[0]["correct"], len(cases)),
        "acc@last": share(sum(c.verdicts[-1].ok for c in cases), len(cases)),
        "wrong_to_right": kinds["corrected"],
        "right_to_wrong": kinds["spoiled"],
        "behaviours": shown(cases),
        "kept_behaviours": shown(kept_cases),
        "problems": len({c.problem.id for c in cases}),
        "problems_covered": len({c.problem.id for c in kept_cases}),
    }


FILTER = Kind(version=5, run=run)
