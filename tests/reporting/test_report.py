"""The report on a run made by hand: its numbers, its words, that nothing in it is trusted or fetched."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_by_hand import filtering, graded

from dpr_mini.files.rows import write_rows
from dpr_mini.reporting import answers
from dpr_mini.reporting.results import Results, inside_bin, verdict
from dpr_mini.scoring.stats import Difference
from dpr_mini.selection.counts import Counts
from dpr_mini.stages import report
from dpr_mini.types import UserError


def test_numbers_are_those_of_the_rows(written: tuple[str, str, dict[str, Any]]) -> None:
    page, text, cards = written
    assert cards["models"]["base"]["cards"]["easy"]["mean"] == 4 / 20
    assert cards["models"]["phase 2"]["cards"]["all"]["mean"] == 17 / 40
    for words in (page.replace("<br><small>", " ").replace("</small>", ""), text.replace("<br>", " ")):
        assert "0.200" in words and "0.425" in words
        assert re.search(r"easy n=20, k=2", words)
        assert "1,234" in words
    found = {(d["before"], d["after"], d["benchmark"]): d for d in cards["differences"] if d["measure"] == "official"}
    up = found["base", "phase 1", "easy"]
    assert (up["n"], up["mean"], up["up"], up["down"], up["verdict"]) == (20, 0.5, 10, 0, "improved")
    assert up["p"] == 2 / 1024
    assert found["base", "phase 1", "all"]["mean"] == 0.25
    down = found["phase 1", "phase 2", "hard"]
    assert (down["mean"], down["verdict"]) == (-0.4, "got worse")
    assert len(found) == 9


def test_the_interval_is_one_of_paired_problems(written: tuple[str, str, dict[str, Any]]) -> None:
    """14 -> 15 of 20 problems: paired, 19 problems do not move; unpaired the interval would be some +-0.28."""
    found = next(d for d in written[2]["differences"] if d["measure"] == "official" and d["benchmark"] == "easy"
                 and d["before"] == "phase 1")  # fmt: skip
    assert found["mean"] == pytest.approx(0.05)
    assert -0.1 < found["low"] < 0 and 0.1 <= found["high"] <= 0.2
    assert found["verdict"] == "no change shown"


def test_a_null_is_called_a_null(written: tuple[str, str, dict[str, Any]]) -> None:
    lines = [line for line in written[1].splitlines() if " on hard: " in line]
    null = next(line for line in lines if "base to phase 1" in line)
    assert null.startswith("- **no change shown**") and "no change that this many problems could show" in null
    claims = [line for line in written[1].splitlines() if line.startswith(("- **improved", "- **got worse"))]
    assert claims and all(
        re.search(r"[-+]0\.\d+ (\(n=\d+\)|\\\[[-+]0\.\d+, [-+]0\.\d+\\\], n=\d+)", line) for line in claims
    )


def test_a_gain_of_format_alone_is_called_that(written: tuple[str, str, dict[str, Any]]) -> None:
    """On "easy" the last number was right before and after: official rises by 0.25 over all, last number by 0."""
    line = next(x for x in written[1].splitlines() if x.startswith("- base to phase 1: official"))
    assert "one of format as far as these problems can tell" in line
    found = {d["measure"]: d for d in written[2]["differences"] if d["benchmark"] == "all" and d["after"] == "phase 1"}
    assert found["last_number"]["mean"] == 0 and found["format"]["mean"] == 0.25


def test_lengths_by_verdict(written: tuple[str, str, dict[str, Any]]) -> None:
    row = next(x for x in written[1].splitlines() if x.startswith("| easy | all | phase 1 |"))
    tokens = np.array([20 + p for p in range(20) for _ in range(2)])
    assert row == f"| easy | all | phase 1 | 40 | {tokens.mean():.1f} | {np.median(tokens):.1f} | " \
        f"{np.percentile(tokens, 90):.1f} | {29.5 / 19.5:.2f} | 5.0% |"  # fmt: skip
    right = next(x for x in written[1].splitlines() if x.startswith("| all | right | base |"))
    assert right.split(" | ")[3] == str(2 * (4 + 10))


def test_difficulty_before_and_after_the_quota(
    made: tuple[dict[str, Path], dict[str, Any]], written: tuple[str, str, dict[str, Any]]
) -> None:
    hard, middle, easy = Results(made[0]).bins
    assert (hard.problems, hard.tried, hard.plain, hard.wanted, hard.drawn, hard.right) == (2, 8, 0, 8, 32, 2)
    assert (hard.kept, hard.never, middle.kept, easy.plain, easy.kept) == (1, 1, 1, 4, 0)
    assert "| all | 4 | 16 | 6 | 11 | 40 | 8 | 2 | 1 |" in written[1]


@pytest.mark.parametrize(("label", "rates"), [("0", [0]), ("0-0.25", [0.1, 0.25]), ("0.75-1", [0.8]), ("1", [1])])
def test_bins_are_those_of_the_sampling_stage(label: str, rates: list[float]) -> None:
    from dpr_mini.stages.difficulty import bin_of

    for rate in [0, 0.1, 0.25, 0.3, 0.8, 1]:
        assert inside_bin(label, rate) == (rate in rates) == (bin_of(float(rate)) == label)


def test_filter_metrics_have_what_the_report_reads() -> None:
    """The fixture's filter metrics are made by hand: they must stay those of the filter."""
    import inspect

    source = inspect.getsource(Counts.metrics)
    assert all(f'"{name}":' in source for name in filtering(1, []))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()  # what does not fold away
        self.depth = 0
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.depth += tag == "details"
        self.outside[tag] += not self.depth
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "details"


