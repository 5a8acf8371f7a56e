"""Phase 2: how hard is each problem for the model, and the draws that fill its quota of correct samples.

Difficulty is the fail rate 1 - right/tried over the probe's samples (DART-Math, arXiv 2407.13690, section 2). Sampling
then goes on in rounds; how much is wanted of a problem, what the next round draws and when a problem stops is
arithmetic in budgets.py. The probe's samples are candidates too: nothing that was drawn is thrown away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpr_mini.chat.conversation import Conversation, Generation, run_dialogues, usage
from dpr_mini.engines.base import SamplingParams, described
from dpr_mini.files.rows import read_rows, row_as, write_rows
from dpr_mini.grading.grader import GIVEN_UP, Grader, given_up
from dpr_mini.recipe import GraderConfig, ProbeConfig, SamplingConfig, prompts
from dpr_mini.sampling import budgets
from dpr_mini.sampling.budgets import RATES, Counts, bin_of
from dpr_mini.store import Kind, Settings, Work, read_problems
from dpr_mini.types import Budget, Dialogue, Difficulty, Problem, seed_for, to_row


@dataclass(frozen=True)
class ProbeSettings(Settings):
    config: ProbeConfig
    question: str  # text of the dialogue's first template, as training samples have it
    generation: Generation
    grader: GraderConfig = GraderConfig()  # noqa: RUF009  frozen

    def key(self) -> dict[str, Any]:
        own = {**self.config.model_dump(mode="json"), "question": self.question}
        return own | self.generation.key() | self.grader.key()


@dataclass(frozen=True)
class SampleSettings(Settings):
    config: SamplingConfig  # its budget is scaled
    probe: ProbeSettings

    def key(self) -> dict[str, Any]:
        return {**self.config.model_dump(mode="json"), "draw": self.probe.key()} | self.probe.generation.key()


def probe(work: Work) -> dict[str, Any]:
    """Draw `config.samples` answers a problem. Writes `rows.jsonl` (Dialogue) and `rates.jsonl` (Difficulty)."""
    settings: ProbeSettings = work.settings
    folder, problems = work.folder, read_problems(work.inputs["problems"], train=True)
    engine, template = work.machine.open(work.model)
    conversations = [_single(p, i, settings) for p in problems for i in range(settings.config.samples)]
    dialogues = run_dialogues(folder / "rows.jsonl", engine, template, conversations, work.name)
    with Grader(**dict(settings.grader)) as grader:
        right, lost = _correct(grader, problems, dialogues.values())
    tried, tokens = Counter(d.problem_id for d in dialogues.values()), _tokens(dialogues.values())
    rated = [Difficulty(p.id, tried[p.id], right[p.id]) for p in problems]
    write_rows(folder / RATES, ({**_row(d), "tokens": tokens[d.problem_id]} for d in rated))
    spread = Counter(bin_of(d.rate) for d in sorted(rated, key=lambda d: d.rate))
    return {
        **usage(dialogues.values(), len(conversations)),
        "pass_rate": right.total() / max(tried.total(), 1),
        "problems_by_rate": dict(spread),
        "grader": dict(lost),
        **described(engine),
    }


def sample(work: Work) -> dict[str, Any]:
    """Draw on until every problem has stopped. Writes `rows.jsonl` (Dialogue) and `budgets.jsonl` (Budget, Difficulty).

    Rounds are a function of what was drawn before, so a resumed run draws the same samples as an unbroken one. The
    draws count, not the answers that came: a draw that the engine failed keeps its number and its place. Raises
    BudgetError where the probe cost more than the budget.
    """
    settings: SampleSettings = work.settings
    folder, config, draw = work.folder, settings.config, settings.probe
    problems = read_problems(work.inputs["problems"], train=True)
    engine, template = work.machine.open(work.model)
    probed = work.inputs["probed"] / RATES
    rates = {row["problem_id"]: row for row in read_rows(probed)}
    probes = [row_as(Difficulty, rates[p.id], f"{probed}: {p.id}") for p in problems]
    first = now = Counts.of(
        [draw.config.samples] * len(problems), [d.tried for d in probes], [d.correct for d in probes]
    )
    dialogues: dict[str, Dialogue] = {}
    rounds, lost = 0, Counter[str]()
    with Grader(**dict(draw.grader)) as grader:
        while (step := budgets.step(first, now, config)).draws.any():
            earlier_draws = int((now.asked - first.asked).sum())
            conversations = [
                _single(p, i, draw)
                for p, begin, n in zip(problems, now.asked.tolist(), step.draws.tolist(), strict=True)
                for i in range(begin, begin + n)
            ]
            new = run_dialogues(
                folder / "rows.jsonl",
                engine,
                template,
                conversations,
                work.name,
                earlier=(earlier_draws, earlier_draws - len(dialogues)),
            )
            dialogues |= new
            right, more_lost = _correct(grader, problems, new.values())
            came, lost = Counter(d.problem_id for d in new.values()), lost + more_lost
            now = now.plus(step.draws, *(np.array([count[p.id] for p in problems]) for count in (came, right)))
            rounds += 1
    (folder / "rows.jsonl").touch()  # every quota met by the probe alone: no rows, but a file
    tokens = _tokens(dialogues.values())
    columns = (c.tolist() for c in (step.wanted, now.asked, now.tried, now.right, step.stop))
    rows = [
        {**_row(d), **to_row(Budget(d.problem_id, *counts, tokens[d.problem_id] + rates[d.problem_id]["tokens"], stop))}
        for d, *counts, stop in zip(probes, *columns, strict=True)
    ]
    write_rows(folder / "budgets.jsonl", rows)
    return {
        **usage(dialogues.values(), int((now.asked - first.asked).sum())),
        "target": config.target,
        "rounds": rounds,
        "grader": {name: lost[name] for name in GIVEN_UP.values()},
        # An interrupted run's rows that no round asks for once a failed draw of an earlier round is answered. The
        # filter reads them too.
        "unplanned": sum(1 for _ in read_rows(folder / "rows.jsonl")) - len(dialogues),
        **budgets.summary(rows),
        **described(engine),
    }


def _single(problem: Problem, number: int, settings: ProbeSettings) -> Conversation:
    config = settings.config
    return Conversation(
        problem.id,
        number,
        (("solve", prompts.fill(settings.question, problem.text)),),
        SamplingParams(config.max_new_tokens, config.temperature, config.top_p),
        seed_for(settings.generation.seed, "phase-2", problem.id, number),
    )


def _row(difficulty: Difficulty) -> dict[str, Any]:
    return {**to_row(difficulty), "rate": difficulty.rate, "interval": difficulty.interval}


def _tokens(dialogues: Iterable[Dialogue]) -> Counter[str]:
    """Generated tokens per problem."""
    tokens = Counter[str]()
    for dialogue in dialogues:
        tokens[dialogue.problem_id] += dialogue.tokens
    return tokens


def _correct(
    grader: Grader, problems: Sequence[Problem], dialogues: Iterable[Dialogue]
) -> tuple[Counter[str], Counter[str]]:
    """Right and complete answers per problem, and how many the grader gave up on."""
    gold = {p.id: p.gold for p in problems}
    complete = {d.id: d for d in dialogues if d.finish == "stop"}
    cases = ((d.id, gold[d.problem_id], d.turns[-1].text) for d in complete.values())
    verdicts = dict(grader.grade_many(cases))
    right = Counter(complete[i].problem_id for i, verdict in verdicts.items() if verdict.ok)
    return right, Counter(given_up(verdicts.values()))


PROBE = Kind(version=3, run=probe)
SAMPLE = Kind(version=3, run=sample)
