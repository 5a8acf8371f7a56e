"""The planner: fits or not, what would, and that what it says is so when it is done. No network, no torch, no GPU."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from dpr_mini.commands import plan as plan_command
from dpr_mini.machine import gpus
from dpr_mini.models.folder import ModelError
from dpr_mini.models.shapes import SHAPES
from dpr_mini.pipeline import build
from dpr_mini.planning import assumed, capacity, forecast, ladder
from dpr_mini.planning import plan as planner
from dpr_mini.planning.capacity import GIB, Card, Training
from dpr_mini.planning.memory import Job
from dpr_mini.recipe import Recipe, TrainConfig, load, parse
from dpr_mini.runs import RunError
from dpr_mini.sampling import budgets

RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
GPU_RECIPES = [path for path in RECIPES if load(path).needs.gpu_gib]
PROBLEMS = {"train": [{"generate": "chain_sum", "count": 10}]}


@pytest.fixture(autouse=True)
def no_gpu_here(monkeypatch):
    monkeypatch.setattr(gpus, "visible", lambda: [])


def recipe(**sections) -> Recipe:
    return parse({"name": "test", "problems": PROBLEMS, "model": {"name": "Qwen/Qwen2.5-7B"}, **sections}, "test")


def planned(asked: Recipe, gib: float | None, folder: Path | None = None) -> planner.Plan:
    return planner.Plan(asked, planner.pick_card(asked, gib), ROOT, folder)


def text(asked: Recipe, gib: float | None = 80) -> str:
    return "\n".join(planned(asked, gib).lines({}))


def plan(capsys, tmp_path, path: Path, gpu: str | None, *overrides: str) -> str:
    """Standard output of the command; raises what it fails with."""
    plan_command.plan(path, overrides, tmp_path, gpu)
    return capsys.readouterr().out


# --- recipes of the project -------------------------------------------------------------------------------------------


PLANS = """\
import contextlib, io, json, sys, time
from dpr_mini import cli
for arguments in json.loads(sys.argv[1]):
    begun, said, code = time.process_time(), io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.app(arguments)
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, said.getvalue(), begun, time.process_time()]), flush=True)
"""


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> dict[Path, tuple[int, str, float]]:
    """The command on every recipe, without a network: exit code, what it said, seconds of the processor.

    One process does them all; what its start and its first plan took is added to each, as if it were alone.
    """
    folder = tmp_path_factory.mktemp("plans")
    nowhere = {f"{name}_PROXY": "http://127.0.0.1:9" for name in ("HTTP", "HTTPS", "ALL")}
    env = {**os.environ, **nowhere, "HF_HOME": str(folder), "DPR_MINI_CACHE": str(folder / "cache")}

    def arguments(path: Path) -> list[str]:
        needs = load(path).needs.gpu_gib
        return ["plan", str(path), "--runs", str(folder / "runs"), *(["--gpu", f"{needs}GiB"] if needs else [])]

    commands = [arguments(path) for path in (RECIPES[0], *RECIPES)]
    done = subprocess.run(
        [sys.executable, "-c", PLANS, json.dumps(commands)], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    (_, _, _, start), *rows = map(json.loads, done.stdout.splitlines())
    return {p: (code, said, start + end - begun) for p, (code, said, begun, end) in zip(RECIPES, rows, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_plans_offline_in_three_seconds(path, plans):
    code, said, seconds = plans[path]
    assert code == 0, said
    trains = bool(load(path).phases)
    assert ("longest row" if trains else "nothing is trained") in said
    # of the processor, not of the clock: other work on the machine makes the clock say anything
    assert seconds < 4


def expectation(out: str) -> str:
    """The sentence on tokens and hours that a header should have, from what the command prints."""
    (card,) = re.findall(r"assumed, not measured: (.+?) \(", out)
    lines = {w: re.findall(rf"^  {w}.*", out, re.MULTILINE)[0] for w in ("generated", "trained", "all, with")}
    tokens = [re.findall(r"([\d.]+) M tokens", lines[w]) for w in ("generated", "trained")]
    most, mean = re.findall(r"[\d.]+ (?:h|min)", lines["all, with"])[1:]
    (made, drawn), (fed, trained) = tokens
    return (
        f"Expected, at rates assumed for the {card}: {drawn} M tokens generated, {trained} M trained, {mean}; "
        f"at most {made} M, {fed} M and {most}."
    )


@pytest.mark.parametrize("path", GPU_RECIPES, ids=lambda p: p.stem)
def test_header_says_what_plan_says(path, capsys, tmp_path):
    """Planned memory, tokens and hours in the recipe's header are what the command prints; every source is pinned."""
    header = " ".join(line.removeprefix("#").strip() for line in path.read_text().split("\nname:")[0].splitlines())
    (stated,) = re.findall(r"training takes ([\d.]+) GiB of the card", header)
    asked = load(path)
    out = plan(capsys, tmp_path, path, f"{asked.needs.gpu_gib}GiB")
    (shown,) = re.findall(r"^  sum +([\d.]+)   of", out, re.MULTILINE)
    assert stated == shown
    assert expectation(out) in header
    assert "Not run yet" in header or "Measured" in header
    sources = [*asked.problems.train, *(s for group in asked.problems.held_out.values() for s in group)]
    assert asked.model.revision and all(s.revision for s in sources)
    assert asked.engine.kind == "sglang" and asked.engine.window is None
    small = asked.needs.gpu_gib < 40
    assert (asked.engine.arguments.get("attention_backend") == "triton") is small


