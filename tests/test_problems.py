"""Problems: every source in one form, nothing held out is trained on, bad rows are named."""

import gzip
import json

import pytest

from dpr_mini.recipe import Problems
from dpr_mini.recipe import load as load_recipe
from dpr_mini.stages.problems import ProblemError, bare, identity, run
from dpr_mini.store import StoreError, read_rows
from dpr_mini.types import UserError


def rows(path, *items):
    path.write_text("".join(json.dumps(i) + "\n" for i in items))
    return {"file": path.name}


def item(text, answer="1", **more):
    return {"problem": text, "answer": answer, **more}


def load(tmp_path, train, settings=None, **held_out):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    told = run(out, Problems(train=train, held_out=held_out, **(settings or {})), tmp_path)
    return told, list(read_rows(out / "rows.jsonl")), list(read_rows(out / "drops.jsonl"))


def test_train_and_held_out_never_overlap(tmp_path):
    train = rows(tmp_path / "t.jsonl", item("What is 1 + 1?"), item("what is\n 1 + 1? "), item("Two?"), item("Three?"))
    held = rows(tmp_path / "h.jsonl", item("WHAT IS 1 + 1?"), item("Three?"))
    told, kept, drops = load(tmp_path, [train], bench=[held])
    assert [(r["text"], r["split"]) for r in kept] == [
        ("WHAT IS 1 + 1?", "bench"), ("Three?", "bench"), ("Two?", "train")
    ]  # fmt: skip
    assert [d["rule"] for d in drops] == ["held_out"] * 3
    assert told["splits"] == {"bench": 2, "train": 1} and told["dropped"] == {"held_out": 3}


LONG = "A baker fills 4 trays with 18 rolls each, burns half a tray, and packs what is left in bags of nine."
CLOSE = LONG.replace("bags of nine", "boxes of six") + " How many boxes?"
FAR = "A miller grinds 4 sacks of rye, burns half a tray, and packs what is left in bags of nine, which he then sells."


def test_a_training_problem_that_shares_half_of_a_held_out_one_is_dropped(tmp_path):
    train = rows(tmp_path / "t.jsonl", item(CLOSE), item(FAR), item(LONG.upper()), item("Two?"))
    held = rows(tmp_path / "h.jsonl", item(LONG), item("Three?"))
    told, kept, drops = load(tmp_path, [train], bench=[held])
    assert [r["text"] for r in kept if r["split"] == "train"] == [FAR, "Two?"]
    assert {d["dialogue_id"]: d["rule"] for d in drops} == {
        identity(CLOSE): "decontaminated", identity(LONG): "held_out"
    }  # fmt: skip
    evidence = next(d["evidence"] for d in drops if d["rule"] == "decontaminated")
    assert "70% of the 13-grams of bench" in evidence and identity(LONG) in evidence and "A baker" in evidence
    assert told["dropped"] == {"decontaminated": 1, "held_out": 1}


def test_decontamination_is_the_recipes_choice(tmp_path):
    train, held = rows(tmp_path / "t.jsonl", item(CLOSE)), rows(tmp_path / "h.jsonl", item(LONG))
    for settings in ({"decontaminate": None}, {"decontaminate": {"share": 0.9}}, {"decontaminate": {"ngram": 19}}):
        assert load(tmp_path, [train], settings, bench=[held])[0]["splits"]["train"] == 1, settings
    with pytest.raises(StoreError, match=r"1 dropped.*\(decontaminated 1\).*problems\.decontaminate to null"):
        load(tmp_path, [train], bench=[held])


def test_short_sums_are_told_apart_by_their_operator(tmp_path):
    train = rows(tmp_path / "t.jsonl", item("What is 3 + 4?"), item("What is 4 * 3?"))
    _, kept, drops = load(tmp_path, [train], bench=[rows(tmp_path / "h.jsonl", item("What is 3 * 4?"))])
    assert len(kept) == 3 and not drops


def test_near_duplicates_are_dropped_on_request(tmp_path):
    train = rows(tmp_path / "t.jsonl", item(LONG), item(LONG.replace("nine", "seven")), item(FAR))
    held = rows(tmp_path / "h.jsonl", item("Two?"), item("Two ?"))
    assert load(tmp_path, [train], bench=[held])[0]["splits"] == {"bench": 2, "train": 3}
    told, kept, drops = load(tmp_path, [train], {"near_duplicates": 0.8}, bench=[held])
    assert told["splits"] == {"bench": 2, "train": 2}, "a benchmark stays whole"
    assert [d["rule"] for d in drops] == ["near_duplicate"] and f"train {identity(LONG)}" in drops[0]["evidence"]
    assert [r["text"] for r in kept if r["split"] == "train"] == [LONG, FAR]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("problems: {decontaminate: {shares: 1}, train: [{file: a}]}", "'problems.decontaminate.shares'.*'share'"),
        ("problems: {decontaminate: {share: 0}, train: [{file: a}]}", "problems.decontaminate.share: .*greater than 0"),
        ("problems: {near_duplicates: 2, train: [{file: a}]}", "problems.near_duplicates: .*less than or equal to 1"),
        ("problems: {decontaminate: yes, train: [{file: a}]}", "problems.decontaminate: "),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    (tmp_path / "r.yaml").write_text(f"name: r\n{settings}\n")
    with pytest.raises(UserError, match=r"r\.yaml:2: .*" + message):
        load_recipe(tmp_path / "r.yaml")
    made = load_recipe(tmp_path / "r.yaml", ["problems.decontaminate=null", "problems.near_duplicates=0.9"])
    assert made.problems.decontaminate is None and made.problems.near_duplicates == 0.9


