"""The marker counters: each behaviour is found in a text that shows it, and not in one that does not."""

import pytest

from dpr_mini import behaviours

SHOWN = {
    "verification": [
        "Let me verify this: 4 * 6 = 24.",
        "We can double-check by adding 3 + 4.",
        "Substituting x = 2 back into the equation gives 7.",
        "Check: 5 + 7 = 12.",
        "So 12 satisfies both, and this checks out.",
    ],
    "backtracking": [
        "Wait, 3 * 4 is 12.",
        "So x = 5. Hmm, 5 is too big.",
        "This is wrong because 7 is odd.",
        "Let me try another approach.",
        "I made a mistake in the second line.",
    ],
    "subgoals": [
        "Step 1: find the cost of one pen.",
        "First, we need to find the total.",
        "Let me break this down into two sums.",
        "The first step is to add 3 and 4.",
    ],
    "backward": [
        "Let me work backward from 12.",
        "Starting from the answer, divide by 3.",
        "Suppose the answer is 12; then each has 4.",
        "To get 24, one factor must be even.",
    ],
}
PLAIN = [
    "Tom has 3 apples and buys 4 more. 3 + 4 = 7. The answer is 7.",
    "She waited at the bank to deposit a check for $50.",
    "The tester paid 12 dollars for a backward-facing seat.",
    "There are 3 steps to the door and 4 parts in the box.",
    "He walked back to the shop with 2 bags.",
    "",
]


@pytest.mark.parametrize("name", behaviours.NAMES)
def test_shown_behaviour_is_counted(name):
    for text in SHOWN[name]:
        assert behaviours.count(text)[name] >= 1, text


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_has_no_marker(text):
    assert behaviours.count(text) == dict.fromkeys(behaviours.NAMES, 0)


def test_behaviours_are_told_apart():
    for name, texts in SHOWN.items():
        for text in texts:
            others = {n: c for n, c in behaviours.count(text).items() if n != name and c}
            assert not others, (name, text, others)


def test_each_instance_counts():
    text = "Wait, that is 8.\nWait, that is 9.\nStep 1: add. \nStep 2: halve."
    assert behaviours.count(text) == {"verification": 0, "backtracking": 2, "subgoals": 2, "backward": 0}


def test_long_text_is_quick():
    import time

    begun = time.perf_counter()
    behaviours.count("the first step to get this back " * 5_000)
    assert time.perf_counter() - begun < 2
