"""Repetition, prompt leaks and answers without working: what each objects to, and what only looks like it."""

from __future__ import annotations

import time

import pytest

from dpr_mini.grading.reading import extract
from dpr_mini.selection.leaks import copied, leak
from dpr_mini.selection.repetition import repeated
from dpr_mini.selection.working import shown

SAME = "Both jars hold 6 and 7 sweets, so we count them all."
LOOPS = {
    "as it stands": f"We count. {SAME} {SAME} {SAME} The answer is 13.",
    "on numbered lines": "\n".join(f"{i}. {SAME}" for i in range(1, 6)),
    "counted as steps": "\n".join(f"Step {i}: {SAME}" for i in range(1, 6)),
    "with words between": f"{SAME} Hm. {SAME} I am not sure. {SAME} Well.",
    "of a phrase without an end": "and then we go on and add it up once more " * 4,
    "behind and before other numbers": "It was 9. " + "6 + 7 is what we have to count here. " * 3 + "13 it is.",
    "of a whole list": ("Row 1: we put 2 chairs into it and have 2. Row 2: we put 2 chairs into it and have 4. " * 3),
}
LISTS = {
    "a sum that grows": "\n".join(
        f"After week {i} he has saved another 4 dollars, so it is now {4 * i - 4} + 4 = {4 * i} dollars."
        for i in range(1, 7)
    ),
    "points by letter": " ".join(f"Point {c} is as far from the line as the centre is." for c in "PQRST"),
    "sides by letters": "\n".join(
        f"{s} is half as long as the side of the big square." for s in ("AB", "BC", "CD", "DA")
    ),
    "labels on lines of their own": "\n".join(
        f"Hour {i}:\nthe tap fills the tank with two more litres of water." for i in range(1, 6)
    ),
    "one sentence the same in each": " ".join(
        f"Round {i} begins. Every player takes one card from the pile on the table. {40 - 4 * i} are left."
        for i in range(1, 6)
    ),
    "by ordinals": "The first coin can fall on either of its two sides. The second coin can fall on either of its two "
    "sides. The third coin can fall on either of its two sides.",
}  # fmt: skip


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_a_loop_is_repetition(text):
    count, run = repeated(text, 8, 3)
    assert count >= 3 and len(run.split()) == 8


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_list_of_steps_goes_on(text):
    assert repeated(text, 8, 3) is None


def test_long_texts_are_searched_quickly():
    begun = time.process_time()
    block = [f"w{i}x" for i in range(4000)]
    repeated(" ".join([*block, "1", *block, "2", *block, "3"]), 8, 3)
    repeated("a b c d e f g h i " * 5000, 8, 3)
    assert time.process_time() - begun < 5


LEAKS = [
    "The prompt wants me to look twice, so I do.",
    "As this prompt states, the last line is the answer.",
    "The answer I was given looks fine.",
    "The worked example which I have been shown does the same.",
    "I check the sum as instructed above.",
    "I was asked in the prompt to look again.",
    "I was told to verify my result, so 4 + 4 = 8.",
    "The instructions above ask for a check.",
    "The instruction says to check each step.",
    "The user asked for the number of eggs.",
    "8<|im_end|>\n<|im_start|>user\nThanks",
    "[/INST] 8",
    "8<end_of_turn>",
    "<|eot_id|>8",
    "<\uff5cAssistant\uff5c>8",
    "8</s>",
    "8\nuser\nAnd 4 + 5?",
    "### Response:\n8",
]
NO_LEAKS = [
    "The instructions on the box ask for 2 eggs and 3 cups.",
    "According to the instructions, a litre takes 4 spoons.",
    "We are asked to find the number of eggs.",
    "I was given 4 eggs and bought 4 more.",
    "I was asked to bring 8 cakes.",
    "The salt solution that we are given holds 20 % salt.",
    "My previous answer was wrong: it is 8.",
    "The user pays 8 dollars a month.",
    "For prompt payment the shop takes 5 % off, and the prompt reply saves 2 days.",
    "The message has 8 words.",
    "|x| < 8 and 3 <|y|, so x > -8.",
    "The interval is [1, 8] or <1, 8>.",
]


def test_leaks():
    assert [text for text in LEAKS if not leak(text)] == []
    assert [text for text in NO_LEAKS if leak(text)] == []


def test_a_copy_of_an_instruction():
    ours = "So reason step by step and put the final answer in a box: 8"
    assert copied(ours, [], 8) == "reason step by step and put the final", "of a shipped template"
    assert copied("I keep whichever result holds up: 8", [], 8) == "keep whichever result holds up"
    asked = ["Count the eggs in every one of the boxes and say so.", "Show it. Do it all over again."]
    assert copied("We count the eggs in every one of the boxes.", asked, 8) == "count the eggs in every one of the"
    assert copied("Now I do it all over again, and get 8.", asked, 8) == "do it all over again"
    assert copied("We count the eggs in every box. Show it.", asked, 8) is None


BARE = [
    "8", "So 8.", "The final answer is **8**.", r"$\boxed{8}$", "#### 8", "Answer: 8 eggs", "x = 8",
    "It is 8, I am sure.",
    "The answer is (C).", "Answer: (2, -3)", r"\boxed{\frac{3}{4}}", r"\boxed{a^2 - b^2}", "Answer: 1,250 dollars",
    "Let me check it again. Yes, that is right. The answer is 8.", "1. 8", "The train goes 60 km/h.",
    "So she has 8 eggs.",
]  # fmt: skip
WORKED = [
    "4 + 4 = 8\nAnswer: 8", "6*7=42. Answer: 42", r"$2 \times 4 = 8$, so \boxed{8}", "2x = 16, so x = 8",
    "Half of 16 is 8.",
    "Two fours are 8.", "Because the angles sum to 180, it is 70.", r"(a-b)(a+b) = a^2 - b^2, so \boxed{a^2 - b^2}",
    "The primes 2, 3 and 5: so 3",
    "Because opposite sides of a parallelogram are equally long and this side is known, the answer is 8.",
]  # fmt: skip


def test_working():
    assert [text for text in BARE if shown(text, extract(text)[0], 6)] == []
    assert [text for text in WORKED if not shown(text, extract(text)[0], 6)] == []
