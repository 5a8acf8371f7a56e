"""The filter and pack stages on a task's problems: prefixes, mix, what is stored, what is masked, the controls."""

from __future__ import annotations

from pathlib import Path

import pytest
import staging
from chains import BRIDGES, CONFIRMED, CORRECTED, MENDS, ONE_TURN, PROBLEM, RIGHT, SPOILED, WRONG, talk
from places import RECIPES, SMOKE_MODEL

from dpr_mini.chat.template import Template
from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.pipeline import build
from dpr_mini.recipe import FilterConfig, PackConfig, RecipeError, load
from dpr_mini.types import Kept, Problem, UserError, from_row, to_row

RULES = ("answer_correct", "not_truncated", {"verdict_true": {"at_least": 1}}, "check_true", "changed_answer")


@pytest.fixture(scope="module")
def template() -> Template:
    return Template.load(SMOKE_MODEL)


@pytest.fixture
def stage(tmp_path, template):
    """(folder of the stage, [dialogues' folder], problems' folder) with seven dialogues on one problem."""
    encode = template.encode
    talks = [
        talk(*CORRECTED, name="c#0", encode=encode),
        talk(*CONFIRMED, name="c#1", encode=encode),
        talk(*SPOILED, name="c#2", encode=encode),
        talk("Answer: 7*3+5", "7*3=21, 21+5=26. Right.", name="c#3", encode=encode, finishes={1: "length"}),
        talk(WRONG, "3*7=21, 21-5=16. Right.", name="c#4", encode=encode),
        talk(ONE_TURN + " ", name="c#5", encode=encode),
        talk(*SPOILED, name="c#6", encode=encode),
    ]
    for name, rows in (("problems", [PROBLEM]), ("talks", talks)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "rows.jsonl", map(to_row, rows))
    (tmp_path / "out").mkdir()
    return tmp_path / "out", [tmp_path / "talks"], tmp_path / "problems"


def filtered(stage, **config):
    metrics = staging.filtering(*stage, FilterConfig(**{"rules": RULES, **config}), BRIDGES)
    return metrics, [from_row(Kept, row) for row in read_rows(stage[0] / "rows.jsonl")], drops(stage[0])


def drops(folder: Path) -> dict[str, str]:
    return {d["dialogue_id"]: d["rule"] for d in read_rows(folder / "drops.jsonl")}


def test_what_is_kept_says_which_attempts_were_wrong(stage):
    metrics, kept, dropped = filtered(stage)
    assert [(k.id, k.kind, k.verifier, k.wrong) for k in kept] == [
        ("c#0", "corrected", "countdown", (0,)),
        ("c#1", "confirmed", "countdown", ()),
        ("c#5", "corrected", "countdown", (0,)),
    ]
    assert dropped == {
        "c#2": "answer_correct", "c#3": "not_truncated", "c#4": "answer_correct", "c#6": "answer_correct"
    }  # fmt: skip
    rows = list(read_rows(stage[0] / "rows.jsonl"))
    assert "wrong" in rows[0] and "wrong" not in rows[1] and "mix" not in metrics and "prefixes" not in metrics


def test_right_first_turns_of_what_the_rules_drop_are_samples(stage):
    metrics, kept, dropped = filtered(stage, rules=(*RULES, "duplicate"), prefixes=True)
    assert len({"c#2/first", "c#6/first"} & {k.id for k in kept}) == 1 and "c#3/first" in {k.id for k in kept}
    first = next(k for k in kept if k.id.endswith("/first"))
    assert first.kind == "single_right" and first.dialogue.id == first.id and len(first.dialogue.turns) == 1
    assert first.dialogue.finish == "stop" and first.wrong == ()
    again = [name for name, rule in dropped.items() if rule == "duplicate" and name != "c#5"]
    assert again in (["c#2/first"], ["c#6/first"]), "they go through the same rules: these two begin alike"
    assert metrics["prefixes"] == {"tried": 3, "kept": 2}
    assert metrics["dialogues"] + 3 == metrics["kept"] + sum(metrics["drops"].values()) == 10
    assert metrics["kept_kinds"]["single_right"] == 2


