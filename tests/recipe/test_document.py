"""What YAML may hold: plain values within bounds. Whatever else a file or an override says is one line."""

import os
import re
import resource
import time

import pytest

from dpr_mini.recipe import Places, RecipeError, document, load, reading

GOOD = "name: test\nproblems:\n  train:\n    - {generate: chain_sum, count: 10}\n"


def value(text: str):
    return document.read(text, lambda line: f"r.yaml:{line}")[0]


def refused(text: str) -> str:
    with pytest.raises(RecipeError) as error:
        value(text)
    message = str(error.value)
    assert message.startswith("r.yaml:") and message.isprintable() and len(message) <= 2000
    return message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *((t, None) for t in ("", "~", "null", "Null")),
        *((t, True) for t in ("true", "True", "TRUE")),
        ("false", False),
        *((t, int(t)) for t in ("0", "-0", "12", "-12", "+7", "99999999999999999999")),
        *((t, float(t)) for t in ("1.0", ".5", "1.", "-0.25", "1.0e-5", "1.0e+5", "1.0e5", "1e-5", "3E-4", "2e+3")),
        *((t, t) for t in ("1e5", "12e34", "y", "n", "1.2.3", "=", "nan", "inf", "16:99", "v1_0")),
        ('"010"', "010"), ("'yes'", "yes"), ("|\n  no\n", "no\n"), ("[a, 1, [true]]", ["a", 1, [True]]),
        ("{a: &x {b: 1}, c: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("{<<: [{a: 1, b: 1}, {a: 2, c: 2}], d: 4}", {"a": 1, "c": 2, "b": 1, "d": 4}),
    ],
)  # fmt: skip
def test_plain_values_are_what_they_say(text, meant):
    got = value(text)
    assert got == meant and type(got) is type(meant)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        *((t, "write true, or .* in quotes") for t in ("yes", "Yes", "ON", "on")),
        *((t, "write false, or .* in quotes") for t in ("no", "NO", "off")),
        *((t, "leading 0") for t in ("010", "-007", "08", "00")),
        *((t, "not decimal") for t in ("0x10", "0b11", "0o17", "-0xff")),
        *((t, "without _") for t in ("1_000", "1_000.5", "-1_0")),
        *((t, "base 60") for t in ("1:30", "190:20:30", "1:30.5")),
        *((t, "a date") for t in ("2001-02-30", "2024-5-1", "2024-05-01 10:00:00", "2024-05-01T10:00:00Z")),
        *((t, "not a finite number") for t in (".inf", "-.INF", ".nan", "1.0e+999")),
        ("9" * 5000, "a number of 5000 digits"),
        *((t, "tags are not read") for t in ("!!int abc", "!!float x", "!!timestamp x", "!!null x", "!x 1", "! a")),
        *((t, "tags are not read") for t in ("!!binary '%'", "!!set {a}", "!!python/object:os.system x")),
        *((t, "a key must be text") for t in ("{1: a}", "{on: a}", "{null: a}", "{2001-01-01: a}", "{? [a] : b}")),
        *((t, "control character") for t in (r'"\0"', r'"\e[2J"', r'"\ud800"', r'{"\u0007": 1}', r'"\x85"')),
        *((t, "twice") for t in ("{a: 1, a: 2}", '{a: 1, "a": 2}', "{<<: {a: 1}, <<: {b: 1}}")),
        *((t, "aliases .* grow beyond") for t in ("&x [*x]", "{a: &x {b: *x}}", "&x {<<: *x}")),
        ("{<<: 5}", "takes a mapping"), ("{<<: [a]}", "takes a mapping"),
        *((t, "not valid YAML") for t in ("[", "*nope", "a: b: c", "\x07", "%YAML 9.9\n---\na", "a\n---\nb", "@")),
        *((t, "not valid YAML") for t in ('"\\U99999999"', "{a: b", "'", "a: |x")),
    ],
)  # fmt: skip
def test_what_yaml_reads_otherwise_than_it_is_meant_is_refused_with_the_fix(text, fix):
    assert re.search(fix, refused(text))


