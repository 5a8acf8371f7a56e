r"""Was a value worked out? The form of an answer, read beside its value: repeating the question is no answer.

Where the gold answer is a value (a number, a root or pi with a factor, a sum of unlike terms, or a list of such), the
answer must be one too. Worked out are an integer, a decimal, a fraction that is not whole, a mixed number, a per cent,
scientific notation, one closed form (a power, root, logarithm, factorial, binomial) alone or with a factor, and sums of
unlike terms. Not worked out is arithmetic between plain numbers, however it is written, and whatever only asks (gcd,
max, a sum sign). Between them stand the closed forms: products of prime powers, products of conjugates, quotients of
factorials, trigonometric values, infinite series. docs/grading.md has the rule line by line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from dpr_mini.grading.algebra import HALF, Unreadable, Value, atom, binomial, constant, power_of, root
from dpr_mini.grading.latex import GREEK, TokenReader, decimal, tokens

ASKS = re.compile(
    r"\\(?:gcd|lcm|max|min|lim|sum|prod|int|iint|oint|lfloor|lceil|bmod|pmod|mod|det|deg|dim|arg|inf|sup|Pr"
    r"|partial)(?![A-Za-z])"
    r"|(?<![\\A-Za-z])(?:gcd|lcm|hcf|max|min|floor|ceil|round|abs|sum|prod|eval|int|len)\s*\("
    r"|(?<![\\A-Za-z])(?:gcd|lcm|mod|choose|derivative)(?![A-Za-z])"
    r"|\\(?:operatorname|mathrm|text)\s*\{\s*(?:gcd|lcm|max|min|mod)\s*\}|\\[lr]?[vV]ert|\|"
    r"|\\frac\s*\{\s*d\s*\}\s*\{\s*d"
)
_TRIG = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh",
    )
)
# an infinite series: computer algebra may sum it, where closed forms are accepted
SERIES = re.compile(r"\\(?:sum|prod)(?![A-Za-z]).{0,80}\\infty")


@dataclass(frozen=True)
class Form:
    """A formula's form. `reason`: why it is not worked out, "" where it is; `closed`: only the switch lets it "
    "pass."""

    kind: str  # int, decimal, fraction, number (another rational), symbol, term, sum
    value: Value | None = None  # None: too large to compute
    reason: str = ""
    closed: str = ""
    variable: bool = False
    whole: int | None = None  # an integer's, or a term's integer factor

    @property
    def plain(self) -> bool:
        """A rational number by its looks."""
        return self.kind in ("int", "decimal", "fraction", "number")


def form(text: str) -> Form:
    """The form of one cleaned formula without unit and list. Raises Unreadable for what is none."""
    if re.fullmatch(r"[-+]?[0-9.,\s]+%", text):
        text = text[:-1]
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    if re.fullmatch(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+", text):
        text = text.replace(" ", "")
    mixed = re.fullmatch(r"([-+]?)\s*([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)", text)
    if mixed and 0 < int(mixed[3]) < int(mixed[4]):
        return Form("fraction", constant(int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))))
    reader = _Reader(tokens(text))
    found = reader.sum()
    if reader.peek():
        raise Unreadable("something is left over")
    return found


