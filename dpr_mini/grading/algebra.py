r"""Exact values: quotients of sums of monomials with Fraction coefficients.

An atom of a monomial is a variable, pi, e, i ("#i"), a prime ("#2", with an exponent in [0, 1): a surd) or, opaque,
something like "sin(x)". Products of distinct fractional prime powers are linearly independent over the rationals
(Besicovitch 1940), so without opaque atoms two values are equal exactly where their difference is the empty sum.
Every size is bounded before anything is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

MAX_TERMS = 200
MAX_BITS = 12_000  # of any integer; Python writes out 4,300 digits
MAX_KEY = 1_000  # characters of an opaque atom
MAX_PRIME = 2_000  # trial division of a radicand

Mono = tuple[tuple[str, Fraction], ...]
Poly = dict[Mono, Fraction]
HALF = Fraction(1, 2)


class Unreadable(ValueError):
    """Not a formula of the kind that is decided here; somebody else may read it."""


def _monomial(powers: dict[str, Fraction]) -> tuple[Mono, Fraction]:
    """Sorted atoms, and the rational factor that comes out of i and of whole powers of primes."""
    factor, kept = Fraction(1), {}
    for atom, power in powers.items():
        if atom == "#i":
            if power.denominator != 1:
                raise Unreadable("a root of i")
            factor *= -1 if power % 4 in (2, 3) else 1
            power %= 2
        elif atom[0] == "#":
            whole = math.floor(power)
            if abs(whole) > MAX_BITS // 12:
                raise Unreadable("too large")
            factor *= Fraction(int(atom[1:])) ** whole
            power -= whole
        if power:
            kept[atom] = power
    return tuple(sorted(kept.items())), factor


def _add(a: Poly, b: Poly, sign: int = 1) -> Poly:
    total = dict(a)
    for mono, c in b.items():
        total[mono] = total.get(mono, Fraction(0)) + sign * c
        if not total[mono]:
            del total[mono]
    return _checked(total)


def _times(a: Poly, b: Poly) -> Poly:
    if len(a) * len(b) > MAX_TERMS * 4:
        raise Unreadable("too many terms")
    total: Poly = {}
    for m, c in a.items():
        for n, d in b.items():
            powers = dict(m)
            for atom, power in n:
                powers[atom] = powers.get(atom, Fraction(0)) + power
            mono, factor = _monomial(powers)
            total[mono] = total.get(mono, Fraction(0)) + c * d * factor
    return _checked({m: c for m, c in total.items() if c})


def _checked(p: Poly) -> Poly:
    if len(p) > MAX_TERMS or any(c.numerator.bit_length() + c.denominator.bit_length() > MAX_BITS for c in p.values()):
        raise Unreadable("too large")
    return p


ONE: Poly = {(): Fraction(1)}


@dataclass(frozen=True, eq=False)
class Value:
    """num / den. `den` is never the empty sum."""

    num: Poly
    den: Poly

    def __add__(self, other: Value) -> Value:
        if self.den == other.den:
            return Value(_add(self.num, other.num), self.den)
        return _quotient(_add(_times(self.num, other.den), _times(other.num, self.den)), _times(self.den, other.den))

    def __neg__(self) -> Value:
        return Value({m: -c for m, c in self.num.items()}, self.den)

    def __sub__(self, other: Value) -> Value:
        return self + -other

    def __mul__(self, other: Value) -> Value:
        return _quotient(_times(self.num, other.num), _times(self.den, other.den))

    def __truediv__(self, other: Value) -> Value:
        if not other.num:
            raise Unreadable("division by zero")
        return _quotient(_times(self.num, other.den), _times(self.den, other.num))

    @property
    def atoms(self) -> set[str]:
        return {atom for p in (self.num, self.den) for mono in p for atom, _ in mono}

    @property
    def opaque(self) -> bool:
        return any("(" in atom for atom in self.atoms)

    @property
    def variables(self) -> set[str]:
        return {a for a in self.atoms if a[0] != "#" and a not in ("pi", "e")}

    @property
    def rational(self) -> Fraction | None:
        return self.num.get((), Fraction(0)) if self.den == ONE and set(self.num) <= {()} else None

    def key(self) -> str:
        return f"{_text(self.num)}/{_text(self.den)}"

    def same(self, other: Value) -> bool | None:
        """Exactly equal; None where an opaque atom leaves it open."""
        if self.den == other.den == ONE:  # sums of monomials in one order: equal where they are the same
            rest = self.num != other.num
        else:
            rest = _add(_times(self.num, other.den), _times(other.num, self.den), -1)
        if not rest:
            return True
        return None if self.opaque or other.opaque else False

    def near(self) -> float:
        """As a float, to order end points only. Raises Unreadable for a value that is no real number."""
        known = {"pi": math.pi, "e": math.e}
        try:
            top, bottom = (
                sum(
                    float(c) * math.prod((known.get(a) or float(a[1:])) ** float(p) for a, p in m) for m, c in p.items()
                )
                for p in (self.num, self.den)
            )
            return top / bottom
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise Unreadable("not a real number") from error


def _text(p: Poly) -> str:
    text = "+".join(sorted(f"{c}" + "".join(f"*[{a}]^{k}" for a, k in m) for m, c in p.items())) or "0"
    if len(text) > MAX_KEY:
        raise Unreadable("too deep")
    return text


def _quotient(num: Poly, den: Poly) -> Value:
    if len(den) == 1:  # a monomial can be inverted
        ((mono, c),) = den.items()
        inverse, factor = _monomial({a: -p for a, p in mono})
        return Value(_times(num, {inverse: factor / c}), ONE)
    if not den:
        raise Unreadable("division by zero")
    return Value(num, den)


def constant(x: Fraction | int) -> Value:
    return Value({(): Fraction(x)} if x else {}, ONE)


def atom(name: str) -> Value:
    return Value({((name, Fraction(1)),): Fraction(1)}, ONE)


def power_of(base: Value, exponent: Value) -> Value:
    n = exponent.rational
    if n is None:
        if base.num == {(("e", Fraction(1)),): Fraction(1)} and base.den == ONE:
            angle = exponent / atom("#i")
            if (turn := _half_turns(angle)) is not None and (c := _cosine(turn)) and (s := _cosine(turn - HALF)):
                return c + s * atom("#i")
        return atom(f"({base.key()})^({exponent.key()})")
    if n.denominator == 1:
        if n < 0:
            return constant(1) / power_of(base, constant(-n))
        size = max((c.numerator.bit_length() + c.denominator.bit_length() for c in base.num.values()), default=1)
        if n > (40 if max(len(base.num), len(base.den)) > 1 else MAX_BITS) or n * size > MAX_BITS * 2:
            raise Unreadable("too large a power")
        result, square, n = constant(1), base, int(n)
        while n:
            if n & 1:
                result = result * square
            n >>= 1
            square = square * square if n else square
        return result
    if n < 0:
        return constant(1) / power_of(base, constant(-n))
    return root(base, n)


def root(base: Value, n: Fraction, real: bool = False) -> Value:
    r"""base^n for 0 < n not whole. `real` takes the real odd root of a negative number, as \sqrt[3]{-8} does."""
    if base.den == ONE and len(base.num) == 1:
        ((mono, c),) = base.num.items()
        simple = all(p == 1 and "(" not in a and a != "#i" for a, p in mono)
        if simple and (c > 0 or (not mono and (n == HALF or (real and n.denominator % 2)))):
            result = Value({tuple((a, n) for a, _ in mono): Fraction(1)}, ONE)
            powers: dict[str, Fraction] = {}
            for part, sign in ((abs(c).numerator, 1), (c.denominator, -1)):
                for prime in _primes(part):
                    powers[f"#{prime}"] = powers.get(f"#{prime}", Fraction(0)) + sign * n
            found, factor = _monomial(powers)
            result = result * Value({found: factor}, ONE)
            return result if c > 0 else -result if n != HALF else result * atom("#i")
    if not base.num:
        return base
    return atom(f"({base.key()})^({n})")


def _primes(n: int) -> list[int]:
    found, p = [], 2
    while p <= MAX_PRIME and p * p <= n:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    if n > 1:
        if p * p <= n:
            raise Unreadable("too large a radicand")
        found.append(n)
    return found


def _half_turns(angle: Value) -> Fraction | None:
    """angle / pi where that is rational."""
    return (angle / atom("pi")).rational


def _cosine(turn: Fraction) -> Value | None:
    """cos(turn * pi) for multiples of pi/4 and pi/6."""
    turn = abs((turn + 1) % 2 - 1)
    sign, turn = (-1, 1 - turn) if turn > HALF else (1, turn)
    squares = {Fraction(0): 4, Fraction(1, 6): 3, Fraction(1, 4): 2, Fraction(1, 3): 1, HALF: 0}
    if turn not in squares:
        return None
    return root(constant(squares[turn]), HALF) * constant(Fraction(sign, 2))


def sin(x: Value) -> Value | None:
    return None if (turn := _half_turns(x)) is None else _cosine(turn - HALF)


def cos(x: Value) -> Value | None:
    return None if (turn := _half_turns(x)) is None else _cosine(turn)


def tan(x: Value) -> Value | None:
    s, c = sin(x), cos(x)
    return s / c if s and c else None


_COMPLEMENTS = {"sin": "cos", "cos": "sin", "tan": "cot", "cot": "tan", "sec": "csc", "csc": "sec"}
_EVEN = ("cos", "sec", "cosh")


def opaque(name: str, x: Value) -> Value:
    """A function's value that stays unknown, in one spelling: f(pi/2 - x) as its cofunction of x, f(-x) by its
    parity."""
    sign = 1
    if name in _COMPLEMENTS and x.den == ONE and x.num.get((("pi", Fraction(1)),)) == HALF and len(x.num) > 1:
        name, x = _COMPLEMENTS[name], constant(HALF) * atom("pi") - x
    if name in (*_COMPLEMENTS, "sinh", "tanh", "cosh", "arcsin", "arctan") and x.num and x.num[min(x.num)] < 0:
        x, sign = -x, 1 if name in _EVEN else -1
    found = atom(f"{name}({x.key()})")
    return found if sign > 0 else -found


def ln(x: Value) -> Value | None:
    value = x.rational
    if value is None or value <= 0:
        return constant(1) if x.key() == atom("e").key() else None
    total = constant(0)
    for part, sign in ((value.numerator, 1), (value.denominator, -1)):
        for prime in _primes(part):
            total = total + atom(f"ln({prime})") * constant(sign)
    return total


def ratio(top: Value, bottom: Value) -> Value:
    """log_4 8 = 3 ln 2 / (2 ln 2) is rational where the sums are multiples of each other."""
    if not bottom.num:
        raise Unreadable("a logarithm to base 1")
    mono, c = next(iter(bottom.num.items()))
    factor = constant(top.num.get(mono, Fraction(0)) / c)
    return factor if (top - bottom * factor).num == {} else top / bottom


def binomial(n: Value, k: Value) -> Value:
    a, b = n.rational, k.rational
    if a is None or b is None or a.denominator != 1 or b.denominator != 1 or not 0 <= b <= a <= 200:
        raise Unreadable("a binomial")
    return constant(math.comb(int(a), int(b)))