def test_a_message_names_the_line_and_the_key():
    assert refused("a:\n  b: [1,\n    010]\n").startswith("r.yaml:3: a.b.1: 010 has a leading 0")
    with pytest.raises(RecipeError, match=r"^override 'train\.epochs=0x10': train\.epochs: 0x10 is not decimal"):
        reading.override({}, "train.epochs=0x10", Places())


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "\n".join(
    f"{c}: &{c} {{<<: [{','.join([f'*{p}'] * 9)}]}}" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "aliases"), (MERGES, "aliases"),
        ("[" * 100_000, "nested too deep"), ("- " * 100_000, "nested too deep"),
        ("{a: " * 10_000, "nested too deep"), ("? " * 10_000, "nested too deep"),
        ("".join(f"k{i}: {i}\n" for i in range(60_000)), "more than 20,000 values"),
        ("x: " + "y" * (document.BYTES + 1), "more than 1 MiB"),
        (f"x: &a '{'y' * 900_000}'\nname: [{'*a, ' * 19_000}]", "aliases"),
        (f"? &a {'k' * 100_000}\n: [{'{*a : 1}, ' * 9_000}]", "aliases"),
        ("{x: 1" + "_" * 900_000 + "x, on: 1}", "a key must be text"),
    ],
    ids=["laughs", "merges", "brackets", "dashes", "braces", "questions", "keys", "bytes", "text", "names", "digits"],
)  # fmt: skip
def test_a_bomb_ends_at_once(text, why):
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert why in refused(text)
    assert time.process_time() - begun < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10, "KiB"


def test_aliases_of_long_text_are_refused_where_they_stand(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"x: &a '{'y' * 900_000}'\nname: [{'*a, ' * 19_000}]")
    with pytest.raises(RecipeError) as error:
        load(path)
    # the alias has no line of its own: it is told by the text's
    assert str(error.value) == f"{path}:1: name.0: aliases (*name) grow beyond 1 MiB of text; write it out"
    path.write_text(GOOD + f"dialogue: {{system: &a '{'y' * 90_000}', bridges: {{a: *a, b: *a}}}}\n")
    with pytest.raises(RecipeError, match=r"unknown key 'dialogue\.system'"):
        load(path)


def test_only_a_regular_file_of_text_is_read(tmp_path):
    def said(path) -> str:
        with pytest.raises(RecipeError) as error:
            load(path)
        assert str(error.value).isprintable()
        return str(error.value)

    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "ring.yaml").symlink_to("ring.yaml")
    (tmp_path / "big.yaml").write_text("a: " + "x" * document.BYTES)
    (tmp_path / "latin.yaml").write_bytes(b"name: a\n# caf\xe9\n")
    (tmp_path / "wide.yaml").write_bytes("name: a\n".encode("utf-16"))
    for path in (tmp_path, tmp_path / "fifo.yaml", "/dev/zero", "/dev/null"):
        assert "not a regular file" in said(path)
    assert "cannot be read" in said(tmp_path / "ring.yaml") and "cannot be read" in said(tmp_path / ("a" * 300))
    assert "more than 1 MiB" in said(tmp_path / "big.yaml")
    assert "latin.yaml:2: " in said(tmp_path / "latin.yaml") and "UTF-8" in said(tmp_path / "wide.yaml")
    assert "no such recipe" in said(tmp_path / "none.yaml")
    for parent in ("/dev/zero", ".", "fifo.yaml", "''", "[a]", "null", "5", "nowhere.yaml", "a" * 300):
        (tmp_path / "child.yaml").write_text(f"name: a\nextends: {parent}\n")
        said(tmp_path / "child.yaml")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(tmp_path / "bom.yaml").name == "test"


def test_a_chain_of_recipes_is_short_and_no_circle(tmp_path):
    for key, end in (("extends", GOOD), ("like", GOOD)):
        (tmp_path / "r0.yaml").write_text(end)
        for number in range(1, 40):
            own = "name: x\n" if key == "extends" else GOOD.replace("test", f"r{number}") + "store: test\n"
            (tmp_path / f"r{number}.yaml").write_text(f"{key}: r{number - 1}.yaml\n{own}")
        load(tmp_path / "r10.yaml")
        with pytest.raises(RecipeError, match="more than 20 recipes"):
            load(tmp_path / "r39.yaml")
        (tmp_path / "r0.yaml").write_text(f"{key}: r2.yaml\n{GOOD}")
        with pytest.raises(RecipeError, match="itself"):
            load(tmp_path / "r2.yaml")
