"""Overlap: what counts as contamination, which side's n-grams are counted, near duplicates against brute force."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
import staging
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED_DATA

from dpr_mini.files.rows import read_rows
from dpr_mini.recipe import ProblemsConfig
from dpr_mini.selection.overlap import (
    NearDuplicates,
    NGram,
    _bands,
    formula,
    jaccard,
    shingles,
    tokens,
)
from dpr_mini.stages import problems

TRAIN = (
    "A gardener plants tulips in 12 rows of 7, gives away every third tulip to a neighbour, and then sells the rest "
    "at 2 dollars each on Saturday. How many dollars does she earn?"
)
WORDS = TRAIN.split()


def index(*texts: str, n: int = 13) -> NGram:
    made = NGram(n)
    for i, text in enumerate(texts):
        made.add(f"test-{i}", text)
    return made


def share(grams: NGram, text: str) -> float:
    """Share, in [0, 1], of one indexed text's n-grams that `text` has."""
    hit = grams.best(text)
    return hit.share if hit else 0.0


def test_tokens_are_words_and_numbers():
    assert tokens(r"What is $\frac{3}{4}$ of A-1?") == ["what", "is", "frac", "3", "4", "of", "a", "1"]


def test_case_punctuation_and_layout_do_not_hide_a_problem():
    hit = index("Quite another matter.", TRAIN).best(TRAIN.upper().replace(",", " ;\n").replace("?", ""))
    assert (hit.name, hit.share) == ("test-1", 1.0)


def test_the_share_is_of_the_evaluation_problems_n_grams():
    """A problem that stands whole inside a long training text is contaminated, however long the rest is."""
    filler = " ".join(f"filler{i}" for i in range(200))
    assert share(index(TRAIN), f"{filler} {TRAIN} {filler}") == 1.0
    n = len(tokens(TRAIN))
    assert share(index(f"{filler} {TRAIN}"), TRAIN) == pytest.approx((n - 12) / (n + 200 - 12))


@pytest.mark.parametrize("words", [12, 13, 20, 25])
def test_a_shared_beginning_counts_as_much_as_it_is_long(words):
    n = len(WORDS)
    text = " ".join([*WORDS[:words], *(f"other{i}" for i in range(n - words))])
    assert share(index(TRAIN), text) == pytest.approx(max(0, words - 12) / (n - 12))


def test_two_problems_together_do_not_make_one_share():
    """The share is with one problem: halves of two are no more than a half."""
    other = " ".join(f"w{i}" for i in range(len(WORDS)))
    both = " ".join([*WORDS[:22], *other.split()[:22]])
    assert index(TRAIN, other).best(both).share == pytest.approx(10 / (len(WORDS) - 12))


def test_short_texts_overlap_only_when_equal():
    made = index("What is 3 * 4?", r"Compute $\sin (-30^\circ)$.")
    assert made.best("what is  3 * 4").share == 1.0
    assert made.best("What is 3 + 4?") is None and made.best("What is 3 * 4 * 5?") is None
    assert made.best(r"Compute $\sin 30^\circ$.").name == "test-1"  # brackets and a sign are layout
    assert made.best("") is None and index("", "?!").best("!") is None


