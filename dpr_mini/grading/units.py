r"""Units and words behind or before a value: which may be dropped on one side, and which are part of the answer.

A unit is one of a closed list, with powers, products and slashes; a counted thing ("18 marbles") is any other word
that names no number, operation, direction, limit or denial. Works on text that `notation.clean` has spelled.
"""

from __future__ import annotations

import re
from fractions import Fraction

# symbol -> its other names (singular)
_UNITS = {
    "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre", "m": "meter metre",
    "dm": "decimeter decimetre", "in": "inch inche", "ft": "foot feet", "mi": "mile", "yd": "yard", "nm": "nanometer",
    "kg": "kilogram kilo", "g": "gram gramme gm", "mg": "milligram", "lb": "pound lbs", "oz": "ounce", "t": "tonne ton",
    "s": "sec second", "min": "minute", "h": "hr hour hrs", "ms": "millisecond", "day": "", "week": "", "month": "",
    "year": "yr", "l": "liter litre", "ml": "milliliter millilitre", "gal": "gallon", "qt": "quart", "pt": "pint",
    "cup": "", "tbsp": "tablespoon", "tsp": "teaspoon", "mph": "", "kph": "kmh kmph", "acre": "", "ha": "hectare",
    "degrees": "degree deg", "rad": "radian", "unit": "", "dollar": "usd buck", "cent": "", "euro": "eur",
    "gbp": "", "yen": "jpy", "yuan": "rmb cny", "rupee": "inr", "n": "newton", "j": "joule", "w": "watt", "v": "volt",
    "hz": "hertz", "k": "kelvin", "pa": "pascal", "kw": "kilowatt", "kwh": "", "cal": "calorie", "kcal": "",
    "%": "percent per_cent pct percentage", "celsius": "", "fahrenheit": "", "mol": "mole", "bit": "", "byte": "",
    "point": "pt", "kj": "kilojoule", "mpg": "", "ppm": "",
}  # fmt: skip
_SHORT = {long: short for short, longs in _UNITS.items() for long in longs.replace("_", " ").split()}
_CHINESE = {
    "\u5143": "yuan",
    "\u7c73": "m",
    "\u5398\u7c73": "cm",
    "\u6beb\u7c73": "mm",
    "\u5343\u7c73": "km",
    "\u516c\u91cc": "km",
    "\u514b": "g",
    "\u5343\u514b": "kg",
    "\u516c\u65a4": "kg",
    "\u5c0f\u65f6": "h",
    "\u5206\u949f": "min",
    "\u79d2": "s",
    "\u5929": "day",
    "\u5e74": "year",
    "\u5ea6": "degrees",
    "\u5e73\u65b9\u7c73": "m^2",
    "\u5e73\u65b9\u5398\u7c73": "cm^2",
    "\u7acb\u65b9\u7c73": "m^3",
    "\u7acb\u65b9\u5398\u7c73": "cm^3",
    "\u5428": "t",
    "\u5347": "l",
    "\u5186": "yen",
}
_COUNTED_CHINESE = set(
    "\u4e2a\u53ea\u672c\u4ef6\u4eba\u5c81\u6b21\u5f20\u6761\u68f5\u8f86\u9897\u5757\u652f\u53f0\u540d\u5934\u5bb6\u679a\u500b"
)
SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "lakh": 10**5, "crore": 10**7, "score": 20, "gross": 144, "pair": None, "k": None,
}  # fmt: skip
CURRENCY = {"$": "dollar", "\u20ac": "euro", "\u00a3": "gbp", "\u00a5": "yen", "\u20b9": "rupee"}

