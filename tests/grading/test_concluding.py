"""Which sentence concludes a response, which of its numbers is meant, and what is taken back."""

from __future__ import annotations

import time

import pytest

from dpr_mini.grading.numerals import spelled_out
from dpr_mini.grading.reading import extract

STATED = {  # the first two: what was computed, not a given
    "80 - 35 = 45\nNow Ida has 45 beads left to string with her 2 cousins.": "45 beads",
    "120 / 8 = 15. If they keep going, the 8 bakers will need 15 more trays for the remaining dough.": "15 trays",
    "Each of the 6 drawers holds 14 socks.": "14 socks",
    "She gets $7 back from her $20 note.": "$7",
    "By then Ines will have read 600 pages in 3 weeks.": "600 pages",
    "Their profit is $35 ($95 - $60).": "$35",
    "Ben is 4 inches taller than Ida, who is 58 inches tall.": "4 inches",
    "The rent increased by 12.5%.": "12.5%",
    "Mia is on board with 34 others, so 34 are aboard, 11 fewer than before.": "34",
    "Ben has 12 more cards than Ida, who has 31.": "12 cards",
    "Ainsi, des 12 filles, la part de celles qui ont 3 livres est de 25%.": "25%",
    "60千克 + 31千克 = 91千克 所以他的体重是91千克。": "91 千克",
    "The sum of the 2 rows is (14 + 26 = 40).": "14 + 26 = 40",
    "9 wheels cost 36 dollars.": "36 dollars",
    "We had 4 crates, so we sold 52 melons.": "52 melons",
    "The crew paints 7 doors on day one, leaving 11 doors.": "11 doors",
    "Ned picks 3*9=<<3*9=27>>27 plums.": "27 plums",
    "Let n be the rows. Then n + (n + 3) = 15, so n = 6, and the columns are n + 3 = 9.": "9",
    "The rope is 21 m long.\nCheck: 21 + 9 = 30.": r"21 \text{ m}",
    "There are 64 tiles.\n\nThis is because each of the 8 rows has 8 tiles.": "64 tiles",
    "So Tom ate 9 (he kept 31 of the 40).": "9",
    "Seventy-two chairs were set out.": "seventy-two",
    "Two hundred and six stamps are missing.": "two hundred and six",
    "So the shorter root is x = 5 - 2√3.": r"5 - 2\sqrt 3",
    "Hence q(t) = 2t³ \u2212 t + 4": "2t^{3} - t + 4",
}
NOT_STATED = (
    "That leaves her with 19 of her 33 coins.",  # either could be asked for
    "It is 8 more than 12.",
    "Half of the class: 40% of the 30 children.",
    "19 - 4 = 15\n\nThat would be wrong, though.",
    "She saved 5 of the 12.",
    "From the second clue we get 4b + 6 = 50.",  # not solved
    "Then l + w = 18.",
    "```python\nprint(6 * 12)\n```",
    "I'm sorry, but I can't determine the total without knowing the price. She bought 8.",
    "First we add 13 + 29 = 42, and then we multiply 42 by the",
    "A hen lays 5 eggs a day and eats 2. How many eggs are left after a week?",
)
TAKEN_BACK = {
    "So the area is \\boxed{48}. Hmm, no, that's wrong, because the base was halved twice.": "",
    "The answer is 48.\n\nLet me verify: 48 + 9 = 57, but we need 60. So 48 is incorrect.": "",
    "The answer is 17. Actually, scratch that. I can't determine it from what is given.": "",
    "#### 12\nWait, that can't be right. The answer is 14.": "14",
    "\\boxed{9}. Oh no, I made a mistake. 5 * 2 = 10.": "5 * 2 = 10",
    # none of these takes anything back
    "The answer is 48. It is impossible to get fewer than 48 with these tiles.": "48",
    "The answer is 48. The other options are wrong.": "48",
    "\\boxed{48}. Let me double check: 6 * 8 = 48. That is right.": "48",
    "The answer is 7. That is not a right angle.": "7",
}
NAMED = {
    "The answer is 6 less than 20, i.e. 14.": "14",
    "The answer is 2/3 of 90, which is 60.": "60",
    "The answer is not 8 but 11.": "11",
    "The answer is __31__.": "31",
    "<answer>The total price is $17.25</answer>": "$17.25",
    "**Answer:** (\u2212∞, \u22124) \u222a (1, ∞)": r"(-\infty , -4) \cup  (1, \infty )",
    "\\( \\boxed{72} \\) cm": r"72\text{ cm}",
    "\\( \\boxed{72} \\) in total": "72",
    "The rest is 180 - 55 - 65 = 60. \\boxed{60}": "60",
    "$\\boxed{72}$ m.": r"72\text{ m}",
    "$\\boxed{72}$ s and no more": "72",
    "$\\boxed{x = 6 \\text{ (since } x = 1 \\text{ fails)}}$": "x = 6",
}


@pytest.mark.parametrize(("text", "answer"), [*STATED.items(), *TAKEN_BACK.items(), *NAMED.items()])
def test_what_is_read(text, answer):
    assert extract(text)[0] == answer


@pytest.mark.parametrize("text", NOT_STATED)
def test_what_no_sentence_states(text):
    assert extract(text)[0] == ""


def test_numbers_in_words():
    said = {
        "nineteen": 19, "sixty": 60, "eighty-one": 81, "one hundred": 100, "a hundred and four": 104,
        "three hundred twelve": 312, "two thousand and six": 2_006, "forty thousand three hundred": 40_300,
        "one million two hundred thousand": 1_200_000,
    }  # fmt: skip
    assert {words: spelled_out(words) for words in said} == said
    for nonsense in ("", "and", "five and", "twenty twelve", "hundred", "five six", "thousand two", "ninety-zero"):
        assert spelled_out(nonsense) is None, nonsense


@pytest.mark.parametrize(
    "piece", ["Check: 3. ", "because 4 ", "```\n5\n", "So 6 = 6. ", "that's wrong. ", "one hundred and "]
)
def test_time_grows_with_the_text_not_faster(piece):
    def seconds(length):
        text = f"The answer is 5. {piece * (length // len(piece))}"
        return min(_seconds(text) for _ in range(3))

    assert seconds(32_000) < 24 * seconds(4_000) + 0.05  # 8 when linear, 64 when quadratic


def _seconds(text):
    begun = time.process_time()
    extract(text)
    return time.process_time() - begun
