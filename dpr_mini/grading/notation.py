r"""One spelling for what people and models write: Unicode signs, full-width forms, LaTeX spaces and styles.

`spelled` is for any text, before an answer is looked for in it; `clean` is for an answer or a gold answer, and
`squeeze` is `clean` without what only looks different. Nothing is dropped that could change a value.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SIGNS = {
    "\u2212": "-", "\uff0d": "-", "\u2010": "-", "\u2011": "-", "\u00d7": r"\times ", "\u2715": r"\times ",
    "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u2219": r"\cdot ", "\u2022": r"\cdot ", "\u2217": r"\cdot ",
    "\u00f7": r"\div ", "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u221a": r"\sqrt ", "\u221b": r"\sqrt[3] ",
    "\u221e": r"\infty ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u2a7d": r"\le ", "\u2a7e": r"\ge ",
    "\u2260": r"\ne ", "\u2248": r"\approx ", "\u2245": r"\approx ", "\u222a": r"\cup ", "\u2229": r"\cap ",
    "\u2208": r"\in ", "\u2209": r"\notin ", "\u2205": r"\emptyset ", "\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}",
    "\u2211": r"\sum ", "\u220f": r"\prod ", "\u222b": r"\int ", "\u230a": r"\lfloor ", "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ", "\u2309": r"\rceil ", "\u00b0": r"^\circ ", "\u2032": "'", "\u2044": "/", "\u2215": "/",
    "\u2026": r"\ldots ", "\u22ef": r"\cdots ", "\u2227": r"\land ", "\u2228": r"\lor ", "\u2216": r"\setminus ",
    "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u3002": ".", "\u3001": ",", "\u2192": r"\to ",
    "\u2220": r"\angle ", "\u27e8": r"\langle ", "\u27e9": r"\rangle ", "\u2236": ":", "\uff65": r"\cdot ",
}  # fmt: skip
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
for _name in _GREEK.split():
    _SIGNS[unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if _name == 'lambda' else _name.upper()}")] = f"\\{_name} "
_TABLE = str.maketrans(_SIGNS)  # what is drawn nowhere stays, and the grader refuses it
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_WIDE = re.compile("[\uff01-\uff5e]")
_ACCENTED = re.compile(
    "[\u00c0-\u00c5\u00c7-\u00cf\u00d1-\u00d6\u00d9-\u00dd\u00e0-\u00e5\u00e7-\u00ef\u00f1-\u00f6\u00f9-\u00fd]"
)
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207f]+")
_LOWERED = re.compile("[\u2080-\u208e]+")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_DASH = re.compile(
    "(?<![0-9A-Za-z)}\\]])(\\s*)[\u2013\u2014](?=[0-9.\\\\(])|(?<=[0-9A-Za-z)}\\]]\\s)[\u2013](?=\\s[0-9.\\\\(])"
)


def spelled(text: str) -> str:
    """Unicode to ASCII and LaTeX. A dash between two numbers stays: it may be a range."""
    if text.isascii():
        return text
    text = _SPACES.sub(" ", text)
    text = _WIDE.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
    text = _VULGAR.sub(_fraction, text)
    text = _RAISED.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{unicodedata.normalize('NFKC', m[0])}}}", text)
    text = _ACCENTED.sub(lambda m: unicodedata.normalize("NFKD", m[0])[0], text)
    return _DASH.sub(lambda m: f"{m[1] or ''}-", text).translate(_TABLE)


def _fraction(found: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", found[0]).partition("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}" if bottom else found[0]


# ---------------------------------------------------------------- answers

_WRAPPERS = (
    "text|textbf|textit|textrm|textsf|textnormal|emph|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathnormal|operatorname"
    "|boldsymbol|bm|rm|bf|underline|uline|ensuremath"
)
_WRAPPER = re.compile(rf"\\(?:{_WRAPPERS})\s*\{{((?:[^{{}}]|\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}})*)\}}")
# a letter in upright type behind a value is a unit, "@m"; in italics it is a variable
_UPRIGHT_UNIT = re.compile(
    rf"(?<=[0-9}}\])A-Za-z])\s*(?:\\[,; ])?\s*\\(?:{_WRAPPERS})\s*\{{[\s~]*([mgshlLNJWVK])\.?[\s~]*\}}"
)
_ARRAY = re.compile(r"\\left\s*[(\[]\s*\\begin\s*\{array\}\s*\{[lcr|]*\}(.*?)\\end\s*\{array\}\s*\\right\s*[)\]]", re.S)
_COLOUR = re.compile(r"\\(?:text)?color\s*\{[A-Za-z!0-9]{1,20}\}")
_STYLE = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|Large|large|LARGE|huge|small)(?![A-Za-z])"
)
_DELIMITER = re.compile(r"\\(?:left|right)\s*\.|\\(?:left|right|[Bb]igg?[lrm]?)(?![A-Za-z])|\\!")
_THIN = re.compile(r"(?<=[0-9])(?:\\[,;:! ]|\{,\}|,\\!)\s*(?=[0-9]{3}(?![0-9]))")
_MATH_SPACE = re.compile(
    r"(?<!\\)\\[,;: ]|\\(?:q?quad|thinspace|medspace|enspace|space|hspace\*?\{[^{}]*\})(?![A-Za-z])|~"
)
_ROW = re.compile(r"\\\\\s*\[\s*-?[0-9.]{1,6}\s*(?:pt|em|ex|mm|cm)\s*\]")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|\\textdegree(?![A-Za-z])")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ("__", "__"))
_TRAILING_SPACE = re.compile(r"(?:\\[,;:! ]|\\(?:q?quad)|\\(?=\s*$)|~|\s)+$")
_LEADING_SPACE = re.compile(r"^(?:\\[,;:! ]|\\(?:q?quad)(?![A-Za-z])|~|\s)+")


def strip(text: str) -> str:
    """Without math delimiters, bold marks and closing punctuation; "..." stays (it makes 0.333... another number)."""
    if text.isalnum():
        return text
    for _ in range(8):
        text = text.strip().removeprefix("**").removesuffix("**").strip().strip('"').strip()
        text = _LEADING_SPACE.sub("", _TRAILING_SPACE.sub("", text))
        end = len(text)
        while end and text[end - 1] in ".,;:!" and not text.endswith("..", 0, end):
            if (text[end - 1] == "!" and text[max(0, end - 2) : end - 1].strip(")}]") == "") or (
                text[end - 1] == "!" and text[end - 2].isalnum()
            ):
                break  # a factorial
            end -= 1
            while end and text[end - 1].isspace():
                end -= 1
        if text[:end] != text:
            text = _TRAILING_SPACE.sub("", text[:end])
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                inside = text[len(opening) : -len(closing)]
                if opening in ("$", "$$") and "$" in inside.replace(r"\$", ""):
                    continue  # two formulas with words between them
                text = inside
                break
        else:
            break
    return text.removesuffix("**") if text.count("**") == 1 else text


@lru_cache(8192)
def clean(answer: str) -> str:
    r"""One spelling for what looks the same: \dfrac and \frac, \left( and (, {,} and the comma, \text{} unwrapped."""
    if answer.isdigit() and answer.isascii():
        return answer
    text = strip(spelled(answer))
    if text.count("$") > 1 and not re.search(r"\$\s?[0-9]", re.sub(r"\$[^$]*\$", "", text)):
        text = re.sub(r"(?<!\\)\$([^$]*)(?<!\\)\$", r" \1 ", text)  # formulas with words between them
    text = re.sub(
        r"\\begin\s*\{(aligned|align\*?|gathered|split|gather\*?)\}(.*)\\end\s*\{\1\}", _lines, text, flags=re.S
    )
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)
    text = _UPRIGHT_UNIT.sub(r" @\1 ", text)
    text = _COLOUR.sub("", _ROW.sub(r"\\\\ ", text))
    text = re.sub(r"(?<=[0-9],)\s*\\!\s*(?=[0-9]{3})", "", text)
    text = _THIN.sub(",", text).replace("{,}", ",")
    text = _STYLE.sub(" ", _DELIMITER.sub("", text)).replace(r"\%", "%").replace(r"\$", "$").replace("{:}", ":")
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text).replace(r"\varnothing", r"\emptyset")
    text = re.sub(r"\\(leq|geq)(?:q|slant)(?![A-Za-z])", r"\\\1", text)
    text = re.sub(r"\\colon(?![A-Za-z])", ":", text)
    text = _MATH_SPACE.sub(" ", text)
    text = _DEGREES.sub(" degrees ", text)
    text = _EXPONENT.sub(_power_of_ten, text)  # before \\mathrm{e} is unwrapped: 2\\mathrm{e}+10 is a sum
    text = re.sub(r"(?<=[0-9)])\s+[xX]\s+(?=[0-9(])", r" \\times ", text)
    for _ in range(3):
        text = _WRAPPER.sub(_unwrapped, text)
    text = re.sub(r"\{\s*\}", "", text)
    text = re.sub(r"\(?\s*\\?[pb]?mod(?![A-Za-z])\s*\{?\s*(\w+)\s*\}?\s*\)?", r"\\pmod{\1}", text)
    text = re.sub(r"^\{([^{}]*)\}$", r"\1", text.strip())
    return strip(re.sub(r"\s+", " ", text))


_EXPONENT = re.compile(r"(?<![A-Za-z0-9_.\\\\])([0-9][0-9,]*(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,4})(?![0-9A-Za-z.])")


def _power_of_ten(found: re.Match[str]) -> str:
    if "e" in found[0] and found[2][0] == "+" and len(found[2]) == 2 and "." not in found[1]:
        return found[0]  # 2e+1 is a sum
    return rf"{found[1]}\times 10^{{{int(found[2])}}}"


def _lines(found: re.Match[str]) -> str:
    """Lines of an aligned formula are a list."""
    return ", ".join(line.replace("&", "").strip() for line in found[2].split(r"\\") if line.strip())


def _unwrapped(found: re.Match[str]) -> str:
    r"""What a style command wraps; words stay apart from what stands beside them."""
    inside = found[1]
    if inside == "e":
        return " e "  # apart from digits, so that it is never an exponent's
    return inside if re.fullmatch(r"[^A-Za-z]*|[A-Za-z]|\\[A-Za-z]+.*", inside) else f" {inside} "


@lru_cache(8192)
def squeeze(answer: str) -> str:
    """`clean` without spaces (but 3 1 is not 31, nor 1, 200 the number 1,200) and braces of a single character."""
    text = re.sub(r"(?<=[0-9]),\s+(?=[0-9]{3}(?![0-9]))", ";", clean(answer))
    return re.sub(r"\{([0-9A-Za-z])\}", r"\1", re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text))