def test_gpu_recipes():
    names = {"qwen7b", "qwen7b-24gb", "qwen1.5b-24gb", "qwen1.5b-12gb", "qwen0.5b-gsm8k"}
    twins = {"qwen7b-rejection", "qwen0.5b-gsm8k-rejection"}
    assert {p.stem for p in GPU_RECIPES} == names | twins
    full = load(ROOT / "recipes" / "qwen7b.yaml")
    assert full.train.mode == "full" and full.pack.tokens_per_row >= 32768
    assert load(ROOT / "recipes" / "qwen7b-24gb.yaml").train.mode == "qlora"
    assert planned(load(ROOT / "recipes" / "qwen0.5b-gsm8k.yaml"), 8).lack() == ""


def test_what_qwen7b_asks_and_how_much_of_it_at_a_quarter(capsys, tmp_path):
    """1,319 x 5 + 500 x 5 + 30 x 65 answers an evaluation at any scale; 7,473 + 7,500 problems to train on, or 1/4."""
    path = ROOT / "recipes" / "qwen7b.yaml"

    def answers(out: str) -> dict[str, int]:
        return {s: int(n) for s, n in re.findall(r"^  (\S+) +(\d+) (?:answers|samples)", out, re.MULTILINE)}

    whole = plan(capsys, tmp_path, path, "80GiB")
    quarter = plan(capsys, tmp_path, path, "80GiB", "scale=0.25")
    scored = {f"eval-{n}-answers": 11_045 for n in (0, 1, 2)}
    trained = {"dialogue-1": 8, "train-1": 2, "probe-2": 8, "sample-2": 24, "train-2": 8}
    assert answers(whole) == scored | {stage: n * (7473 + 7500) for stage, n in trained.items()}
    assert answers(quarter) == scored | {stage: n * (1868 + 1875) for stage, n in trained.items()}
    assert "scale" not in whole and "scale=0.25: so much of the training problems, chosen by hash" in quarter
    assert "whole all the same, so that scores compare: gsm8k, math500, aime24" in quarter
    (hours,) = re.findall(r"^  all, with .*? ([\d.]+) h$", quarter, re.MULTILINE)
    assert 2 < float(hours) < 4, "what the header calls about three hours"


# --- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in GPU_RECIPES if "rejection" not in p.stem], ids=lambda p: p.stem)
@pytest.mark.parametrize("gib", [8, 12, 24, 48])
def test_what_is_suggested_fits_when_it_is_done(path, gib, capsys, tmp_path):
    """Each printed set of overrides, pasted behind the command, makes it succeed."""
    with suppress(RunError):
        plan_command.plan(path, [], tmp_path, f"{gib}GiB")
    out = capsys.readouterr().out
    sets = [line[9:].split() for line in out.splitlines() if re.match(r"(fits|or) +\S+=", line)]
    for overrides in sets:
        after = plan(capsys, tmp_path, path, f"{gib}GiB", *overrides)
        (total,) = re.findall(r"^  sum +([\d.]+)   of", after, re.MULTILINE)
        assert float(total) <= gib
    before = planned(load(path), gib)
    if not before.engine.fits:
        assert not sets, "a smaller card for the engine: no switch of the training helps"
    elif gib >= 12:
        assert bool(sets) == bool(before.lack())


