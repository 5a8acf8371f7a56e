"""Which cases are kept: the rules, then quotas and a limit. One pass over cases in their order, few in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from dpr_mini.files.aside import Sorted, Table
from dpr_mini.files.rows import dumps
from dpr_mini.selection.case import Case, Rule, kind_of
from dpr_mini.selection.judging import PREFIX, begins_right, place_in_order, prefix
from dpr_mini.selection.rules import Memory, objections, remember
from dpr_mini.types import Dialogue, Problem, Verdict, from_row, to_row

Objection = tuple[str, str]  # a rule's name and what it saw


def decided(
    cases: Iterable[Case],
    rules: Sequence[tuple[str, Rule]],
    limit: int | None = None,
    quotas: Table | Mapping[str, int] | None = None,
    prefixes: bool = False,
    folder: Path | None = None,
) -> Iterator[tuple[Case, Objection | None]]:
    """Every case, and what it is dropped for; None: it is kept. `cases` come in the order of `place_in_order`.

    After the rules, at most `quotas[problem id]` are kept of each problem ("quota"), then `limit` in all ("limit").
    With `prefixes` the right first turns of what the rules dropped are cases, too, judged after all others; not of what
    a `Memory` dropped, since another dialogue stands for it. They are laid aside in `folder` until then.
    """
    memories = {name for name, rule in rules if isinstance(rule, Memory)}
    kept, per = 0, Table()
    with Sorted(folder) as firsts:
        for case in chain(cases, map(_first, firsts)):
            objection = next(objections(case, rules), None)
            if prefixes and objection is not None and objection[0] not in memories and begins_right(case):
                firsts.add(place_in_order(case.dialogue.id + PREFIX), _aside(case))
            if objection is None and quotas is not None:
                quota = quotas.get(case.problem.id, 0)
                if per.get(case.problem.id, 0) >= quota:
                    objection = ("quota", f"{quota} wanted for this problem")
            if objection is None and limit is not None and kept >= limit:
                objection = ("limit", f"{limit} wanted in all")
            if objection is None:
                kept += 1
                remember(case, rules)
                if quotas is not None:
                    per.count(case.problem.id)
            yield case, objection


def _aside(case: Case) -> str:
    """What `prefix` makes of a case needs, as JSON."""
    told = {"dialogue": to_row(case.dialogue), "problem": to_row(case.problem), "bridges": dict(case.bridges)}
    told |= {"verdict": to_row(case.verdicts[0]), "attempt": case.attempt and to_row(case.attempt)}
    return dumps(told | {"masked": case.masked})


def _first(text: bytes) -> Case:
    """The right first turn of a case that was laid aside, as a case."""
    told = json.loads(text)
    dialogue, verdict = from_row(Dialogue, told["dialogue"]), from_row(Verdict, told["verdict"])
    whole = Case(
        dialogue=dialogue,
        problem=from_row(Problem, told["problem"]),
        text=dialogue.turns[0].text,
        verdicts=(verdict,),
        joined=verdict,
        behaviours={},
        kind=kind_of([verdict]),
        attempt=told["attempt"] and from_row(Verdict, told["attempt"]),
        masked=told["masked"],
        bridges=told["bridges"],
    )
    return prefix(whole)
