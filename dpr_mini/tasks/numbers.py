"""Tasks about whole numbers: two numbers from their product and sum, a missing factor, an equation, factors, sums."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dpr_mini.tasks.base import Item, Task
from dpr_mini.tasks.equations import NUMBER, equation

_SIGNED = re.compile(rf"-?{NUMBER}")
_MISSES = 1000  # draws in a row that were there before: all there are have come


def _shuffled(rng: random.Random, items: list[Item]) -> list[Item]:
    return rng.sample(items, len(items))


@dataclass(frozen=True)
class ProductAndSum(Task):
    """Two numbers from their product and their sum: "product 56, sum 15" is 7 and 8. A search; two equations check."""

    largest: int = 50

    name = "product_and_sum"
    pattern = rf"{NUMBER}\s*(?:,|and)\s*{NUMBER}(?!\s*(?:,|and)\s*\d)"

    def all(self, rng: random.Random) -> Iterator[Item]:
        pairs = itertools.combinations_with_replacement(range(2, self.largest + 1), 2)
        yield from _shuffled(
            rng, [Item(f"product {a * b}, sum {a + b}", f"{a}, {b}", f"{a} {b}", f"{a} {b}") for a, b in pairs]
        )

    def right(self, statement: str, answer: str) -> bool:
        product, total = map(int, re.findall(r"\d+", statement))
        pair = self._pair(answer)
        return bool(pair) and pair[0] * pair[1] == product and sum(pair) == total

    def steps(self, statement: str, answer: str) -> list[str] | None:
        pair = self._pair(answer)
        return [equation(pair[0], op, pair[1])[0] for op in "*+"] if pair else None

    def normal(self, answer: str) -> str:
        return ",".join(map(str, sorted(self._pair(answer) or ())))

    @staticmethod
    def _pair(answer: str) -> list[int] | None:
        found = re.findall(NUMBER, answer)
        return [int(n) for n in found] if len(found) == 2 else None


@dataclass(frozen=True)
class MissingFactor(Task):
    """The factor that is missing: "? * 7 = 91" is 13. A division; one product checks."""

    largest: int = 39
    factors: tuple[int, int] = (3, 9)

    name = "missing_factor"
    pattern = NUMBER

    def all(self, rng: random.Random) -> Iterator[Item]:
        low, high = self.factors
        each = itertools.product(range(2, self.largest + 1), range(low, high + 1))
        items = [Item(f"? * {b} = {a * b}", str(a), f"{a} * {b}", " ".join(map(str, sorted((a, b))))) for a, b in each]
        yield from _shuffled(rng, items)

    def right(self, statement: str, answer: str) -> bool:
        b, product = map(int, re.findall(r"\d+", statement))
        return bool(re.fullmatch(NUMBER, answer.strip())) and int(answer) * b == product

    def steps(self, statement: str, answer: str) -> list[str] | None:
        b = int(re.findall(r"\d+", statement)[0])
        return [equation(int(answer), "*", b)[0]] if re.fullmatch(NUMBER, answer.strip()) else None


@dataclass(frozen=True)
class Linear(Task):
    """A linear equation: "3x + 4 = 19" is 5. Two inverse operations; putting the number in checks."""

    largest: int = 30

    name = "linear"
    pattern = rf"(?:x\s*=\s*)?{NUMBER}"

    def all(self, rng: random.Random) -> Iterator[Item]:
        each = itertools.product(range(2, 10), range(1, 21), range(2, self.largest + 1))
        yield from _shuffled(
            rng,
            [Item(f"{a}x + {b} = {a * x + b}", str(x), f"{a}x + {b} = {a * x + b}", f"{a} {x}") for a, b, x in each],
        )

    def right(self, statement: str, answer: str) -> bool:
        a, b, value = map(int, re.findall(r"\d+", statement))
        x = self._x(answer)
        return x is not None and a * x + b == value

    def steps(self, statement: str, answer: str) -> list[str] | None:
        a, b, _ = map(int, re.findall(r"\d+", statement))
        x = self._x(answer)
        if x is None:
            return None
        first, value = equation(a, "*", x)
        return [first, equation(value, "+", b)[0]]

    def normal(self, answer: str) -> str:
        return str(self._x(answer))

    @staticmethod
    def _x(answer: str) -> int | None:
        m = re.fullmatch(rf"(?:x\s*=\s*)?({NUMBER})", answer.strip())
        return int(m[1]) if m else None


@dataclass(frozen=True)
class Factorisation(Task):
    """Prime factors: "84" is 2*2*3*7. A search; multiplying back checks, primality is the verifier's to see."""

    largest: int = 600

    name = "factorisation"
    pattern = rf"{NUMBER}(?:\s*\*\s*{NUMBER})+"

    def all(self, rng: random.Random) -> Iterator[Item]:
        composite = [(n, f) for n in range(4, self.largest + 1) if len(f := _prime_factors(n)) > 1]
        yield from _shuffled(
            rng, [Item(str(n), "*".join(map(str, f)), str(n), str(n), f"{len(f)} factors") for n, f in composite]
        )

    def right(self, statement: str, answer: str) -> bool:
        return sorted(self._factors(answer)) == _prime_factors(int(statement))

    def steps(self, statement: str, answer: str) -> list[str] | None:
        factors = self._factors(answer)
        if not 2 <= len(factors) <= 12:
            return None
        lines, value = [], factors[0]
        for n in factors[1:]:
            line, value = equation(value, "*", n)
            lines.append(line)
        return lines

    def normal(self, answer: str) -> str:
        return "*".join(map(str, sorted(self._factors(answer))))

    @staticmethod
    def _factors(answer: str) -> list[int]:
        return [int(n) for n in re.findall(NUMBER, answer)]


@dataclass(frozen=True)
class Sums(Task):
    """Sums and differences in a chain: "8 + 5 - 6" is 7. Checking one is computing it again: the negative control."""

    terms: int = 3
    digits: int = 1

    name = "sums"
    pattern = _SIGNED.pattern

    def all(self, rng: random.Random) -> Iterator[Item]:
        low, high = (1, 9) if self.digits == 1 else (10 ** (self.digits - 1), 10**self.digits - 1)
        seen: set[str] = set()
        misses = 0
        while misses < _MISSES:
            numbers = [rng.randint(low, high) for _ in range(self.terms)]
            signs = ["+", *(rng.choice("+-") for _ in numbers[1:])]
            key = " ".join(sorted(f"{s}{n}" for s, n in zip(signs, numbers, strict=True)))
            if key in seen:
                misses += 1
                continue
            seen.add(key)
            misses = 0
            text = str(numbers[0]) + "".join(f" {s} {n}" for s, n in zip(signs[1:], numbers[1:], strict=True))
            yield Item(text, str(self._worked(text)[1]), key, key)

    def right(self, statement: str, answer: str) -> bool:
        return bool(_SIGNED.fullmatch(answer.strip())) and int(answer) == self._worked(statement)[1]

    def steps(self, statement: str, answer: str) -> list[str] | None:
        return self._worked(statement)[0]

    def normal(self, answer: str) -> str:
        return str(int(answer))

    @staticmethod
    def _worked(statement: str) -> tuple[list[str], int]:
        first, *rest = statement.split()
        value, lines = int(first), []
        for op, n in zip(rest[::2], rest[1::2], strict=True):
            line, value = equation(value, op, int(n))
            lines.append(line)
        return lines, value


def _prime_factors(n: int) -> list[int]:
    factors, d = [], 2
    while d * d <= n:
        while n % d == 0:
            factors.append(d)
            n //= d
        d += 1
    return [*factors, n] if n > 1 else factors