def test_it_fails_in_one_line_that_names_the_fix(capsys, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nmodel: {name: Qwen/Qwen2.5-1.5B}\nengine: {kind: sglang}\npack: {tokens_per_row: 16384}\n"
        "train: {weights: bfloat16}\nproblems: {train: [{generate: chain_sum, count: 1}]}\n"
    )
    with pytest.raises(RunError) as failed:
        plan_command.plan(path, [], tmp_path, "24GiB")
    line = str(failed.value)
    assert "\n" not in line and "does not fit 24.0 GiB: training needs" in line
    assert line.endswith("the nearest that does: train.gradient_checkpointing=true")
    assert "fits     train.gradient_checkpointing=true" in capsys.readouterr().out
    assert plan(capsys, tmp_path, path, "24GiB", "train.gradient_checkpointing=true")


def test_where_nothing_helps_it_says_what_would(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nmodel: {name: Qwen/Qwen2.5-7B}\nengine: {kind: sglang}\ntrain: {mode: qlora}\n"
        "problems: {train: [{generate: chain_sum, count: 1}]}\n"
    )
    with pytest.raises(RunError, match=r"no switch helps: take a smaller model, or engine\.urls"):
        plan_command.plan(path, [], tmp_path, "8GiB")


def test_train_2_of_its_own_is_mended_too(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nmodel: {name: Qwen/Qwen2.5-7B}\nengine: {kind: sglang}\npack: {tokens_per_row: 4096}\n"
        "train: {mode: full, rows_per_step: 2}\ntrain_2: {mode: full, rows_per_step: 4}\n"
        "problems: {train: [{generate: chain_sum, count: 1}]}\n"
    )
    with pytest.raises(RunError):
        plan_command.plan(path, [], tmp_path, "24GiB")
    out = capsys.readouterr().out
    (fix,) = re.findall(r"^fits +(.*)$", out, re.MULTILINE)
    assert "train.mode=" in fix and "train_2.mode=" in fix
    assert "train  " in plan(capsys, tmp_path, path, "24GiB", *fix.split())


@pytest.mark.slow
@given(
    st.sampled_from(["qwen2.5-0.5b", "qwen2.5-7b", "llama-3.2-3b"]),
    st.sampled_from([2048, 16384, 65536]),
    st.integers(6, 90),
    st.sampled_from(
        [
            {},
            {"weights": "bfloat16"},
            {"mode": "lora"},
            {"backend": "liger"},
            {"gradient_checkpointing": True, "rows_per_step": 4},
        ]
    ),
)
@settings(max_examples=40, deadline=None)
def test_the_nearest_is_the_cheapest_that_fits(name, tokens, gib, keys):
    training = Training("train", Job(SHAPES[name], TrainConfig(**keys), tokens))
    found = ladder.fixes([training], gib * GIB)
    costs = [m.cost for m in found if m.tokens is None]
    assert costs == sorted(costs)
    for fix in found:
        train = ladder.apply(training.job.train, fix.changes)
        job = replace(training.job, train=train, tokens=fix.tokens or tokens)
        assert Training("train", job).total <= gib * GIB
    assert len({repr(m) for m in found}) == len(found)
    cheaper = [ch for cost, ch in ladder.combinations(tokens) if not costs or cost < costs[0]]
    for changes in cheaper:
        if train := ladder.apply(training.job.train, changes):
            assert Training("train", replace(training.job, train=train)).total > gib * GIB


def test_the_ladder_prefers_what_only_takes_time():
    costs = {tuple(sorted(changes)): cost for cost, changes in reversed(ladder.combinations(32768))}
    time_only = costs["gradient_checkpointing", "offload_checkpoints", "tiled_mlp"]
    assert time_only < ladder.RESULT <= costs[("optimiser",)] < costs[("weights",)]
    assert costs["gradient_checkpointing", "offload_checkpoints", "optimiser", "tiled_mlp", "weights"] < ladder.SHORTER