# Words that name a number, an operation, a direction, a limit, a denial or a doubt: never dropped.
_ORDINALS = (
    "half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths seventh sevenths eighth "
    "eighths "
    "ninth ninths tenth tenths eleventh elevenths twelfth twelfths hundredth hundredths thousandth thousandths "
    "millionths "
    "sixteenth sixteenths twentieth twentieths"
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands "
    "million "
    "millions billion billions trillion trillions dozen dozens lakh lakhs crore crores score scores gross myriad "
    "pair pairs "
    "once twice thrice single double triple quadruple first second-last last"
)
_OPERATIONS = (
    "plus minus times over divided multiplied squared square-root cubed cube-root factorial doubled tripled halved "
    "quadrupled negative positive mod modulo modulus power root log sum product difference quotient remainder "
    "inverse "
    "reciprocal opposite multiple multiples fold base binary hex octal decimal exponent to by of per-cent raised "
    "added "
    "subtracted less more fewer extra short increased decreased reduced rounded ceiling floor absolute gcd lcm "
    "hcf max min "
    "choose permute sin cos tan pi imaginary dozen"
)
_DIRECTIONS = (
    "left right up down above below under beneath behind ahead back backward backwards forward forwards north "
    "south east "
    "west northeast northwest southeast southwest clockwise counterclockwise anticlockwise increase decrease "
    "increasing "
    "decreasing increases decreases gain loss gained lost profit deficit surplus debt owed rise fall rises falls "
    "up-hill "
    "downhill higher lower taller shorter older younger faster slower earlier later before after ago hence early "
    "late am pm "
    "noon midnight morning afternoon evening night bc ad bce ce in-debt overdrawn ascent descent upward downward "
    "upwards "
    "downwards inside outside credit debit withdrawn deposited won"
)
_LIMITS = (
    "at least most than up-to maximum minimum exactly about approximately approx around roughly nearly almost "
    "only or and "
    "between either both all any every none no not never neither nor except excluded excluding included "
    "including inclusive "
    "exclusive without unless if else otherwise when where for while but wrong incorrect false true maybe "
    "perhaps possibly "
    "probably likely unsure unknown guess cannot could might may would should is are was were be isn't aren't "
    "can't if "
    "infinite infinitely undefined repeating recurring each apiece respectively same different other others instead "
    "together beyond within from onward onwards until till through missing too so on etc impossible unlikely "
    "sure not-"
)
VALUE_WORDS = frozenset(w for group in (_ORDINALS, _NUMBERS, _OPERATIONS, _DIRECTIONS, _LIMITS) for w in group.split())
_MODIFIERS = re.compile(r"[a-z]+(?:ly|fold|wise|ward|wards)")  # exactly, twofold, clockwise
_PARTICIPLE = re.compile(r"[a-z]{3,}ed")  # doubled, excluded
_NOUNS_IN_ED = {
    "seed",
    "weed",
    "bed",
    "shed",
    "sled",
    "need",
    "deed",
    "breed",
    "steed",
    "red",
    "feed",
    "reed",
    "thread",
}
_NOUNS_IN_LY = {"fly", "family", "butterfly", "jelly", "lily", "belly", "bully", "assembly", "supply", "ally", "dolly"}

_RATES = {"mph": "mi/h", "kph": "km/h", "mpg": "mi/gal", "kmh": "km/h"}
_WORD = re.compile(r"@?[A-Za-z\u4e00-\u9fff]+(?:[-'][A-Za-z]+)*")
# what stands behind a value as its unit: words, @m, slashes, powers
_TAIL = re.compile(
    r"(?P<value>.*?(?:[0-9)}\]%!]|(?<![A-Za-z])[A-Za-z]|\\[a-z]+))"
    r"(?P<unit>(?:\s*@[A-Za-z]|\s*%|\s+[A-Za-z](?=\s*/)|\s+[A-Za-z]{2,}|(?<=[0-9)}\]])[A-Za-z]{2,}"
    r"|\s*[\u4e00-\u9fff]+)"
    r"(?:\s*(?:\^\s*\{?\s*-?[0-9]\s*\}?|/|\\cdot|\*|@[A-Za-z](?![A-Za-z])|[A-Za-z.]+|-(?=[A-Za-z])))*)\s*$"
)


_WORDS_WITHIN = re.compile(r"(?<![\\A-Za-z])(?!sin|cos|tan|log|sqrt|pi)[A-Za-z]{2,}")  # "5 hours and 30" is no value


def is_value_word(word: str) -> bool:
    """Whether dropping the word could change what is said."""
    word = word.lower().strip("'").removesuffix("'s")
    if word in VALUE_WORDS or word.removesuffix("s") in _SINGLE_VALUE:
        return True
    if _MODIFIERS.fullmatch(word):
        return word not in _NOUNS_IN_LY and word.rstrip("s") not in _NOUNS_IN_LY
    return bool(_PARTICIPLE.fullmatch(word)) and word not in _NOUNS_IN_ED and not word.endswith(("seed", "weed", "bed"))


_SINGLE_VALUE = frozenset(w for w in VALUE_WORDS if len(w) > 3)


def unit_name(word: str) -> str:
    """One spelling of a unit's word: singular, and short where there is an abbreviation."""
    word = word.lower().rstrip(".")
    if word.startswith("@"):
        return word[1:]
    singular = word if word in _UNITS or len(word) < 3 else word.removesuffix("s")
    return _SHORT.get(word) or _SHORT.get(singular, singular)


def known(word: str) -> bool:
    return unit_name(word) in _UNITS or word.startswith("@")


