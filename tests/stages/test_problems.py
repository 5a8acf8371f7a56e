"""Problems: every source in one form, nothing held out is trained on, bad rows are named."""

import gzip
import json
from itertools import pairwise

import pytest
import staging
from places import ROOT

from dpr_mini import tasks
from dpr_mini.files.rows import StoreError, read_rows
from dpr_mini.recipe import ProblemsConfig, RecipeError, parse
from dpr_mini.recipe import load as load_recipe
from dpr_mini.stages.problems import PROBLEMS, ProblemsSettings, identity
from dpr_mini.store import Work
from dpr_mini.types import Executed, Problem, UserError, bare, from_row


def rows(path, *items):
    path.write_text("".join(json.dumps(i) + "\n" for i in items))
    return {"file": path.name}


def item(text, answer="1", **more):
    return {"problem": text, "answer": answer, **more}


def load(tmp_path, train, settings=None, scale=1.0, **held_out):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    told = staging.problems(
        out, ProblemsConfig(train=train, held_out=held_out, **(settings or {})), tmp_path, scale=scale
    )
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
        ("problems: {decontaminate: {share: 0}, train: [{file: a}]}", "problems.decontaminate.share: must be above 0"),
        ("problems: {near_duplicates: 2, train: [{file: a}]}", "problems.near_duplicates: must be at most 1"),
        ("problems: {decontaminate: 5, train: [{file: a}]}", "problems.decontaminate: "),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    (tmp_path / "r.yaml").write_text(f"name: r\n{settings}\n")
    with pytest.raises(UserError, match=r"r\.yaml:2: .*" + message):
        load_recipe(tmp_path / "r.yaml")
    made = load_recipe(tmp_path / "r.yaml", ["problems.decontaminate=null", "problems.near_duplicates=0.9"])
    assert made.problems.decontaminate is None and made.problems.near_duplicates == 0.9


def test_benchmarks_that_share_problems_stay_whole_in_any_order(tmp_path):
    """Each has what it has alone; the ids, too, do not depend on the order; nothing of either is trained on."""
    a = rows(tmp_path / "a.jsonl", item("One?"), item("Two?", level="a"), item("Three?"))
    b = rows(tmp_path / "b.jsonl", item("two?", "2", level="b"), item("Four?"), item("THREE?"), item("two?"))
    train = rows(tmp_path / "t.jsonl", *map(item, ("TWO?", "Four?", "Five?")))
    kept = {}
    for names in (("a", "b"), ("b", "a")):
        told, found, _ = load(tmp_path, [train], **{n: [{"a": a, "b": b}[n]] for n in names})
        assert told["splits"] == {"a": 3, "b": 3, "train": 1} and told["dropped"] == {"duplicate": 1, "held_out": 2}
        kept[names] = {n: [r for r in found if r["split"] == n] for n in "ab"}
        assert [r["split"] for r in found] == [n for n in names for _ in range(3)] + ["train"]
    assert kept["a", "b"] == kept["b", "a"]
    assert [r["text"] for r in kept["a", "b"]["b"]] == ["two?", "Four?", "THREE?"]
    ids = [r["id"] for of in kept["a", "b"].values() for r in of]
    assert len(set(ids)) == 6 and [i for i in ids if "@" in i] == [f"{identity(t)}@b" for t in ("two?", "three?")]
    assert [bare(i) for i in ids] == [identity(t) for t in ("one?", "two?", "three?", "two?", "four?", "three?")]
    assert bare(f"{identity('x')}@my set#-1") == f"{identity('x')}#-1"
    _, alone, _ = load(tmp_path, [train], b=[b])
    assert [{**r, "id": bare(r["id"])} for r in kept["a", "b"]["b"]] == alone[:3]


def test_problems_that_differ_in_the_case_of_a_variable_are_two(tmp_path):
    texts = ["Let $X=3$, $x=5$. Find $X$.", "Let $X=3$, $x=5$. Find $x$.", "let $X=3$, $x=5$.  Find $x$."]
    held = rows(tmp_path / "h.jsonl", *map(item, [*texts, texts[1]]))
    told, kept, _ = load(tmp_path, [rows(tmp_path / "t.jsonl", item("Two?"), item(texts[1].upper()))], bench=[held])
    assert [r["text"] for r in kept] == [*texts, "Two?"] and told["dropped"] == {"duplicate": 1, "held_out": 1}
    assert kept[0]["id"] == identity(texts[0]) and len({r["id"] for r in kept}) == 4
    assert all(r["id"].startswith(identity(texts[0])) for r in kept[:3])
    _, kept, drops = load(
        tmp_path, [rows(tmp_path / "t.jsonl", *map(item, texts), item(r"Is \(N\)?"), item(r"is \(n\)?"))]
    )
    assert [r["text"] for r in kept] == [*texts[:2], r"Is \(N\)?", r"is \(n\)?"], "words are folded, formulas are not"
    assert [d["rule"] for d in drops] == ["duplicate"]