@given(st.sampled_from(sorted(SHAPES)), st.floats(2, 200))
@settings(max_examples=40, deadline=None)
def test_the_longest_row_is_the_longest(name, gib):
    training = Training("train", Job(SHAPES[name], TrainConfig(mode="lora", gradient_checkpointing=True), 4096))
    longest = training.longest_row(gib * GIB)

    def total(tokens):
        return Training("train", replace(training.job, tokens=tokens)).total

    assert longest == 0 or total(longest) <= gib * GIB
    assert longest == capacity.MOST or total(longest + capacity.STEP) > gib * GIB


# --- card, engine, host, disk -----------------------------------------------------------------------------------------


def test_which_card_is_planned_for(monkeypatch):
    asks, plain = recipe(needs={"gpu_gib": 79}), recipe()
    assert planner.pick_card(asks, 24) == Card(24 * GIB, "")
    assert planner.pick_card(asks, None) == Card(79 * GIB, "")
    assert not planner.pick_card(plain, None).gpu and planner.pick_card(plain, None).name.startswith("cpu ")
    card = gpus.Gpu("GPU-1", "NVIDIA H100 80GB HBM3", 79.6, 79.0, "580.1", "9.0")
    monkeypatch.setattr(gpus, "visible", lambda: [card])
    assert planner.pick_card(plain, None) == Card(79.6 * GIB, "NVIDIA H100 80GB HBM3")


def test_a_cpu_recipe_plans_its_host_memory():
    told = text(recipe(model={"name": "smollm2-135m-instruct"}), None)
    assert "of this machine's memory" in told and "assumed: Python and torch" in told and "engine   openvino" in told
    assert "host " not in told


def test_the_engines_cache():
    """Qwen2.5-7B: 2 x 28 layers x 4 heads x 128 x 2 bytes = 57344 bytes a token."""
    asked = recipe(engine={"kind": "sglang", "arguments": {"mem-fraction-static": 0.5}}, phases=1)
    engine = planned(asked, 80).engine
    assert engine.token == 57344 and engine.room == 40 * GIB and engine.weights == 2 * 7_615_616_512
    assert engine.conversation == 512 + 128 + 2 * 512
    assert engine.at_once == int((40 * GIB - engine.weights) / (57344 * 1664))
    assert planned(recipe(engine={"kind": "sglang"}), 16).lack().startswith("does not fit 16.0 GiB")
    assert "its memory is its own" in text(recipe(engine={"kind": "sglang", "urls": "http://127.0.0.1:1"}))


def test_fewer_requests_where_the_hf_engine_does_not_fit():
    asked = recipe(engine={"kind": "hf", "window": 512}, train={"mode": "qlora", "gradient_checkpointing": True})
    first = planned(asked, 24)
    assert first.worst.total < first.card.bytes and "the engine needs" in first.lack()
    (fix,) = first.fixes(lambda more: asked)
    window = int(fix.removeprefix("engine.window="))
    assert not planned(recipe(**{**asked_sections(asked), "engine": {"kind": "hf", "window": window}}), 24).lack()
    assert planned(recipe(**{**asked_sections(asked), "engine": {"kind": "hf", "window": window + 1}}), 24).lack()


def asked_sections(asked: Recipe) -> dict:
    return {"train": asked.train.model_dump(exclude_defaults=True)}


@pytest.mark.slow
def test_windows_are_the_engines_defaults():
    from dpr_mini.engines.hf import HfEngine
    from dpr_mini.engines.openvino import OpenVinoEngine

    engines = {"hf": HfEngine, "openvino": OpenVinoEngine}
    for kind, engine in engines.items():
        assert inspect.signature(engine).parameters["window"].default == capacity.WINDOWS[kind]
    cache = inspect.signature(OpenVinoEngine).parameters["cache_gib"].default
    assert cache * GIB == capacity.OPENVINO_CACHE


@pytest.mark.parametrize(
    ("gib", "more"), [(80, {}), (40, {}), (20, {}), (80, {"max_running_requests": 200}), (None, {})]
)
def test_the_window_planned_for_sglang_is_the_one_its_engine_takes_of_such_a_server(gib, more):
    """From the cache that is planned and the requests that SGLang decodes together, 2048 where the recipe says none."""
    from dpr_mini.engines.sglang.wire import Info

    (engine,) = [planned(recipe(engine={"kind": "sglang", "arguments": more}), gib).engine]
    pool = 65536 if gib is None else int(engine.cache / engine.token)
    told = {"max_total_num_tokens": pool, "max_running_requests": more.get("max_running_requests")}
    told["internal_states"] = [{"effective_max_running_requests_per_dp": 2048}]
    assert engine.window == Info.read(told).window
    assert engine.window == {(80, 0): 492, (80, 1): 200}.get((gib, len(more)), engine.window)
    named = planned(recipe(engine={"kind": "sglang", "window": 7, "arguments": more}), gib).engine
    assert named.window == 7


