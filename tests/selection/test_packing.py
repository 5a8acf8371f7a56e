"""Packing's arithmetic: nothing lost, nothing doubled, nothing over the edge, no row without something to learn."""

import bisect
from collections import Counter

import pytest
import staging
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_mini.selection import packing
from dpr_mini.selection.packing import Samples, fit, lay, spend, targets
from dpr_mini.types import Sample

ROOM = 40


def sample(name: str, length: int, trained_from: int = 1) -> Sample:
    base = int(name) * 1000
    return Sample(name, tuple(range(base, base + length)), tuple(i >= trained_from for i in range(length)))


@st.composite
def samples(draw):
    lengths = draw(st.lists(st.integers(2, ROOM), max_size=40))
    return [sample(str(i), n, draw(st.integers(0, n - 1))) for i, n in enumerate(lengths)]


def rows_of(items):
    return [lay([items[i] for i in row]) for row in fit([len(s.ids) for s in items], ROOM)]


@given(samples())
def test_best_fit_keeps_everything_once(items):
    seen = {}
    for row in rows_of(items):
        assert len(row.ids) == len(row.trained) <= ROOM
        assert row.starts[0] == 0 and len(row.starts) == len(row.samples)
        for name, a, b in zip(row.samples, row.starts, [*row.starts[1:], len(row.ids)], strict=True):
            assert name not in seen
            seen[name] = Sample(name, row.ids[a:b], row.trained[a:b])
    assert seen == {s.id: s for s in items}


@given(samples())
def test_best_fit_is_deterministic_and_near_optimal(items):
    rows = rows_of(items)
    assert rows_of(list(items)) == rows
    half_empty = [r for r in rows if len(r.ids) <= ROOM // 2]
    assert len(half_empty) <= 1  # two of them would have fitted into one


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(60, 90))
def test_best_fit_takes_the_fullest_row_and_of_equal_ones_the_first(lengths, room):
    """As the definition says it: a sorted list of what is left, which is quadratic in the rows."""
    rows, free = [], []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect.bisect_left(free, (lengths[i], 0))
        left, row = free.pop(at) if at < len(free) else (room, len(rows))
        rows += [[]] if row == len(rows) else []
        rows[row].append(i)
        bisect.insort(free, (left - lengths[i], row))
    assert list(fit(lengths, room)) == rows


def test_a_length_that_no_row_takes_is_refused():
    with pytest.raises(ValueError, match="41 tokens do not fit into a row of 40"):
        list(fit([3, 41], ROOM))


@pytest.mark.parametrize("trained", [(False, False), (True, False)])  # a first token has nothing before it
def test_a_sample_without_targets_is_refused(trained):
    with pytest.raises(ValueError, match="sample s: 2 tokens, 0 of them"), Samples() as aside:
        aside.add(Sample("s", (1, 2), trained))


@given(samples())
def test_samples_come_back_as_they_were(items):
    items = [s for s in items if targets(s)]
    with Samples.of(items) as aside:
        assert list(aside) == items
        assert [aside[i] for i in reversed(range(len(aside)))] == items[::-1], "in any order"
        assert list(aside.lengths) == [len(s.ids) for s in items] and list(aside.targets) == list(map(targets, items))


@settings(deadline=None, max_examples=30)  # each pass over the samples makes two files
@given(samples().filter(bool), st.integers(1, 300), st.randoms())
def test_a_budget_is_met_to_within_half_a_sample_and_every_sample_is_taken_as_often_as_the_others(
    items, budget, random
):
    items = [s for s in items if targets(s)]
    with Samples.of(items) as aside:
        taken = [items[i] for i in spend(aside, aside.targets, budget)]
    total, largest = sum(map(targets, taken)), max(map(targets, items))
    assert abs(total - budget) <= largest / 2 or len(taken) == 1
    times = Counter(s.id for s in taken)
    assert max(times.values()) - min(times[s.id] for s in items) <= 1
    shuffled = items.copy()
    random.shuffle(shuffled)
    with Samples.of(shuffled) as aside:
        again = [shuffled[i] for i in spend(aside, aside.targets, budget)]
    assert again == taken, "what is taken does not depend on the order of the file"


def test_a_smaller_budget_takes_other_samples_than_the_first_ones():
    with Samples.of(Sample(str(i), (1, 2), (False, True)) for i in range(100)) as aside:
        assert list(spend(aside, aside.targets, 50)) != list(range(50))


def test_an_order_to_take_samples_in_needs_their_names_alone_and_lies_beside_them(tmp_path, monkeypatch):
    made = staging.all_aside(monkeypatch, packing)
    monkeypatch.setattr(Samples, "__getitem__", None)
    with Samples(tmp_path) as aside:
        for name in ("a\n", "\u00e9", "\ud800", ""):
            aside.add(Sample(name, (1, 2), (False, True)))
        assert list(aside.names()) == ["a\n", "\u00e9", "\ud800", ""]
        monkeypatch.setattr(packing, "digest", lambda turn, name: f"{turn}{name!a}")
        assert list(spend(aside, aside.targets, 6)) == [3, 2, 1, 0, 3, 2]
    assert len(made) == 2 and {order.folder for order in made} == {tmp_path}
