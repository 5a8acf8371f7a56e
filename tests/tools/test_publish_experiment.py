"""tools/publish_experiment.py: rows that every published number comes from again, and one figure."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from places import ROOT
from published import SEEDS, publishable

from dpr_mini.commands.compare import compare
from dpr_mini.files.rows import read_json, read_rows, write_json
from dpr_mini.reporting import published as codec
from dpr_mini.reporting.arms import arrange, collect
from dpr_mini.scoring.measures import MEASURES, first
from dpr_mini.types import UserError

pytestmark = pytest.mark.slow  # figures are drawn
SVG = "{http://www.w3.org/2000/svg}"


def tool(name: str):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tools():
    return tool("publish_experiment")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two halves of an experiment, as two processes leave them, compared into the first; the second is beside it."""
    root = tmp_path_factory.mktemp("runs")
    both = [publishable(root / "a", SEEDS[:2]), publishable(root / "b", SEEDS[2:])]
    compare(both)
    return both[0]


@pytest.fixture(scope="module")
def halves(store: Path) -> list[Path]:
    return [store, store.parent.parent / "b" / "exp"]


@pytest.fixture
def made(tools, halves: list[Path], tmp_path: Path) -> Path:
    assert tools.publish(halves, tmp_path / "made-countdown") == []
    return tmp_path / "made-countdown"


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_every_answer_comes_back_from_the_rows(made: Path, halves: list[Path]) -> None:
    before, after = arrange(collect(halves)), codec.read(made / "rows")
    assert after.benchmarks == ["countdown", "sums", "countdown-dev", "all"] and after.base == "countdown-base"

    def told(a):
        trace = tuple(ok for _, ok in a.trace.attempts), a.trace.reviews
        return a.problem_id, a.benchmark, a.sample, a.tokens, a.finish, a.vote, a.right, first(a), trace

    for name, arm in before.arms.items():
        assert list(arm.runs) == list(after.arms[name].runs) == list(SEEDS)
        for seed in SEEDS:
            assert set(map(told, arm.graded[seed])) == set(map(told, after.arms[name].graded[seed]))
            assert len(arm.graded[seed]) == len(after.arms[name].graded[seed])
    plain, again = (sorted(map(told, c.arms["countdown-plain"].redrawn[2])) for c in (before, after))
    assert plain == again and len(plain) == 4 * 22
    with pytest.raises(UserError, match="redrawn"):
        _ = after.arms["countdown-base"].redrawn


def test_arms_may_answer_more_often_than_others(made: Path) -> None:
    """As countdown-plain does, for its votes and redraws."""
    arms = read_json(made / "comparison.json")["arms"]
    assert {name: of["scores"]["countdown"]["k"] for name, of in arms.items()} == {
        "countdown-base": 4, "countdown-dialogue": 4, "countdown-plain": 16,
    }  # fmt: skip
    assert "4 or 16 samples a problem and seed" in (made / "comparison.md").read_text(encoding="utf-8")


def test_an_experiment_without_greedy_answers(halves: list[Path], tmp_path: Path) -> None:
    before = arrange(collect(halves))
    for arm in before.arms.values():
        for graded in arm.graded.values():
            graded[:] = [a for a in graded if not a.greedy]
    for name, content in codec.files(before).items():
        (tmp_path / name).write_bytes(content)
    after = codec.read(tmp_path)
    assert after.complete_slices == before.slices == ["countdown", "sums", "countdown-dev", "all"]
    assert after.scores("countdown-plain", "all").n == 18, "12 and 6 problems of the test sets, dev's 4 are not in it"
    assert after.scores("countdown-plain", "all") == before.scores("countdown-plain", "all")


def test_publishing_again_changes_nothing(tools, made: Path, halves: list[Path]) -> None:
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    (made / "rows" / "arm-of-another-day.jsonl.gz").write_bytes(b"")
    tools.publish(halves, made)
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before
    assert before[made / "rows" / codec.PROBLEMS][4:8] == bytes(4), "no time in a gzip's head"


def test_openings_of_both_stores_are_there_in_order(made: Path) -> None:
    assert [row["opened"][:10] for row in read_rows(made / "test-opened.jsonl")] == ["2026-01-01", "2026-01-03"]