def test_host_and_disk():
    keys = {"gradient_checkpointing": True, "offload_checkpoints": True, "mode": "lora"}
    asked = recipe(train=keys, pack={"tokens_per_row": 131072})
    (training,) = planned(asked, 80).trainings
    assert training.job.host() == 28 * 1024 * 2**20, "131072 x 3584 x 2 bytes, rounded up to a power of two"
    assert training.host() == training.job.host() + capacity.PROCESS[True]
    told = text(asked)
    assert "checkpoints 28.0" in told
    parts = capacity.disk(asked, SHAPES["qwen2.5-7b"], [training], 1000, True)
    assert parts["base model"] == 2 * 7_615_616_512 and parts["trained models"] == 4 * 7_615_616_512
    adapters = 64 * 28 * sum(i + o for i, o in SHAPES["qwen2.5-7b"].linears().values())
    assert parts["checkpoints, two while one is replaced"] == 2 * (4 + 8) * adapters


# --- models -----------------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_said_and_does_not_fail(capsys, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nmodel: {name: somebody/else}\nproblems: {train: [{generate: chain_sum, count: 1}]}\n")
    (line,) = [x for x in plan(capsys, tmp_path, path, "24GiB").splitlines() if x.startswith("memory")]
    assert "not planned: no shape is known for somebody/else; known are a folder" in line and "qwen2.5-7b" in line