class _Reader(TokenReader):
    """Recursive descent; looser than latex.parse, since it judges how a thing is written and not what it means."""

    def sum(self) -> Form:
        self.level += 1
        if self.level > 40:
            raise Unreadable("too deep")
        terms, sign = [], 1
        while self.peek() in ("+", "-"):
            if terms or sign < 0:
                return self.bad("two signs")
            sign = -1 if self.take() == "-" else 1
            if self.peek() in ("+", "-"):
                return self.bad("two signs")
        terms.append(self.term(sign, self.at > 0 and self.tokens[self.at - 1] in ("+", "-")))
        while self.peek() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            if self.peek() in ("+", "-"):
                return self.bad("two signs")
            terms.append(self.term(sign, True))
        self.level -= 1
        return _sum(terms)

    def term(self, sign: int, signed: bool) -> Form:
        twice = signed and self.peek() in ("(", "{") and self.tokens[self.at + 1 : self.at + 2] in (["+"], ["-"])
        found = self.product()
        if twice and found.plain and not found.reason:
            found = replace(found, reason="two signs")
        return _negated(found) if sign < 0 else found

    def bad(self, reason: str) -> Form:
        self.at = len(self.tokens)
        return Form("number", None, reason)

    def product(self) -> Form:
        total, last = self.factor(), ""
        factors = [total]
        divided: list[Form] = []
        while token := self.peek():
            if token in ("*", "\\cdot", "\\times", "\u00b7", "\u00d7"):
                self.take()
                factors.append(self.factor())
            elif token in ("/", "\\div"):
                self.take()
                bottom = self.factor()
                if token == "\\div" and bottom.plain and not bottom.reason:
                    bottom = replace(bottom, reason="a division")
                divided.append(bottom)
            elif token in "+-)]}":
                break
            elif token[1:] in ("cdots", "ldots", "dots"):
                raise Unreadable("dots")
            else:
                (divided if last == "/" else factors).append(self.factor())
            last = token
        result = _product(factors)
        for bottom in divided:
            result = _quotient(result, bottom)
        return result

    def factor(self) -> Form:
        found = self.base()
        while self.peek() in ("!", "^", "**"):
            if self.take() == "!":
                n = found.whole if found.kind == "int" else None
                big = n is None or n > 400
                value = None if big else constant(math.factorial(n))
                found = Form(
                    "number",
                    value,
                    found.reason or ("" if n is not None else "a factorial of a calculation"),
                    "",
                    found.variable,
                )
                found = replace(found, closed="factorial" if self.peek() == "!" else "")
                continue
            power = self.exponent()
            found = _power(found, power)
        if self.peek() == "degrees":
            self.take()
        return found

    def exponent(self) -> Form:
        if self.peek() in ("{", "("):
            return self.group()
        sign = self.take() if self.peek() == "-" else ""
        token = self.take()
        if token.isdigit() and len(token) > 1:  # x^10 is x^1 0 in LaTeX, and 10 to everybody else
            return Form("int", constant(int(sign + token)), whole=int(sign + token))
        self.at -= 1
        found = self.base()
        return _negated(found) if sign else found

    def group(self) -> Form:
        close = {"(": ")", "{": "}", "[": "]"}[self.take()]
        inner = self.sum()
        if self.at < len(self.tokens) or inner.reason != "two signs":
            self.take(close)
        return inner

    def argument(self) -> Form:
        if self.peek() == "{":
            return self.group()
        if len(self.peek()) > 1 and self.peek().isdigit():  # \frac12 came as one token
            token = self.tokens[self.at]
            self.tokens[self.at] = token[1:]
            return Form("int", constant(int(token[0])), whole=int(token[0]))
        return self.base()

    def base(self) -> Form:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            value = decimal(token)
            if token.isdigit():
                if self.peek() == "\\frac":
                    at = self.at
                    part = self.base()
                    r = part.value.rational if part.value else None
                    if r is not None and 0 < r < 1 and part.kind == "fraction":
                        return Form("fraction", constant(value + r))
                    self.at = at
                return Form("int", constant(value), whole=int(value))
            repeats = "\\" in token
            return Form(
                "decimal",
                constant(value),
                "a whole number as a repeating decimal" if repeats and value.denominator == 1 else "",
            )
        if token in ("(", "{", "["):
            self.at -= 1
            return self.group()
        if re.fullmatch("[A-Za-z]", token):
            return self.letter(token)
        name = token[1:]
        if name == "pi":
            return Form("symbol", atom("pi"))
        if name in GREEK:
            return self.letter(name)
        if name == "frac":
            return _quotient(self.argument(), self.argument())
        if name == "binom":
            top, bottom = self.argument(), self.argument()
            value, variable = _tried(lambda: binomial(top.value, bottom.value)), top.variable or bottom.variable
            return Form("symbol" if variable else "number", value, top.reason or bottom.reason, "", variable)
        if name == "sqrt":
            n = HALF
            if self.peek() == "[":
                order = self.group()
                r = order.value.rational if order.value else None
                if not r or r.denominator != 1 or not 2 <= r <= 60:
                    raise Unreadable("a root")
                n = 1 / r
            inner = self.group() if self.peek() == "(" else self.argument()
            value = _tried(lambda: root(inner.value, n, real=True))
            kind = "number" if value is not None and value.rational is not None else "symbol"
            return Form(kind, value, inner.reason, inner.closed, inner.variable)
        if name in _TRIG or name in ("ln", "log", "exp"):
            return self.function(name)
        raise Unreadable("not a formula")

    def letter(self, name: str) -> Form:
        if name in ("e", "i"):
            return Form("symbol", atom("#i" if name == "i" else "e"))
        if self.peek() == "_":
            self.take()
            self.argument()
        return Form("symbol", atom(name), variable=True)

    def function(self, name: str) -> Form:
        reason = closed = ""
        if self.peek() == "_":
            self.take()
            self.argument()
        if self.peek() in ("^", "**"):
            self.take()
            self.exponent()
        if self.peek() in ("(", "{", "["):
            inner = self.group()
        else:
            inner = self.factor()
            while (
                self.peek()
                and self.peek() not in ("+", "-", ")", "}", "]", "*", "\\cdot", "\\times", "/", "=")
                and self.peek()[1:] not in _TRIG
            ):
                inner = _product([inner, self.factor()])
        reason = inner.reason
        if name in _TRIG and not inner.variable:
            closed = "trigonometric value"
        return Form("symbol", None, reason, inner.closed or closed, inner.variable)


