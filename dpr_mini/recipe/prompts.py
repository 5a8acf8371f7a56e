"""Every prompt, by name. All but `question` and `boxed` are ours: the paper (arXiv 2601.05616) published none.

A template is what the user side says in one turn; `{problem}` is replaced by the question. `solve` asks for a
first attempt and is also the question that training samples and evaluations use. The four others make the model
verify, backtrack, decompose into subgoals or reason backward (arXiv 2503.01307) on its own answer. A bridge is the
sentence that joins such a turn to the text before it, once the instruction itself is taken out. `question` and
`boxed` ask as other evaluations do (benchmarks.py).

A recipe adds or replaces entries under `dialogue.templates` and `dialogue.bridges`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dpr_mini.recipe.turns import TurnSpec, adaptive, longest

TEMPLATES = {
    "solve": "{problem}\n\nReason step by step and put the final answer in \\boxed{}.",
    "verify": (
        "Check your solution: test every step and the result against the conditions of the problem. "
        "If something fails, say where and correct it. End with the final answer in \\boxed{}."
    ),
    "backtrack": (
        "Look for the first step you are least sure of, go back to it and try another way from there. "
        "Keep whichever result holds up. End with the final answer in \\boxed{}."
    ),
    "subgoals": (
        "Split the problem into smaller goals, reach them one after another, and compare the result with "
        "your answer. End with the final answer in \\boxed{}."
    ),
    "backward": (
        "Start from your answer and work backward to what the problem states. "
        "If you do not arrive there, correct the answer. End with the final answer in \\boxed{}."
    ),
    "question": "{problem}",
    "boxed": "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}.",
}

BRIDGES = {
    "verify": "\n\nLet me verify this.\n",
    "backtrack": "\n\nWait, let me go back to the step I am least sure of.\n",
    "subgoals": "\n\nLet me split this into smaller goals and compare.\n",
    "backward": "\n\nLet me work backward from this answer.\n",
}


@dataclass(frozen=True)
class Words:
    """Templates and bridges by name: ours, and over them the recipe's."""

    templates: Mapping[str, str]
    bridges: Mapping[str, str]

    def used(self, turns: Iterable[Iterable[str]]) -> dict[str, str]:
        """The templates that these turns name."""
        return {name: self.templates[name] for turn in turns for name in turn}

    def joining(self, turns: Sequence[TurnSpec]) -> dict[str, str]:
        """The bridges that decide with what turns are asked: those of turns with conditions, else none."""
        names = dict.fromkeys(name for turn in longest(turns[1:]) for name in turn)
        return {n: self.bridges[n] for n in names if n in self.bridges} if adaptive(turns) else {}


def words(templates: Mapping[str, str], bridges: Mapping[str, str]) -> Words:
    """Ours with a recipe's `dialogue.templates` and `dialogue.bridges` over them."""
    return Words({**TEMPLATES, **templates}, {**BRIDGES, **bridges})


def fill(template: str, problem: str) -> str:
    """The template with the question in it. Plain replacement: LaTeX is full of braces."""
    return template.replace("{problem}", problem)