def test_a_folder_says_its_shape(tmp_path):
    folder = ROOT / "recipes" / "smoke-model"
    plan = planned(recipe(model={"name": "smoke-model"}), None, folder)
    assert plan.shape.hidden == json.loads((folder / "config.json").read_text())["hidden_size"]
    assert "smoke-model" not in "\n".join(plan.lines({}))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"config\.json: vocab_size is missing"):
        planner.find_shape("x", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json:1: not JSON"):
        planner.find_shape("x", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert planner.find_shape("x", tmp_path) is None


# --- tokens and hours -------------------------------------------------------------------------------------------------


def test_tokens_are_bounds(tmp_path):
    (tmp_path / "held.jsonl").write_text('{"problem": "1"}\n\n{"problem": "2"}\n')
    asked = recipe(
        problems={"train": [{"hub": "openai/gsm8k"}], "held_out": {"held": [{"file": "held.jsonl"}]}},
        dialogue={"samples": 4, "max_new_tokens": 100},
        filter={"rules": ["answered", {"per_problem": {"at_most": 2}}]},
        probe={"samples": 8, "max_new_tokens": 1000},
        sample={"quota": 3, "max_tries": 32},
        evaluate={"samples": 4, "max_new_tokens": 10},
        train={"epochs": 2},
    )
    work = {w.stage: w for w in forecast.work(asked, tmp_path)}
    assert (work["eval-0-answers"].items, work["eval-0-answers"].tokens) == (10, 100)
    assert (work["dialogue-1"].items, work["dialogue-1"].tokens) == (7473 * 8, 7473 * 800)
    assert (work["train-1"].items, work["train-1"].tokens) == (7473 * 2, 2 * 7473 * 2 * (200 + capacity.PROMPT))
    assert work["probe-2"].items == 7473 * 8 and work["sample-2"].items == 7473 * 24
    assert work["train-2"].items == 7473 * 2, "filter_2 has filter's rule"
    unknown = recipe(problems={"train": [{"hub": "somebody/else"}]})
    assert forecast.work(unknown, tmp_path) is None
    assert "not known before the problems are read" in text(unknown)
    assert forecast.work(recipe(problems={"train": [{"hub": "somebody/else", "count": 10}]}), tmp_path)


def measured(folder: Path, monkeypatch, **files) -> None:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(forecast.results, "__defaults__", (folder,))


def test_hours_only_from_rates_of_the_same_card(tmp_path, monkeypatch):
    rows = [
        {"model": "qwen2.5-7b", "train": {"mode": "lora"}, "tokens": t, "status": "ok", "tokens_per_s": r}
        for t, r in ((8192, 5000.0), (32768, 4000.0))
    ]
    rows += [{**rows[0], "train": {}, "tokens_per_s": 1.0}, {**rows[0], "status": "oom"}]
    rows += [{**rows[0], "model": "qwen2.5-1.5b", "tokens_per_s": 2.0}]
    drawn = {"machine": {"gpu": "H100"}, "model": "Qwen2.5-7B"}
    measured(
        tmp_path,
        monkeypatch,
        train={"conditions": {"device": "H100"}, "rows": rows},
        generate={
            "conditions": drawn,
            "dialogues": [{"engine": f"sglang {v}", "tokens_per_s": r} for v, r in ((1, 10.0), (2, 30.0), (3, 20.0))],
        },
        odd=[1, 2],
    )
    asked = recipe(train={"mode": "lora"}, engine={"kind": "sglang"}, pack={"tokens_per_row": 30000})
    stages = {"train-1": "train-1-00000000", "dialogue-1": "dialogue-1-00000000"}

    def lines(name):
        return "\n".join(planner.Plan(asked, Card(80 * GIB, name), ROOT, None).tokens(stages))

    assert "at 4000 tokens/s as measured" in lines("H100") and "at 20 tokens/s as measured" in lines("H100")
    assert "no measured rate" not in lines("H100")
    for other in ("H200", ""):
        assert "measured\n" not in lines(other) and lines(other).count("tokens/s assumed") == 2
        assert "assumed, not measured: " + (other or "H100") in lines(other)
    assert "assumed" not in lines("H100")


def test_rates_are_assumed_from_the_cards_data_sheet():
    """By hand. Training: 6.53e9 weights in layers x 8 FLOP, attention 28 x 3584 x 915 x 8, head 545e6 x 6 x 0.85."""
    seven = planned(load(ROOT / "recipes" / "qwen7b.yaml"), 80)
    card = assumed.spec(seven.card)
    assert card.name == "H100"
    flop = 28 * 233_046_016 * 8 + 28 * 3584 * 915 * 8 + 152064 * 3584 * 6 * (1 - 135 / 915)
    assert assumed.training_rate(seven.trainings[0].job, 915, card) == pytest.approx(0.59 * 989e12 / flop)
    # a decoding step: 15.2 GB of weights and 256 conversations of (135 + 915) / 2 tokens at half of 3.35 TB/s, and 4 ms
    step = 0.004 + (2 * 7_615_616_512 + 256 * 525 * 57344) / (0.5 * 3.35e12)
    assert assumed.generation_rate(seven.engine, 915, card) == pytest.approx(256 / step)
    # 24 GB: the cache holds fewer than that
    small = planned(load(ROOT / "recipes" / "qwen7b-24gb.yaml"), 24)
    rows, card = small.engine.cache / 57344 / 915, assumed.spec(small.card)
    assert card.name == "RTX 4090" and 50 < rows < 256
    step = 0.004 + (2 * 7_615_616_512 + rows * 525 * 57344) / (0.5 * 1.008e12)
    assert assumed.generation_rate(small.engine, 915, card) == pytest.approx(rows / step)
    lora = replace(seven.trainings[0].job, train=TrainConfig(mode="lora"))
    assert assumed.training_rate(lora, 915, card) > 1.2 * assumed.training_rate(seven.trainings[0].job, 915, card)


@pytest.mark.parametrize(
    ("size", "name", "taken"),
    [
        (80, "NVIDIA A100-SXM4-80GB", "A100"), (79.6, "NVIDIA H100 80GB HBM3", "H100"), (139, "NVIDIA H200", "H200"),
        (24, "NVIDIA GeForce RTX 4090", "RTX 4090"), (7.6, "", "RTX 4060"), (11.5, "", "RTX 4070"),
        (22, "", "RTX 4090"), (15.7, "Unheard-of", "RTX 4080"), (44.5, "", "L40S"), (79, "", "H100"), (141, "", "H200"),
    ],
)  # fmt: skip
def test_which_data_sheet_is_taken(size, name, taken):
    assert assumed.spec(Card(size * GIB, name)).name == taken


def test_nothing_is_assumed_of_a_cpu_of_other_data_or_of_another_machine():
    on_cpu = "\n".join(planner.Plan(recipe(), Card(None, "cpu Fast"), ROOT, None).tokens({"dialogue-1": ""}))
    assert "assumed" not in on_cpu and "tokens/s" not in on_cpu and "expected" not in on_cpu
    other = "\n".join(planned(recipe(), 80).tokens({"dialogue-1": ""}))
    assert "tokens/s assumed" in other and "expected" not in other, "no length is known for a generator's answers"
    urls = recipe(engine={"kind": "sglang", "urls": "http://127.0.0.1:1"})
    away = "\n".join(planned(urls, 80).tokens({"dialogue-1": ""}))
    assert "no measured rate for this card" in away and "assumed" not in away
    sections = {"problems": {"train": [{"hub": "openai/gsm8k"}]}, "sample": {"budget": 100}}
    assert not any(w.expected for w in forecast.work(recipe(**sections), ROOT)), "the probe alone costs more"


def test_expected_tokens_by_hand(tmp_path):
    """GSM8K alone: 300 tokens an answer, 135 a question, two turns, so 600 once phase 1 has taught that."""
    asked = recipe(
        problems={"train": [{"hub": "openai/gsm8k", "count": 100}], "held_out": {"g": [{"hub": "openai/gsm8k"}]}},
        dialogue={"samples": 4, "max_new_tokens": 512},
        filter={"rules": ["answered", {"per_problem": {"at_most": 2}}]},
        probe={"samples": 8, "max_new_tokens": 700},
        sample={"quota": 8, "max_tries": 32},
        evaluate={"samples": 4, "max_new_tokens": 500},
        train={"epochs": 2},
    )
    likely = {w.stage: w.expected for w in forecast.work(asked, tmp_path)}
    assert (likely["dialogue-1"].items, likely["dialogue-1"].tokens, likely["dialogue-1"].length) == (800, 240_000, 735)
    assert likely["eval-0-answers"].tokens == 7473 * 5 * 300
    assert likely["eval-1-answers"].tokens == 7473 * 5 * 500, "the limit"
    kept = sum(
        share * sum(min(k, 2) * math.comb(4, k) * (0.89 * p) ** k * (1 - 0.89 * p) ** (4 - k) for k in range(5))
        for p, share in budgets.ASSUMED.items()
    )
    assert likely["train-1"].items == pytest.approx(kept)
    assert likely["train-1"].tokens == pytest.approx(kept * 2 * 735) and likely["train-1"].labelled < kept * 2 * 735
    assert (likely["probe-2"].items, likely["probe-2"].tokens) == (800, 800 * 600)
    assert likely["sample-2"].tokens == likely["sample-2"].items * 700, "1.4 x 600 is over the limit"
    for w in forecast.work(asked, tmp_path):
        assert w.expected.items <= w.items and w.expected.tokens <= w.tokens


@pytest.mark.parametrize("name", ["qwen7b", "qwen0.5b-gsm8k"])
def test_the_rejection_twin_shares_the_store_and_has_equal_tokens(name):
    """Its problems and eval-0 are the other run's; sampled tokens within 3 % by assumed lengths, trained ones equal."""
    path, twin = ROOT / "recipes" / f"{name}.yaml", ROOT / "recipes" / f"{name}-rejection.yaml"
    both, plain = load(path), load(twin)
    assert plain.folder == both.folder == plain.like.name == name and plain.dialogue.turns == (("solve",),)
    first, second = ({n: s.key for n, s in build(r, path.parent).items()} for r in (both, plain))
    assert [n for n in second if second[n] == first.get(n)] == ["problems", "eval-0-answers", "eval-0"]
    work, own = ({w.stage: w.expected for w in forecast.work(r, path.parent)} for r in (both, plain))
    drawn = sum(work[stage].tokens for stage in ("dialogue-1", "probe-2", "sample-2"))
    assert own["dialogue-1"].tokens == pytest.approx(drawn, rel=0.03)
    assert own["train-1"].labelled == work["train-1"].labelled + work["train-2"].labelled
    assert load(twin, ["scale=0.25"]).like.scale == 0.25


def test_a_stage_that_was_measured_is_told_by_its_seconds(tmp_path, monkeypatch):
    run = {
        "conditions": {"machine": ["cpu Fast, cores 2, system Linux"]},
        "stages": {"train_1": "train-1-aaaaaaaa", "eval_1": "eval-1-bbbbbbbb"},
        "seconds": {"train_1": 5400.0, "eval_1": 59.0},
    }
    measured(tmp_path, monkeypatch, run=run)
    stages = {"train-1": "train-1-aaaaaaaa", "dialogue-1": "dialogue-1-aaaaaaaa"}
    known = forecast.same_stage(stages, Card(None, "cpu Fast, cores 2"), forecast.results(tmp_path))
    assert known == {"train-1": 5400.0}
    told = planner.Plan(recipe(), Card(None, "cpu Fast, cores 2"), ROOT, None).tokens(stages)
    assert any("train-1" in line and "took 1.5 h on such a machine" in line for line in told)
    assert "for the others no measured rate for this machine" in told[-1]
    assert not forecast.same_stage(stages, Card(None, "cpu Slow, cores 2"), forecast.results(tmp_path))


def test_published_sizes_are_those_of_the_data():
    """Where the files of the data sets lie beside the checkout."""
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no data sets beside this checkout")
    for file, key in (
        ("eval_gsm8k.jsonl", ("openai/gsm8k", "test")),
        ("eval_math500.jsonl", ("HuggingFaceH4/MATH-500", "test")),
        ("eval_aime24.jsonl", ("HuggingFaceH4/aime_2024", "train")),
    ):
        assert sum(1 for x in (data / file).open() if x.strip()) == forecast.PUBLISHED[key]


def test_planted_attempts_checks_and_test_sets_are_counted():
    """Each stage that asks has a line: 10 dev and 30 test problems, 4 of them sums; a redraw asks nothing itself."""
    tasks = {"task": "countdown", "part": "dev"}
    asked = recipe(
        problems={
            "train": [{"task": "countdown", "part": "train", "count": 5}],
            "dev": {"d": [{**tasks, "count": 6}, {"task": "sums", "part": "dev", "count": 4}]},
            "test": {"t": [{**tasks, "part": "test", "count": 30}]},
        },
        phases=[],
        evaluate={
            "samples": 12,
            "greedy": False,
            "max_new_tokens": 50,
            "planted": {"right": 2, "wrong": 1},
            "redraw": {"samples": 3, "at_most": 4},
        },
    )
    work = {w.stage: (w.items, w.tokens) for w in forecast.work(asked, ROOT)}
    assert work == {
        "eval-0-answers": (120, 6000),
        "eval-0-planted": (30, 1500),
        "eval-0-checks": (90, 4500),
    }
    both = {w.stage: (w.items, w.tokens) for w in forecast.work(asked, ROOT, test=True)}
    assert both == work | {
        "eval-0-test-answers": (360, 18000),
        "eval-0-test-planted": (90, 4500),
        "eval-0-test-checks": (270, 13500),
    }
    asks = {name for name in build(asked, ROOT, test=True) if name.endswith(("-answers", "-planted", "-checks"))}
    assert asks == set(both), "as the pipeline has it"
    plan = planned(asked, 80)
    waiting = dict.fromkeys(build(asked, ROOT), "")
    lines = plan.tokens(waiting)
    columns = [line.index(" answers ") for line in lines if line.startswith("  eval-")]
    assert len(columns) == 3 and len(set(columns)) == 1
    more = "  run --test asks for 720 answers more, of at most 0.0 M tokens"
    assert more in lines and plan.tokens({}) == [more], "that is not known to be done"
    closed = planned(asked.model_copy(update={"problems": asked.problems.model_copy(update={"test": {}})}), 80)
    assert plan.disk()["rows"] > closed.disk()["rows"] and not closed.tokens({})


def test_test_sets_have_what_is_expected_of_them():
    gsm8k = [{"hub": "openai/gsm8k", "count": 20}]
    asked = recipe(problems={"train": gsm8k, "test": {"t": gsm8k}}, phases=[1], evaluate={"samples": 4})
    work = {w.stage: w for w in forecast.work(asked, ROOT, test=True)}
    assert work["eval-1-test-answers"].expected.items == 20 * 5 and "eval-0-answers" not in work
    assert work["eval-0-test-answers"].expected.tokens == 20 * 5 * 300
    assert "eval-0-test-answers" not in {w.stage for w in forecast.work(asked, ROOT)}