def _tried(make: Callable[[], Value]) -> Value | None:
    try:
        return make()
    except (Unreadable, AttributeError, TypeError):
        return None


def _worst(forms: Sequence[Form]) -> tuple[str, str, bool]:
    return (
        next((f.reason for f in forms if f.reason), ""),
        next((f.closed for f in forms if f.closed), ""),
        any(f.variable for f in forms),
    )


def _negated(f: Form) -> Form:
    return replace(f, value=None if f.value is None else -f.value, whole=None if f.whole is None else -f.whole)


def _sum(terms: Sequence[Form]) -> Form:
    if len(terms) == 1:
        return terms[0]
    reason, closed, variable = _worst(terms)
    value = terms[0].value
    for t in terms[1:]:
        value = _tried(lambda a=value, b=t.value: a + b)
    if not reason and not variable:
        if sum(t.plain for t in terms) > 1:
            reason = "a sum of plain numbers"
        seen: set[object] = set()
        for t in terms:
            parts = set(t.value.num) if t.value is not None and len(t.value.den) == 1 else set()
            if parts & seen:
                reason = reason or "like terms that were not collected"
            seen |= parts
    return Form("sum", value, reason, closed, variable)


def _product(factors: Sequence[Form]) -> Form:
    if len(factors) == 1:
        return factors[0]
    reason, closed, variable = _worst(factors)
    value = factors[0].value
    for f in factors[1:]:
        value = _tried(lambda a=value, b=f.value: a * b)
    plain = [f for f in factors if f.plain]
    others = [f for f in factors if not f.plain]
    whole = None
    if len(plain) > 1 and not reason and not variable:
        if len(plain) == 2 and not others and _is_scientific(*plain):
            return Form("decimal", value, "", closed)
        if all(p.kind == "number" or (p.kind == "int") for p in plain) and any(p.kind == "number" for p in plain):
            closed = closed or "a product of powers"
        else:
            reason = "a product of plain numbers"
    sums = [f for f in others if f.kind == "sum"]
    if len(sums) > 1 and not variable and not reason:
        closed = closed or "a product of sums"
    if len(plain) == 1 and plain[0].whole is not None:
        whole = plain[0].whole
    if not others:
        return Form("number", value, reason, closed, variable)
    return Form("term", value, reason, closed, variable, whole)


def _is_scientific(a: Form, b: Form) -> bool:
    """A decimal below ten, or an integer, times a power of ten."""
    return (
        a.kind in ("int", "decimal")
        and b.kind == "number"
        and getattr(b, "closed", "") == ""
        and b.value is not None
        and _power_of_ten(b.value)
    )


def _power_of_ten(value: Value) -> bool:
    r = value.rational
    if r is None or r <= 0:
        return False
    n = r.numerator * r.denominator if 1 in (r.numerator, r.denominator) else 0
    return n > 0 and str(n).strip("0") == "1" if n < 10**4000 else False


def _quotient(top: Form, bottom: Form) -> Form:
    reason, closed, variable = _worst((top, bottom))
    value = _tried(lambda: top.value / bottom.value)
    if not reason and not variable:
        if top.plain and bottom.plain:
            if top.kind == bottom.kind == "int":
                if bottom.whole in (0, None) or top.whole is None:
                    reason = "a division"
                elif top.whole % bottom.whole == 0:
                    reason = "a fraction that is a whole number"
                else:
                    return Form("fraction", value, "", closed)
            elif top.kind in ("int", "number") and bottom.kind in ("int", "number"):
                if top.kind == "int" and abs(top.whole or 0) == 1:
                    return Form("number", value, reason, closed)  # 1 / 7^800: a power
                closed = closed or "a quotient of powers or factorials"
            else:
                reason = "a quotient of plain numbers"
            return Form("number", value, reason, closed)
        if (
            top.whole is not None
            and bottom.whole not in (None, 0, 1, -1)
            and bottom.kind == "int"
            and top.whole % bottom.whole == 0
        ):
            reason = "a factor that was not divided"
    return Form("term", value, reason, closed, variable)


def _power(base: Form, exponent: Form) -> Form:
    reason, closed, variable = _worst((base, exponent))
    if base.kind == "number" and base.plain and not variable and not reason:
        closed = closed or "a power of a power"
    if base.plain and exponent.whole in (0, 1) and base.whole != 10 and not reason:
        reason = "a power of one or nought"
    value = None
    if base.value is not None and exponent.value is not None:
        value = _tried(lambda: power_of(base.value, exponent.value))
    rational = (
        base.plain
        and exponent.value is not None
        and exponent.value.rational is not None
        and exponent.value.rational.denominator == 1
    )
    if value is not None and value.rational is not None:
        rational = True
    kind = "sum" if base.kind == "sum" else "number" if rational else "symbol"
    return Form(kind, value, reason, closed, variable)
