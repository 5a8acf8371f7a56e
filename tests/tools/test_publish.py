"""tools/publish.py fills what stands between its markers, from a run's numbers, and the second time changes nothing."""

import importlib.util
import json
import re

import pytest
from places import ROOT
from rows import RIGHT, WRONG, graded, kept

from dpr_mini import recipe as recipes
from dpr_mini.files.rows import read_json, write_json, write_rows
from dpr_mini.reporting.samples import by_hash
from dpr_mini.scoring.card import score_all
from dpr_mini.types import Dialogue, Turn, to_row

PAGE = """# Results
<!-- smollm2-cpu -->
old
<!-- end smollm2-cpu -->
between
<!-- dialogue -->
old
<!-- end dialogue -->
<!-- 2026-11-25-mix -->
old
<!-- end 2026-11-25-mix -->
after
"""
RIGHT_OF_20 = {"eval-0": 4, "eval-1": 14, "eval-2": 16}


@pytest.fixture(scope="module")
def publish():
    """tools/publish.py as a module."""
    spec = importlib.util.spec_from_file_location("publish", ROOT / "tools" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")  # as for `python tools/publish.py`
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A checkout's results page, with markers."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results.md").write_text(PAGE)
    return tmp_path


def dialogue(name, text="6 * 3 = 18"):
    turns = (
        Turn("solve", "What is 6 * 3?", (1,), text, "stop"),
        Turn("verify", "Check.", (2,), "<b>18</b>", "stop"),
    )
    return Dialogue(name, name.split("#")[0], 0, turns, "made", 0)


CASES = [kept(dialogue(f"p{i}#0"), RIGHT, RIGHT) for i in range(8)]
CASES.append(kept(dialogue("p8#0", "6 * 3 = 19"), WRONG, RIGHT, kind="corrected"))


def make_run(folder, name="smollm2-cpu", gpu="", problems=60):
    """The folders of a finished run that a publication reads; `easy` is the one benchmark, of a multiple of 20."""
    folder.mkdir()
    recipe = recipes.parse({"name": name, "problems": {"train": [{"file": "none"}]}}, "made").model_dump(mode="json")
    stages = {}

    def stage(title, metrics, **files):
        stages[title] = f"{title}-0a1b2c3d"
        (folder / stages[title]).mkdir()
        for file, rows in files.items():
            write_rows(folder / stages[title] / f"{file}.jsonl", rows)
        machine = {"cpu": "made", "cores": 2, "gpu": gpu}
        manifest = {"metrics": metrics, "seconds": 30.0, "machine": machine, "versions": {"torch": "2.13"}}
        write_json(folder / stages[title] / "stage.json", manifest)

    stage("filter-1", {}, rows=map(to_row, CASES))
    for title, right in RIGHT_OF_20.items():
        answers = [graded(f"p{i:02d}", s, i % 20 < right, "easy") for i in range(problems) for s in (None, 0, 1)]
        stage(f"{title}-answers", {"engine": "made"})
        cards = {name: card.to_row() for name, card in score_all(answers, ["easy"]).items()}
        stage(title, {"cards": cards}, graded=[a.to_row() for a in answers])
    write_json(folder / "latest.json", {"recipe": recipe, "stages": stages})
    write_json(folder / "scorecards.json", {"name": name, "models": {}})
    return folder


def between(page, name):
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- end {name} -->", page.read_text(), re.DOTALL)[1]


def test_the_results_page_has_table_conditions_and_figure(publish, checkout, tmp_path):
    publish.publish(make_run(tmp_path / "run"), checkout)
    block = between(checkout / "docs" / "results.md", "smollm2-cpu")
    row = next(line for line in block.splitlines() if line.startswith("| easy, n=60, k=2 | 0.200 ["))
    assert "(0.20) |" in row and row.endswith("p < 0.001 |") and "+0.600 [" in row
    assert "seed 0, scores of dev problems. Brackets: 95 % over problems alone, about this one training;" in block
    assert "no GPU, 3.5 minutes for all stages; torch 2.13, made." in block, "seven stages of 30 seconds"
    assert "![pass@1 by phase](../bench/results/smollm2-cpu.svg)" in block
    assert "(../bench/results/smollm2-cpu.json)" in block and "](bench/" not in block
    numbers = read_json(checkout / "bench" / "results" / "smollm2-cpu.json")
    assert numbers["name"] == "smollm2-cpu" and sum(numbers["seconds"].values()) == 210
    assert (checkout / "bench" / "results" / "smollm2-cpu.svg").read_text().startswith("<svg xmlns=")


def test_few_problems_have_no_interval(publish, checkout, tmp_path):
    publish.publish(make_run(tmp_path / "run", problems=20), checkout)
    block = between(checkout / "docs" / "results.md", "smollm2-cpu")
    row = next(line for line in block.splitlines() if line.startswith("| easy, "))
    assert row == "| easy, n=20, k=2 | 0.200 (0.20) | 0.700 (0.70) | 0.800 (0.80) | +0.600, p < 0.001 |"


def test_the_dialogue_is_drawn_by_hash_and_stands_beside_the_counts(publish, checkout, tmp_path):
    publish.publish(make_run(tmp_path / "run"), checkout)
    block = between(checkout / "docs" / "results.md", "dialogue")
    chosen = by_hash((case.id for case in CASES), 1)[0]
    assert f"One of phase 1's 9 kept dialogues, drawn by a hash of its id, unedited ({chosen}, " in block
    assert "Of all 9: 8 confirmed (right, then right again); 1 corrected (wrong, then right)." in block
    assert "> **solve:** What is 6 \\* 3?<br>\n" in block and "> **model:** \\<b\\>18\\</b\\>\n" in block
    assert publish.example(CASES) == publish.example(CASES[::-1]), "the order of the file chooses nothing"
    chosen_of = {publish.example([c for c in CASES if c.id != without])[1] for without in ("", chosen)}
    assert len(chosen_of) == 2, "and another one where that one is gone"


def test_publishing_again_changes_nothing(publish, checkout, tmp_path):
    run = make_run(tmp_path / "run")

    def files():
        return {p: p.read_bytes() for p in checkout.rglob("*") if p.is_file() and run not in p.parents}

    publish.publish(run, checkout)
    first = files()
    publish.publish(run, checkout)
    assert files() == first and len(first) >= 3, "page, numbers, figure"


def test_a_gpu_is_named(publish, checkout, tmp_path):
    publish.publish(make_run(tmp_path / "run", gpu="made 80 GB"), checkout)
    block = between(checkout / "docs" / "results.md", "smollm2-cpu")
    assert "cores of made, made 80 GB, 3.5 minutes" in block and "no GPU" not in block


def test_another_recipe_leaves_the_demos_text_alone_and_missing_markers_are_said(publish, checkout, tmp_path, capsys):
    publish.publish(make_run(tmp_path / "run", name="other"), checkout)
    assert (checkout / "docs" / "results.md").read_text() == PAGE
    assert (checkout / "bench" / "results" / "other.json").exists()
    assert "no markers <!-- other --> and <!-- end other -->, nothing to fill" in capsys.readouterr().out


def test_a_comparison_is_filled_from_its_json(publish, checkout):
    """The committed comparison gives the committed numbers: nothing between the markers was typed."""
    file = ROOT / "bench" / "results" / "2026-11-25-mix" / "comparison.json"
    publish.publish_comparison(file, "2026-11-25-mix", checkout)
    block = between(checkout / "docs" / "results.md", "2026-11-25-mix")
    assert block.strip() == between(ROOT / "docs" / "results.md", "2026-11-25-mix").strip()
    numbers = json.loads(file.read_text())
    assert [line.split(" | ")[0][2:] for line in block.split("\n\n")[0].splitlines()[3:]] == list(numbers["arms"])
    overall = numbers["arms"]["base"]["scores"]["all"]
    assert f"| base | {overall['mean']:.3f} [{overall['low']:.3f}, {overall['high']:.3f}] |" in block
    assert "over problems alone, in a file from before seeds were in it." in block
    assert "No hypothesis was registered; of the 308 differences in the file every one is exploratory." in block
    with_seeds = block.split("| 95 % over problems and seeds |")[1]
    assert (
        "| smollm2-prop2diff | -0.010 [-0.066, +0.045], p = 0.675 | +0.028 [-0.022, +0.078], p = 0.271 |" in with_seeds
    )
    assert block.endswith("\n\n![difference to the baseline](../bench/results/2026-11-25-mix/comparison.svg)\n\n")
    assert (checkout / "bench" / "results" / "2026-11-25-mix" / "comparison.json").read_text() == file.read_text()


def test_a_comparison_with_seeds_in_it_says_which_hypotheses_were_registered(publish):
    difference = {
        "baseline": "base",
        "on": "all",
        "measure": "pass@1",
        "arm": "a",
        "mean": 0.1,
        "low": 0.0,
        "high": 0.2,
    }
    assert publish.with_seeds({"baseline": "base", "differences": [difference]}) == [], "its brackets are over seeds"
    assert publish.registered({"differences": [difference], "hypotheses": [{}, {}]}).startswith("2 hypotheses were reg")