def test_the_check_needs_no_store(tools, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = shutil.copytree(made, tmp_path / "elsewhere")
    assert tools.check(elsewhere) == []
    said = capsys.readouterr().out
    assert "12 of 12 hypotheses" in said and "all equal" in said and "3 arms" in said


def test_an_answer_that_was_changed_is_found(tools, made: Path) -> None:
    file = made / "rows" / "countdown-dialogue.jsonl.gz"
    rows = lines(file)
    row = next(r for r in rows if r.get("benchmark") == "countdown" and r["kind"] == "sampled")
    rights = [s["right"] for s in rows[0]["shapes"]]
    row["shape"][0] = next(i for i, ok in enumerate(rights) if ok != rights[row["shape"][0]])
    file.write_bytes(codec.gzipped(rows))
    wrong = tools.check(made)
    assert any(line.startswith("countdown-dialogue on countdown: mean") for line in wrong)
    assert any(line.startswith("H1, ") and "result: mean" in line for line in wrong)
    assert not any(line.startswith("countdown-plain on") for line in wrong)


def test_a_number_that_was_changed_is_found(tools, made: Path) -> None:
    numbers = read_json(made / "comparison.json")
    for row in numbers["hypotheses"]:
        if row["result"]:
            row["result"]["high"] += 1e-6
    numbers["measured"][0]["mean"] += 1e-6
    write_json(made / "comparison.json", numbers)
    wrong = tools.check(made)
    done = sum(bool(row["result"]) for row in numbers["hypotheses"])
    assert done >= 5 and len(wrong) == done + 1, "and nothing else"


def test_dev_is_left_out_where_all_is_too_much(
    tools, made: Path, halves: list[Path], tmp_path: Path, monkeypatch
) -> None:
    parts = [*(made / "rows").iterdir(), *(made / name for name in tools.COPIED)]
    sizes = sum(p.stat().st_size for p in parts)
    monkeypatch.setattr(tools, "LIMIT", sizes - 1)
    out = tmp_path / "small"
    assert tools.publish(halves, out) == []
    assert codec.read(out / "rows").benchmarks == ["countdown", "sums", "all"]
    assert "Left out" in (out / "README.md").read_text() and "countdown-dev" in (out / "README.md").read_text()
    monkeypatch.setattr(tools, "LIMIT", 100)
    with pytest.raises(UserError, match="left of 100"):
        tools.publish(halves, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_rates_of_a_hypothesis_sides(made: Path, halves: list[Path]) -> None:
    """The other measures stand in comparison.json with what they cost, each once."""
    numbers = read_json(made / "comparison.json")
    found = {(m["arm"], m["measure"]): m for m in numbers["measured"]}
    assert set(found) == {
        ("countdown-dialogue", "first"), ("countdown-plain", "maj@tokens"), ("countdown-plain", "redraw"),
    }  # fmt: skip
    dialogue = numbers["arms"]["countdown-dialogue"]["scores"]["countdown"]
    (mended,) = (h for h in numbers["hypotheses"] if h["name"] == "H3" and h["than"] == "0")
    before = found["countdown-dialogue", "first"]
    assert before["mean"] == pytest.approx(dialogue["mean"] - mended["result"]["mean"])
    assert before["low"] < before["mean"] < before["high"] and before["tokens_mean"] is None
    voted, plain = found["countdown-plain", "maj@tokens"], numbers["arms"]["countdown-plain"]["scores"]["countdown"]
    assert voted["tokens_mean"] == pytest.approx(voted["votes"] * plain["tokens_mean"])
    arm = arrange(collect(halves)).arms["countdown-plain"]
    of = [a for a in arm.redrawn[1] if a.benchmark == "countdown"]
    rates = MEASURES["redraw"](of).values()
    assert found["countdown-plain", "redraw"]["per_seed"]["1"] == pytest.approx(sum(rates) / 12)


def test_the_figure_shows_each_rate_or_says_that_there_is_none(tools, made: Path) -> None:
    picture = ElementTree.parse(made / "experiment.svg")
    texts = ["".join(t.itertext()) for t in picture.iter(f"{SVG}text")]
    rungs = [r for panel in tools.PANELS for r in panel.rungs]
    assert all(r.label in texts for r in rungs)
    assert texts.count("not measured") == sum(
        r.arm not in ("countdown-base", "countdown-plain", "countdown-dialogue") for r in rungs
    )
    assert texts.count("same answers, cut") == 1
    tokens = read_json(made / "comparison.json")["arms"]["countdown-base"]["scores"]["countdown"]["tokens_mean"]
    assert f"{tokens:.0f} tokens" in texts


def test_the_figure_is_of_arms_and_measures_that_the_recipes_have(tools) -> None:
    names = {p.stem for p in (ROOT / "recipes").rglob("countdown*.yaml")}
    assert {r.arm for panel in tools.PANELS for r in panel.rungs} <= names


def test_the_pages_command_runs_every_registered_arm_and_no_other() -> None:
    table = re.findall(
        r"^\| [\d']+ \| (countdown[\w-]*) \|", (ROOT / "bench/PREREG.md").read_text("utf-8"), re.MULTILINE
    )
    page = (ROOT / "docs/experiment.md").read_text(encoding="utf-8")
    (pattern,) = set(re.findall(r"recipes/countdown/(countdown-\S*\*\S*\.yaml)", page))
    found = {p.stem for p in (ROOT / "recipes" / "countdown").glob(pattern)} | {"countdown"}
    assert len(table) == 11 and found == set(table)
    assert set(re.findall(r"^\| `(countdown[\w-]*)` \|", page, re.MULTILINE)) == found


@pytest.fixture
def checkout(tools, tmp_path: Path) -> Path:
    """A folder with this repository's pages."""
    for name in (tools.PAGE, tools.README):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_pages_are_filled_between_their_markers(tools, halves: list[Path], checkout: Path) -> None:
    pages = [checkout / tools.PAGE, checkout / tools.README]
    before = [p.read_text(encoding="utf-8").split("<!-- experiment -->")[0] for p in pages]
    tools.publish(halves, checkout / "made-countdown", root=checkout)
    texts = [p.read_text(encoding="utf-8") for p in pages]
    for text, old in zip(texts, before, strict=True):
        assert text.startswith(old) and "made-countdown/experiment.svg" in text
    assert "| H1: final answer" in texts[0] and "| phase 1, final answer | " in texts[1]
    tools.publish(halves, checkout / "made-countdown", root=checkout)
    assert [p.read_text(encoding="utf-8") for p in pages] == texts
    pages[0].write_text("no markers")
    with pytest.raises(UserError, match="<!-- experiment -->"):
        tools.fill(pages[0], [])


def test_the_readmes_table_is_of_rates_that_comparison_has(tools, made: Path) -> None:
    """A rate that nobody measured is a dash, and a first answer has no tokens of its own."""
    numbers = read_json(made / "comparison.json")
    rows = [line.strip("| ").split(" | ") for line in tools.headline(numbers, "made") if line.startswith("|")]
    assert rows[0] == ["pass@1", "countdown", "sums", "tokens"]
    by = {row[0]: row[1:] for row in rows[2:]}
    score = numbers["arms"]["countdown-dialogue"]["scores"]["countdown"]
    assert by["phase 1, final answer"][0] == f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    assert by["phase 1, final answer"][2] == f"{score['tokens_mean']:.0f}"
    assert by["phase 1, first answer of a chain"][2] == "-" != by["phase 1, first answer of a chain"][0]
    assert by["both phases"] == ["-", "-", "-"], "no such arm in this one"


def test_the_page_has_the_arms_on_the_test_sets(tools, made: Path) -> None:
    """Dev and sums are not mixed into them."""
    numbers = read_json(made / "comparison.json")
    text = "\n".join(tools.block(numbers, "made-countdown"))
    for on in ("countdown", "sums"):
        table = text.split(f"**Arms on {on} (exploratory)**")[1].split("**")[0]
        score = numbers["arms"]["countdown-dialogue"]["scores"][on]
        assert f"| countdown-dialogue | {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]<br>" in table
        assert "| greedy |" in table
    for arm in numbers["arms"].values():
        for score in arm["scores"].values():
            score["greedy"] = None
    assert "greedy" not in "\n".join(tools.block(numbers, "made-countdown"))


def test_the_order_of_arms_is_no_difference(tools, made: Path) -> None:
    numbers = read_json(made / "comparison.json")
    numbers["arms"] = dict(reversed(numbers["arms"].items()))
    write_json(made / "comparison.json", numbers)
    assert tools.check(made) == []
    del numbers["arms"]["countdown-plain"]
    write_json(made / "comparison.json", numbers)
    assert tools.check(made) == ["arms that comparison.json or the rows have alone: countdown-plain"]


def test_dev_alone_is_not_published(tools, halves: list[Path], tmp_path: Path) -> None:
    """As `compare` leaves it where one run's test evaluation is not complete."""
    source = tmp_path / "compared"
    source.mkdir()
    for name in tools.COPIED:
        shutil.copy(halves[0] / name, source)
    numbers = read_json(source / "comparison.json")
    for arm in numbers["arms"].values():
        arm["scores"] = {"countdown-dev": arm["scores"]["countdown-dev"]}
    write_json(source / "comparison.json", numbers)
    with pytest.raises(UserError, match="no scores on countdown, sums: every run must have opened"):
        tools.publish(halves, tmp_path / "out", source)
    assert not (tmp_path / "out").exists()


def test_what_compare_has_not_written_is_asked_for(tools, tmp_path: Path) -> None:
    folder = publishable(tmp_path)
    with pytest.raises(UserError, match=r"dpr-mini compare .*exp"):
        tools.publish([folder], tmp_path / "out")


def test_an_evaluation_that_lacks_an_answer_is_refused(halves: list[Path]) -> None:
    found = arrange(collect(halves))
    graded = found.arms["countdown-dialogue"].graded[0]
    graded.remove(next(a for a in graded if (a.benchmark, a.sample) == ("sums", 1)))
    with pytest.raises(UserError, match=r"countdown-dialogue, seed 0, sums.* lacks an answer"):
        codec.files(found)
