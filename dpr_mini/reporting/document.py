"""A report as data: sections of text, tables, figures and conversations, written as one HTML page and as Markdown.

What folds away in HTML stands open in Markdown and in print. Both come from the same blocks, so that they cannot
disagree. All text is untrusted (models wrote some of it): the HTML template escapes everything but the figures' SVG,
Markdown puts model text into fences, and both spell out what is not shown as it stands (`legible`). The page's
Content-Security-Policy allows its own styles alone: should markup get in all the same, it runs and loads nothing.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dpr_mini.types import redacted

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Text:
    text: str
    small: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Points:
    """A list of (verdict word or "", text)."""

    points: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Table:
    """`source` names the files that the numbers come from. A line break in a cell starts a small second line."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    source: str
    title: str = ""
    note: str = ""
    prose: bool = False  # cells hold words: left-aligned and wrapped
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)  # (row, column) -> "#id" of its samples
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figures:
    """(SVG, caption) of each; the SVG is ours and not escaped. A large one has the column for itself."""

    figures: Sequence[tuple[str, str]]
    large: bool = False
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Talk:
    """A conversation: (css class, label, what was said) per turn, unedited. A folded one shows its title alone."""

    title: str
    turns: Sequence[tuple[str, str, str]]
    note: str
    source: str
    folded: bool = False
    kind: ClassVar[str] = "talk"


@dataclass(frozen=True)
class Sample:
    """One dialogue behind a number: (css class, label, what was said) per turn, unedited."""

    title: str
    turns: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Samples:
    """Dialogues behind one number; laid over the page when a link to `anchor` is followed, not in print."""

    anchor: str
    title: str
    samples: Sequence[Sample]
    note: str
    source: str
    kind: ClassVar[str] = "samples"


@dataclass(frozen=True)
class Fold:
    """Long text behind a line to click on."""

    title: str
    text: str
    kind: ClassVar[str] = "fold"


Block = Text | Points | Table | Figures | Talk | Samples | Fold


@dataclass(frozen=True)
class Section:
    """Blocks under a title. One with a `summary` folds away behind its title and that line, but not in print."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    summary: str = ""


def render(name: str, title: str, lead: str, sections: Sequence[Section]) -> str:
    """The text of `templates/<name>` ("report.html", "report.md")."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"line": line, "fence": fence, "tight": tight}
    page = env.get_template(name).render(title=title, lead=lead, sections=[s for s in sections if s.blocks])
    return legible(redacted(page, wording=True))


def legible(text: str) -> str:
    """A page with what a reader does not see spelled out: control characters, what turns text round, half surrogates.

    Joiners stay, which some scripts are written with, and spaces of any width.
    """
    unseen = {
        ord(c): ascii(c)[1:-1]
        for c in set(text) - {"\n", "\t", "\u200c", "\u200d"}
        if not c.isprintable() and unicodedata.category(c) != "Zs"
    }
    return text.translate(unseen) if unseen else text


@contextmanager
def drawing() -> Iterator[Callable[[Any], str]]:
    """A matplotlib figure is drawn in here; what is given says it as SVG text, legible as pages are.

    Of glyphs that a font lacks nothing is printed: matplotlib would print the character itself, and the SVG names none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)

        def svg(figure: Any) -> str:
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            return legible(file.getvalue())

        yield svg


def line(text: str) -> str:
    """Text as one line of Markdown that is neither markup nor a table's border."""
    text = re.sub(r"([\\`*_\[\]|#])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return "<br>".join(text.splitlines())


def tight(text: str) -> str:
    """Text whose "[low, high]" and "+0.1 [" do not break over lines."""
    return re.sub(r"(?<=\d) (?=\[)|(?<=\d,) (?=[-+\d.]+\])", "\u00a0", text)


def fence(text: str) -> str:
    """Text as a code block; the fence is longer than any run of backticks in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}text\n{text}\n{ticks}"