def test_model_text_is_inert_and_nothing_is_fetched(written: tuple[str, str, dict[str, Any]]) -> None:
    page, text, _ = written
    parsed = Page()
    parsed.feed(page)
    assert parsed.tags["svg"] == 11
    assert not any(parsed.tags[t] for t in ("script", "img", "link", "iframe", "object", "base"))
    assert all(link.startswith("#") for link in parsed.links), set(parsed.links)
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 4  # both sides, kept and dropped
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "alert" not in outside and "MENDED" in text  # "corrected" comes before "confirmed"


def test_tables_fold_away_behind_what_is_inside(written: tuple[str, str, dict[str, Any]]) -> None:
    """Open are the sentence, figures, findings, claims and the kept dialogues; Markdown has the same in the open."""
    page, text, _ = written
    parsed = Page()
    parsed.feed(page)
    assert parsed.outside["table"] == 0 < parsed.tags["table"]
    assert parsed.outside["li"] <= 4 < parsed.tags["li"]
    assert parsed.outside["svg"] == parsed.tags["svg"]
    summaries = re.findall(r"<summary><h2>(.*?)</h2> (.+?)</summary>", page)
    assert len(summaries) == page.count('<details class="section">') == 9
    assert all(re.search(r"\d", summary) for _, summary in summaries)
    order = [page.index(words) for words in ('class="lead"', "<svg", "<li>", "<h2>Kept dialogues", "<table")]
    assert order == sorted(order)
    headings = re.findall(r"(?m)^## (.*)$", text)
    assert headings == ["Kept dialogues", "Figures", *(title for title, _ in summaries)]


def test_phase_one_alone(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    at = {role: folder for role, folder in made[0].items() if not role.endswith("2")}
    found = report.write(tmp_path, at, {**made[1], "phases": [1]})
    assert found["headline"]["pass@1"]["easy"] == {"base": 0.2, "phase 1": 0.7}
    text = (tmp_path / "report.md").read_text()
    assert "(phase 1 alone): its accuracy" in text and "phase 2 vs" not in text and "Difficulty (phase 2)" not in text


def test_without_evaluations(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    at = {role: folder for role, folder in made[0].items() if not role.startswith("eval")}
    report.write(tmp_path, at, made[1])
    text = (tmp_path / "report.md").read_text()
    assert "Nothing was evaluated" in text and "## Accuracy" not in text
    assert json.loads((tmp_path / "scorecards.json").read_text())["differences"] == []


def test_different_problems_are_not_compared(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    answers = [a for a in graded("eval-1") if a.problem_id != "easy03"]
    write_rows(made[0]["eval-1"] / "graded.jsonl", (a.to_row() for a in answers))
    names = "eval-0-0a1b2c3d and eval-1-0a1b2c3d"
    with pytest.raises(UserError, match=f"^{names} have different problems: 1 of 20 in eval-0-0a1b2c3d, e.g. easy03"):
        report.write(tmp_path, *made)


def test_few_problems_claim_nothing() -> None:
    plain = Difference(n=10, mean=0.7, low=0.5, high=1.0, se=0.1, up=9, down=0, p=0.004)
    assert verdict(plain) == "improved"
    assert verdict(replace(plain, n=9)) == "too few problems"
    assert verdict(replace(plain, low=0.0)) == "no change shown"
    assert verdict(replace(plain, mean=-0.2, low=-0.3, high=-0.1)) == "got worse"


def test_growth_is_measured_by_phase_and_verdict(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    base, first, _ = Results(made[0]).models
    # graded(): tokens are 10 x (1 + phase) + number of the problem; the base is right on easy 0-3 and hard 0-9
    assert answers.by_verdict(base)["all"][0] == pytest.approx(10 + 9.5)
    assert answers.by_verdict(base)["right"][0] == pytest.approx(10 + np.mean([*range(4), *range(10)]))
    assert answers.by_verdict(first)["wrong"][0] == pytest.approx(20 + np.mean([*range(14, 20), *range(10, 20)]))


def test_time_and_tokens_of_every_stage(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    seconds, tokens = answers.spent(Results(made[0]))
    assert sum(sum(by.values()) for by in seconds.values()) == 16 * 2.0
    assert tokens["new"]["dialogue-1"] == 160 and tokens["prompts"]["dialogue-1"] == 200
    assert tokens["trained"] == {"train-1": 180, "train-2": 180}


@pytest.mark.parametrize(
    ("phases", "without", "lead"),
    [
        ([2], ("dialogue-1", "filter-1", "pack-1", "train-1", "eval-1-answers", "eval-1"),
         "(phase 2 alone): its accuracy"),
        ([], (*(f"{s}-1" for s in ("dialogue", "filter", "pack", "train")), "eval-1-answers", "eval-1",
              *(f"{s}-2" for s in ("probe", "sample", "filter", "pack", "train")), "eval-2-answers", "eval-2"),
         "as it is, untrained"),
    ],
)  # fmt: skip
def test_any_choice_of_phases_has_its_report(
    made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path, phases: list[int], without: tuple[str, ...], lead: str
) -> None:
    at = {role: folder for role, folder in made[0].items() if role not in without}
    report.write(tmp_path, at, {**made[1], "phases": phases})
    text = (tmp_path / "report.md").read_text()
    assert lead in text and "Not evaluated" not in text and "phase 1 vs" not in text
