"""Chains about tasks' problems, in the grammar of all models, for tests that need some."""

from collections.abc import Callable, Mapping, Sequence

from dpr_mini.types import Dialogue, Finish, Problem, Turn

BRIDGES = {"verify": " Check: "}
PROBLEM = Problem("c", "countdown", "3 5 7 = 26", "3*7+5", verifier="countdown", statement="3 5 7 = 26")

# (first attempt's and later attempts' turns); a bridge joins them.
WRONG, RIGHT = "Answer: 3*7-5", "Answer: 3*7+5"
MENDS = "3*7=21, 21-5=16. Wrong. Answer: 3*7+5"
REJECTS = "3*7=21, 21+5=26. Wrong. Answer: 3*7-5"
CONFIRMS = "3*7=21, 21+5=26. Right."
CORRECTED = (WRONG, MENDS, CONFIRMS)
CONFIRMED = (RIGHT, CONFIRMS)
SPOILED = (RIGHT, REJECTS)
ONE_TURN = "Answer: 3*7-5 Check: 3*7=21, 21-5=16. Wrong. Answer: 3*7+5 Check: 3*7=21, 21+5=26. Right."


def words(text: str) -> tuple[int, ...]:
    return tuple(range(len(text.split())))


def talk(
    *texts: str,
    name: str = "c#0",
    problem: Problem = PROBLEM,
    encode: Callable[[str], tuple[int, ...]] = words,
    finishes: Mapping[int, Finish] = {},
) -> Dialogue:
    """A solve turn and verify turns of these texts; each turn ended itself unless `finishes` has its number."""
    turns: Sequence[Turn] = [
        Turn("verify" if i else "solve", problem.text, encode(text), text, finishes.get(i, "stop"))
        for i, text in enumerate(texts)
    ]
    return Dialogue(name, problem.id, 0, tuple(turns), "scripted", 0)
