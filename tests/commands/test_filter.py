"""`dpr-mini filter`: anybody's rows get the verdicts that the pipeline's own filter gives."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import staging

from dpr_mini import recipe
from dpr_mini.commands import filter as filter_command
from dpr_mini.commands.filter import DEFAULT, filter_file
from dpr_mini.files.rows import read_rows, write_rows
from dpr_mini.recipe import prompts
from dpr_mini.selection.rules import RULES
from dpr_mini.types import Dialogue, Problem, Turn, UserError

PROBLEMS = [
    Problem("p1", "test", "What is 3 * 4?", "12"),
    Problem("p2", "test", "Half of what number is 9?", "18"),
    Problem("p3", "test", "What is 1/4 + 1/4?", "1/2"),
]
RECIPE = """\
name: mine
problems: {train: [{file: none.jsonl}]}
dialogue:
  turns: [[solve], [check]]
  templates: {solve: "{problem}\\nWrite every step on a line.", check: "Is every single step of this right?"}
  bridges: {check: "\\nSo, 2 + 2 = 4: "}
filter:
  rules:
    - duplicate
    - answered
    - not_truncated
    - answer_correct
    - trajectory: {kinds: [single_right, confirmed, corrected]}
    - false_arithmetic
    - repetition: {n: 3, times: 4}
    - template_leak: {words: 5}
    - one_answer
    - language
    - length: {min_tokens: 3, max_tokens: 60}
    - longer_than_first: {ratio: 1.3}
    - near_duplicate: {threshold: 0.9}
    - per_problem: {at_most: 3}
