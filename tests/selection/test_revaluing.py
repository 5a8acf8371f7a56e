"""One thing given two values in turn: what counts, and the plain solutions that look like it."""

import pytest

from dpr_mini.selection import revaluing


@pytest.mark.parametrize(
    "text",
    [
        "9 * 6 = 56. no, 9 * 6 = 54.",
        "4! is 12. well, 4! = 24.",
        "3^4 = 12, but 3^4 = 81.",
        "15% of 80 is 10. 15% of 80 is 12.",
        "he left at 7:20. it is slower uphill. he left at 7:05.",
        "the height is 9. that was the slant. the height is 7.",
        "60 * 4 = 240 km? more time makes it slower. 60 / 4 = 15. but 60 + 4 is no use.",
    ],
)
def test_second_value_is_found(text):
    assert len(revaluing.spans(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9 * 6 = 54 and again 9 * 6 = 54.",
        "9 * 6 = 56. 9 * 6 = 55.",  # two slips
        "10 / 3 = 3.33, so 10 / 3 = 3 full boxes.",
        "5 + 2 * 3 = 11 and 2 * 3 = 6.",
        "1 / 0 = 0.",
        "99999999999^9999 = 1 and 170! = 2.",
        "8 - 2 = 6 against the stream, 8 + 2 = 10 with it.",
        "case 1: the height is 9. case 2: the height is 7.",
        "the height is 9. " + "and so on and on. " * 40 + "the height is 7.",
    ],
)
def test_plain_values_are_left_alone(text):
    assert revaluing.spans(text) == []


def test_spans_hold_the_second_value():
    text = "9 * 6 = 56. no, 9 * 6 = 54."
    ((start, end),) = revaluing.spans(text)
    assert text[start:end] == "9 * 6 = 54"
