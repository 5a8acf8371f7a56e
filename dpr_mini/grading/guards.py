r"""What stands between a model's text and math-verify: too large, too deep, and what its parser would drop."""

from __future__ import annotations

import re

MAX_NESTING = 40  # brackets; math-verify's parser takes seconds beyond


def depth(text: str) -> int:
    level = deepest = 0
    for c in text:
        level += (c in "([{") - (c in ")]}")
        deepest = max(deepest, level)
    return deepest


_HEAVY = re.compile(
    r"[0-9]{301}"
    r"|[0-9.][eE][-+]?[0-9]{4}"
    r"|(?:\^|\*\*)[\s{(]*-?[\s{(]*[0-9]{5}"
    r"|[0-9)}]\s*(?:\^|\*\*)[\s{(]*[0-9]+[\s})]*(?:\^|\*\*)"
    r"|[0-9]{4}\s*!|!\s*[)}]?\s*!|[0-9]\s*[)}]+\s*!"
    r"|\\[dt]?binom\s*\{[^{}]*(?:[0-9]{4}|\^)"
    r"|\\(?:sum|prod|int|lim)(?![a-z]).{0,200}(?:[0-9]{4}|[0-9]\s*\^|\\infty|!)",
    re.S,
)
_FUNCTION = re.compile(r"\\?(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt)")


def heavy(answer: str) -> bool:
    """Power towers, factorials of factorials, sums to 10^9: a number that no answer needs, and no worker can bear."""
    return bool(_HEAVY.search(answer)) or len(_FUNCTION.findall(answer)) > 24


def for_parser(answer: str) -> str:
    r"""What math-verify is shown. An upright e, i, d or pi breaks its parse: 1 - 1/\mathrm{e} came out as 1."""
    answer = re.sub(r"\\(?:mathrm|text|textrm|operatorname|rm)\s*\{\s*([A-Za-z])\s*\}", r"\1", answer)
    answer = re.sub(r"\\(?:rm|mathrm)\s+([eid])(?![A-Za-z])", r"\1", answer).replace(r"\mathrm{\pi}", r"\pi")
    answer = re.sub(r"\\(leq|geq)(?:q|slant)(?![A-Za-z])", r"\\\1", answer)
    return re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi ", answer).replace("\x00", " ").replace("$", " ")


_AFTER_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textrm)\s*\{(?!\s*(?:and|or)\b)[^{}]*\}\s*[0-9]")


def dropped(gold: str, answer: str) -> bool:
    """Two answers differ in something that math-verify does not read: primes, the minutes of hours and minutes."""
    if len(re.findall(r"'|\\prime", gold)) != len(re.findall(r"'|\\prime", answer)):
        return True
    compound = _AFTER_WORDS.search(gold) or _AFTER_WORDS.search(answer)
    return bool(compound) and re.findall("[0-9]+", gold) != re.findall("[0-9]+", answer)


_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        "frac binom sqrt pi cdot times div pm mp le ge leq geq lt gt ne neq in notin cup cap infty mathbb mathcal "
        "left right begin end emptyset setminus sum prod int lim to dots ldots cdots equiv pmod mod bmod overline "
        "bar vec hat ln log exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh circ angle triangle "
        "mid lvert rvert vert lfloor rfloor lceil rceil land lor vee wedge forall exists alpha beta gamma delta "
        "epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi psi omega Delta "
        "Gamma Theta Lambda Sigma Phi Psi Omega Pi ell max min gcd lcm quad perp parallel sim cong prime "
        "operatorname text mathrm boldsymbol det choose over approx langle rangle partial nabla backslash subset "
        "subseteq wp Re Im",
    )
)


def unknown_commands(gold: str, answer: str) -> str:
    """A LaTeX command of the answer that nobody here reads and the gold answer does not have; "" where there is "
    "none."""
    found = set(re.findall(r"\\([A-Za-z]+)", answer)) - set(re.findall(r"\\([A-Za-z]+)", gold)) - _COMMANDS
    return min(found, default="")
