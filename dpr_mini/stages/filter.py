"""Which dialogues to train on: graded turn by turn, put through `rules`, a line in the drop log for every one dropped.

Rules apply in the recipe's order; the first that objects is the one recorded, and none of them counts a case that is
not kept. Cases are judged in an order that is a hash of their id, so that what the remembering rules and the limits
keep neither depends on the order of the files nor favours early samples.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dpr_mini.files.aside import Sorted, Table
from dpr_mini.files.rows import REDO, StoreError, dumps, placed_rows, read_rows, row_as, row_at, write_lines
from dpr_mini.recipe import FilterConfig, GraderConfig
from dpr_mini.selection import mix
from dpr_mini.selection.asked import Asked
from dpr_mini.selection.case import Case
from dpr_mini.selection.counts import Counts
from dpr_mini.selection.deciding import decided
from dpr_mini.selection.judging import judged, place_in_order
from dpr_mini.selection.masking import wrong_attempts
from dpr_mini.selection.rules import build_rules, refuse
from dpr_mini.store import Kind, Settings, Work, each_problem
from dpr_mini.types import Dialogue, Drop, Kept

DRAWN = ("dialogues", "probed", "sampled")  # roles of the stages whose dialogues are filtered


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
    drops.jsonl and rows.jsonl, whole, sorted by id: the stage is quick, a rerun redoes it. Dialogues are read where
    they lie, a portion at a time, and what is decided is laid aside in the stage's folder.
    Raises StoreError where nothing is kept or a kind of `mix` is missing (drops.jsonl is there to read), and UserError
    for a rule that executes answers where a problem has no verifier.
    """
    settings: FilterSettings = work.settings
    folder, config, bridges = work.folder, settings.config, settings.bridges
    rules = build_rules(config.rules)
    refuse(rules, each_problem(work.inputs["problems"], train=True))
    problems = Asked(each_problem(work.inputs["problems"], train=True))
    limit = work.measured("kept") if isinstance(config.limit, str) else config.limit
    most, masking = None if config.mix else limit, config.trained_turns is not False
    paths = [work.inputs[role] / "rows.jsonl" for role in DRAWN if role in work.inputs]
    counts, by_rule, kinds, more = Counts(), Counter[str](), Counter[str](), {}
    first: dict[str, str] = {}  # kind -> its smallest id: metrics name kinds in this order
    with Sorted(folder) as places, Sorted(folder) as drops, Sorted(folder) as passed, Sorted(folder) as mixing:
        _lay_aside(places, paths, problems)
        if not len(places):
            told = ", ".join(path.parent.name for path in paths)
            raise StoreError(f"{folder.name}: no dialogues in {told}; nothing to filter")

        def drop(name: str, rule: str, evidence: str) -> None:
            by_rule[rule] += 1
            drops.add(name, dumps(asdict(Drop(name, rule, evidence))))

        cases = judged(_drawn(places, paths), problems, bridges, masking, settings.grader, total=len(places))
        for case, objection in decided(cases, rules, most, _quotas(work), config.prefixes, folder):
            name, number = case.dialogue.id, len(passed)
            counts.add(case)
            if objection:
                drop(name, *objection)
                continue
            kinds[case.kind] += 1
            first[case.kind] = min(name, first.get(case.kind, name))
            if config.mix:
                mixing.add(place_in_order(name), dumps({"number": number, "id": name, "kind": case.kind}))
            passed.add(name, f"{dumps({**counts.seen(case), 'number': number})}\n{dumps(kept(case).to_row())}")
        write_lines(folder / "drops.jsonl", drops)
        left_out = bytearray(len(passed))  # by number, 1 for each that a mix leaves out
        if config.mix and len(passed):
            mixed = mix.plan({kind: kinds[kind] for kind in sorted(first, key=first.__getitem__)}, config.mix, limit)
            mixed_out = mixed.draw()
            for told in map(json.loads, mixing):  # in the order in which cases are judged
                if why := mixed_out(told["kind"]):
                    left_out[told["number"]] = 1
                    drop(told["id"], "mix", why)
            write_lines(folder / "drops.jsonl", drops)
            more["mix"] = mixed.metrics()
        if left_out.count(0) == 0:
            worst = ", ".join(f"{name} {n}" for name, n in by_rule.most_common(3))
            raise StoreError(
                f"{folder.name}: none of {counts.dialogues} dialogues passed the rules (dropped by {worst}); read "
                f"{folder / 'drops.jsonl'}, then loosen filter.rules or draw more samples; dialogues are kept"
            )

        def lines() -> Iterator[bytes]:
            for seen, _, line in (text.partition(b"\n") for text in passed):
                told = json.loads(seen)
                if not left_out[told["number"]]:
                    counts.keep(told)
                    yield line

        write_lines(folder / "rows.jsonl", lines())
    if config.prefixes:
        more["prefixes"] = {"tried": counts.prefixes, "kept": counts.kept_prefixes}
    return counts.metrics(by_rule) | more


def _quotas(work: Work) -> Table | None:
    """Problem's id -> how many are wanted of it; None where nothing was sampled to a quota."""
    if "sampled" not in work.inputs:
        return None
    quotas = Table()
    for row in read_rows(work.inputs["sampled"] / "budgets.jsonl"):
        quotas[row["problem_id"]] = row["wanted"]
    return quotas


def _lay_aside(places: Sorted, paths: Sequence[Path], problems: Asked) -> None:
    """Note where each dialogue lies, in the order in which they are judged.

    Raises StoreError for a row that is no dialogue, and for one whose problem is not there.
    """
    for number, path in enumerate(paths):
        for at, (place, row) in enumerate(placed_rows(path), 1):
            name, problem = row.get("id"), row.get("problem_id")
            if not isinstance(name, str) or not isinstance(problem, str):
                raise StoreError(f"{path}:{at}: not a dialogue; {REDO}")
            if problem not in problems:
                raise StoreError(f"dialogue {name}: its problem {problem} is not among the problems")
            places.add(place_in_order(name), f"{number} {place}")


def _drawn(places: Sorted, paths: Sequence[Path]) -> Iterator[Dialogue]:
    """The dialogues, each read where it lies in its file."""
    with ExitStack() as opened:
        files = [opened.enter_context(path.open("rb")) for path in paths]
        for text in places:
            number, place = map(int, text.split())
            yield row_as(Dialogue, row_at(files[number], place), f"{paths[number]}: byte {place:,}")


def kept(c: Case) -> Kept:
    """The case as later stages read it."""
    counts = dict(c.behaviours)
    known = Kept(c.dialogue.id, c.problem.id, c.kind, c.verdicts, counts, c.dialogue, c.attempt)
    return known if c.trace is None else replace(known, verifier=c.problem.verifier, wrong=wrong_attempts(c))


FILTER = Kind(version=5, run=run)
