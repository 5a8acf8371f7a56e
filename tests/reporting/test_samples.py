"""The dialogues behind the report's numbers: what leads to them, and that they are of what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from run_by_hand import graded

from dpr_mini.files.rows import StoreError, write_rows
from dpr_mini.reporting import samples
from dpr_mini.reporting.results import Results
from dpr_mini.stages import report


def test_every_bar_and_number_leads_to_its_dialogues(written: tuple[str, str, dict[str, Any]]) -> None:
    page = written[0]
    anchors = re.findall(r'<section class="samples" id="(\w+)">', page)
    links = re.findall(r'(?:xlink:)?href="#(s[0-9a-f]{10})"', page)
    assert len(set(anchors)) == len(anchors) and set(links) == set(anchors), "no link into nothing, no group unreached"
    bars = re.findall(r'xlink:href="#(s[0-9a-f]{10})"', page)
    # bars of zero height stay bars: 3 models x 3 benchmarks, x (all, right, wrong), x 1 behaviour; drops; 3 + 3 bins
    assert len(bars) >= 9 + 9 + 3
    group = page[page.index(f'id="{bars[0]}"') :]
    group = group[: group.index("</section>")]
    assert "base on easy: sampled answers" in group and "6 of 40" in group and "8 of these right" in group
    assert group.count("graded correct") + group.count("graded wrong") == 6 == group.count("expected answer")
    assert "eval-0-0a1b2c3d/graded.jsonl" in group and "&lt;script&gt;" in group


def test_samples_are_of_what_they_say(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    groups = samples.groups(Results(made[0]))
    by_id = {a.id: a for a in graded("eval-1")}
    for word, right in (("right", True), ("wrong", False)):
        names = [s.title.split(",")[0] for s in groups[word, "phase 1"].samples]
        assert len(names) == 6 and all(by_id[n].right is right for n in names)
    assert ("answers", "phase 1", "nothing") not in groups
    corrected = groups["wrong to right", "phase 2"]
    assert {s.title.split("#")[0] for s in corrected.samples} == {"easy00", "hard00"} and len(corrected.samples) == 4
    assert ("right to wrong", "phase 2") not in groups, "nothing to show"
    drop = groups["dropped", "filter-1", "false_arithmetic"]
    assert [s.turns[-1][2] for s in drop.samples if s.title.startswith("p2#0")] == ["false_arithmetic: 2+2=5"]
    assert [s.title.split(",")[0] for s in groups["kept", "0"].samples] == ["p1#0"]
    assert groups["kept", "0.25-0.5"].samples[0].turns[-1][2] == "x", "from sample-2"


def test_a_dialogue_that_is_gone_is_named(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    write_rows(made[0]["eval-1-answers"] / "rows.jsonl", [])
    with pytest.raises(StoreError, match=r"eval-1-answers-0a1b2c3d/rows\.jsonl: no dialogue"):
        report.write(tmp_path, *made)


def test_long_texts_are_cut_and_say_so() -> None:
    assert samples._cut("x" * 5001).endswith("x ... (1 more characters)")


def test_the_chosen_ones_are_the_first_by_hash_of_all_however_many_there_were() -> None:
    chosen = samples.Chosen()
    names = [f"p{i // 4}#{i % 4}" for i in range(1000)]
    for i, name in enumerate(names):
        chosen.add(name, i)
    first = samples.by_hash(names, samples.SHOWN)
    assert chosen.count == 1000 and chosen.few == {name: names.index(name) for name in first}
    assert first == sorted(names, key=lambda name: samples.digest("shown", name))[: samples.SHOWN]
