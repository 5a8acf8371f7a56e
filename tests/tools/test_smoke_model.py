"""The committed smoke model is what recipes/smoke.yaml takes it for: standard files, small, wrong often enough."""

import importlib.util
import json
import re
import string

import pytest
import staging
from places import RECIPES

from dpr_mini import recipe as recipes
from dpr_mini.chat.template import Template
from dpr_mini.grading.answers import exact
from dpr_mini.grading.reading import extract
from dpr_mini.types import Problem, from_row, identity, seed_for

pytestmark = pytest.mark.slow  # the tool that made the model, and transformers' tokenizer, load torch

FOLDER = RECIPES / "smoke-model"
BASE = (0.30, 0.70)  # pass@1 at T=1 over 40 problems x 4 that a good base keeps to; see the folder's README.md


@pytest.fixture(scope="module")
def maker():
    """tools/make_smoke_model.py as a module."""
    path = RECIPES.parent / "tools" / "make_smoke_model.py"
    spec = importlib.util.spec_from_file_location("make_smoke_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def smoke():
    return recipes.load(RECIPES / "smoke.yaml")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def held_out(smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems")
    staging.problems(folder, smoke.problems, RECIPES)
    rows = [from_row(Problem, json.loads(line)) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [p for p in rows if p.split != "train"]


def test_the_folder_is_small_and_has_every_file():
    files = {p.name: p.stat().st_size for p in FOLDER.iterdir()}
    assert set(files) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md",
    }  # fmt: skip
    assert sum(files.values()) < 3_000_000


@pytest.mark.slow
def test_transformers_loads_it_as_a_float32_llama_of_0_6_million_parameters():
    import torch
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(FOLDER, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.model_type == "llama" and model.dtype == torch.float32
    assert 600_000 < sum(p.numel() for p in model.parameters()) < 660_000
    assert model.generation_config.eos_token_id == Template.load(FOLDER).end


@pytest.mark.slow  # transformers' tokenizer loads torch
@pytest.mark.parametrize(
    "text",
    [
        string.printable[:95],
        *(f" {c} " for c in string.printable[:95]),
        "  two  spaces , and .. signs !\n\n\tx = -5 ",
        "37 + 45 = 82, 007, 1000000",
        "Größe, 漢字, 🙂 and \u00a0",
    ],
)
def test_text_round_trips_without_loss(tokenizer, text):
    template = Template.load(FOLDER)
    assert template.decode(template.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tuple(tokenizer.encode(text, add_special_tokens=False)) == template.encode(text)


@pytest.mark.slow
def test_digits_stay_single_tokens(tokenizer):
    for number in ("10", "82", "2026", " 45"):
        ids = tokenizer.encode(number, add_special_tokens=False)
        assert [tokenizer.decode(i) for i in ids] == list(number)


@pytest.mark.slow
def test_pad_and_end_differ(tokenizer):
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|im_end|>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == Template.load(FOLDER).end


@pytest.mark.slow
def test_the_chat_template_says_the_same_to_transformers_and_to_us(tokenizer):
    template = Template.load(FOLDER)
    talk = [{"role": "user", "content": "1 + 2 ="}]
    one = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert template.opening("1 + 2 =") == tuple(one)
    assert template.decode(one, special=True) == "<|im_start|>user\n1 + 2 =<|im_end|>\n<|im_start|>assistant\n"
    answer = "1+2=3. Answer: 3"
    talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": "Check it."}]
    two = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert template.opening("1 + 2 =") + template.encode(answer) + template.follow_up("Check it.") == tuple(two)


@pytest.mark.slow  # the maker imports torch
def test_the_recipe_says_what_the_model_was_taught(smoke, maker, held_out):
    templates = dict(smoke.dialogue.templates)
    assert templates.pop("solve") == "{problem}"
    assert templates == maker.INSTRUCTIONS and smoke.dialogue.bridges == maker.BRIDGES
    taught = re.escape(maker.QUESTION).replace(r"\{\}", r"\d{1,2} [+-] \d{1,2}")
    assert all(re.fullmatch(taught, p.text) for p in held_out)


@pytest.mark.slow  # the maker imports torch
def test_the_tutor_writes_true_steps_and_right_answers_when_it_does_not_err(maker, monkeypatch):
    monkeypatch.setattr(maker, "FORGET", (0.0, 0.0, 0.0))
    monkeypatch.setattr(maker, "SLIP", (0.0, 0.0, 0.0))
    tutor = maker.Tutor(0)
    for a, op, b in (tutor.problem() for _ in range(500)):
        text, value = tutor.solve(a, op, b)
        assert value == (a + b if op == "+" else a - b) and maker.said(text) == str(value)
        for name in maker.INSTRUCTIONS:
            for before in (value, value + 1, value - 10 if op == "-" else abs(value - 10)):
                second = tutor.second(name, a, op, b, before)
                assert maker.said(second) == str(value), (a, op, b, name, before, second)


@pytest.mark.slow  # the maker imports torch
def test_worked_examples_are_right_where_the_tutor_errs_elsewhere(maker):
    for question, answer in maker.Tutor(0).examples(500):
        a, op, b = re.fullmatch(re.escape(maker.QUESTION).replace(r"\{\}", r"(\d+) ([+-]) (\d+)"), question).groups()
        assert maker.said(answer) == str(int(a) + int(b) if op == "+" else int(a) - int(b))


@pytest.mark.slow  # the maker imports torch
def test_the_recipes_examples_are_the_tutors_and_not_held_out(smoke, maker, held_out):
    tutor, shown = maker.Tutor(0), smoke.dialogue.examples
    assert len(shown) == maker.SHOWN
    for example in shown:
        a, op, b = example.problem.removesuffix(" =").split()[-3:]
        assert example.problem == maker.QUESTION.format(f"{a} {op} {b}")
        assert example.answers == (tutor.solve(int(a), op, int(b), 2)[0],)
    assert not {identity(e.problem) for e in shown} & {p.id for p in held_out}


@pytest.mark.slow
@pytest.mark.parametrize("behind_examples", [False, True])
def test_the_base_model_is_wrong_often_and_right_often(behind_examples, smoke, held_out):
    from dpr_mini.engines.base import Request, SamplingParams, generate
    from dpr_mini.engines.hf import HfEngine

    template = Template.load(FOLDER)
    shown = [(e.problem, e.answers[0]) for e in smoke.dialogue.examples] if behind_examples else []
    chosen = held_out[:10] + held_out[-30:]
    requests = [
        Request(
            f"{p.id}#{i}",
            template.opening(p.text, turns=shown),
            SamplingParams(64, temperature=1.0),
            seed_for("smoke", p.id, i),
        )
        for p in chosen
        for i in range(4)
    ]
    gold = {p.id: p.answer for p in chosen}
    with HfEngine(FOLDER, window=80) as engine:
        done = list(generate(engine, requests))
    found = [exact(gold[c.id.partition("#")[0]], extract(c.text)[0]) for c in done]
    right = sum(bool(f and f[0]) for f in found) / len(done)
    assert BASE[0] < right < BASE[1]
    assert sum(c.finish == "stop" and "Answer: " in c.text for c in done) > 0.95 * len(done)
