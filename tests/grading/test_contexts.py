"""The same answers in every frame, sentence and surrounding that is not part of them: right ones pass, others never."""

from __future__ import annotations

import pytest

from dpr_mini.grading.grader import Grader

pytestmark = pytest.mark.slow  # 12,000 texts
# where an answer is named
FRAMES = [
    "The answer is {}", "Answer: {}", "**Answer:** {}", "#### {}", "So the final answer is **{}**",
    "<answer>{}</answer>", r"\[ \boxed{{{}}} \]", r"$\boxed{{{}}}$", r"\boxed{{{}}}", "Final answer: ${}$",
    r"The final answer is: $\boxed{{{}}}$", "**The answer is {}**", "Thus the correct answer is {}", "My answer: {}",
    "ANSWER: {}", r"The answer is \({}\)", "Final Answer: The final answer is ${}$. I hope it is correct",
    "### Final Answer\n\n{}", "The answer is:\n\n{}", "**Final Answer**\n\n$${}$$",
    r"Therefore, the answer is \(\boxed{{{}}}\)",
]  # fmt: skip
ANSWERS = [
    "60", r"\frac{3}{4}", r"2\sqrt{3}", "(3, 4)", "[1, 5)", "x^2+1", "1,234", "12.5", "-7", r"45^\circ", r"\$18",
    r"25\%", r"3\pi", r"\text{July}", r"\{1, 2, 3\}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"(-\infty, 2)",
    r"\frac{1}{2}, 3", "10_{3}", "6 + 2i",
]  # fmt: skip
BEHIND = [
    "", ".", "!", ".\n", "\n\n", " .", ".\n\nLet me know if you have questions.", " ✓",
    ".\n\nThis matches the condition.", "\n\n---", ", as required.", " (see above).", ".\n<|im_end|>",
    ". Hope this helps!", ".\n\nExplanation: we added and divided.",
]  # fmt: skip
# around a box in prose
BEFORE_A_BOX = [
    "= ", "x = ", "$x = ", "180 - 120 = ", "180/3 = ", "(a) ", "Step 3: ", "Hence the area is 60. ",
    "Hence it is 60: ", "which gives 60, so ", "We have 3 * 20 = 60.\n", "We have 3 * 20 = 60. ", "2) ", "1. ", "- ",
    "* ", "> ", "# ", "in 2024, ", "at 5 p.m. ", "on day 3 ", "It's 60! ", "60? Yes, ", "60 => ", "(60) ",
]  # fmt: skip
BEHIND_A_BOX = [
    " hours", " a day", " in total", " and that's it.", " or so.", " (since 3*20=60)", ", which is right.", " = 60",
    " m", " as required", " is the answer.", " dollars", "\n\nCheck: 60/3 = 20.", " - done", " each", " i.e. sixty",
    ": done", "  \nSo 60.", " at 5 p.m.", " in 3 days", " of 100", " out of 100", "\n2. Next", " per day", " left",
    "!",
]  # fmt: skip
# where no word names it: sentences that conclude
CONCLUDE = [
    "So Ann has {} left.", "So there are {} in total.", "Therefore, it takes {} to finish.",
    "In total, they earned {}.", "Thus, the total is {}.", "She needs {} more.", "Altogether that makes {}.",
    "So each child gets {}.", "The bill comes to {}.", "Tom pays {} for everything.", "So he still has to drive {}.",
    "Hence Mia is {} old.", "So the cost is {}.", "It will take her {}.", "They need {} in all.",
    "So the remaining amount is {}.", "The farmer sold {} altogether.", "So {} are needed.", "Thus {} remain.",
    "Bob saved a total of {}.", "This leaves {} for the trip.", "So they will arrive after {}.", "The average is {}.",
    "He spends {} every week.", "So the shop made {} that day.", "Ann earns {} a day.",
    "Now we know that the train travels {}.", "As a result, the tank holds {}.",
    "Consequently, Leo reads {} each night.",
]  # fmt: skip
SAID = [
    ("48", "48 apples"), ("48", "48"), ("48", "$48"), ("48", "48 miles"), ("1250", "1,250 people"),
    ("2.5", "2.5 hours"), ("0.75", "0.75 kg"), ("48", "**48**"), ("48", "**48 cups**"), ("48", "48 red marbles"),
    ("3.50", "$3.50"), ("20", "20%"), (r"\frac{1}{2}", "1/2 of a cake"),
]  # fmt: skip
PREMISES = [
    "", "First, 6 * 8 = 48.\n", "There are 6 rows of 8 seats each.\n", "We start with 100 and take away 52.\n\n",
    "Step 1: Find the total.\n6 x 8 = 48\n\nStep 2: Conclude.\n",
]  # fmt: skip


def named() -> list[tuple[str, str]]:
    return [(a, f"Some working first.\n\n{f.format(a)}{t}") for f in FRAMES for a in ANSWERS for t in BEHIND]


def in_boxes() -> list[tuple[str, str]]:
    close = {"$x = ": "$"}
    front = [("60", rf"{b}\boxed{{60}}{close.get(b, '')}") for b in BEFORE_A_BOX]
    return front + [("60", rf"{b}\boxed{{60}}{a}") for b in ("So we get ", "The answer is ") for a in BEHIND_A_BOX]


def concluded() -> list[tuple[str, str]]:
    ends = ("", "\n\nI hope this helps!", " Done.")
    return [(g, f"{p}{s.format(n)}{t}") for s in CONCLUDE for g, n in SAID for p in PREMISES for t in ends]


def graded(cases: list[tuple[str, str]]) -> list[bool]:
    with Grader(workers=1, timeout_s=20) as grader:
        found = dict(grader.grade_many((i, gold, text) for i, (gold, text) in enumerate(cases)))
    return [found[i].ok for i in range(len(cases))]


@pytest.mark.parametrize("cases", [named, in_boxes, concluded])
def test_every_right_answer_passes(cases):
    texts = cases()
    refused = [case for case, ok in zip(texts, graded(texts), strict=True) if not ok]
    assert not refused, (len(refused), refused[:10])


def test_no_other_number_of_the_text_passes():
    others = [(other, text) for gold, text in concluded() for other in ("8", "52", "1") if other != gold]
    others += [("61", text) for _, text in in_boxes()] + [("3", text) for _, text in in_boxes()]
    accepted = [case for case, ok in zip(others, graded(others), strict=True) if ok]
    assert not accepted, (len(accepted), accepted[:10])


def test_no_other_answer_passes():
    texts = named()
    others = [(ANSWERS[(ANSWERS.index(gold) + 7) % len(ANSWERS)], text) for gold, text in texts]
    accepted = [case for case, ok in zip(others, graded(others), strict=True) if ok]
    assert not accepted, (len(accepted), accepted[:10])
