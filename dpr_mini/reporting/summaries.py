"""The line behind which each section of the report folds away: what is inside, and the one number that matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from dpr_mini.reporting.anatomy import anatomies
from dpr_mini.reporting.document import Section
from dpr_mini.reporting.results import FILTERS, Results, Word
from dpr_mini.reporting.words import change, interval
from dpr_mini.scoring.scores import Card


def fold(results: Results, section: Section) -> Section:
    """The section with its summary, so that it folds away; an empty one as it is."""
    return replace(section, summary=SUMMARIES[section.title](results)) if section.blocks else section


def accuracy(results: Results) -> str:
    scores = " to ".join(interval(card) for card in _ends(results))
    return f"every benchmark by phase, sampled and greedy; pass@1 on {results.overall}: {scores}"


def verdicts(results: Results) -> str:
    counts = Counter(c.verdict for c in results.by_measure("official"))
    words: tuple[Word, ...] = ("improved", "got worse", "no change shown", "too few problems")
    each = ", ".join(f"{counts[word]} {word}" for word in words if counts[word] or word in words[:2])
    return f"pass@1 by phase and benchmark, {counts.total()} comparisons: {each}"


def scorers(results: Results) -> str:
    what = "the same answers by two other scorers; last number in the text, "
    last = results.change(results.models[0].label, results.models[-1].label, results.overall, "last_number")
    (card, *_) = _ends(results)
    return what + (f"change: {change(last.difference)}" if last else f"share right: {card.last_number:.3f}")


def length(results: Results) -> str:
    means = " to ".join(f"{card.tokens_mean:.0f}" for card in _ends(results))
    return f"tokens by benchmark and verdict; mean over all answers: {means}"


def behaviours(results: Results) -> str:
    what = "word patterns in answers and in dialogues"
    if not results.models or not results.models[0].cards[results.overall].behaviours:
        return what
    name = next(iter(results.models[0].cards[results.overall].behaviours))
    shares = " to ".join(f"{card.behaviours[name]:.1%}" for card in _ends(results))
    return f"{what}; {name} in the answers: {shares}"


def anatomy(results: Results) -> str:
    what = "first and final answers, checks and verdicts by execution, planted attempts"
    found = anatomies(results)
    if not found:
        return what
    mended, spoiled = (sum(getattr(a, name) for *_, a in found) for name in ("mended", "spoiled"))
    return f"{what}; {mended:,} responses mended, {spoiled:,} spoiled"


def test(results: Results) -> str:
    return "what every model scores on the sets that only --test opens, and when they were opened"


def data(results: Results) -> str:
    counts = {phase: results.metrics(role) for role, phase in FILTERS.items() if role in results.at}
    each = [f"{m['kept']:,} of {m['dialogues']:,} in {phase}" for phase, m in counts.items()]
    return "problems, dialogues, drops by rule, time and tokens" + (f"; kept {', '.join(each)}" if each else "")


def difficulty(results: Results) -> str:
    never, problems = (sum(getattr(b, name) for b in results.bins) for name in ("never", "problems"))
    return f"draws and kept answers by pass rate in the probe; {never:,} of {problems:,} problems never solved"


def dropped(results: Results) -> str:
    rule, count = results.drops["filter-1"].most_common(1)[0]
    return f"one of the {count:,} that {rule} dropped in phase 1"


def conditions(results: Results) -> str:
    return f"model, seed, machine, versions, {len(results.at)} stages, the whole recipe"


SUMMARIES: Mapping[str, Callable[[Results], str]] = {
    "Accuracy": accuracy,
    "What the numbers say": verdicts,
    "Format or arithmetic?": scorers,
    "Length of answers": length,
    "Behaviours": behaviours,
    "Attempts and checks": anatomy,
    "Test sets": test,
    "Data": data,
    "Difficulty (phase 2)": difficulty,
    "A dropped dialogue": dropped,
    "Conditions": conditions,
}


def _ends(results: Results) -> list[Card]:
    """The cards of the first and the last model over all problems; of one where there is one."""
    models = results.models
    return [m.cards[results.overall] for m in (models[:1] + models[-1:] if len(models) > 1 else models)]