"""
A, B = "3 * 4 = 12. The answer is 12.", "The answer is 18, as 18 / 2 = 9."
C = r"1/4 + 1/4 = 2/4, so \boxed{\frac{1}{2}}"
D = C + " and that is all there is to say about the two quarters which we were given to add up"
TALKS: list[tuple[str, list[str], list[str]]] = [  # problem, turns, how each ended
    ("p1", [A], ["stop"]),
    ("p1", [A.upper()], ["stop"]),
    ("p1", ["3 * 4 = 13. The answer is 12."], ["stop"]),
    ("p1", ["The answer is 13."], ["stop"]),
    ("p1", ["I would have to think about it for a while."], ["stop"]),
    ("p1", ["3 * 4 = 12, so the"], ["length"]),
    ("p1", ["4 + 4 + 4 makes 12, so the answer is 12."], ["stop"]),
    ("p1", ["Three fours: 4, 8, 12. The answer is 12."], ["stop"]),
    ("p1", ["I count 4, 8, 12 on my fingers. The answer is 12."], ["stop"]),
    ("p1", ["Twelve eggs are three rows of four. The answer is 12."], ["stop"]),
    ("p1", ["The answer is 11. No: the table says more. The answer is 12."], ["stop"]),
    ("p1", ["\u041e\u0442\u0432\u0435\u0442: 12. The answer is 12."], ["stop"]),
    ("p1", ["so we add four " * 6 + "The answer is 12."], ["stop"]),
    ("p1", ["12"], ["stop"]),
    ("p1", [A, "Twelve by three is 12 / 3 = 4. Good. The answer is 12."], ["stop", "stop"]),
    ("p1", [A, "So 12."], ["stop", "stop"]),
    ("p1", [A, "No, it is more. The answer is 15."], ["stop", "stop"]),
    ("p1", ["The answer is 10.", "Counting again: 4 + 4 + 4 = 12. The answer is 12."], ["stop", "stop"]),
    ("p2", [B], ["stop"]),
    ("p2", [B + " "], ["stop"]),
    ("p2", ["The answer is 4.5."], ["stop"]),
    ("p2", ["As you asked, I double nine. The answer is 18."], ["stop"]),
    ("p2", ["Write every step on a line. Two nines. The answer is 18."], ["stop"]),
    ("p2", ["Half of what number is 9? Two nines are 18. The answer is 18."], ["stop"]),
    ("p2", [B, "Half of 18 is 9, which is what was asked for. The answer is 18."], ["length", "stop"]),
    ("p2", ["I think 45. The answer is 45. Sure.", "18"], ["stop", "stop"]),
    ("p2", ["9 is half. The answer is 9.", "Wait, then the whole is 9 * 2 = 18. The answer is 18."], ["stop", "error"]),
    ("p3", [C], ["stop"]),
    ("p3", [D + " here"], ["stop"]),
    ("p3", [D + " now"], ["stop"]),
    ("p3", ["The answer is 2/8.", "Quarters stay quarters: 2/4. The answer is 0.5."], ["stop", "stop"]),
    ("p3", [C, C, "Both agree, as two quarters are a half. The answer is 1/2."], ["stop", "stop", "stop"]),
]


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def talks(own: recipe.DialogueConfig) -> list[Dialogue]:
    made = []
    text = {p.id: p.text for p in PROBLEMS}
    for number, (problem, texts, ends) in enumerate(TALKS):
        names = ["solve"] + ["check"] * (len(texts) - 1)
        turns = tuple(
            Turn(name, prompts.fill(own.templates[name], text[problem]), tuple(range(len(t) // 3)), t, end)
            for name, t, end in zip(names, texts, ends, strict=True)
        )
        made.append(Dialogue(f"{problem}#{number}", problem, number, turns, "scripted", 0))
    return made


def as_rows(dialogues: list[Dialogue]) -> list[dict]:
    """What somebody else would have written of the same dialogues; one turn in the short form."""
    of, rows = {p.id: p for p in PROBLEMS}, []
    for d in dialogues:
        row = {
            "id": d.id,
            "gold": of[d.problem_id].answer,
            "problem_id": d.problem_id,
            "problem": of[d.problem_id].text,
        }
        if len(d.turns) == 1:
            row |= {"text": d.turns[0].text, "finish": d.finish, "tokens": d.tokens}
        else:
            row |= {"turns": [t.text for t in d.turns], "instructions": [t.instruction for t in d.turns]}
            row |= {"finish": [t.finish for t in d.turns], "tokens": [len(t.ids) for t in d.turns]}
        rows.append(row)
    return rows


def written(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_pipeline_and_the_command_agree(mine, tmp_path, capsys):
    settings = recipe.load(mine)
    dialogues = talks(settings.dialogue)
    for name, rows in (("talks", dialogues), ("problems", PROBLEMS)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "rows.jsonl", map(asdict, rows))
    bridges = {**prompts.BRIDGES, **settings.dialogue.bridges}
    staging.filtering(tmp_path, [tmp_path / "talks"], tmp_path / "problems", settings.filter, bridges)
    kept = {r["id"] for r in read_rows(tmp_path / "rows.jsonl")}
    drops = {d["dialogue_id"]: (d["rule"], d["evidence"]) for d in read_rows(tmp_path / "drops.jsonl")}
    # The dialogues try every rule of the recipe, so that agreement says something.
    assert {rule for rule, _ in drops.values()} >= {
        "answered", "duplicate", "per_problem", "not_truncated", "answer_correct", "false_arithmetic", "repetition",
        "template_leak", "one_answer", "language", "length", "longer_than_first", "near_duplicate",
    }  # fmt: skip
    assert len(kept) >= 8

    write_rows(tmp_path / "in.jsonl", as_rows(dialogues))
    counts = filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", recipe=mine)
    out = written(tmp_path / "out.jsonl")
    assert [r["id"] for r in out] == [d.id for d in dialogues], "all rows, in their order"
    assert {r["id"] for r in out if r["keep"]} == kept
    assert {r["id"]: (r["drops"][0]["rule"], r["drops"][0]["evidence"]) for r in out if not r["keep"]} == drops
    assert all(r["keep"] == (not r["drops"]) and set(r) == {"id", "keep", "drops"} for r in out)
    assert counts["rows"] == len(dialogues) and counts["kept"] == len(kept)
    said = capsys.readouterr().out
    assert f"kept {len(kept)} of {len(dialogues)}; dropped by " in said and "left out" not in said

    write_rows(tmp_path / "in.jsonl", reversed(as_rows(dialogues)))
    filter_file(tmp_path / "in.jsonl", tmp_path / "again.jsonl", recipe=mine)
    assert written(tmp_path / "again.jsonl") == out[::-1], "verdicts do not depend on the order of the file"


def test_plain_rows_by_the_command(tmp_path):
    rows = [
        {"id": 1, "text": "3 * 4 = 12.", "gold": "12"},
        {"id": "two", "text": "The answer is 13.", "gold": 12},
        {"id": 3, "text": "I would have to think about it for a while.", "gold": "12", "finish": "length"},
        {"id": 4, "text": "3 * 4  = 12.", "gold": "12", "more": ["ignored"]},
        {"id": 5, "text": "So 12.", "gold": "7"},
        {"id": 6, "text": "broken \ud800 pair: 3 * 4 = 15, so it is 12", "gold": "12"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = [sys.executable, "-m", "dpr_mini.cli", "filter", "in.jsonl", "--out", "out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    out = {r["id"]: r for r in written(tmp_path / "out.jsonl")}
    assert list(out) == [1, "two", 3, 4, 5, 6]
    assert sum(out[i]["keep"] for i in (1, 4)) == 1, "the same text for the same gold answer is a duplicate"
    twin = next(out[i] for i in (1, 4) if not out[i]["keep"])
    assert [d["rule"] for d in twin["drops"]] == ["duplicate"]
    assert [d["rule"] for d in out["two"]["drops"]] == ["answer_correct", "trajectory", "working"]
    assert [d["rule"] for d in out[3]["drops"]] == ["answered", "not_truncated", "answer_correct", "trajectory"]
    assert out[5]["drops"][0] == {"rule": "answer_correct", "evidence": out[5]["drops"][0]["evidence"]}
    assert [d["rule"] for d in out[6]["drops"]] == ["false_arithmetic", "language"]
    assert "kept 1 of 6; dropped by " in done.stdout and "answer_correct 2" in done.stdout
    assert "filter" in done.stderr and "6/6" in done.stderr, "a bar shows how far it is"


def test_rules_by_name_and_what_is_said_aloud(tmp_path, mine, capsys):
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(rows, [{"id": i, "text": f"Way {i}: 12", "gold": "12"} for i in range(6)])
    assert filter_file(rows, out, "answer_correct, per_problem")["kept"] == 6
    assert "per_problem is left out: not every row has a 'problem_id'" in capsys.readouterr().out
    write_rows(rows, [{"id": i, "text": f"Way {i}: 12", "gold": "12", "problem": "3 * 4?"} for i in range(6)])
    assert filter_file(rows, out, "answer_correct,per_problem") == {"rows": 6, "kept": 4, "per_problem": 2}
    assert "left out" not in capsys.readouterr().out
    filter_file(rows, out, "length", mine)
    assert "length is counted in words" in capsys.readouterr().out
    assert set(DEFAULT) <= set(RULES)


def test_a_leak_is_looked_for_in_the_recipes_templates(tmp_path, mine):
    """Rows without `prompts` are held against all that the recipe may say in that turn."""
    leak = "Write every step on a line. 3 * 4 = 12 and that is it."
    rows = tmp_path / "in.jsonl"
    write_rows(rows, [{"id": 1, "text": leak, "gold": "12"}, {"id": 2, "turns": ["12", leak], "gold": "12"}])
    filter_file(rows, tmp_path / "out.jsonl", None, mine)
    for row in written(tmp_path / "out.jsonl"):
        assert {"rule": "template_leak", "evidence": "our own words: write every step on a"} in row["drops"]


GOOD = '{"id": 1, "text": "12", "gold": "12"}\n'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "in.jsonl:2: not JSON"),
        ("[1]", "in.jsonl:2: a row must be a JSON object"),
        ('{"id": 2, "gold": "1"}', "in.jsonl:2: text missing; a row is {id, text, gold}"),
        ('{"text": "12"}', "in.jsonl:2: id, gold missing"),
        ('{"id": 2, "text": "12", "gold": null}', "in.jsonl:2: gold must be a string or a number, got null"),
        ('{"id": true, "text": "12", "gold": "1"}', "in.jsonl:2: id must be a string or a number, got true"),
        ('{"id": 2, "text": 12, "gold": "1"}', "in.jsonl:2: text must be a string"),
        ('{"id": 2, "turns": "12", "gold": "1"}', "in.jsonl:2: turns must be a list of strings"),
        ('{"id": 2, "turns": [], "gold": "1"}', "in.jsonl:2: turns must be a list of strings"),
        ('{"id": 2, "text": "1", "gold": "1", "finish": "eos"}', "in.jsonl:2: finish is one of stop, length, error"),
        ('{"id": 2, "text": "1", "gold": "1", "finish": ["stop", "stop"]}', "finish must have one str for each of 1"),
        ('{"id": 2, "turns": ["1", "2"], "gold": "1", "tokens": 7}', "tokens must have one int for each of 2 turns"),
        ('{"id": 2, "text": "1", "gold": "1", "tokens": -7}', "in.jsonl:2: tokens must be 0 or more"),
        ('{"id": 2, "text": "1", "gold": "1", "prompts": "x"}', "prompts must have one str"),
        ('{"id": "1", "text": "1", "gold": "1"}', "in.jsonl:2: id '1' stands in"),
        ('{"id": 2, "text": "1", "gold": "2", "problem_id": "p"}\n{"id": 3, "text": "1", "gold": "3", '
         '"problem_id": "p"}', "in.jsonl:3: gold is '3', for the same problem in"),
        ('{"id": 2, "text": "1", "gold": " "}', "in.jsonl:2: gold holds no value"),
        ('{"id": 2, "text": "1", "gold": ["1", "2"]}', "in.jsonl:2: gold must be a string or a number, got a list"),
        ('{"id": NaN, "text": "1", "gold": "1"}', "in.jsonl:2: id must be a string or a number, got NaN"),
        (r'{"id": "\ud900", "text": "1", "gold": "1"}', "in.jsonl:2: id has half of a surrogate pair"),
        ('{"id": 2, "text": null, "gold": "1"}', "in.jsonl:2: text missing"),
        ('{"id": 2, "text": "1", "gold": "1", "problem": ["a"]}', "in.jsonl:2: problem must be a string, got a list"),
        ('{"id": 2, "text": "1", "gold": "1", "problem_id": {}}', "in.jsonl:2: problem_id must be"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_one_line_and_nothing_is_written(tmp_path, line, says):
    (tmp_path / "in.jsonl").write_text(GOOD + line + "\n")
    with pytest.raises(UserError) as error:
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_malformed_row_leaves_nothing_open(tmp_path, monkeypatch):
    made = staging.all_aside(monkeypatch, filter_command)
    (tmp_path / "in.jsonl").write_text(GOOD + "{}\n")
    with pytest.raises(UserError, match=r"in\.jsonl:2: id, gold, text missing"):
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert made and all(map(staging.is_closed, made))


@pytest.mark.parametrize(
    ("rules", "says"),
    [("answer_corect", "did you mean 'answer_correct'"), ("", "no rule ''"), ("answered,", "no rule ''; there are:")],
)
def test_an_unknown_rule_is_one_line(tmp_path, rules, says):
    (tmp_path / "in.jsonl").write_text(GOOD)
    with pytest.raises(UserError, match=says):
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", rules)


def test_null_is_as_if_absent_and_golds_are_read_as_in_a_run(tmp_path):
    """Four problems, though none has a text; and what data frames write for a column that some rows lack."""
    empty = ("problem", "problem_id", "tokens", "finish", "turns", "instructions", "prompts")
    nulls = dict.fromkeys(empty)
    rows = [
        nulls | {"id": 1, "text": "3 + 4 = 7. The answer is 7.", "gold": "3 and 4 are 7\n#### 7"},
        nulls | {"id": 2, "text": "5 + 4 = 9. The answer is 9.", "gold": r"so \boxed{9}"},
        nulls | {"id": 3, "text": "1 / 50000 = 0.00002, so 0.00002", "gold": 0.00002},
        {"id": 4, "text": None, "turns": ["6 * 7 = 42, so the answer is 42."], "gold": ["42"], "problem_id": 4},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "answer_correct")["kept"] == 4


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "in.jsonl").write_text(GOOD)
    (tmp_path / "empty.jsonl").write_text("\n")
    for rows, out, says in (
        ("none.jsonl", "out.jsonl", "no such file"),
        ("empty.jsonl", "out.jsonl", "no rows"),
        ("in.jsonl", "nowhere/out.jsonl", "no such folder"),
        ("in.jsonl", "in.jsonl", "--out is a file that is read"),
    ):
        with pytest.raises(UserError, match=says):
            filter_file(tmp_path / rows, tmp_path / out)
    assert (tmp_path / "in.jsonl").read_text() == GOOD
    command = [sys.executable, "-m", "dpr_mini.cli", "filter", "in.jsonl", "--out", "o.jsonl", "--recipe", "no.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("dpr-mini: no.yaml: no such recipe")
