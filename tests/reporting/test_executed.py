"""The report's executed checks: counted in the stored dialogues, in a column of their own, in no score."""

import pytest
from run_by_hand import dialogue, make

from dpr_mini.files.rows import write_rows
from dpr_mini.reporting import answers, executed
from dpr_mini.reporting.results import Results


@pytest.fixture
def results(tmp_path):
    at, _ = make(tmp_path)
    checked = ("3 + 4 = 7. The answer is 7.", "Check: 7 - 4 = 3.")
    copied = ("3 + 4 = 7. The answer is 7.", "Check: 3 + 4 = 7.")
    write_rows(at["dialogue-1"] / "rows.jsonl", [dialogue("p0#0", checked), dialogue("p1#0", copied)])
    return Results(at)


def test_shares_are_of_responses(results):
    shares = executed.shares(results)["filter-1", "drawn"]
    assert shares["responses"] == 2
    assert (shares["true"], shares["about"], shares["different"], shares["executed"]) == (1.0, 1.0, 0.5, 0.5)


def test_sampled_answers_alone_are_counted(results):
    model = results.models[0]
    assert executed.shares(results)["base", "answers"]["responses"] == len(model.answers())


def test_the_column_stands_beside_the_word_patterns(results):
    [table] = answers.behaviour_table(results, lambda *key: "").blocks
    assert table.head[-2:] == ("executed check (equations run)", "chained result (equations run)")
    row = next(r for r in table.rows if r[0] == "filter-1, drawn")
    assert row[-2] == "50.0%\ntrue 100.0%, about the answer 100.0%, different 50.0%"
    assert all(len(r) == len(table.head) for r in table.rows)
    assert "enter no score" in table.note


def test_stages_without_their_dialogues_have_no_count(results):
    kept = {role: path for role, path in results.at.items() if role not in ("dialogue-1", "eval-0-answers")}
    shares = executed.shares(Results(kept))
    assert ("filter-1", "drawn") not in shares and ("base", "answers") not in shares
    [table] = answers.behaviour_table(Results(kept), lambda *key: "").blocks
    assert next(r for r in table.rows if r[0] == "filter-1, drawn")[-1] == "no dialogues"
