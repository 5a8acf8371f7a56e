r"""Inline arithmetic in a chain of thought: which equations between plain numbers are false?

A tokenizer and a precedence parser of our own over Fractions; nothing is evaluated by Python or sympy. Only what is
certain is judged: numbers, + - * x / ( ) and chains a = b = c. Variables, powers, percent signs, functions and
quotients with a remainder are left alone, so a text without a finding is not thereby correct.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

_TOKEN = re.compile(
    r"[ \t$]*(?P<token>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[-+*/=()])"
)
_TIMES = re.compile(r"(?<=[0-9)])([ \t$]*)[xX](?=[ \t$]*[0-9])")
_LATEX = (
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|[\u00d7\u22c5\u00b7]"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|\u00f7"), "/"),
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\\[()\[\]]|\\\\"), "\n"),
    (re.compile(r"\\[!,;: $]"), " "),
    (re.compile(r"(?<![0-9)\s])\*\*|\*\*(?![0-9(\s])"), " "),  # bold marks, not powers
    (re.compile(r"[*/]{2}|={2,}|[<>!:~]="), "^"),  # powers, floor division and other relations: not judged
)
_BULLET = re.compile(r"^\s*[-*+]\s+")
# What stands beside a number and changes its value: such a side is not plain arithmetic and is not judged.
_BEFORE = re.compile(
    r"(?:\b(?:twice|thrice|double|triple|half|of|root|mod|modulo|minus|plus|times|by|negative|per|over|step|part|case|"
    r"number|equation|problem|question|line|example)[ \t$]+|(?<![a-z])[b-z][ \t$]+|[a-z\u00c0-\uffff]\$?"
    r"|[\\^_%|!}\])/*=+-][ \t$]*)$",
    re.I,
)
_AFTER = re.compile(
    r"\s*(?:[\\^_%{|!]|(?:r|rem|remainder|with|mod|million|billion|thousand|hundred|dozen|percent|half|times|plus|minus|"
    r"over|more)\b|and a\b|[b-z](?![a-z]))|[a-z\u00c0-\uffff]|[.,][0-9]",
    re.I,
)
_MAX_TOKENS = 60


def false_equations(text: str) -> Iterator[str]:
    """The false equations between neighbours of each chain, as written: "3 * 4 = 15"."""
    for pattern, by in _LATEX:
        text = pattern.sub(by, text)
    for line in _TIMES.sub(r"\1*", text).splitlines():
        if "=" not in line:
            continue
        line = _BULLET.sub("", line)
        for start, end, tokens in _runs(line):
            yield from _judge(line[max(0, start - 40) : start], tokens, line[end : end + 40])


def _runs(line: str) -> Iterator[tuple[int, int, list[str]]]:
    """Maximal runs of tokens that contain an equals sign: (start, end, tokens)."""
    at = 0
    while at < len(line):
        start, tokens = at, []
        while match := _TOKEN.match(line, at):
            if not tokens:
                start = match.start("token")
            tokens.append(match["token"])
            at = match.end()
        if "=" in tokens:
            yield start, at, tokens
        at += not tokens


def _judge(before: str, tokens: list[str], after: str) -> Iterator[str]:
    sides: list[list[str]] = [[]]
    for token in tokens:
        if token == "=":
            sides.append([])
        else:
            sides[-1].append(token)
    dash = tokens[0] == "-" and re.search(r"[A-Za-z0-9][ \t$]*$", before)  # "total - 3 + 4 = 7"
    if dash or _BEFORE.search(before):
        sides[0] = []
    if _AFTER.match(after):
        sides[-1] = []
    # "(so 3 + 4 = 8)" and "(3 + 4 = 8)": a bracket around the whole equation.
    if sides[0][:1] == ["("] and sides[0].count("(") > sides[0].count(")"):
        sides[0] = sides[0][1:]
    if sides[-1][-1:] == [")"] and sides[-1].count(")") > sides[-1].count("("):
        sides[-1] = sides[-1][:-1]
    for left, right in pairwise(sides):
        if max(len(left), len(right)) <= 1 or max(len(left), len(right)) > _MAX_TOKENS:
            continue  # two bare numbers ("7 mod 3 = 1"), or not a sum anybody wrote
        try:
            a, b = _value(left), _value(right)
        except SyntaxError:
            continue
        except ZeroDivisionError:
            a, b = Fraction(0), Fraction(1)
        if a != b and not (_rounded(a, b, left, right) or _rounded(b, a, right, left)):
            yield f"{_text(left)} = {_text(right)}"


def _rounded(exact: Fraction, shown: Fraction, exact_side: list[str], shown_side: list[str]) -> bool:
    """7 / 3 = 2.33: a quotient written with as many decimals as one cares for."""
    if "/" not in exact_side or len(shown_side) > 2 or "." not in shown_side[-1]:
        return False
    return abs(exact - shown) < Fraction(1, 10 ** len(shown_side[-1].split(".")[1]))


def _text(tokens: list[str]) -> str:
    return " ".join(tokens).replace("( ", "(").replace(" )", ")")


def _value(tokens: list[str]) -> Fraction:
    """Precedence climbing over + - * / and brackets. SyntaxError for anything that is not a whole expression."""
    at = 0

    def atom() -> Fraction:
        nonlocal at
        token = tokens[at] if at < len(tokens) else ""
        at += 1
        if token == "-":
            return -atom()
        if token == "(":
            value = total()
            if at >= len(tokens) or tokens[at] != ")":
                raise SyntaxError
            at += 1
            return value
        if not token or token in "+*/)" or len(token) > 40:
            raise SyntaxError
        return Fraction(token.replace(",", ""))

    def product() -> Fraction:
        nonlocal at
        value = atom()
        while at < len(tokens) and tokens[at] in "*/":
            at += 1
            value = value * atom() if tokens[at - 1] == "*" else value / atom()
        return value

    def total() -> Fraction:
        nonlocal at
        value = product()
        while at < len(tokens) and tokens[at] in "+-":
            at += 1
            value = value + product() if tokens[at - 1] == "+" else value - product()
        return value

    result = total()
    if at != len(tokens):
        raise SyntaxError
    return result
