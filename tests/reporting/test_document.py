"""What stands on a page is shown as it is: it runs nothing, loads nothing and turns no text round."""

from __future__ import annotations

import re

import pytest

from dpr_mini.reporting.document import (
    Fold,
    Points,
    Sample,
    Samples,
    Section,
    Table,
    Talk,
    Text,
    drawing,
    legible,
    render,
)

UNSEEN = [*map(chr, (*range(9), 11, 12, *range(14, 32), *range(127, 160))), *"\r\u061c\u200e\u200f\u2028\u2029\ufeff"]
UNSEEN += [*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))), "\ud800", "\udfff", "\U000e0041", "\uffff"]
EVIL = "".join(UNSEEN) + '</pre></title><script>x</script>"onload=x'


def sections(text: str) -> list[Section]:
    turns = ((text, text, text),)
    blocks = [
        Text(text), Points([(text, text)]), Table((text,), ((text,),), text, text, text), Fold(text, text),
        Talk(text, turns, text, text), Talk(text, turns, text, text, folded=True),
        Samples("s0", text, (Sample(text, turns),), text, text),
    ]  # fmt: skip
    return [Section(text, blocks, text), Section("", blocks)]


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_what_is_not_shown_is_spelled_out_wherever_it_stands(name):
    page = render(name, EVIL, EVIL, sections(EVIL))
    assert not set(page) & set(UNSEEN)
    assert page.count("\\x1b") >= 20 and "\\u202e" in page and "\\ud800" in page
    page.encode()
    assert "<script>" not in page or name.endswith(".md")


def test_text_of_any_language_is_left_alone():
    text = "a\tb\n\u00a0 x\u2009y\u3000z é 漢字 עברית क्\u200cष 👩\u200d🔬 x\u0301"
    assert legible(text) == text


def test_the_page_may_run_and_load_nothing():
    page = render("report.html", "t", "l", [Section("s", [Text("x")])])
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules.pop("default-src") == "'none'" and rules.pop("style-src") == "'unsafe-inline'"
    assert rules == {"base-uri": "'none'", "form-action": "'none'"}
    assert page.index(policy[0]) < page.index("<style>"), "it holds for what stands behind it"


def test_a_token_of_this_machine_is_not_published(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "t0kenOfThisMachine")
    for name in ("report.html", "report.md"):
        page = render(name, "t", "l", sections("I say t0kenOfThisMachine"))
        assert "t0kenOfThisMachine" not in page and "I say ***" in page.replace("\\*", "*")


def test_a_drawing_names_nothing_that_a_terminal_or_a_reader_would_obey(recwarn):
    from matplotlib.figure import Figure

    with drawing() as svg:
        figure = Figure(layout="constrained")
        figure.add_subplot().set_title("\x1b[2J\x07\u202ename")
        text = svg(figure)
    assert not set(text) & set(UNSEEN) and "\\x1b[2J\\x07\\u202ename" in text
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
