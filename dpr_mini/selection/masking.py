"""What is kept out of the loss: one decision, for the rules that judge a dialogue and for the packing that masks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpr_mini import tasks
from dpr_mini.chat.template import first_attempt
from dpr_mini.selection.case import Case
from dpr_mini.types import Dialogue, Verdict


def wrong_first(
    dialogue: Dialogue, verdicts: Sequence[Verdict], attempt: Verdict | None, bridges: Mapping[str, str]
) -> str | None:
    """The wrong first attempt with which the first turn begins: what `pack.mask_wrong_first` masks. None without one.

    It is a whole first turn that others follow, or what stands before the first bridge sentence in a chain of one turn.
    `verdicts` has one for each turn, `attempt` is the one on the text before that bridge, None without a bridge.
    """
    first = dialogue.turns[0].text
    if len(dialogue.turns) > 1 and not verdicts[0].ok:
        return first
    return first_attempt(first, bridges) if attempt is not None and not attempt.ok else None


def wrong_attempts(case: Case) -> tuple[int, ...]:
    """Numbers, from 0, of the wrong attempts that another follows: what `pack.mask_wrong_attempts` masks.

    The case has a trace.
    """
    task = tasks.named(case.problem.verifier)
    earlier = case.trace.attempts[:-1]
    return tuple(n for n, a in enumerate(earlier) if not (a.answer and task.right(case.problem.statement, a.answer)))
