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
from typing import Any, Self

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
    dialogues = [work.inputs[role] for role in DRAWN if role in work.inputs]
    counts, more = Counts(), {}
    with _Drawn(dialogues, folder, problems) as drawn, Sorted(folder) as drops, Sorted(folder) as passed:
        cases = judged(drawn, problems, bridges, masking, settings.grader, total=len(drawn))
        for case, objection in decided(cases, rules, most, _quotas(work), config.prefixes, folder):
            counts.add(case)
            if objection:
                drops.add(case.dialogue.id, dumps(asdict(Drop(case.dialogue.id, *objection))))
            else:
                passed.add(case.dialogue.id, f"{dumps(counts.seen(case))}\n{dumps(kept(case).to_row())}")
        write_lines(folder / "drops.jsonl", drops)
        mixed_out = bytearray(len(passed))  # 1 for each that a mix leaves out, in the order of ids
        if config.mix and len(passed):
            mixed = mix.plan(Counter(json.loads(seen)["kind"] for seen, _ in _split(passed)), config.mix, limit)
            _leave_out(mixed, passed, mixed_out, drops, folder)
            write_lines(folder / "drops.jsonl", drops)
            more["mix"] = mixed.metrics()
        by_rule = Counter(json.loads(line)["rule"] for line in drops)
        if mixed_out.count(0) == 0:
            worst = ", ".join(f"{name} {n}" for name, n in by_rule.most_common(3))
            raise StoreError(
                f"{folder.name}: none of {counts.dialogues} dialogues passed the rules (dropped by {worst}); read "
                f"{folder / 'drops.jsonl'}, then loosen filter.rules or draw more samples; dialogues are kept"
            )

        def lines() -> Iterator[bytes]:
            for left_out, (seen, line) in zip(mixed_out, _split(passed), strict=True):
                if not left_out:
                    counts.keep(json.loads(seen))
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


def _split(passed: Sorted) -> Iterator[tuple[bytes, bytes]]:
    """(what counts of it, its row) of every case that passed the rules."""
    return ((seen, line) for seen, _, line in (text.partition(b"\n") for text in passed))


def _leave_out(mixed: mix.Mix, passed: Sorted, left_out: bytearray, drops: Sorted, folder: Path) -> None:
    """Note what a mix leaves out, in `left_out` and as drops. It draws in the order in which cases are judged."""
    with Sorted(folder) as order:
        for number, (seen, _) in enumerate(_split(passed)):
            told = json.loads(seen)
            order.add(place_in_order(told["id"]), dumps({"number": number, "id": told["id"], "kind": told["kind"]}))
        kinds = (json.loads(text)["kind"] for text in order)
        for text, objection in zip(order, mixed.objections(kinds), strict=True):
            if objection is not None:
                told = json.loads(text)
                left_out[told["number"]] = 1
                drops.add(told["id"], dumps(asdict(Drop(told["id"], "mix", objection))))


class _Drawn:
    """The dialogues of some stages in the order in which they are judged, each read where it lies in its file.

    Raises StoreError where there are none, or one that is none, and for one whose problem is not there.
    """

    def __init__(self, folders: Sequence[Path], aside: Path, problems: Asked) -> None:
        self._paths = [folder / "rows.jsonl" for folder in folders]
        self._places = Sorted(aside)
        for number, path in enumerate(self._paths):
            for at, (place, row) in enumerate(placed_rows(path), 1):
                name, problem = row.get("id"), row.get("problem_id")
                if not isinstance(name, str) or not isinstance(problem, str):
                    raise StoreError(f"{path}:{at}: not a dialogue; {REDO}")
                if problem not in problems:
                    raise StoreError(f"dialogue {name}: its problem {problem} is not among the problems")
                self._places.add(place_in_order(name), f"{number} {place}")
        if not len(self._places):
            told = ", ".join(folder.name for folder in folders)
            raise StoreError(f"{aside.name}: no dialogues in {told}; nothing to filter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._places.__exit__(*exc)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Dialogue]:
        with ExitStack() as opened:
            files = [opened.enter_context(path.open("rb")) for path in self._paths]
            for text in self._places:
                number, place = map(int, text.split())
                yield row_as(Dialogue, row_at(files[number], place), f"{self._paths[number]}: byte {place:,}")


def kept(c: Case) -> Kept:
    """The case as later stages read it."""
    counts = dict(c.behaviours)
    known = Kept(c.dialogue.id, c.problem.id, c.kind, c.verdicts, counts, c.dialogue, c.attempt)
    return known if c.trace is None else replace(known, verifier=c.problem.verifier, wrong=wrong_attempts(c))


FILTER = Kind(version=5, run=run)
