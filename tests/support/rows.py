"""Graded answers and kept dialogues by hand, for tests that need some."""

from dpr_mini.selection import behaviours
from dpr_mini.types import GREEDY, Dialogue, Graded, Kept, Verdict

RIGHT, WRONG = Verdict("correct", "7", "boxed/exact"), Verdict("wrong", "8", "boxed/exact")


def graded(problem: str, sample: int | None, right: bool, benchmark: str = "bench", **fields: object) -> Graded:
    """An answer of three tokens; `sample` None is the greedy one. Its vote is its own text, `fields` win."""
    verdict = RIGHT if right else WRONG
    plain = {
        "id": f"{problem}#{GREEDY if sample is None else sample}",
        "source": "made",
        "tokens": 3,
        "finish": "stop",
        "verdict": verdict,
        "first": right,
        "last": right,
        "behaviours": dict.fromkeys(behaviours.NAMES, 0),
        "vote": None if sample is None else verdict.extracted,
    }
    return Graded(**{**plain, "problem_id": problem, "sample": sample, "benchmark": benchmark, **fields})


def kept(dialogue: Dialogue, *verdicts: Verdict, kind: str = "confirmed") -> Kept:
    counts = dict.fromkeys(behaviours.NAMES, 0)
    return Kept(dialogue.id, dialogue.problem_id, kind, verdicts, counts, dialogue)