def test_a_dialogue_that_another_stands_for_gives_no_prefix(stage, template):
    twins = [talk(*CONFIRMED, name=f"c#{i}", encode=template.encode) for i in range(3)]
    write_rows(stage[1][0] / "rows.jsonl", map(to_row, twins))
    for rule in ("duplicate", {"per_problem": {"at_most": 1}}):
        metrics, kept, _ = filtered(stage, rules=(rule,), prefixes=True)
        assert len(kept) == 1 and metrics["prefixes"]["tried"] == 0


def test_what_quota_and_limit_drop_gives_no_prefix(stage, tmp_path):
    write_rows(tmp_path / "budgets.jsonl", [{"problem_id": "c", "wanted": 1}])
    config = FilterConfig(rules=("answered",), prefixes=True)
    metrics = staging.filtering(*stage, config, BRIDGES, quotas=tmp_path / "budgets.jsonl")
    assert metrics["kept"] == 1 and metrics["prefixes"] == {"tried": 0, "kept": 0}


def test_a_mix_is_drawn_after_the_rules_and_counts_prefixes(stage):
    shares = {"corrected": 0.4, "confirmed": 0.4, "single_right": 0.2}
    metrics, kept, dropped = filtered(stage, prefixes=True, mix=shares)
    assert sorted(k.kind for k in kept) == ["confirmed", "corrected", "single_right"]
    assert metrics["mix"] == {
        "total": 3,
        "kept": {"corrected": 1, "confirmed": 1, "single_right": 1},
        "there": {"corrected": 2, "confirmed": 1, "single_right": 3},
        "limited_by": ["confirmed"],
    }
    assert sorted(dropped.values()).count("mix") == 3 == metrics["drops"]["mix"]
    assert metrics["dialogues"] + 3 == metrics["kept"] + sum(metrics["drops"].values())
    assert metrics["prefixes"] == {"tried": 3, "kept": 1}


def test_a_mix_without_one_of_its_kinds_is_one_line_and_leaves_the_log(stage):
    with pytest.raises(StoreError, match="mix wants single_right and none passed"):
        filtered(stage, mix={"corrected": 0.5, "single_right": 0.5})
    assert len(drops(stage[0])) == 4 and not (stage[0] / "rows.jsonl").exists()


def test_a_problem_without_a_verifier_stops_the_stage_before_it_grades(stage):
    plain = Problem("p", "gsm8k", "3 * 4?", "12")
    write_rows(stage[2] / "rows.jsonl", map(to_row, [PROBLEM, plain]))
    with pytest.raises(UserError, match=r"verdict_true executes .* p \(gsm8k\)"):
        filtered(stage)
    assert not list(stage[0].iterdir())


def packed(stage, template, **config) -> tuple[dict, dict[str, tuple[str, str]]]:
    """Metrics, and by sample (its whole chain, what of it is trained on)."""
    folder = stage[0].with_name("packed")
    folder.mkdir()
    metrics = staging.pack(folder, stage[0], PackConfig(tokens_per_row=400, **config), template, BRIDGES)
    found = {}
    for row in read_rows(folder / "rows.jsonl"):
        ends = [*row["starts"][1:], len(row["ids"])]
        for name, a, b in zip(row["samples"], row["starts"], ends, strict=True):
            asked = len(template.opening(PROBLEM.text))
            on = [i for i, t in zip(row["ids"][a:b], row["trained"][a:b], strict=True) if t]
            found[name] = (template.decode(row["ids"][a + asked : b]), template.decode(on))
    return metrics, found


def test_wrong_attempts_are_kept_out_of_the_loss_and_their_checks_are_not(stage, template):
    filtered(stage)
    metrics, found = packed(stage, template, mask_wrong_first=False, mask_wrong_attempts=True)
    assert found["c#0"] == (ONE_TURN, ONE_TURN.removeprefix(WRONG)), "a turn"
    assert found["c#5"] == (ONE_TURN + " ", ONE_TURN.removeprefix(WRONG) + " "), "a part of one"
    assert found["c#1"] == (RIGHT + " Check: " + CONFIRMED[1],) * 2
    assert metrics["samples"] == 3 and metrics["contents"] == 3 and not metrics["dropped"]


