"""The demo's stage keys are pinned: a change of a key costs every user a run, so it is made on purpose, here."""

from places import RECIPES

from dpr_mini.pipeline import build
from dpr_mini.recipe import load
from dpr_mini.stages import report, train

DEMO = RECIPES / "smollm2-cpu.yaml"
# Not those of the published run, bench/results/smollm2-cpu.json: since then golds are read otherwise (problems), and
# what the grader gives up on is counted (probe, sample, eval).
KEYS = {
    "problems": "c4380dae",
    "eval-0-answers": "128471db",
    "eval-0": "23e4837a",
    "dialogue-1": "9e8df8d4",
    "filter-1": "8260c9e0",
    "pack-1": "08dac676",
    "train-1": "01ee524b",
    "eval-1-answers": "baf29c5c",
    "eval-1": "fa2e5665",
    "probe-2": "fee1bab7",
    "sample-2": "24f4f22e",
    "filter-2": "d88f763f",
    "pack-2": "4efd7a4f",
    "train-2": "c2f71971",
    "eval-2-answers": "d6148fd3",
    "eval-2": "0d248eac",
    "report": "3e3c483e",
}


def demo() -> dict:
    recipe = load(DEMO)
    return build(recipe, DEMO.parent)


def test_the_demos_keys_are_the_pinned_ones():
    assert {name: stage.key for name, stage in demo().items()} == KEYS


def test_a_stages_version_stands_in_one_place():
    stages = demo()
    assert stages["train-1"].kind is stages["train-2"].kind is train.TRAIN
    assert stages["report"].kind is report.REPORT
