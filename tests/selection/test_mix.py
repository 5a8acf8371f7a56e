"""The declared mix: arithmetic, the draw by hash, what is said of what lacked."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from chains import BRIDGES, PROBLEM, RIGHT, talk
from hypothesis import given
from hypothesis import strategies as st
from staging import in_order, judge

from dpr_mini.files.rows import StoreError
from dpr_mini.recipe import FilterConfig
from dpr_mini.recipe.data import Trajectory
from dpr_mini.selection.case import KINDS
from dpr_mini.selection.mix import largest, plan, quotas

SHARES = {"corrected": 0.4, "confirmed": 0.4, "single_right": 0.2}
(ONE,) = judge([talk(RIGHT)], {PROBLEM.id: PROBLEM}, BRIDGES)


def cases(**there: int):
    return [
        replace(ONE, kind=kind, dialogue=replace(ONE.dialogue, id=f"{kind}#{i}"))
        for kind, n in there.items()
        for i in range(n)
    ]


def draw(given_cases, limit=None):
    """(what is wanted, the ids that are kept, the evidence of the others by id)."""
    mixed = plan(Counter(c.kind for c in given_cases), SHARES, limit)
    objection = mixed.draw()
    said = {c.dialogue.id: objection(c.kind) for c in in_order(given_cases)}
    return mixed, sorted(i for i, o in said.items() if o is None), {i: o for i, o in said.items() if o}


@given(st.integers(0, 300), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_quotas_add_up_and_each_is_its_share_rounded(total, weights):
    shares = {f"k{i}": w / 10 for i, w in enumerate(weights)}
    counts = quotas(total, shares)
    assert sum(counts.values()) == total
    assert all(abs(n - total * shares[k] / sum(shares.values())) < 1 for k, n in counts.items())


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_no_larger_total_is_there(corrected, confirmed, single):
    there = {"corrected": corrected, "confirmed": confirmed, "single_right": single}
    total = largest(there, SHARES)
    assert all(n <= there[k] for k, n in quotas(total, SHARES).items())
    for more in range(total + 1, min(total + 20, corrected + confirmed + single)):
        assert any(n > there[k] for k, n in quotas(more, SHARES).items())


def test_a_draw_says_what_lacked():
    mixed, kept, evidence = draw(cases(corrected=4, confirmed=30, single_right=9, spoiled=2))
    assert mixed.wanted == {"corrected": 4, "confirmed": 5, "single_right": 2}, "4.4, 4.4 and 2.2 of 11"
    assert len(kept) == mixed.total == 11 and len(evidence) == 34
    assert mixed.metrics()["limited_by"] == ["corrected"]
    assert mixed.metrics()["there"] == {"corrected": 4, "confirmed": 30, "single_right": 9, "spoiled": 2}
    assert "spoiled is not in the mix" in evidence["spoiled#0"]
    assert any(e.startswith(f"{mixed.wanted['confirmed']} of 30 confirmed") for e in evidence.values())


def test_a_draw_is_by_hash_and_not_by_order():
    given_cases = cases(corrected=20, confirmed=20, single_right=20)
    mixed, ids, _ = draw(given_cases, limit=10)
    random.Random(1).shuffle(given_cases)
    _, again, _ = draw(given_cases, limit=10)
    assert ids == again and len(ids) == 10 and mixed.limits == ("limit",)
    assert ids != sorted(ids, key=lambda i: int(i.split("#")[1]))[:10], "early samples are not favoured"
    _, smaller, _ = draw(given_cases, limit=5)
    assert set(smaller) < set(ids)


def test_a_mix_that_cannot_be_had_is_one_line():
    with pytest.raises(StoreError, match=r"wants corrected and none passed .*corrected 0, confirmed 3") as error:
        draw(cases(confirmed=3, single_right=1))
    assert "\n" not in str(error.value)


def test_a_recipe_names_kinds_that_there_are_and_shares_that_add_up():
    assert set(Trajectory.__args__) == set(KINDS)
    with pytest.raises(ValueError, match=r"add up to 0\.9, not to 1"):
        FilterConfig(mix={"corrected": 0.5, "confirmed": 0.4})
    with pytest.raises(ValueError, match=r"mix\.mended"):
        FilterConfig(mix={"mended": 1.0})
    assert "mix" not in FilterConfig().model_dump() and FilterConfig(mix={"confirmed": 1}).model_dump()["mix"]
