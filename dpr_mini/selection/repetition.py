"""Does a text say the same again and again? A list of like steps does not: its numbers or letters go on."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

REACH = 60  # words on each side of a run within which a step's numbers are looked for
_NUMBER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "zero one two three four five six seven eight nine ten eleven twelve first second third fourth fifth sixth "
        "seventh eighth ninth tenth ii iii iv vi vii viii ix xi xii",
    )
)
# Where a list counts its own lines: the same sentence under another number is the same sentence.
_MARKER = re.compile(
    r"(?:^|(?<=[.!?;]\s))[ \t>*#_-]*(?:step|case|check|attempt|round|point|option|part)\s+\w{1,3}\s*[.):]"
    r"|^[ \t>*#_]*\(?(?:\d{1,3}|[a-z])[.)](?=\s)",
    re.I | re.M,
)
_MARKS = ".,;:!?()[]{}\"'$*_`|"


@dataclass(frozen=True)
class _Word:
    text: str  # in lower case
    changes: bool  # may differ from step to step
    ends: bool  # a sentence or a line


def repeated(text: str, n: int, times: int) -> tuple[int, str] | None:
    """(how often, the run of n words) where one follows itself or comes back `times` times or more, else None.

    Case and list markers aside. A return does not count where the words around it differ from those of the time before
    in numbers or letters alone: "Day 3: it grows by 2 cm, so it is 11 cm high" goes on from day 2.
    """
    if not _comes_back(text, n, times):
        return None
    words = list(_words(text))
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at in range(len(words) - n + 1):
        places[tuple(w.text for w in words[at : at + n])].append(at)
    best: tuple[int, str] | None = None
    for run, found in places.items():
        if len(found) < (best[0] + 1 if best else times):
            continue
        count = _returns(found, words, n)
        if count >= (best[0] + 1 if best else times):
            best = (count, " ".join(run))
    return best


def _comes_back(text: str, n: int, times: int) -> bool:
    """Whether any run of n words stands there `times` times: most texts have none, and that is quickly seen."""
    words = [word.lower() for word in _MARKER.sub(" ", text).split()]
    if len(words) < n + times - 1:
        return False
    return max(Counter(zip(*(words[i:] for i in range(n)), strict=False)).values()) >= times


def _words(text: str) -> Iterator[_Word]:
    for line in _MARKER.sub(" ", text).splitlines():
        said = line.split()
        for i, word in enumerate(said, 1):
            yield _Word(word.lower(), _changes(word), i == len(said) or word.rstrip("*_\"')")[-1:] in (".", "!", "?"))


def _changes(word: str) -> bool:
    """True for a number, a letter or a few that name something, a formula."""
    bare = word.strip(_MARKS)
    if len(bare) <= 1 or bare.lower() in _NUMBER_WORDS:
        return True
    named = bare.isalpha() and bare.isupper() and len(bare) <= 4  # AB, ABC
    return named or any(c.isdigit() or c in "\\=^_+*/<>" for c in bare)


def _returns(found: Sequence[int], words: Sequence[_Word], n: int) -> int:
    """How often, at most, a run comes in a row without anything that went on in between."""
    most = count = 1
    for before, now in pairwise(found):
        count = 1 if _goes_on(before, now, words, n) else count + 1
        most = max(most, count)
    return most


def _goes_on(before: int, now: int, words: Sequence[_Word], n: int) -> bool:
    """True if two steps around the same run, at `before` and `now`, are alike up to a number that differs.

    Read are the run's sentence from its start, and what follows it, as far as the words are the same.
    """
    room = now - before - n  # words of a step besides the run: beyond them is the next one
    left = 1
    while left <= min(room, REACH, before) and not words[now - left].ends:
        a, b = words[before - left], words[now - left]
        if a.text != b.text:
            if a.changes and b.changes:
                return True
            break
        left += 1
    behind = range(now + n, min(now + n + min(room - left + 1, REACH), len(words)))
    pairs = ((words[i - now + before], words[i]) for i in behind)
    differ = next(((a, b) for a, b in pairs if a.text != b.text), None)
    return differ is not None and differ[0].changes and differ[1].changes
