"""Chat templates: rendered as transformers renders them, from where it takes them, and bounded whatever they do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from places import SMOKE_MODEL

from dpr_mini.chat import renderer
from dpr_mini.chat.template import Template
from dpr_mini.messages import LONGEST
from dpr_mini.models.tokenizer import TEMPLATE_BYTES, chat_template
from dpr_mini.types import UserError

GOOD = (SMOKE_MODEL / "chat_template.jinja").read_text()
ASKED = [{"role": "user", "content": "2 + 2"}]
TALK = [{"role": "system", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": "4 <&>"}, *ASKED]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the smoke model without its weights."""
    folder = tmp_path / "m"
    shutil.copytree(SMOKE_MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.gguf"))
    return folder


@pytest.fixture
def day(monkeypatch):
    """2 March 2024, for templates that ask."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1709337600")
    renderer.today.cache_clear()
    renderer.close_all()
    yield
    renderer.today.cache_clear()
    renderer.close_all()


def put(folder: Path, **values: object) -> None:
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not ...}))


def write(folder: Path, source: str) -> Template:
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8", errors="surrogatepass")
    return Template(folder)


def refused(folder: Path, source: str, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        write(folder, source).opening("2 + 2")
    said = str(caught.value)
    assert said.isprintable() and len(said) <= LONGEST and str(folder) in said, said
    assert all(word in said for word in words), said


# ---- what transformers renders

RENDERED = {
    "the model's own": GOOD,
    "date": "{{ strftime_now('%d %b %Y') }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
    "generation trimmed": "a {%- generation -%} b {%- endgeneration -%} c",
    "no tools": "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{% if tools %}x{% endif %}",
    "tojson": "{{ messages|tojson }}{{ messages|tojson(indent=2) }}",
    "tojson in order": "{{ messages|tojson(ensure_ascii=True, sort_keys=True) }}",
    "loop controls": "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
    "{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys(['x'], 2) }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ unk_token is defined }}{{ unk_token }}{{ sep_token }}",
    "blocks are trimmed": "  {% if true %}\n  x\n  {% endif %}\n y",
    "undefined": "{{ nothing }}{{ nothing is defined }}{{ messages[0].reasoning_content }}",
    "html": "{{ '<b>' }}{{ messages[-2].content }}",
    "generation prompt": "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "strings": "{{ messages[1]['content'].split('+')|map('trim')|join(',') }}{{ 'x'.upper() }}{{ 'a' in 'ab' }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RENDERED)
def test_it_is_what_transformers_renders(model, monkeypatch, name):
    from transformers import AutoTokenizer

    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    ours = write(model, RENDERED[name]).render(TALK)
    theirs = AutoTokenizer.from_pretrained(model)
    assert ours == theirs.apply_chat_template(TALK, add_generation_prompt=True, tokenize=False)


def test_the_date_is_said_once_and_can_be_kept(model, day, capsys, monkeypatch):
    dated = write(model, "{{ strftime_now('%d %b %Y') }}" + GOOD)
    assert dated.render(ASKED).startswith("02 Mar 2024") and not capsys.readouterr().err
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    renderer.today.cache_clear()
    renderer._say_date.cache_clear()
    renderer.close_all()
    today = dated.render(ASKED)[:11]
    dated.render(ASKED)
    said = capsys.readouterr().err
    assert said.count("writes the date") == 1
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said.rpartition("=")[2].strip())
    renderer.today.cache_clear()
    renderer.close_all()
    assert dated.render(ASKED)[:11] == today, "as the line says"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    renderer.today.cache_clear()
    renderer.close_all()
    for _ in range(2):
        with pytest.raises(UserError, match="SOURCE_DATE_EPOCH: seconds since 1970 are needed, not 'soon'"):
            dated.render(ASKED)
    assert dated._renderer._process is None, "no child is left behind"


def test_what_may_come_of_a_dialogue_grows_with_it(model):
    seven_times = "{% for n in range(7) %}{{ messages[0].content }}{% endfor %}"
    long = [{"role": "user", "content": "x" * 10**5}]
    assert len(write(model, seven_times).render(long)) == 7 * 10**5
    with pytest.raises(UserError, match="it makes 700000 characters of the dialogue, more than the"):
        write(model, "{{ 'x' * 700000 }}").render(ASKED)


# ---- where it is taken from


def test_the_places_of_a_template_in_their_order(model):
    (model / "chat_template.jinja").unlink()
    assert chat_template(model) == ""
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "a processor's"}))
    assert chat_template(model) == "a processor's"
    put(model, chat_template="in the configuration")
    assert chat_template(model) == "in the configuration"
    put(model, chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "of a list"}])
    assert chat_template(model) == "of a list"
    put(model, chat_template={"rag": "r", "default": "of an object"})
    assert chat_template(model) == "of an object"
    (model / "chat_template.jinja").write_text("a file\r\nof its own")
    assert chat_template(model) == "a file\nof its own"
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rag.jinja").write_text("r")
    assert chat_template(model) == "a file\nof its own"


@pytest.mark.parametrize(
    "told",
    [[], {}, 5, [5], [{"template": "x"}], [{"name": "x", "template": "y"}], [{"name": "default"}], {"default": 5}],
)
def test_what_is_no_template_names_the_file(model, told):
    (model / "chat_template.jinja").unlink()
    put(model, chat_template=told)
    with pytest.raises(UserError, match=r"tokenizer_config\.json: "):
        Template.load(model)


def test_several_files_without_a_default(model):
    (model / "chat_template.jinja").unlink()
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rag.jinja").write_text("r")
    with pytest.raises(UserError, match="none named default; there are: rag"):
        Template.load(model)


# ---- what it cannot do

WRONG = {
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "unsafe",
    "{{ lipsum.__globals__['os'].popen('touch pwned') }}": "unsafe",
    "{{ namespace.__init__.__globals__ }}": "unsafe",
    "{% set ns = namespace(__class__=1) %}": "__class__",
    "{% set ns = namespace() %}{% set ns.__init__ = 1 %}": "__init__",
    "{{ messages.append(1) }}": "append",
    "{% include '/etc/passwd' %}": "loader",
    "{% if %}": "line 1",
    "{{ nope() }}": "'nope' is undefined",
    "{{ 1/0 }}": "division by zero",
    "{{ messages[99].role.x }}": "no element",
    "{{ messages|tojson(default=raise_exception) }}": "tojson",
    "{{ raise_exception('\x1b[2J no ' ~ 'x' * 100000) }}": "no xxx",
    "{{ raise_exception('a\nb\r\x07') }}": "a b",
    "{{ raise_exception() }}": "message",
    "{{ strftime_now(5) }}": "strftime",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nests too deeply",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}": "nests too deeply",
    "{{ '\\ud800' }}" + GOOD: "half a character",
    "": "missing",
}


@pytest.mark.parametrize("source", WRONG)
def test_whatever_it_raises_is_one_line(model, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(model, source, WRONG[source])
    assert not (tmp_path / "pwned").exists()


COSTLY = {
    "{{ 'x' * 10**10 }}": "memory",
    "{{ 'x'.ljust(10**9) }}": "memory",
    "{{ '%9999999999d' % 1 }}": "memory",
    "{{ [1]|batch(10**10, 'x')|list|length }}": "memory",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}": "memory",
    "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}": "characters",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "processor",
    "{% if '2 +' in messages[0].content %}{{ 10**10**9 % 7 }}{{ 'x' * 10**9 }}{% endif %}" + GOOD: "",
    "x" * (TEMPLATE_BYTES + 1): "more than",
}


@pytest.mark.slow
@pytest.mark.parametrize("source", COSTLY)
def test_it_costs_a_second_and_some_memory_at_most(model, source):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    refused(model, source, COSTLY[source])
    renderer.close_all()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4


def test_a_template_is_one_child_that_is_shared_and_ends(model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    ours, theirs = write(model, GOOD + "{# its own #}"), write(other, GOOD + "{# its own #}")
    assert ours.render(ASKED) == theirs.render(ASKED)
    child = ours._renderer._process
    assert ours._renderer is theirs._renderer and child.poll() is None
    refused(model, "{{ nope() }}")
    assert ours.render(ASKED) and ours._renderer._process is child, "a refusal of another template is not its end"
    os.kill(child.pid, signal.SIGKILL)
    assert ours.render(ASKED) == theirs.render(ASKED), "killed from outside, it is asked again"
    child = ours._renderer._process
    renderer.close_all()
    assert child.poll() == -signal.SIGKILL


def test_the_child_has_no_secrets(model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    ours = write(model, GOOD + "{# without secrets #}")
    ours.render(ASKED)
    environment = Path(f"/proc/{ours._renderer._process.pid}/environ").read_bytes()
    assert b"hf_secret" not in environment and b"PYTHONPATH" in environment


def test_a_template_that_draws_renders_the_same_again(model):
    ours = write(model, "{{ range(1000)|random }}" + GOOD)
    assert len({ours.render(ASKED) for _ in range(5)}) == 1
