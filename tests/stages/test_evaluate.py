"""Evaluation with scripted models: what is asked, graded and counted; killed, resumed and graded again."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import staging
from places import SMOKE_MODEL
from rows import graded as by_hand
from scripted import ScriptedEngine

from dpr_mini import engines, pipeline
from dpr_mini.chat.template import Template
from dpr_mini.commands import eval as evaluation
from dpr_mini.files.rows import StoreError, read_json, read_rows, write_rows
from dpr_mini.grading.grader import Grader
from dpr_mini.recipe import EvaluateConfig, GraderConfig, prompts
from dpr_mini.scoring import graded
from dpr_mini.scoring.card import score, score_all
from dpr_mini.stages import evaluate
from dpr_mini.types import ALL, GREEDY, Dialogue, Problem, Turn, UserError, Verdict

PROBLEMS = [Problem(f"p{i}", "made", f"{i} + {i}?", str(2 * i), ("easy", "hard")[i % 2], "bench") for i in range(6)]
ASKED = EvaluateConfig(samples=3, max_new_tokens=40, template="question")


@pytest.fixture(scope="module")
def template():
    return Template.load(SMOKE_MODEL)


def by_seed(request):
    """A model whose answers depend on the request alone, as those of a real engine do."""
    return f"= {request.seed % 7}"


def ask(folder, template, fn=by_seed, config=ASKED, problems=PROBLEMS):
    with ScriptedEngine(fn, template.tokenizer, window=4) as engine:
        told = staging.answers(folder, problems, engine, template, config, prompts.TEMPLATES, 0)
    return told, engine


def saved(folder):
    return {r["id"]: (r["sample"], r["turns"][0]["text"], r["seed"]) for r in read_rows(folder / "rows.jsonl")}


# ---------------------------------------------------------------- asking


def test_k_samples_and_one_greedy_answer_of_each_problem(tmp_path, template):
    told, engine = ask(tmp_path, template)
    assert told["dialogues"] == 24 and told["failed"] == 0
    assert Counter(r.sampling.temperature for r in engine.seen) == {0.7: 18, 0.0: 6}
    assert len({r.seed for r in engine.seen}) == 24


def test_a_benchmark_can_have_its_own_k_and_more_samples_are_more_of_the_same(tmp_path, template):
    both = [*PROBLEMS, Problem("q0", "made", "9 + 9?", "18", split="aime24")]
    config = EvaluateConfig(samples=1, samples_of={"aime24": 5}, greedy=False, template="question")
    told, _ = ask(tmp_path / "few", template, config=config, problems=both)
    assert told["dialogues"] == 6 + 5
    ask(tmp_path / "many", template)
    few, many = saved(tmp_path / "few"), saved(tmp_path / "many")
    assert {i: few[i] for i in few.keys() & many.keys()} == {f"p{i}#0": many[f"p{i}#0"] for i in range(6)}


def test_a_system_turn_stands_before_the_question(tmp_path, template):
    config = EvaluateConfig(preset="qwen-math", max_new_tokens=40)
    _, engine = ask(tmp_path, template, config=config, problems=PROBLEMS[:1])
    (request,) = engine.seen
    whole = template.render([{"role": "system", "content": config.system}, {"role": "user", "content": "0 + 0?"}])
    assert template.decode(request.ids, special=True) == whole and request.sampling.temperature == 0
    assert template.opening("0 + 0?") == template.opening("0 + 0?", "")


@pytest.mark.parametrize("after", [0, 1, 7, 23])
def test_a_killed_evaluation_resumes_without_doubling_a_sample(tmp_path, template, after):
    """Killed after some answers, with half a line of the next one written."""
    ask(tmp_path / "whole", template)
    given = []

    def killed(request):
        if len(given) == after:
            raise KeyboardInterrupt
        given.append(request.id)
        return by_seed(request)

    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path / "partial", template, fn=killed)
    rows = tmp_path / "partial" / "rows.jsonl"
    kept = saved(tmp_path / "partial")
    with rows.open("a") as file:
        file.write('{"id": "p5#2", "problem_id": "p5", "sam')
    told, engine = ask(tmp_path / "partial", template)
    assert sorted(r.id for r in engine.seen) == sorted(saved(tmp_path / "whole").keys() - kept.keys())
    ids = [json.loads(line)["id"] for line in rows.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == told["dialogues"] == 24
    assert saved(tmp_path / "partial") == saved(tmp_path / "whole")


# ---------------------------------------------------------------- grading and counting


def answer(problem, sample, text, tokens=3, finish="stop"):
    turn = Turn("question", "?", tuple(range(tokens)), text, finish)
    return Dialogue(f"{problem}#{sample}", problem, sample, (turn,), "made", 0)


def cast(problem, texts, gold):
    asked = [Problem(problem, "made", "?", gold, split="bench")]
    answers = graded.grade([answer(problem, i, t) for i, t in enumerate(texts)], asked, {})
    return [a.vote for a in sorted(answers, key=lambda a: a.sample)], score(answers, "bench")


def test_votes_join_what_the_grader_takes_for_the_same():
    texts = [r"\boxed{0.5}", r"\boxed{\frac{1}{2}}", r"\boxed{3}", r"\boxed{3.0}", r"\boxed{3.00}", ""]
    votes, card = cast("p", texts, "1/2")
    assert votes == ["0.5", "0.5", "3", "3", "3", None]
    assert card.maj.mean == 0, "three votes for a wrong number in three spellings outvote two right ones"
    assert card.mean == pytest.approx(2 / 6) and card.pass_at["6"].mean == 1
    assert card.unparsed == pytest.approx(1 / 6, abs=1e-4)


def test_votes_on_formulas_need_the_grader_and_a_tie_is_shared():
    votes, card = cast("p", [r"\boxed{x^2+2x+1}", r"\boxed{(x+1)^2}", r"\boxed{x+1}", r"\boxed{1+x}"], "(x+1)^2")
    assert votes == ["x^2+2x+1", "x^2+2x+1", "x+1", "x+1"] and card.maj.mean == 0.5


def test_what_timed_out_votes_as_it_is_written_and_is_not_tried_again():
    answers = [
        by_hand("p", i, False, verdict=Verdict(status, text, ""))
        for i, (status, text) in enumerate(
            [
                ("timeout", "a"),
                ("timeout", "a"),
                ("wrong", "1"),
                ("wrong", "1.0"),
                ("unparsed", "zzz"),
                ("timeout", "b"),
            ]
        )
    ]
    answers.append(by_hand("p", None, False, verdict=Verdict("wrong", "1", "")))
    tried = []

    class Counting(Grader):
        def grade_many(self, cases):
            cases = list(cases)
            tried.extend(c[0] for c in cases)
            return super().grade_many(cases)

    with Counting() as grader:
        votes = graded.votes(answers, grader)
    assert votes == {"p#0": "a", "p#1": "a", "p#2": "1", "p#3": "1", "p#5": "b"} and tried == [("p", "1", "1.0")]


def test_a_card_counts_by_level_and_subject_by_correctness_and_with_its_spread(tmp_path):
    asked = [
        Problem("a", "made", "?", "1", "1", "bench", "Algebra"),
        Problem("b", "made", "?", "2", "1", "bench", "Geometry"),
        Problem("c", "made", "?", "3", "2", "bench", "Algebra"),
    ]
    given = [answer("a", 0, "= 1", 10), answer("a", 1, "= 1", 20), answer("b", 0, "= 2", 30)]
    given += [answer("b", 1, "= 9", 40, "length"), answer("c", 0, "= 8", 50), answer("c", 1, "= 7", 90)]
    given += [answer(p, GREEDY, f"= {n}", 1) for p, n in (("a", 1), ("b", 2), ("c", 9))]
    card = score(graded.grade(given, asked, {}), "bench")
    assert (card.n, card.k, card.k_most) == (3, 2, 2) and card.mean == pytest.approx(0.5)
    assert card.se == pytest.approx(0.5 / 3**0.5) and card.low <= 0.5 <= card.high
    assert card.greedy == pytest.approx(2 / 3) and card.greedy_estimate.n == 3
    assert {k: v.mean for k, v in card.pass_at.items()} == {"1": pytest.approx(0.5), "2": pytest.approx(2 / 3)}
    assert card.maj.mean == pytest.approx((1 + 0.5 + 0) / 3)
    right, wrong = card.lengths["right"], card.lengths["wrong"]
    assert (right.n, right.mean, right.median, right.p90) == (3, 20, 20, pytest.approx(28))
    assert wrong.mean == 60 and card.truncated == pytest.approx(1 / 6, abs=1e-4)
    assert {k: (v.n, v.mean) for k, v in card.by_level.items()} == {"1": (2, 0.75), "2": (1, 0)}
    assert {k: (v.n, v.mean) for k, v in card.by_subject.items()} == {"Algebra": (2, 0.5), "Geometry": (1, 0.5)}
    assert card.by_level["1"].tokens_mean == 25 and card.by_subject["Geometry"].tokens_mean == 35
    assert all(of.low <= of.mean <= of.high for of in card.by_level.values())


def test_without_greedy_answers_nothing_is_said_of_them():
    _, card = cast("p", ["= 1"], "1")
    assert card.greedy is None and card.greedy_estimate is None and card.pass_at.keys() == {"1"}


def test_several_benchmarks_with_different_k_have_no_common_pass_at_k():
    asked = [Problem("a", "made", "?", "1", "easy", "x"), Problem("b", "made", "?", "2", "hard", "y")]
    given = [answer("a", 0, "= 1"), answer("b", 0, "= 2"), answer("b", 1, "= 3")]
    cards = score_all(graded.grade(given, asked, {}), ["y", "x"])
    assert list(cards) == ["y", "x", ALL], "in the recipe's order"
    both = cards[ALL]
    assert (both.k, both.k_most, both.pass_at, both.maj, both.by_level) == (1, 2, None, None, {})
    assert (both.mean, cards["x"].mean, cards["y"].mean) == (0.75, 1, 0.5)
    assert cards["x"].by_level.keys() == {"easy"} and cards["y"].by_level.keys() == {"hard"}


def test_timeouts_are_counted_among_greedy_answers_too():
    late = Verdict("timeout", "x", "")
    card = score([by_hand("a", 0, False, verdict=late), by_hand("a", 1, True), by_hand("a", None, False, verdict=late)])
    assert card.timeouts == 2 and card.unparsed == 0 and card.mean == 0.5


def test_one_benchmark_has_no_card_over_all():
    answers = graded.grade([answer("a", 0, "= 1")], [Problem("a", "made", "?", "1", split="x")], {})
    assert list(score_all(answers, ["x"])) == ["x"]


def test_an_answer_that_is_none_is_one_line_with_file_and_line(tmp_path, template):
    """As an older version, or a hand, may have left it: `rows.jsonl` itself is whole JSON."""
    ask(tmp_path / "asked", template)
    path = tmp_path / "asked" / "rows.jsonl"
    rows = list(read_rows(path))
    del rows[1]["turns"]
    write_rows(path, rows)
    with pytest.raises(StoreError, match=r"asked/rows\.jsonl:2: not a row of this kind .*'turns'") as error:
        staging.cards(tmp_path / "cards", tmp_path / "asked", PROBLEMS, {}, GraderConfig())
    assert "\n" not in str(error.value)


def test_answers_to_other_problems_are_refused(tmp_path, template):
    ask(tmp_path, template)
    with pytest.raises(StoreError, match=r"rows.jsonl: 1 problems are not held out here: p5"):
        staging.cards(tmp_path, tmp_path, PROBLEMS[:5], {}, GraderConfig())


# ---------------------------------------------------------------- the command


@pytest.fixture
def scored(tmp_path, monkeypatch, capsys):
    """run(*overrides, **options) -> what `eval` printed; `run.asked` counts the requests that any engine saw."""
    (tmp_path / "bench.jsonl").write_text(
        "".join(
            json.dumps({"problem": p.text, "answer": p.answer, "level": p.level, "subject": "sums"}) + "\n"
            for p in PROBLEMS
        )
    )
    model = tmp_path / "model"
    shutil.copytree(SMOKE_MODEL, model, ignore=shutil.ignore_patterns("*.gguf"))
    opened = []

    def open_engine(kind, folder, **options):
        opened.append(ScriptedEngine(by_seed, Template.load(folder).tokenizer))
        return opened[-1]

    monkeypatch.setattr(engines, "open_engine", open_engine)

    def run(*overrides, **options):
        before = sum(len(e.seen) for e in opened)
        evaluation.evaluate(
            str(model), [str(tmp_path / "bench.jsonl")], tmp_path / "runs", overrides=overrides, **options
        )
        run.asked = sum(len(e.seen) for e in opened) - before
        return capsys.readouterr().out

    run.root = tmp_path / "runs"
    return run


def test_grading_again_with_another_setting_asks_nothing(scored, monkeypatch):
    first = scored(samples=2)
    assert scored.asked == 6 * 3 and "eval-0-answers: running" in first
    again = scored(samples=2)
    assert scored.asked == 0 and "running" not in again and again.splitlines() == first.splitlines()[3:]
    stricter = scored("evaluate.grader.timeout_s=2", samples=2)
    assert scored.asked == 0 and "[3/3] eval-0: running" in stricter and "answers: running" not in stricter
    assert [x for x in stricter.splitlines() if "pass@1" in x] == [x for x in first.splitlines() if "pass@1" in x]
    later = replace(evaluate.CARDS, version=evaluate.CARDS.version + 1)  # another grader
    monkeypatch.setattr(pipeline, "CARDS", later)
    scored(samples=2)
    assert scored.asked == 0
    folders = [f.name for f in next(scored.root.iterdir()).glob("eval-0-????????")]
    assert len(folders) == 3, "each grading is kept beside the others"
    scored(samples=3)
    assert scored.asked == 6 * 4, "more samples are other answers"


def test_every_printed_score_has_n_k_and_an_interval(scored):
    told = scored(samples=4).splitlines()
    assert "bench: n=6, k=4, T=0.7, top-p 0.95, at most 1024 tokens, preset ours" in told
    for name in ("pass@1", "maj@4", "pass@4", "greedy, k=1"):
        assert any(line.startswith(f"  {name} ") and "[" in line for line in told), name
    levels = [line for line in told if line.startswith("  level")]
    assert len(levels) == 2 and all("n=3, k=4" in line and "[" in line for line in levels)
    assert any(line.startswith("  subject sums: n=6, k=4") for line in told)


def test_a_preset_on_the_command_line_and_what_wins_over_it(scored):
    assert "k=1, T=0, top-p 1, at most 2048 tokens, preset qwen-math" in scored(preset="qwen-math")
    told = scored(preset="long-cot", samples=2, max_new_tokens=64)
    assert "k=2, T=0.6, top-p 0.95, at most 64 tokens, preset long-cot" in told


def test_the_manifests_say_what_was_asked_and_how_it_was_graded(scored):
    scored(samples=1, preset="qwen-math")
    root = next(scored.root.iterdir())
    asked = read_json(next(root.glob("eval-0-answers-*")) / "stage.json")
    graded = read_json(next(root.glob("eval-0-????????")) / "stage.json")
    assert asked["config"]["system"] and "grader" not in asked["config"] and asked["metrics"]["dialogues"] == 6
    assert graded["inputs"]["answers"].startswith("eval-0-answers-")
    assert graded["config"]["grader"] == {"timeout_s": 5.0, "memory_mib": 2048}
    assert graded["metrics"]["grader"] == {"timeout": 0, "crashed": 0}


def test_closed_forms_are_a_setting_of_the_grading_alone(scored, monkeypatch):
    seen = []

    class Seen(graded.Grader):
        def __init__(self, **options):
            super().__init__(**options)
            seen.append(self.closed_forms)

    monkeypatch.setattr(graded, "Grader", Seen)
    scored(samples=1, grader={"closed_forms": "refuse"})
    scored("evaluate.grader.closed_forms=refuse", samples=1)
    told = scored(samples=1, grader={"closed_forms": "accept"})
    assert seen == ["refuse", "accept"], "its default is what a recipe has that does not say it"
    assert scored.asked == 0 and "eval-0: running" in told
    with pytest.raises(UserError, match=r"evaluate.grader.closed_forms: .*'refuse' or 'accept'"):
        scored(samples=1, grader={"closed_forms": "perhaps"})