def test_verls_layout_and_messages_are_read(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    import pyarrow

    def row(text, gold):
        return {
            "data_source": "openai/gsm8k",
            "prompt": [{"content": text, "role": "user"}],
            "ability": "math",
            "reward_model": {"ground_truth": gold, "style": "rule"},
            "extra_info": {"index": 0, "question": text.split(" Let's")[0], "split": "train"},
        }

    made = [row("What is 2 + 3? Let's think.", "5"), row("What is 2 * 3? Let's think.", "6")]
    pq.write_table(pyarrow.Table.from_pylist(made), tmp_path / "t.parquet")
    want = [("What is 2 + 3? Let's think.", "5"), ("What is 2 * 3? Let's think.", "6")]
    for source in ({"file": "t.parquet"}, rows(tmp_path / "t.jsonl", *made)):
        assert [(r["text"], r["answer"]) for r in load(tmp_path, [source])[1]] == want
    columns = {"text": "extra_info.question", "answer": "reward_model.ground_truth"}
    _, kept, _ = load(tmp_path, [{"file": "t.parquet", "columns": columns}])
    assert [(r["text"], r["answer"]) for r in kept] == [("What is 2 + 3?", "5"), ("What is 2 * 3?", "6")]
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two?"}]
    assert load(tmp_path, [rows(tmp_path / "m.jsonl", item(talk, 2))])[1][0]["text"] == "Two?"
    bad = {**made[0], "reward_model": {"ground_truth": None, "style": "rule"}}
    with pytest.raises(UserError, match=r"b\.jsonl:2: no 'problem' \(the row has: data_source, prompt"):
        load(tmp_path, [rows(tmp_path / "b.jsonl", made[0], bad)])
    empty = {**made[0], "reward_model": {"ground_truth": " ", "style": "rule"}}
    with pytest.raises(UserError, match=r"c\.jsonl:1: no 'reward_model\.ground_truth' .*; it is empty: fill it"):
        load(tmp_path, [rows(tmp_path / "c.jsonl", empty)])


def test_a_file_without_rows_is_named(tmp_path, capsys):
    (tmp_path / "e.jsonl").write_text("")
    load(tmp_path, [{"file": "e.jsonl"}, rows(tmp_path / "t.jsonl", item("One?"))])
    assert "problems: e.jsonl has no rows" in capsys.readouterr().out


def test_repeated_problems_are_dropped_once(tmp_path):
    _, kept, drops = load(tmp_path, [rows(tmp_path / "t.jsonl", item("A?"), item("a?"), item("B?"))])
    assert len(kept) == 2 and [d["rule"] for d in drops] == ["duplicate"]
    assert identity("A? ") == identity("a?") == kept[0]["id"]


def test_count_takes_distinct_problems(tmp_path):
    source = rows(tmp_path / "t.jsonl", item("A?"), item("A?"), item("B?"), item("C?"))
    _, kept, _ = load(tmp_path, [{**source, "count": 2}])
    assert [r["text"] for r in kept] == ["A?", "B?"]


def test_scale_takes_its_share_of_a_source_without_a_count(tmp_path, capsys):
    source = rows(tmp_path / "t.jsonl", *(item(f"Number {n}?", subject="ab"[n > 3]) for n in range(8)))
    told, kept, drops = load(tmp_path, [source], scale=0.5)
    assert told["splits"] == {"train": 4} and told["share_of"] == {"train/t": [4, 8]} and not drops
    assert "4 of the 8 of train/t, chosen by hash (scale 0.5)" in capsys.readouterr().out
    texts = [r["text"] for r in kept]
    assert texts == sorted(texts) != [f"Number {n}?" for n in range(4)], "in the file's order, but not its first half"
    assert len(load(tmp_path, [source], scale=0.01)[1]) == 1, "at least one"
    told, kept, _ = load(tmp_path, [source])
    assert len(kept) == 8 and "share_of" not in told


def test_a_larger_scale_holds_the_problems_of_a_smaller_one(tmp_path):
    """Also where problems repeat each other across sources, so that which one is dropped could depend on the choice."""
    one = rows(tmp_path / "a.jsonl", *(item(f"{LONG} Case {n}.") for n in range(20)), *map(item, "ABCDEFGHIJ"))
    two = rows(tmp_path / "b.jsonl", *map(item, "abcdefghijklmnop"), item(f"{LONG} Case 30."))
    taken = {}
    for scale in (0.1, 0.3, 0.5, 0.8, 1):
        told, kept, _ = load(tmp_path, [one, two], {"near_duplicates": 0.8}, scale=scale)
        taken[scale] = {r["id"] for r in kept}
        assert told["sources"] == {"train/a": max(1, round(11 * scale)), "train/b": max(1, round(6 * scale))}
    sets = list(taken.values())
    assert all(a < b for a, b in pairwise(sets))
    other = load(tmp_path, [{**one, "seed": 1}, two], {"near_duplicates": 0.8}, scale=0.5)[1]
    assert {r["id"] for r in other} != taken[0.5], "the source's seed chooses"


def test_scale_leaves_benchmarks_and_counts_as_they_are(tmp_path):
    train = rows(tmp_path / "t.jsonl", *(item(f"Number {n}?") for n in range(8)))
    held = rows(tmp_path / "h.jsonl", *(item(f"Held {n}?") for n in range(6)))
    told, kept, _ = load(tmp_path, [{**train, "count": 3}], scale=0.5, bench=[held])
    assert told["splits"] == {"bench": 6, "train": 3}, "run's counts are final"
    assert [r["text"] for r in kept if r["split"] == "train"] == [f"Number {n}?" for n in range(3)]


def test_rows_as_the_hub_has_them_keep_subject_level_and_final_answer(tmp_path):
    """Made up, in the columns of MATH-lighteval, GSM8K, MATH-500 and AIME, read as recipes/qwen7b.yaml does."""
    solution = "Half of $8$ is $4$. So the answer is $\\boxed{\\dfrac{4}{1}}$."
    known = {s.hub: s for s in load_recipe(ROOT / "recipes" / "qwen7b.yaml").problems.train}
    known |= {
        f"{s.hub} test": s for g in load_recipe(ROOT / "recipes" / "qwen7b.yaml").problems.held_out.values() for s in g
    }
    made = {
        "DigitalLearningGmbH/MATH-lighteval": {
            "problem": "What is half of $8$?", "level": "Level 5", "type": "Prealgebra", "solution": solution},
        "openai/gsm8k": {"question": "Ann has 2 pens and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
        "HuggingFaceH4/MATH-500 test": {
            "problem": "What is $2^3$?", "solution": "$\\boxed{8}$", "answer": "8", "subject": "Algebra", "level": 2,
            "unique_id": "test/algebra/1.json"},
        "HuggingFaceH4/aime_2024 test": {
            "id": 60, "problem": "Find $m+n$.", "solution": "$\\boxed{025}$", "answer": "025", "url": "",
            "year": "2024"},
    }  # fmt: skip
    files = {name: {"file": rows(tmp_path / f"{n}.jsonl", row)["file"], "columns": known[name].columns.model_dump()}
             for n, (name, row) in enumerate(made.items())}  # fmt: skip
    train, held = [[files[n] for n in made if n.endswith(" test") is test] for test in (False, True)]
    _, kept, _ = load(tmp_path, train, bench=held)
    assert [(r["answer"], r["level"], r["subject"]) for r in kept] == [
        ("8", "2", "Algebra"), ("025", "", ""), ("\\dfrac{4}{1}", "Level 5", "Prealgebra"), ("5", "", "")
    ]  # fmt: skip


def test_gzip_parquet_and_other_columns(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    import pyarrow

    with gzip.open(tmp_path / "t.jsonl.gz", "wt") as file:
        file.write(json.dumps({"question": "Zip?", "gold": 4}) + "\n")
    pq.write_table(pyarrow.table({"problem": ["Par?"], "answer": ["5"], "level": [3]}), tmp_path / "t.parquet")
    columns = {"text": "question", "answer": "gold"}
    _, kept, _ = load(tmp_path, [{"file": "t.jsonl.gz", "columns": columns}, {"file": "t.parquet"}])
    assert [(r["text"], r["answer"], r["level"]) for r in kept] == [("Zip?", "4", ""), ("Par?", "5", "3")]


def test_golds_levels_and_subjects_are_what_the_file_says(tmp_path):
    train = tmp_path / "t.jsonl"
    train.write_text(
        '{"problem": "a", "answer": ["40"], "level": 0, "subject": null}\n'
        '{"problem": "b", "answer": 0.00002, "level": NaN, "subject": "sums"}\n'
        '{"problem": "c", "answer": 7.50, "level": 2.0}\n'
        '{"problem": "d", "answer": "So 6,100 it is.\\n#### 6,100"}\n'
    )
    _, kept, _ = load(tmp_path, [{"file": "t.jsonl"}])
    assert [(r["answer"], r["level"], r["subject"]) for r in kept] == [
        ("40", "0", ""), ("0.00002", "", "sums"), ("7.50", "2.0", ""), ("6,100", "", "")
    ]  # fmt: skip


def test_parquet_floats_are_decimals_of_their_own_width(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    import pyarrow

    narrow = pyarrow.array([0.1, 0.00003, None], pyarrow.float32())
    table = pyarrow.table({"problem": ["a", "b", "c"], "answer": [1e-7, 2.5, 1e20], "level": narrow})
    pq.write_table(table, tmp_path / "t.parquet")
    _, kept, _ = load(tmp_path, [{"file": "t.parquet"}])
    assert [(r["answer"], r["level"]) for r in kept] == [
        ("0.0000001", "0.1"), ("2.5", "0.00003"), ("100000000000000000000", "")
    ]  # fmt: skip
    pq.write_table(pyarrow.table({"problem": ["a"], "answer": [float("nan")]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: row 1: answer must be a string or a number, got NaN"):
        load(tmp_path, [{"file": "t.parquet"}])


def test_hub_data_sets_are_read_through_datasets(tmp_path, monkeypatch):
    """A data set folder on disk is loaded by the same call that a hub name takes; no network."""
    pytest.importorskip("datasets", reason="datasets is an extra")
    (tmp_path / "set").mkdir()
    rows(tmp_path / "set" / "train.jsonl", item("Hub?", "9"))
    monkeypatch.chdir(tmp_path)
    _, kept, _ = load(tmp_path, [{"hub": "set"}])
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
    ("text", "message"),
    [
        ('{"problem": "a", "answer": "1"}\n{"problem": \n', r"t\.jsonl:2: not JSON"),
        ('{"problem": "a", "answer": "1"}\n\n{"problem": "b"}\n', r"t\.jsonl:3: no 'answer' \(the row has: problem\)"),
        ('{"question": "a", "answer": "1"}\n', r"t\.jsonl:1: no 'problem'.*'columns'"),
        ('["a"]\n', r"t\.jsonl:1: a row must be a JSON object, not list"),
        ('{"problem": "  ", "answer": "1"}\n', r"t\.jsonl:1: no 'problem'"),
        ('{"problem": null, "answer": "1"}\n', r"t\.jsonl:1: no 'problem'"),
        (
            '{"problem": [{"content": "Two?"}], "answer": "1"}\n',
            r"t\.jsonl:1: problem must be .* got a list of 1",
        ),
        (
            '{"problem": [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "1"}], "answer": "1"}\n',
            r"t\.jsonl:1: problem must be one message of a user, got user, assistant",
        ),
        (
            '{"problem": [{"role": "user", "content": ["2?"]}], "answer": "1"}\n',
            r"1: problem: content must be a string",
        ),
        ('{"problem": "a", "answer": "1"}\n{"problem": "b", "answer": null}\n', r"t\.jsonl:2: .*it is empty: fill it"),
        ('{"problem": 12, "answer": "1"}\n', r"t\.jsonl:1: problem must be a string, got a number"),
        ('{"problem": "half \\ud801", "answer": "1"}\n', r"t\.jsonl:1: problem has half of a surrogate pair"),
        ('{"problem": "a", "answer": ""}\n', r"t\.jsonl:1: no 'answer'"),
        ('{"problem": "a", "answer": ["1", "2"]}\n', r"t\.jsonl:1: answer must be .* got a list of 2"),
        ('{"problem": "a", "answer": false}\n', r"t\.jsonl:1: answer must be .* got false"),
        ('{"problem": "a", "answer": NaN}\n', r"t\.jsonl:1: answer must be .* got NaN"),
        ('{"problem": "a", "answer": "1", "level": {"of": 3}}\n', r"t\.jsonl:1: level must be .* got an object"),
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
    with pytest.raises(UserError, match=message):
        load(tmp_path, [source])


def test_an_empty_problem_set_is_refused(tmp_path):
    held = rows(tmp_path / "h.jsonl", item("A?"))
    with pytest.raises(StoreError, match=r"nothing left in 'train': 1 dropped as repeated or held out"):
        load(tmp_path, [rows(tmp_path / "t.jsonl", item("A?"))], bench=[held])
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(StoreError, match="nothing left in 'train'"):
        load(tmp_path, [{"file": "e.jsonl"}])


# ---------------------------------------------------------------- tasks


def tasks_of(tmp_path, run, **train):
    source = {"task": "countdown", "part": "train", "count": 40, "seed": "run"} | train
    held_out = {"numbers": [{"task": "countdown", "part": "test", "count": 30}]}
    sections = {"name": "t", "seed": run, "problems": {"train": [source], "held_out": held_out}}
    settings = ProblemsSettings.of(parse(sections, "t"), tmp_path)
    folder = tmp_path / f"{run}-{len(train)}"
    folder.mkdir()
    metrics = PROBLEMS.run(Work("problems", folder, settings, {}, None))
    return [from_row(Problem, row) for row in read_rows(folder / "rows.jsonl")], metrics, settings


def test_training_problems_are_drawn_anew_for_each_seed_and_held_out_ones_are_not(tmp_path):
    one, metrics, settings = tasks_of(tmp_path, 0)
    other, _, other_settings = tasks_of(tmp_path, 1)
    again, _, _ = tasks_of(tmp_path, 2, seed=7)
    fixed, _, _ = tasks_of(tmp_path, 3, seed=7)
    assert settings.key() != other_settings.key()
    by = [{split: [p.id for p in of if p.split == split] for split in ("train", "numbers")} for of in (one, other)]
    assert by[0]["numbers"] == by[1]["numbers"] and len(by[0]["numbers"]) == 30
    assert set(by[0]["train"]) != set(by[1]["train"])
    assert [p.id for p in again] == [p.id for p in fixed]
    assert metrics["splits"] == {"numbers": 30, "train": 40}


def test_a_tasks_problem_is_graded_by_its_statement_and_twins_have_one_id(tmp_path):
    problems, _, _ = tasks_of(tmp_path, 0, wording="Make {text}")
    for p in problems:
        assert p.verifier == "countdown" and p.text == ("Make " if p.split == "train" else "") + p.statement
        assert p.gold == Executed(p.verifier, p.statement)
        assert tasks.grade(p.gold, f"Answer: {p.answer}").ok
    numbers = {frozenset(p.statement.split(" = ")[0].split()) for p in problems if p.split == "train"}
    assert not numbers & {frozenset(p.statement.split(" = ")[0].split()) for p in problems if p.split == "numbers"}
    whole, _, _ = tasks_of(tmp_path, 9, part=None, count=4000)
    assert len({p.id for p in whole}) == len(whole) == 3076


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"task": "countdwn", "count": 3}, "did you mean 'countdown'"),
        ({"task": "countdown"}, "needs a count"),
        ({"task": "countdown", "count": 3, "part": "tset"}, "no part 'tset'"),
        ({"task": "sums", "count": 3, "options": {"digit": 2}}, "no option 'digit'"),
        ({"task": "sums", "count": 3, "options": {"digits": "two"}}, "digits"),
        ({"generate": "chain_sum", "count": 3, "part": "test"}, "part is for a task"),
    ],
)
def test_wrong_tasks_are_named(source, message):
    with pytest.raises(RecipeError, match=message):
        parse({"name": "t", "problems": {"train": [source]}}, "t")


def test_held_out_problems_are_the_same_for_every_seed():
    held_out = {"n": [{"task": "countdown", "part": "test", "count": 3, "seed": "run"}]}
    with pytest.raises(RecipeError, match="the same for every seed"):
        parse({"name": "t", "phases": [], "problems": {"held_out": held_out}}, "t")