def test_formula_keeps_operators_between_operands():
    assert formula("(3 + -4) * x = 7?") == ("3", "+", "4", "*", "x", "=", "7")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab 1+*(", max_size=80), max_size=6), st.text("ab 1+*(", max_size=80), st.integers(1, 5))
def test_share_against_its_definition(texts, text, n):
    def grams(of):
        return {" ".join(g) for g in zip(*(tokens(of)[i:] for i in range(n)), strict=False)}

    mine = grams(text)
    expected = [len(mine & grams(t)) / len(grams(t)) if grams(t) else 0.0 for t in texts if mine]
    if not mine:
        expected = [float(not grams(t) and formula(t) == formula(text) != ()) for t in texts]
    assert share(index(*texts, n=n), text) == pytest.approx(max(expected, default=0.0))


# ---------------------------------------------------------------- near duplicates


def variants(seed: int = 3, families: int = 25) -> list[str]:
    """Texts in families: an original of 30 to 80 words and copies with 0 to 12 words changed."""
    rng = random.Random(seed)
    texts = []
    for f in range(families):
        words = [f"w{rng.randrange(60)}" for _ in range(rng.randrange(30, 80))]
        for _ in range(4):
            copy = list(words)
            for at in rng.sample(range(len(copy)), rng.choice([0, 0, 2, 4, 8, 12])):
                copy[at] = f"x{f}"
            texts.append(" ".join(copy))
    rng.shuffle(texts)
    return texts


def near_duplicates(texts: Sequence[str], threshold: float = 0.8, num_perm: int = 128) -> dict[int, tuple[int, float]]:
    """{index of a text that comes after a near duplicate of it: (index of that earlier one, Jaccard similarity)}.

    Texts not in the result are pairwise no near duplicates: each is compared with those kept before it.
    """
    index, duplicates = NearDuplicates(threshold, num_perm), {}
    for i, text in enumerate(texts):
        if hit := index.find(text):
            duplicates[i] = (int(hit.name), hit.share)
        else:
            index.add(str(i), text)
    return duplicates


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_near_duplicates_are_those_of_brute_force(threshold):
    texts, kept, expected = variants(), [], set()
    for i, text in enumerate(texts):
        if any(jaccard(shingles(text), shingles(texts[k])) >= threshold for k in kept):
            expected.add(i)
        else:
            kept.append(i)
    found = near_duplicates(texts, threshold)
    assert set(found) == expected and expected, "none missed, and LSH alone decides nothing"
    for i, (earlier, share) in found.items():
        assert earlier < i and earlier not in found
        assert share == jaccard(shingles(texts[i]), shingles(texts[earlier])) >= threshold
    assert near_duplicates(texts, threshold) == found


def test_near_duplicates_see_numbers_operators_and_short_texts():
    assert near_duplicates(["3 + 4", "3 * 4", "3 + 4?", "", "", "seven"]) == {2: (0, 1.0)}


def test_wrong_use_of_the_index_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicates(0)
    known = NearDuplicates(0.5)
    known.add("a", "one two three")
    with pytest.raises(ValueError, match="'a' is indexed already"):
        known.add("a", "four")


def test_bands_keep_the_chance_of_a_miss_small():
    for threshold in (0.3, 0.5, 0.8, 0.95, 1.0):
        bands, rows = _bands(threshold, 128)
        assert bands * rows <= 128 and (1 - threshold**rows) ** bands <= 1e-4
    assert all(a <= b for a, b in pairwise(_bands(t / 10, 128)[1] for t in range(1, 11)))


# ---------------------------------------------------------------- the known overlaps of MATH and GSM8K

EVAL = ("gsm8k.jsonl", "math500.jsonl", "math_test4500.jsonl.gz", "aime24.jsonl", "aime25.jsonl", "olymmath_en.jsonl")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the benchmark files do not lie beside this checkout")
def test_the_known_overlaps_of_math_and_gsm8k_are_found(tmp_path):
    """All 217 problems of train_exclude_overlap.json, and no other, by the stage as a recipe would run it."""
    train = ["train_math.jsonl.gz", "train_gsm8k.jsonl.gz"]
    held_out = {name.split(".")[0]: [{"file": f"eval_{name}"}] for name in EVAL}
    config = ProblemsConfig.model_validate({"train": [{"file": name} for name in train], "held_out": held_out})
    staging.problems(tmp_path, config, SHARED_DATA)
    drops = list(read_rows(tmp_path / "drops.jsonl"))
    found = {d["dialogue_id"] for d in drops if d["rule"] in ("held_out", "decontaminated")}
    ids = {}
    for name in train:
        with gzip.open(SHARED_DATA / name, "rt") as file:
            ids |= {row["id"]: problems.identity(row["problem"]) for row in map(json.loads, file)}
    known = set(json.loads((SHARED_DATA / "train_exclude_overlap.json").read_text())["exclude"])
    assert len(known) == 217 and {ids[i] for i in known} == found
    assert sum(ids[i] in found for i in ids) == 217