def test_the_same_content_is_counted_once(stage, template):
    filtered(stage, prefixes=True)
    metrics, found = packed(stage, template)
    assert {"c#2/first", "c#6/first"} < set(found) and metrics["samples"] == metrics["contents"] + 1


def test_checks_are_taken_out_and_what_is_masked_stays_right(stage, template):
    filtered(stage)
    _, found = packed(stage, template, checks="none", mask_wrong_first=False, mask_wrong_attempts=True)
    text = "Answer: 3*7-5 Check: Wrong. Answer: 3*7+5 Check: Right."
    assert found["c#0"] == (text, text.removeprefix(WRONG)) and found["c#1"] == (RIGHT + " Check: Right.",) * 2


def test_a_wrong_first_attempt_is_masked_in_an_edited_chain(stage, template):
    filtered(stage)
    _, found = packed(stage, template, checks="none")
    assert found["c#5"][1] == " Check: Wrong. Answer: 3*7+5 Check: Right. "


def test_verdicts_are_drawn_by_a_coin_and_all_else_stays(stage, template):
    filtered(stage)
    _, found = packed(stage, template, verdicts="coin")
    blind = {n: whole.replace("Wrong", "?").replace("Right", "?") for n, (whole, _) in found.items()}
    assert blind["c#0"] == ONE_TURN.replace("Wrong", "?").replace("Right", "?") == blind["c#5"].rstrip()


def test_tokens_that_do_not_spell_a_wrong_attempt_get_a_line(stage, template):
    write_rows(stage[1][0] / "rows.jsonl", [to_row(talk(WRONG, MENDS)), to_row(talk(*CONFIRMED, name="c#1"))])
    filtered(stage, rules=("answer_correct",))
    metrics, found = packed(stage, template, mask_wrong_first=False, mask_wrong_attempts=True)
    (drop,) = read_rows(stage[0].with_name("packed") / "drops.jsonl")
    assert (drop["dialogue_id"], drop["rule"]) == ("c#0", "mask") and "'Answer: 3*7-5'" in drop["evidence"]
    assert set(found) == {"c#1"} and metrics["dropped"] == 1


@pytest.mark.parametrize("option", [{"mask_wrong_attempts": True}, {"checks": "none"}, {"verdicts": "coin"}])
def test_an_option_for_tasks_refuses_other_problems_and_filler(tmp_path, stage, template, option):
    plain = Problem("c", "made", "3 * 4?", "12")
    write_rows(stage[2] / "rows.jsonl", [to_row(plain)])
    write_rows(stage[1][0] / "rows.jsonl", [to_row(talk("The answer is 12."))])
    filtered(stage, rules=("answer_correct",))
    with pytest.raises(UserError, match=rf"pack.{next(iter(option))} reads a task's chains; .* c#0 has no verifier"):
        packed(stage, template, **option)
    with pytest.raises(ValueError, match="filler takes out"):
        PackConfig(filler={}, **option)


def test_each_new_option_changes_its_stages_key_and_nothing_before_it():
    path = RECIPES / "smollm2-cpu.yaml"
    before = {name: s.key for name, s in build(load(path), path.parent).items()}
    for setting, stage in {
        "filter.mix={confirmed: 1.0}": "filter-1",
        "filter.prefixes=true": "filter-1",
        "pack.mask_wrong_attempts=true": "pack-1",
        "pack.checks=none": "pack-1",
        "pack.verdicts=coin": "pack-1",
    }.items():
        after = {name: s.key for name, s in build(load(path, [setting]), path.parent).items()}
        changed = [name for name in before if before[name] != after[name]]
        assert changed[0] == stage, setting
    with pytest.raises(RecipeError, match=r"filter.mix.*add up to 0.5"):
        load(path, ["filter.mix={confirmed: 0.5}"])
