"""What comes from outside is shown, never obeyed: messages are one printable line, whatever they quote."""

import pytest

from dpr_mini.files.rows import StoreError
from dpr_mini.messages import LONGEST, one_line, printable
from dpr_mini.recipe import RecipeError
from dpr_mini.types import UserError


@pytest.mark.parametrize("kind", [UserError, StoreError, RecipeError])
def test_an_error_is_one_printable_line(kind):
    message = str(kind("a.jsonl:3: \x1b]0;owned\x07\x1b[2J\n  and \u202egnp\ud800 more"))
    assert message == r"a.jsonl:3: \x1b]0;owned\x07\x1b[2J and \u202egnp\ud800 more"


def test_a_long_message_keeps_its_place_and_its_fix():
    message = str(UserError("a.yaml:3: " + "x" * 10**6 + "; delete it"))
    assert len(message) <= LONGEST and message.startswith("a.yaml:3: xxx") and message.endswith("xxx; delete it")


def test_text_that_is_only_shown_stays_as_it_is():
    for text in ("", "x² ≤ 5 — naïve 数学", "a  b"):
        assert printable(text) == text and one_line(text) == text
    assert printable("a\n\tb\x00", keep="\n\t") == "a\n\tb\\x00"
