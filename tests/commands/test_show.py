"""`dpr-mini show`: rows are read as their types, so that a person can read them."""

import pytest
from rows import RIGHT, WRONG, kept

from dpr_mini.commands.show import show_run, show_stage
from dpr_mini.files.rows import write_json, write_rows
from dpr_mini.runs import RunError
from dpr_mini.types import Dialogue, Turn, to_row

TURNS = (Turn("solve", "6 * 3?", (1, 2), "= 19", "stop"), Turn("verify", "Check.", (3,), "= 18", "length"))
TALK = Dialogue("p#0", "p", 0, TURNS, "made", 5)


@pytest.fixture
def run(tmp_path):
    """A run with a finished filter, a dialogue stage that was interrupted, and one that never began."""
    stages = {"filter-1": "filter-1-0a0a0a0a", "dialogue-1": "dialogue-1-0b0b0b0b", "pack-1": "pack-1-0c0c0c0c"}
    for folder in list(stages.values())[:2]:
        (tmp_path / folder).mkdir()
    write_rows(tmp_path / "filter-1-0a0a0a0a" / "rows.jsonl", [to_row(kept(TALK, WRONG, RIGHT, kind="corrected"))])
    drop = {"dialogue_id": "p#1", "rule": "answer_correct", "evidence": "18 is wanted"}
    write_rows(tmp_path / "filter-1-0a0a0a0a" / "drops.jsonl", [drop])
    write_json(tmp_path / "filter-1-0a0a0a0a" / "stage.json", {"metrics": {"kept": 1, "drops": {}}, "seconds": 2.0})
    write_rows(tmp_path / "dialogue-1-0b0b0b0b" / "rows.jsonl", [to_row(TALK)])
    write_json(tmp_path / "latest.json", {"recipe": {}, "stages": stages})
    return tmp_path


def test_a_kept_dialogue_stands_with_its_verdicts_and_a_drop_with_its_evidence(run, capsys):
    show_stage(run, "filter-1", 3, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert "drops by rule: {'answer_correct': 1}" in lines and "  dropped p#1 by answer_correct: 18 is wanted" in lines
    assert lines[lines.index("p#0 (made, seed 5)") :] == [
        "p#0 (made, seed 5)",
        "[solve] 6 * 3?",
        "[model, 2 tokens, stop] = 19",
        "[graded] wrong: 8 (boxed/exact)",
        "[verify] Check.",
        "[model, 1 tokens, length] = 18",
        "[graded] correct: 7 (boxed/exact)",
        "[kind] corrected",
        "[behaviours] none",
    ]


def test_a_dialogue_that_nobody_graded_has_no_verdicts(run, capsys):
    show_stage(run, "dialogue-1", 3, seed=0)
    told = capsys.readouterr().out
    assert told.startswith("dialogue-1 is not complete\n1 rows\n") and "[graded]" not in told
    assert told.endswith("[verify] Check.\n[model, 1 tokens, length] = 18\n")


def test_every_stage_has_a_line_with_its_state(run, capsys):
    show_run(run)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["filter-1", "dialogue-1", "pack-1"]
    assert "2.0 s  kept=1" in lines[0] and lines[1].endswith("incomplete") and lines[2].endswith("not run")
    with pytest.raises(RunError, match="no stage 'x'; there are: filter-1, dialogue-1, pack-1"):
        show_stage(run, "x", 1, seed=0)
