"""Plain answers that a check accepts or rejects, and what comes of drawing until it accepts one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpr_mini import tasks
from dpr_mini.chat.template import Template, spelled, standing_text
from dpr_mini.recipe import RedrawConfig
from dpr_mini.scoring.anatomy import part
from dpr_mini.scoring.stats import subset
from dpr_mini.tasks.trace import true_check
from dpr_mini.types import Dialogue, Graded, Problem


@dataclass(frozen=True, slots=True)
class Check:
    """What a reply says of answer `id`. `right` is the verifier's word; `tokens` those up to and with the verdict.

    `read`: whether there is a verdict on this answer; without one `accepts` is False. `true`: whether the lines before
    it work this answer out.
    """

    id: str
    benchmark: str
    right: bool
    accepts: bool
    read: bool
    true: bool
    tokens: int


def needed(sample: int, config: RedrawConfig) -> bool:
    """Whether a sampled answer is checked: it belongs to a response, and is not the last that one may draw."""
    return 0 <= sample < config.samples * config.at_most and sample % config.at_most < config.at_most - 1


def read_check(talk: Dialogue, problem: Problem, bridges: Mapping[str, str], template: Template) -> Check:
    """What the second turn says of the first one's answer; of a dialogue without a second turn, nothing."""
    task, text = tasks.named(problem.verifier), standing_text(talk, bridges, len(talk.turns) - 1)
    before = len(talk.turns[0].text)
    trace = tasks.read(task, text)
    given = [a for a in trace.attempts if a.start < before]
    right = bool(given) and task.right(problem.statement, given[-1].answer)
    unread = Check(talk.id, problem.split, right, accepts=False, read=False, true=False, tokens=0)
    if len(talk.turns) < 2:
        return unread
    reply = talk.turns[1]
    verdict = next((r for r in trace.reviews if r.over > before), None)
    if verdict is None or verdict.attempt != len(given) - 1:
        return replace(unread, tokens=len(reply.ids))
    tokens = spelled(reply.ids, reply.text[: verdict.over - (len(text) - len(reply.text))], template)
    return replace(
        unread,
        accepts=verdict.accepts,
        read=True,
        true=true_check(task, problem.statement, trace, verdict),
        tokens=len(reply.ids) if tokens is None else tokens,
    )


def counted(checks: Sequence[Check]) -> dict[str, Any]:
    """How often right and wrong answers are accepted, checks are true, and verdicts are there to be read."""
    return {
        "accept_right": part(c.accepts for c in checks if c.right).to_row(),
        "accept_wrong": part(c.accepts for c in checks if not c.right).to_row(),
        "true_checks": part(c.true for c in checks).to_row(),
        "read": part(c.read for c in checks).to_row(),
        "tokens": sum(c.tokens for c in checks),
    }


def redraw(answers: Sequence[Graded], checks: Mapping[str, Check], config: RedrawConfig, at_most: int) -> list[Graded]:
    """The responses of `config.samples` redraws a problem with this many answers each, at most config.at_most.

    Response j draws from sampled answer j * config.at_most on, whatever `at_most` is, so that one number of draws is
    compared with another on the same answers. Its `tokens` are those of all that was drawn and checked for it.
    """
    by: dict[tuple[str, int], Graded] = {(a.problem_id, a.sample): a for a in subset(answers) if a.sample is not None}
    responses = []
    for problem in dict.fromkeys(a.problem_id for a in answers):
        for j in range(config.samples):
            tokens, drawn = 0, range(j * config.at_most, j * config.at_most + at_most)
            for sample in drawn:
                answer = by[problem, sample]
                tokens += answer.tokens
                if sample != drawn[-1]:
                    tokens += checks[answer.id].tokens
                    if checks[answer.id].accepts:
                        break
            responses.append(replace(answer, id=f"{problem}#{j}", sample=j, tokens=tokens))
    return responses
