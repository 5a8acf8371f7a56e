"""What a number looks like in text."""

from __future__ import annotations

import re

INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
DECIMAL = rf"(?:{INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
_EXP = r"(?:[eE][-+]?[0-9]{1,4}(?![0-9A-Za-z.]))?"
_FRAC = r"\\[dtc]?frac\s*(?:\{-?[0-9]+\}\s*\{[0-9]+\}|[0-9]\s*[0-9])"
# Digits inside a word or an identifier ("H2O", "x_2") are no number; a minus after an operand is an operator.
NUMBER = re.compile(
    rf"(?:(?<=[=:(]\s)-\s|(?<![\w)\]}}.])-)?(?<![A-Za-z0-9_.^])(?<!\^\{{)(?<!_\{{)(?<!\^\{{-)(?:\\?[$\u20ac\u00a3]\s?)?-?"
    rf"(?:{_FRAC}|{DECIMAL}{_EXP}(?:\s?{_FRAC}|\s[0-9]+\s?/\s?[0-9]+|\s?/\s?{DECIMAL}(?!/|\.?[0-9]))?)(?:\s?\\?%)?"
)
