"""Is a text in English? By letters, and by the small words of the languages that share them."""

from __future__ import annotations

import re

_GREEK = ("\u0370", "\u03ff")  # mathematics
GARBLED = "\ufffd"  # what a decoder writes for bytes that are no text

# Small words that English lacks (or has as names' parts alone): "la", "de", "von". One letter is a variable.
_SMALL = {
    "German": "der das und ist wir nicht ein eine einen einer mit von zu dem sich auf werden wird damit wenn dann "
    "jeder jede jedes haben hat sind aus bei nach dass durch noch",
    "Spanish": "el la los las de del que en por para con una un es como entonces cada su se lo al esto son porque",
    "French": "le la les des du de et est une un dans pour que qui nous donc avec sur par au aux ce cette sont il elle",
    "Portuguese": "os de da dos das em para com uma um que ent\u00e3o n\u00e3o cada por seu isso temos \u00e9 s\u00e3o",
    "Italian": "il la le di che un una con sono quindi del della dei ogni gli nel alla abbiamo \u00e8 si",
}
_FOREIGN = {word: name for name, words in reversed(_SMALL.items()) for word in words.split()}
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "the of and to is in that it for are with as we so this there be each has have he she they was on at by from "
        "not then which need let you will if because since these can his her their all per one many",
    )
)
_SENTENCE = re.compile(r"[^.!?\n]+")
MIN_WORDS = 3  # different small words of another language in a sentence that make it one of that language


def foreign(text: str, max_share: float) -> str | None:
    """What is not English in a text: too many foreign letters, garbled ones, a sentence; None if nothing."""
    share, letters = foreign_letters(text)
    if share > max_share:
        return f"{share:.0%} of letters: {letters[:20]}"
    if GARBLED in text:
        return f"{text.count(GARBLED)} characters that no decoder could read"
    sentence = foreign_sentence(text)
    return f"not English: {sentence[:80]}" if sentence else None


def foreign_letters(text: str) -> tuple[float, str]:
    """(share of the letters that are neither ASCII nor Greek, those letters).

    Accented letters of a word that begins with a capital are a name's (Zoë, Núñez) and not counted.
    """
    letters = [x for x in text if x.isalpha()]
    names = {m.start() + i for m in re.finditer(r"[^\W\d_]+", text) if m[0][0].isupper() for i in range(len(m[0]))}
    found = [
        x
        for i, x in enumerate(text)
        if x.isalpha() and not x.isascii() and not _GREEK[0] <= x <= _GREEK[1] and not (i in names and x <= "\u024f")
    ]
    return len(found) / max(len(letters), 1), "".join(found)


def foreign_sentence(text: str) -> str | None:
    """The first sentence with more small words of another European language than English ones; None without one."""
    for sentence in _SENTENCE.finditer(text):
        words = re.findall(r"[^\W\d_]{2,}|\u00e9|\u00e8", sentence[0].lower())
        other = [w for w in words if w in _FOREIGN]
        if len(set(other)) >= MIN_WORDS and len(other) > sum(w in _ENGLISH for w in words):
            return sentence[0].strip()
    return None
