"""Filter rules and the filter stage: every rule fires and stays silent, every drop is in the log, counts add up."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import staging
from staging import apply

from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.recipe import FilterConfig, RecipeError
from dpr_mini.selection import behaviours, task_rules
from dpr_mini.selection.arithmetic import false_equations
from dpr_mini.selection.case import Case, kind_of
from dpr_mini.selection.overlap import runs
from dpr_mini.selection.rules import RULES, build_rules
from dpr_mini.stages import filter as filter_stage
from dpr_mini.types import Dialogue, Problem, Turn, Verdict

BRIDGES = {"verify": "\n\nLet me verify this.\n"}
PROBLEM = Problem("p1", "test", "What is 3 * 4?", "12")


def dialogue(*texts: str, sample: int = 0, problem: str = "p1", finish: str = "stop") -> Dialogue:
    turns = tuple(
        Turn("verify" if i else "solve", "ask", tuple(range(len(t.split()))), t, "stop") for i, t in enumerate(texts)
    )
    turns = (*turns[:-1], replace(turns[-1], finish=finish))
    return Dialogue(f"{problem}#{sample}", problem, sample, turns, "scripted", 0)


def case(*texts: str, ok: tuple[bool, ...] | None = None, **options) -> Case:
    d = dialogue(*texts, **options)
    ok = ok or tuple(True for _ in texts)
    verdicts = tuple(Verdict("correct" if o else "wrong", "12" if o else "13", "phrase/exact") for o in ok)
    text = "\n".join(texts)
    return Case(d, PROBLEM, text, verdicts, verdicts[-1], behaviours.count(text), kind_of(verdicts))


def unparsed(text: str) -> Case:
    return replace(case(text), verdicts=(Verdict("unparsed", "", "none"),), kind="never_right")


def told(text: str) -> Case:
    """A second turn that says `text`, with the instructions of both turns as they were sent."""
    made = case(RIGHT, text)
    sent = (f"{PROBLEM.text}\nShow each step.", "Is every step right?\nAnd show it.")
    turns = tuple(replace(t, prompt=p) for t, p in zip(made.dialogue.turns, sent, strict=True))
    return replace(made, dialogue=replace(made.dialogue, turns=turns))


RIGHT = "3 * 4 = 12. The answer is 12."
FIRES = [
    ("answered", {}, unparsed("I do not know"), "no answer"),
    ("answer_correct", {}, case(RIGHT, "So 13.", ok=(True, False)), "right is '12'"),
    (
        "answer_correct",
        {},
        replace(case("The answer is 9.", "3 * 4 = 12"), joined=Verdict("wrong", "9", "phrase/exact")),
        "the joined chain reads as '9'",
    ),
    ("not_truncated", {}, case(RIGHT, finish="length"), "turn 1: length"),
    ("trajectory", {}, case(RIGHT, "13", ok=(True, False)), "spoiled"),
    ("trajectory", {"kinds": ["corrected"]}, case(RIGHT, RIGHT), "confirmed"),
    ("false_arithmetic", {}, case("3 * 4 = 15, so 12."), "3 * 4 = 15"),
    ("repetition", {"n": 3, "times": 3}, case("so we add again " * 5), "5 times: so we add"),
    ("template_leak", {}, case("As you asked me, I check. " + RIGHT), "As you asked"),
    ("template_leak", {"phrases": ["nicely"]}, case("Nicely done: 12"), "Nicely"),
    ("template_leak", {"words": 4}, told("Check: Is every step right? Yes."), "our own words: is every step right"),
    ("template_leak", {"words": 3}, told("First, SHOW EACH STEP. 12"), "show each step"),
    ("length", {"min_tokens": 20}, case(RIGHT), "9 tokens"),
    ("length", {"max_tokens": 5}, case(RIGHT), "9 tokens"),
    ("longer_than_first", {"ratio": 1.5}, case(RIGHT, "12 again"), "11 tokens, the first turn has 9"),
    ("behaviours", {}, case(RIGHT), "none"),
    ("behaviours", {"required": ["backtracking"]}, case("Let me verify this: 12 / 4 = 3."), "verification"),
    ("behaviours", {"at_least": 2}, case("Let me verify this: 12 / 4 = 3."), "verification"),
    ("one_answer", {}, case(r"The answer is 11. Or \boxed{12}."), "2 answers: 11, 12"),
    ("one_answer", {}, case(r"So \boxed{11} or \boxed{12}"), "2 answers: 11, 12"),
    ("one_answer", {}, case("#### 11\n#### 12"), "2 answers: 11, 12"),
    ("language", {}, case("\u6211\u4eec 12 ok"), "letters"),
    ("working", {}, case("Answer: 12"), "no working: 'Answer: 12'"),
    ("template_leak", {}, case("The prompt says so: 12"), "The prompt says so"),
    ("template_leak", {}, case("12<|im_end|>"), "<|im_end|>"),
    ("template_leak", {}, case("Reason step by step and put the final answer in a box."), "our own words: reason step"),
]
SILENT = [
    ("answered", {}, case(RIGHT)),
    ("answer_correct", {}, case("13", RIGHT, ok=(False, True))),
    ("not_truncated", {}, case(RIGHT, RIGHT)),
    ("trajectory", {}, case("13", RIGHT, ok=(False, True))),
    ("trajectory", {}, case(RIGHT)),
    ("false_arithmetic", {}, case("2x - 3 = 7 and 7 / 3 = 2.33, 3 * 4 = 12 = 6 + 6.")),
    ("repetition", {"n": 3, "times": 3}, case("a b c d e a b c")),
    ("repetition", {"n": 3, "times": 3}, case("a b c d", "a b c d", ok=(True, True))),
    ("template_leak", {}, case("The users share 12 tokens. " + RIGHT)),
    ("template_leak", {"words": 5}, told("Check: Is every step right? Yes.")),
    ("template_leak", {"words": 3}, told("What is 3 * 4? It is 12.")),  # the question may be quoted
    ("template_leak", {"words": 3}, told("right and show")),  # no run crosses from one line to another
    ("template_leak", {}, told("Is every step right? Show each step.")),
    ("length", {"min_tokens": 9, "max_tokens": 9}, case(RIGHT)),
    ("longer_than_first", {"ratio": 2}, case(RIGHT)),
    ("longer_than_first", {"ratio": 2}, case(RIGHT, RIGHT)),
    ("behaviours", {"required": ["verification"]}, case("Let me verify this: 12 / 4 = 3.")),
    ("one_answer", {}, case(r"The answer is 12. So \boxed{12.0}. The answer is correct.")),
    ("one_answer", {}, case("The answer is 11.", RIGHT, ok=(False, True))),
    ("one_answer", {}, case(r"Final answer: $\boxed{12}$ and again \boxed{12.0}")),
    ("language", {}, case("the angle \u03b1 is 12 degrees")),
    ("working", {}, case(RIGHT, "Answer: 12")),
    ("working", {"words": 3}, case("Four rows of eggs make 12")),
]


@pytest.mark.parametrize(("name", "options", "seen", "says"), FIRES)
def test_rule_fires(name, options, seen, says):
    [(_, rule)] = build_rules([{name: options}])
    assert says in (rule(seen) or "silent")


@pytest.mark.parametrize(("name", "options", "seen"), SILENT)
def test_rule_is_silent(name, options, seen):
    [(_, rule)] = build_rules([{name: options} if options else name])
    assert rule(seen) is None


def test_every_rule_is_tried():
    stateful = {"duplicate", "near_duplicate", "per_problem"}
    executed = task_rules.RULES.keys()  # tried in tests/selection
    assert {n for n, *_ in FIRES} | stateful == {n for n, *_ in SILENT} | stateful == RULES.keys() - executed


def test_duplicates_and_cap():
    twins = [case(RIGHT, sample=i) for i in range(3)] + [case("Twelve: 12", sample=3)]
    kept, drops = apply(twins, build_rules(["duplicate"]))
    assert len(kept) == 2 and {d.rule for d in drops} == {"duplicate"} and "same text as p1#" in drops[0].evidence
    many = [case(f"{i} and {RIGHT}", sample=i) for i in range(40)]
    kept, drops = apply(many, build_rules([{"per_problem": {"at_most": 5}}]))
    assert len(kept) == 5 and len(drops) == 35
    early = {*sorted(c.dialogue.id for c in many)[:5]}, {f"p1#{i}" for i in range(5)}
    assert {c.dialogue.id for c in kept} not in early, "the cap must not favour early samples"
    again, _ = apply(many[::-1], build_rules([{"per_problem": {"at_most": 5}}]))
    assert [c.dialogue.id for c in again] == [c.dialogue.id for c in kept], "nor depend on the order of the rows"


def test_near_duplicates_within_a_problem():
    long = "First we take 3 groups of 4 eggs and lay them out in a row, then we count all of them one by one. So 12."
    texts = [long, long.replace("eggs", "nuts"), "3 * 4 = 12 because 4 + 4 + 4 = 12. The answer is 12.", long.upper()]
    cases = [case(t, sample=i) for i, t in enumerate(texts)]
    kept, drops = apply(cases, build_rules([{"near_duplicate": {"threshold": 0.7}}]))
    assert len(kept) == 2 and {d.rule for d in drops} == {"near_duplicate"}
    assert all("similarity" in d.evidence and "to p1#" in d.evidence for d in drops)
    assert len(apply(cases, build_rules([{"near_duplicate": {"threshold": 1.0}}]))[0]) == 3
    other = replace(cases[1], problem=replace(PROBLEM, id="p2"))
    assert len(apply([cases[0], other], build_rules(["near_duplicate"]))[0]) == 2, "another problem's chain"


def test_near_duplicates_are_compared_only_where_their_sizes_allow_it(monkeypatch):
    """The same evidence as of comparing all; a text of another size is not taken apart."""
    lines = [" ".join(f"w{i}" for i in range(n)) for n in (10, 100, 11, 9, 99, 10)]
    cases = [replace(case(t), dialogue=replace(dialogue(t), id=f"a b\n{i}")) for i, t in enumerate(lines)]
    [(_, rule)], said, taken = build_rules([{"near_duplicate": {"threshold": 0.85}}]), [], []
    monkeypatch.setattr("dpr_mini.selection.rules.runs", lambda text: taken.append(len(text)) or runs(text))
    for c in cases:
        said.append(rule(c))
        if said[-1] is None:
            rule.keep(c)
    near = ("similarity 0.89 to a b\n0", "similarity 0.88 to a b\n0", "similarity 0.99 to a b\n1")
    assert said == [None, None, *near, "similarity 1.00 to a b\n0"]
    assert taken == [10, 100, 100, 11, 10, 9, 10, 99, 100, 10, 10], "what is new, and where sizes are alike the old"


MEMORIES = ["duplicate", {"near_duplicate": {"threshold": 0.9}}, {"per_problem": {"at_most": 2}}]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rules_never_changes_what_is_kept(seed):
    """A rule that remembers must not count what another rule drops: first or last, the same cases are kept."""
    import random

    rng = random.Random(seed)
    cases = [
        case(f"Way {rng.randrange(6)}: {rng.choice(['3 * 4 = 12', '3 * 4 = 15'])}. The answer is 12.", sample=i,
             finish=rng.choice(["stop", "length"]), ok=(rng.random() < 0.6,))
        for i in range(40)
    ]  # fmt: skip
    rules = ["answer_correct", "not_truncated", "false_arithmetic", *MEMORIES]
    expected, _ = apply(cases, build_rules(rules))
    assert len(expected) == 2
    for _ in range(10):
        rng.shuffle(rules)
        kept, drops = apply(cases, build_rules(rules))
        assert [c.dialogue.id for c in kept] == [c.dialogue.id for c in expected], rules
        assert len(kept) + len(drops) == len(cases)


def test_what_quota_or_limit_drops_is_not_counted_either():
    texts = [f"Way {i}: 3 * 4 = 12." for i in range(6)]
    cases = [case(t, sample=i) for i, t in enumerate(texts)]
    _, drops = apply(cases, build_rules([{"per_problem": {"at_most": 3}}]), limit=2)
    assert [d.rule for d in drops] == ["limit"] * 4
    _, drops = apply(cases, build_rules(["duplicate"]), quotas={"p1": 1})
    assert [d.rule for d in drops] == ["quota"] * 5


def test_kinds():
    right, wrong = Verdict("correct", "1", ""), Verdict("wrong", "2", "")
    table = {
        "single_right": [right], "never_right": [wrong], "confirmed": [right, right], "corrected": [wrong, right],
        "spoiled": [right, wrong],
    }  # fmt: skip
    assert {k: kind_of(v) for k, v in table.items()} == {k: k for k in table}
    assert kind_of([wrong, right, wrong]) == "never_right"
    assert kind_of([right, wrong, right]) == "confirmed"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (["answer_corect"], "no rule 'answer_corect'; did you mean 'answer_correct'"),
        (["zzz"], "there are: answered"),
        ([{"length": {"min": 3}}], r"length has no option 'min'; valid: min_tokens \(default 0\), max_tokens"),
        ([{"length": {"min_tokens": "3"}}], "length.min_tokens: must be a whole number"),
        ([{"length": {"min_tokens": True}}], "length.min_tokens"),
        ([{"length": {"min_tokens": 9, "max_tokens": 3}}], "min_tokens 9 is more than"),
        ([{"trajectory": {"kinds": ["fixed"]}}], "no kind 'fixed'; there are: single_right"),
        ([{"behaviours": {"required": ["thinking"]}}], "no behaviour 'thinking'"),
        ([{"repetition": {"times": 1}}], "times at least 2"),
        ([{"near_duplicate": {"threshold": 0.0}}], "near_duplicate: threshold must be above 0"),
        ([{"near_duplicate": {"similarity": 0.5}}], r"no option 'similarity'; valid: threshold \(default 0.8\)"),
        ([{"per_problem": {"at_most": 0}}], "per_problem: at_most must be at least 1"),
        ([{"per_problem": {"at_most": "4"}}], "per_problem.at_most: must be a whole number"),
        ([{"duplicate": {"_seen": {}}}], "duplicate has no option '_seen'; valid: none"),
        ([{"template_leak": {"words": -1}}], "words must be 0"),
        ([{"working": {"words": 0}}], "words must be at least 1"),
        ([{"answered": {}, "length": {}}], "one rule an entry"),
    ],
)
def test_wrong_rules_are_one_clear_error(rules, says):
    with pytest.raises(RecipeError, match=says) as error:
        build_rules(rules)
    assert "\n" not in str(error.value)


FALSE = {
    "3 * 4 = 15": "3 * 4 = 15",
    "so 12 = 3 * 4 = 6 + 7.": "3 * 4 = 6 + 7",
    r"$3 \times 4 = 13$": "3 * 4 = 13",
    "6 \u00f7 2 = 4": "6 / 2 = 4",
    "3x4=13": "3*4 = 13",
    "(3 + 4 = 8)": "3 + 4 = 8",
    "2 + 3 * 4 = 20": "2 + 3 * 4 = 20",
    "$5 + $3 = $9 in all": "5 + 3 = 9",
    "1,000 + 500 = 1,600": "1,000 + 500 = 1,600",
    "- 3 + 4 = 8": "3 + 4 = 8",
    "7 / 3 = 2": "7 / 3 = 2",
    "5 / 0 = 0": "5 / 0 = 0",
}
NOT_JUDGED = [
    "2x + 3 = 7", "2x - 3 = 7", "x = 3 + 4", "10% of 20 + 5 = 7", "20 * 10% = 3", "2^3 + 1 = 9", "2 ** 3 = 8",
    "13 / 4 = 3 remainder 1", "f(2 + 3) = 12", "gcd(4, 2 + 4) = 2", r"\frac{1}{2} + 3 = 4", "4 + 5! = 124",
    "3 + 4 >= 5", "Step 1 - 3 + 4 = 7", "twice 3 + 4 = 10", "1. 3 + 4 = 7", "3 + 4 = 8x", "2(3 + 4) = 14",
    "7 / 3 = 2.33", "1/2 + 1/3 = 5/6", "0.1 + 0.2 = 0.3", "a = b = c", "= = =", "1 1/2 + 1 = 2.5", "((((",
    "7 mod 3 = 1",
]  # fmt: skip


def test_false_equations():
    for text, seen in FALSE.items():
        assert [e.replace(" ", "") for e in false_equations(text)] == [seen.replace(" ", "")], text
    for text in NOT_JUDGED:
        assert not list(false_equations(text)), text


def test_false_equations_of_long_text_are_quick():
    import time

    begun = time.process_time()  # other work on the machine does not count
    for text in ("1+" * 50_000 + "= 3", "(" * 100_000 + "= 1", "3 + 4 = 8. " * 10_000, "1 = " * 30_000):
        list(false_equations(text))
    assert time.process_time() - begun < 5


@pytest.fixture
def stage(tmp_path):
    """Six dialogues on two problems, one not graded right anywhere; returns (folder, dialogues, problems)."""
    second = Problem("p2", "test", "What is (x+1)^2?", "(x+1)^2")
    talks = [
        dialogue(RIGHT, "Let me check: 12 / 4 = 3. The answer is 12.", sample=0),
        dialogue("The answer is 13.", RIGHT, sample=1),
        dialogue(RIGHT, "Wait, the answer is 15.", sample=2),
        dialogue("3 * 4 = 14. The answer is 12.", RIGHT, sample=3),
        dialogue(RIGHT, "no", sample=4, finish="length"),
        dialogue(r"\boxed{2x}", r"\boxed{x^2+2x+1}", problem="p2"),
    ]
    for name, rows in (("problems", [PROBLEM, second]), ("talk-a", talks[:3]), ("talk-b", talks[3:])):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "rows.jsonl", [asdict(r) for r in rows])
    (tmp_path / "out").mkdir()
    return tmp_path / "out", [tmp_path / "talk-a", tmp_path / "talk-b"], tmp_path / "problems"


def test_stage_keeps_and_accounts_for_all(stage):
    folder, talks, problems = stage
    config = FilterConfig(rules=("answered", "answer_correct", "not_truncated", "false_arithmetic"))
    metrics = staging.filtering(folder, talks, problems, config, BRIDGES)
    kept, drops = list(read_rows(folder / "rows.jsonl")), list(read_rows(folder / "drops.jsonl"))
    assert [r["id"] for r in kept] == ["p1#0", "p1#1", "p2#0"]
    assert {d["dialogue_id"]: d["rule"] for d in drops} == {
        "p1#2": "answer_correct",
        "p1#3": "false_arithmetic",
        "p1#4": "answer_correct",
    }
    assert [r["kind"] for r in kept] == ["confirmed", "corrected", "corrected"]
    assert set(kept[0]) == {"id", "problem_id", "kind", "verdicts", "behaviours", "dialogue", "attempt"}
    assert [v["status"] for v in kept[2]["verdicts"]] == ["wrong", "correct"]
    assert metrics["dialogues"] == metrics["kept"] + sum(metrics["drops"].values()) == 6
    assert sum(metrics["kinds"].values()) == 6 and sum(metrics["kept_kinds"].values()) == 3
    assert (metrics["acc@t1"], metrics["acc@last"]) == (round(4 / 6, 4), round(4 / 6, 4))
    assert (metrics["wrong_to_right"], metrics["right_to_wrong"], metrics["problems_covered"]) == (2, 2, 2)
    # A bridge is ours: it must not count as the model's behaviour.
    assert kept[1]["behaviours"]["verification"] == 0 and kept[0]["behaviours"]["verification"] == 1
    assert staging.filtering(folder, talks, problems, config, BRIDGES) == metrics


def test_stage_limit_and_quota(stage, tmp_path):
    folder, talks, problems = stage
    metrics = staging.filtering(folder, talks, problems, FilterConfig(rules=("answer_correct",), limit=2), BRIDGES)
    assert metrics["kept"] == 2 and metrics["drops"]["limit"] == 2
    write_rows(tmp_path / "budgets.jsonl", [{"problem_id": "p1", "wanted": 1}, {"problem_id": "p2", "wanted": 3}])
    config = FilterConfig(rules=("answer_correct",))
    metrics = staging.filtering(folder, talks, problems, config, BRIDGES, quotas=tmp_path / "budgets.jsonl")
    assert metrics["kept"] == 2 and metrics["drops"] == {"answer_correct": 2, "quota": 2}
    assert metrics["problems_covered"] == 2


def test_nothing_kept_is_one_line_and_leaves_the_log(stage):
    folder, talks, problems = stage
    with pytest.raises(StoreError) as error:
        staging.filtering(folder, talks, problems, FilterConfig(rules=({"length": {"min_tokens": 999}},)), BRIDGES)
    line = str(error.value)
    assert "none of 6 dialogues" in line and "length 6" in line and "dialogues are kept" in line and "\n" not in line
    assert len(list(read_rows(folder / "drops.jsonl"))) == 6 and not (folder / "rows.jsonl").exists()


def test_a_row_that_is_none_is_one_line_and_nothing_stays_open(stage, monkeypatch):
    folder, talks, problems = stage
    made = staging.all_aside(monkeypatch, filter_stage)
    write_rows(talks[1] / "rows.jsonl", [asdict(dialogue(RIGHT)), {"id": "p1#9"}])
    with pytest.raises(StoreError, match=r"talk-b/rows\.jsonl:2: not a dialogue"):
        staging.filtering(folder, talks, problems, FilterConfig(rules=("answered",)), BRIDGES)
    assert made and all(map(staging.is_closed, made))


def test_evidence_is_bounded():
    _, drops = apply([case("the user " * 200)], build_rules([{"repetition": {"n": 80}}]))
    assert len(drops[0].evidence) == 200


def test_dialogue_without_its_problem_is_an_error():
    with pytest.raises(StoreError, match="problem lost is not among"):
        staging.judge([dialogue(RIGHT, problem="lost")], {"p1": PROBLEM}, BRIDGES)


def test_a_chain_that_reads_as_its_wrong_first_answer_is_dropped(tmp_path):
    """Both turns are graded apart, and so is what training would see of them."""
    talks = [dialogue("The answer is 45. I am sure.", "3 * 4 = 12"), dialogue("45", "The answer is 12.", sample=1)]
    (case_1, case_2) = staging.judge(talks, {"p1": PROBLEM}, BRIDGES)
    assert (case_1.verdicts[-1].ok, case_1.joined.ok, case_1.joined.extracted) == (True, False, "45")
    kept, drops = apply([case_1, case_2], build_rules(["answer_correct"]))
    assert [c.dialogue.id for c in kept] == ["p1#1"] and "reads as '45'" in drops[0].evidence
