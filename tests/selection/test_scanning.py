"""Cues that are searched together: the same matches as of one alternation, on texts that hold them, too."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from dpr_mini.selection import behaviours, cues
from dpr_mini.selection.scanning import Cues, Places, beginnings, needed, ways

WORDS = [w for words, _ in behaviours._ANNOUNCED.values() for w in words]
TEXTS = [
    json.loads(line)["text"].lower()
    for path in ("tests/data/behaviours.jsonl", "tests/selection/held_back.jsonl")
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
]


def alternation(words: list[str], lead: str) -> re.Pattern[str]:
    """What `Cues` replaces: first those with the lead, then those behind a word's edge, then the rest."""
    every = [way for word in words for way in ways(word)]
    alike = {start: [way.removeprefix(start) for way in every if way.startswith(start)] for start in (lead, r"\b")}
    rest = [way for way in every if not way.startswith(tuple(alike))]
    return re.compile("|".join([*(f"{start}(?:{'|'.join(w)})" for start, w in alike.items() if w), *rest]), re.M)


@pytest.mark.slow
@pytest.mark.parametrize("name", behaviours.NAMES)
def test_cues_are_found_where_one_alternation_finds_them(name):
    words = [*behaviours._ENOUGH[name], *behaviours._ANNOUNCED.get(name, ((), ""))[0]]
    together, one = Cues(words, cues.START, re.M), alternation(words, cues.START)
    texts = TEXTS[::5] + ["\n\n".join(TEXTS[i : i + 9]) for i in range(0, 200, 9)]
    found = [list(together.spans(Places(text, behaviours._LEAD_AT))) for text in texts]
    assert found == [[m.span() for m in one.finditer(text)] for text in texts]
    assert sum(map(len, found)) > 30


SMALL = [
    r"\bab?c",
    r"\b(?:a|bc)d",
    r"^ab",
    r"(?:a|b)+c",
    r"a{2}b?",
    r"(?<!c)ba",
    r"[ab]c",
    r"\bc",
    r"b(?=c)",
    r"\ba* b",
]


@given(st.lists(st.sampled_from(SMALL), min_size=1, max_size=6), st.text("abcd \n", max_size=30))
def test_any_cues_in_any_text(words, text):
    one = alternation(words, "^")
    places = Places(text, re.compile("^", re.M))
    assert list(Cues(words, "^", re.M).spans(places)) == [m.span() for m in one.finditer(text)]


@pytest.mark.parametrize(
    "way, begins",
    [
        ("abc", {"abc"}), ("a(?:b|cd)e", {"abe", "acd"}), ("(?:oh|)no", {"oho", "ohn", "no"} - {"oho"}),
        (r"ab?c", {"abc", "ac"}), (r"a\d", {"a"}), (r"\.b", {".b"}), (r"(?!x)ab", {"ab"}), ("a+", {"a"}),
        (r"\u00e9a", {""}), ("[ab]c", {""}), (r"\w", {""}),
    ],
)  # fmt: skip
def test_how_a_match_may_begin(way, begins):
    assert beginnings(way, 3) == begins


def test_what_every_match_holds():
    assert needed(r"\d ?(?:but|hmm+)\b") == ["but", "hmm"] and needed(r"\w+\d") == [""]


def test_alternatives_are_those_on_the_outermost_level():
    assert list(ways(r"a(?:b|(c|d))|[|)]e|\|f\u007c|")) == ["a(?:b|(c|d))", "[|)]e", r"\|f\u007c", ""]
