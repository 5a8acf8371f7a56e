r"""The exact value of the small formulas that answers are made of, read without evaluating text.

`parse("18+2pi")`, `parse(r"\frac{1+i\sqrt{3}}{2}")`. Whatever could be read in two ways (1/2x, x^10, \sin(x)^2) is
not read at all; every size is bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from dpr_mini.grading.algebra import (
    HALF,
    Unreadable,
    Value,
    atom,
    binomial,
    constant,
    cos,
    ln,
    opaque,
    power_of,
    ratio,
    root,
    sin,
    tan,
)

MAX_LENGTH = 400  # characters of a formula

_FUNCTIONS: dict[str, Callable[[Value], Value | None]] = {
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "ln": ln,
    **dict.fromkeys(
        (
            "cot",
            "sec",
            "csc",
            "arcsin",
            "arccos",
            "arctan",
            "sinh",
            "cosh",
            "tanh",
            "arcsinh",
            "arccosh",
            "arctanh",
            "log",
        ),
        lambda x: None,
    ),
}
_ALIASES = {f"a{n}": f"arc{n}" for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
_ALIASES |= {f"ar{n}": f"arc{n}" for n in ("sinh", "cosh", "tanh")}
GREEK = set(
    re.findall(r"\w+", "alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi psi omega xi eta")
)
_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]*)?(?:\\(?:overline|bar|dot)\s*\{[0-9]{1,30}\})?|\.[0-9]+)"
    r"|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)|(?P<sign>\*\*|[-+*/^_!(){}\[\]\u00b7\u00d7\u03c0\u221a])"
    r"|(?P<space>\s+)"
)
_TIMES = {"*", "\u00b7", "\u00d7", "\\cdot", "\\times"}


_NAMED = re.compile(r"sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|degrees|mod")


def tokens(text: str) -> list[str]:
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise Unreadable("too long")
    found, at = [], 0
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            break
        at = match.end()
        if word := match["word"]:
            glued = text[match.start() - 1 : match.start()].isdigit() and not _NAMED.search(word)
            found += list(word) if glued and len(word) < 5 else _words(word)  # 6abc is a product
        elif match["sign"] in ("\u03c0", "\u221a"):
            found.append("\\pi" if match["sign"] == "\u03c0" else "\\sqrt")
        elif match["command"] in _ALIASES:
            found.append("\\" + _ALIASES[match["command"]])
        elif match["command"] in ("left", "right") or match["space"]:
            continue
        else:
            found.append(match[0])
    if at != len(text) or not found:
        raise Unreadable("not a formula")
    return found


def _words(word: str) -> list[str]:
    """Single letters are variables; two are their product; a longer word is a name."""
    word = _ALIASES.get(word, word)
    if word in _FUNCTIONS or word in ("sqrt", "pi"):
        return ["\\" + word]
    if word == "degrees" or len(word) == 1:
        return [word]
    if len(word) == 2:
        return list(word)
    if len(word) == 3 and "pi" in word:  # "pix", "xpi", "ipi"
        return [*_words(word.replace("pi", "")), "\\pi"]
    raise Unreadable("a word")


class TokenReader:
    """Tokens, read one after the other."""

    def __init__(self, found: list[str]) -> None:
        self.tokens, self.at, self.level = found, 0, 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted or 'more'} expected")
        self.at += 1
        return token


class _Parser(TokenReader):
    """Recursive descent over the tokens."""

    angles = 0  # how many functions' arguments are open: degrees count within them

    def sum(self) -> Value:
        self.level += 1
        if self.level > 40:
            raise Unreadable("too deep")
        sign = -1 if self.peek() == "-" else 1
        if self.peek() in ("+", "-"):
            self.take()
        total = self.product()
        total = total if sign > 0 else -total
        while self.peek() in ("+", "-"):
            minus = self.take() == "-"
            term = self.product()
            total = total - term if minus else total + term
        self.level -= 1
        return total

    def product(self, within_function: bool = False) -> Value:
        (total, kind), divided = self.factor(), False
        while token := self.peek():
            if token in _TIMES:
                self.take()
                if self.peek() == "-":
                    raise Unreadable("a product with a sign")
                value, kind = self.factor()
                total, divided = total * value, False
            elif token in ("/", "\\div"):
                self.take()
                value, kind = self.factor()
                total, divided = total / value, True
            elif token in "+-)]}" or (within_function and token[1:] in _FUNCTIONS):
                break
            else:
                value, new = self.factor()
                if divided or new in ("number", "mixed") or (kind == "number" and new == "fraction"):
                    raise Unreadable("read in two ways")
                total, kind = total * value, new
        return total

    def factor(self) -> tuple[Value, str]:
        value, kind = self.base()
        if self.peek() == "!":
            self.take()
            n = value.rational
            if n is None or n.denominator != 1 or not 0 <= n <= 400 or self.peek() == "!":
                raise Unreadable("a factorial")
            value = constant(math.factorial(int(n)))
        if self.peek() in ("^", "**"):
            if kind in ("function", "mixed"):
                raise Unreadable("read in two ways")
            self.take()
            value, kind = power_of(value, self.exponent()), "power"
            if self.peek() in ("^", "**", "!"):
                raise Unreadable("a tower")
        if self.peek() == "degrees":
            if not self.angles:
                raise Unreadable("degrees")
            self.take()
            value, kind = value * atom("pi") / constant(180), "group"
        return value, kind

    def exponent(self) -> Value:
        token = self.peek()
        if token in ("{", "("):
            return self.group()
        self.take()
        if re.fullmatch("[0-9]", token):
            return constant(int(token))
        if re.fullmatch("[A-Za-z]", token):
            return self.letter(token)
        raise Unreadable("an exponent without braces")

    def group(self) -> Value:
        close = {"(": ")", "{": "}", "[": "]"}[self.take()]
        value = self.sum()
        self.take(close)
        return value

    def argument(self) -> Value:
        """{...}, or the single digit or letter that LaTeX takes: \frac12."""
        if self.peek() == "{":
            return self.group()
        if re.fullmatch("[A-Za-z0-9]", self.peek()):
            token = self.take()
            return constant(int(token)) if token.isdigit() else self.letter(token)
        if len(self.peek()) > 1 and self.peek().isdigit():  # \frac12 came as one token
            token = self.tokens[self.at]
            self.tokens[self.at] = token[1:]
            return constant(int(token[0]))
        raise Unreadable("an argument")

    def letter(self, name: str) -> Value:
        if name in ("i", "e"):
            return atom("#i" if name == "i" else "e")
        if self.peek() == "_":
            self.take()
            if self.peek() == "{":
                self.take()
                index = self.take()
                self.take("}")
            else:
                index = self.take()
            if not re.fullmatch("[0-9A-Za-z]{1,3}", index):
                raise Unreadable("an index")
            name += "_" + index
        return atom(name)

    def base(self) -> tuple[Value, str]:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            value = decimal(token)
            if self.peek() == "\\frac" and token.isdigit():
                part = self.base()[0].rational
                if part is None or not 0 < part < 1:
                    raise Unreadable("read in two ways")
                return constant(value + part), "mixed"
            return constant(value), "number"
        if token in ("(", "{", "["):
            self.at -= 1
            return self.group(), "group"
        if re.fullmatch("[A-Za-z]", token):
            return self.letter(token), "letter"
        name = token[1:]
        if name == "pi":
            return atom("pi"), "letter"
        if name in GREEK:
            return self.letter(name), "letter"
        if name in ("frac", "binom"):
            top, bottom = self.argument(), self.argument()
            return (top / bottom, "fraction") if name == "frac" else (binomial(top, bottom), "group")
        if name == "sqrt":
            return self.root(), "group"
        if name in _FUNCTIONS:
            return self.function(name), "function"
        raise Unreadable("not a formula")

    def root(self) -> Value:
        n = HALF
        if self.peek() == "[":
            order = self.group().rational
            if order is None or order.denominator != 1 or not 2 <= order <= 60:
                raise Unreadable("a root")
            n = 1 / order
        return root(self.group() if self.peek() == "(" else self.argument(), n, real=True)

    def function(self, name: str) -> Value:
        base = power = None
        if name == "log" and self.peek() == "_":
            self.take()
            base = self.argument()
        if self.peek() == "^":
            self.take()
            power = self.exponent()
            if power.rational is None or power.rational < 1:
                raise Unreadable("an inverse function")
        if self.peek() in ("(", "{", "["):
            value = self.angle(self.peek())
        else:
            value = self.angle("")
        if base is not None:
            top, bottom = ln(value), ln(base)
            if top is None or bottom is None:
                result = atom(f"log({base.key()};{value.key()})")
            else:
                result = ratio(top, bottom)
        else:
            result = _FUNCTIONS[name](value) or opaque(name, value)
        return result if power is None else power_of(result, power)

    def angle(self, opening: str) -> Value:
        if opening:
            self.take()
        self.angles += 1
        value = self.sum() if opening else self.product(True)
        if opening:
            self.take({"(": ")", "{": "}", "[": "]"}[opening])
            if self.peek() == "degrees":
                self.take()
                value = value * atom("pi") / constant(180)
        self.angles -= 1
        return value


def decimal(token: str) -> Fraction:
    r"""12, .5, 0.25, 0.1\overline{6}: exactly."""
    if len(token) > 300:
        raise Unreadable("too large")
    plain, _, cycle = token.partition("\\")
    if not cycle:
        return Fraction(plain.rstrip(".") if plain != "." else "0")
    cycle = cycle[cycle.index("{") + 1 : -1]
    if "." not in plain:
        raise Unreadable("a line over a number")
    digits = len(plain) - plain.index(".") - 1
    return Fraction(plain.rstrip(".")) + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10**digits)


@lru_cache(4096)
def parse(text: str) -> Value:
    """The exact value of a formula. Raises Unreadable for everything that is not certain."""
    parser = _Parser(tokens(text))
    value = parser.sum()
    if parser.peek():
        raise Unreadable("something is left over")
    return value