def test_repeated_problems_are_dropped_once(tmp_path):
    _, kept, drops = load(tmp_path, [rows(tmp_path / "t.jsonl", item("A?"), item("a?"), item("B?"))])
    assert len(kept) == 2 and [d["rule"] for d in drops] == ["duplicate"]
    assert identity("A? ") == identity("a?") == kept[0]["id"]


def test_count_takes_distinct_problems(tmp_path):
    source = rows(tmp_path / "t.jsonl", item("A?"), item("A?"), item("B?"), item("C?"))
    _, kept, _ = load(tmp_path, [{**source, "count": 2}])
    assert [r["text"] for r in kept] == ["A?", "B?"]


def test_gzip_parquet_and_other_columns(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    import pyarrow

    with gzip.open(tmp_path / "t.jsonl.gz", "wt") as file:
        file.write(json.dumps({"question": "Zip?", "gold": 4}) + "\n")
    pq.write_table(pyarrow.table({"problem": ["Par?"], "answer": ["5"], "level": [3]}), tmp_path / "t.parquet")
    columns = {"text": "question", "answer": "gold"}
    _, kept, _ = load(tmp_path, [{"file": "t.jsonl.gz", "columns": columns}, {"file": "t.parquet"}])
    assert [(r["text"], r["answer"], r["level"]) for r in kept] == [("Zip?", "4", ""), ("Par?", "5", "3")]


def test_hub_data_sets_are_read_through_datasets(tmp_path):
    """A data set folder on disk is loaded by the same call that a hub name takes; no network."""
    pytest.importorskip("datasets", reason="datasets is an extra")
    (tmp_path / "set").mkdir()
    rows(tmp_path / "set" / "train.jsonl", item("Hub?", "9"))
    _, kept, _ = load(tmp_path, [{"hub": str(tmp_path / "set")}])
    assert [(r["text"], r["answer"]) for r in kept] == [("Hub?", "9")]


def test_generated_problems_are_worded_seeded_and_apart_from_held_out(tmp_path):
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is an extra")
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    source = {"generate": "products", "options": options, "wording": "What is {expression}?", "level": "easy"}
    told, kept, _ = load(tmp_path, [{**source, "count": 200, "seed": 1}], bench=[{**source, "count": 30, "seed": 2}])
    assert told["splits"]["bench"] == 30
    assert told["splits"]["train"] == 70, "there are 100 products of two digits; 30 are held out"
    assert told["short_of"] == {"train/products-easy": [70, 200]}
    assert len({r["text"] for r in kept}) == 100
    for row in kept:
        left, right = row["text"].removeprefix("What is ").removesuffix("?").split(" * ")
        assert int(left) * int(right) == int(row["answer"]) and row["level"] == "easy"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("She sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "72"),
        ("So $x = \\frac{1}{2}$, that is $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("3 \\text{ and } 4", "3 \\text{ and } 4"),
        ("025", "025"),
    ],
)
def test_a_solution_as_answer_gives_its_final_answer(answer, gold):
    assert bare(answer) == gold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "a", "answer": "1"}\n{"problem": \n', r"t\.jsonl:2: not JSON"),
        ('{"problem": "a", "answer": "1"}\n\n{"problem": "b"}\n', r"t\.jsonl:3: no 'answer' \(the row has: problem\)"),
        ('{"question": "a", "answer": "1"}\n', r"t\.jsonl:1: no 'problem'.*'columns'"),
        ('["a"]\n', r"t\.jsonl:1: a row must be a JSON object, not list"),
        ('{"problem": "  ", "answer": "1"}\n', r"t\.jsonl:1: no 'problem'"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, text, message):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, [{"file": "t.jsonl"}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"file": "none.jsonl"}, r"none\.jsonl: no such file"),
        ({"generate": "chain_sums", "count": 1}, "chain_sums"),
        ({"generate": "chain_sum", "count": 1, "options": {"digits": 3}}, "chain_sum.*digits"),
        ({"generate": "chain_sum", "count": 1, "wording": "{expresion}"}, r"no \{expresion\}.*expression"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(tmp_path, source, message):
    with pytest.raises(ProblemError, match=message):
        load(tmp_path, [source])


def test_an_empty_problem_set_is_refused(tmp_path):
    held = rows(tmp_path / "h.jsonl", item("A?"))
    with pytest.raises(StoreError, match=r"nothing left in 'train': 1 dropped as repeated or held out"):
        load(tmp_path, [rows(tmp_path / "t.jsonl", item("A?"))], bench=[held])
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(StoreError, match="nothing left in 'train'"):
        load(tmp_path, [{"file": "e.jsonl"}])