def canonical(text: str) -> str | None:
    """One spelling of a unit or of counted things; None where a word is part of the value, or a letter a variable.

    "square cm", "cm^2" and "sq. centimeters" are "cm^2"; "km / h", "km per hour" are "km/h"; "red marbles" is itself.
    """
    text = text.strip()
    if all("\u4e00" <= c <= "\u9fff" for c in text) and text:
        return _CHINESE.get(text) or ("thing" if text[0] in _COUNTED_CHINESE else None)
    text = re.sub(r"\bp\.?\s*m\.|\ba\.?\s*m\.", "am", text)
    words = re.findall(r"@?[A-Za-z]+(?:-[A-Za-z]+)*|%|\^\s*\{?\s*-?[0-9]\s*\}?|/|\\cdot|\*", text.replace(".", " "))
    if re.sub(r"[\s.]", "", text) != re.sub(r"\s", "", "".join(words)):
        return None
    parts: list[str] = []
    power, bottom, things = "", False, []
    for at, word in enumerate(words):
        if word[0] == "^":
            if not parts:
                return None
            n = re.sub(r"[^0-9-]", "", word)
            parts[-1] += f"^{n}" if n != "1" else ""
        elif word in ("/", "per") or word.lower() == "per":
            if not parts or bottom:
                return None
            bottom = True
            parts.append("/")
        elif word in ("*", "\\cdot"):
            if not parts:
                return None
        elif word.lower() in ("square", "sq", "cubic", "cu") and at + 1 < len(words):
            power = "^2" if word.lower().startswith("sq") else "^3"
        elif known(word):
            name = unit_name(word)
            if len(name) == 1 and len(word) == 1 and not (bottom or len(words) > 1 or word.startswith("@")):
                return None  # a single letter is a variable
            parts.append(name + power)
            power = ""
        else:
            if is_value_word(word) or len(word) < 3:
                return None
            things.append(word.lower())
            parts.append(word.lower().removesuffix("s") if len(word) > 3 else word.lower())
            power = ""
    if power or not parts or (things and len(parts) > 4) or parts[-1] == "/":
        return None
    if any("^" in p for p in parts) and things:
        return None
    name = " ".join(parts).replace(" / ", "/")
    return _RATES.get(name, name)


def split_unit(text: str) -> tuple[str, str]:
    """(value, unit) of cleaned text such as "6\\pi cm^2", "$5", "18 marbles"; the unit "" where there is none."""
    text = text.strip()
    sign = re.match(r"([-+]?)\s*([$\u20ac\u00a3\u00a5\u20b9])\s*(?=[-.0-9\\])", text)
    if sign:
        name = CURRENCY[sign[2]]
        if rate := re.fullmatch(r"([0-9][0-9.,]*)\s*(?:/|per|an?|each)\s*([A-Za-z ]+)", text[sign.end() :]):
            thing = canonical(rate[2])
            return (sign[1] + rate[1], f"{name}/{thing}") if thing else (text, "")
        rest, unit = split_unit(text[sign.end() :])
        if not unit or unit == name or unit in ("dollar", "usd"):
            return sign[1] + rest, name
        if unit.partition(" ")[0] in SCALES or unit.startswith("/"):
            return text, ""
        return sign[1] + rest, f"{name} {unit}" if not unit.startswith(name) else unit
    if text[-1:] in CURRENCY and len(text) > 1 and re.search(r"[0-9]\s*.$", text):
        return text[:-1].strip(), CURRENCY[text[-1]]
    found = _TAIL.fullmatch(text)
    if not found:
        return text, ""
    value, tail = found["value"].strip(), found["unit"].strip()
    glued = not found["unit"][:1].isspace() and found["unit"][:1] not in "@%" and found["unit"][:1].isascii()
    if glued and (head := re.match(r"[A-Za-z]+", tail)) and not (len(head[0]) > 1 and known(head[0])):
        return text, ""
    name = canonical(tail)
    if name == "degrees" and re.search(r"sin|cos|tan|cot|sec|csc", value):
        return text, ""  # the angle's
    return (value, name) if name and not _WORDS_WITHIN.search(value) else (text, "")


def scaled(text: str) -> tuple[str, Fraction] | None:
    """("3", 10^6) of "3 million", ("2", 12) of "2 dozen eggs": what follows is left on."""
    found = re.fullmatch(r"(\$?\s*[-+]?[0-9][0-9.,]*)\s+([A-Za-z]+)\b\s*(.*)", text.strip())
    if not found or not (scale := SCALES.get(found[2].lower().removesuffix("s"))):
        return None
    return f"{found[1]} {found[3]}".strip(), Fraction(scale)


_FORMULA_WORDS = re.compile(r"\\[A-Za-z]+")
_NAMES = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt pi lim max min gcd lcm mod",
    )
)


def prose(text: str) -> list[str]:
    """The words of a cleaned answer that are no command or function name, in lower case."""
    bare = _FORMULA_WORDS.sub(" ", text)
    words = (w.lower() for w in _WORD.findall(bare))
    short = re.findall(r"\b(?:or|no|am|pm|up|to|of|is|by|so|if)\b", bare.lower())
    return [w for w in words if len(w) > 2 and w not in _NAMES] + short
