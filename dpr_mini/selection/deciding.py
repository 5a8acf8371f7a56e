"""Which cases are kept: the rules, then quotas and a limit. One pass over cases in their order, few in memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from dpr_mini.files.aside import Sorted, Table
from dpr_mini.selection.case import Case, Rule
from dpr_mini.selection.judging import place_in_order, prefix
from dpr_mini.selection.rules import Memory, objections, remember

Objection = tuple[str, str]  # a rule's name and what it saw


class Quotas(Protocol):
    def get(self, key: str, default: int) -> int:
        """How many are wanted of a problem."""


def decided(
    cases: Iterable[Case],
    rules: Sequence[tuple[str, Rule]],
    limit: int | None = None,
    quotas: Quotas | Mapping[str, int] | None = None,
    prefixes: bool = False,
    folder: Path | None = None,
) -> Iterator[tuple[Case, Objection | None]]:
    """Every case, and what it is dropped for; None: it is kept. `cases` come in the order of `in_order`.

    After the rules, at most `quotas[problem id]` are kept of each problem ("quota"), then `limit` in all ("limit").
    With `prefixes` the right first turns of what the rules dropped are cases, too, judged after all others; not of what
    a `Memory` dropped, since another dialogue stands for it. They are laid aside in `folder` until then.
    """
    memories = {name for name, rule in rules if isinstance(rule, Memory)}
    kept, per = 0, Table()
    with Sorted(folder) as firsts:
        for case in chain(cases, map(pickle.loads, firsts)):
            objection = next(objections(case, rules), None)
            if prefixes and objection is not None and objection[0] not in memories and (first := prefix(case)):
                firsts.add(place_in_order(first.dialogue.id), pickle.dumps(first))
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
