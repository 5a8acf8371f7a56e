"""The report's first screen: one sentence, one figure, at most three findings with what each does not show, and which
claims of the method the run does not support.

Topics and their order are fixed; which of two topics takes a place is decided by a rule that treats a gain and a loss
alike. No word about a change stands without its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpr_mini.reporting import figures
from dpr_mini.reporting.accuracy import CHANGED, by_scorer, origin
from dpr_mini.reporting.claims import unsupported
from dpr_mini.reporting.document import Block, Figures, Points, Section, Text
from dpr_mini.reporting.figures import Link
from dpr_mini.reporting.results import FEWEST, Change, Results
from dpr_mini.reporting.words import draws, p_equals, said, said_change, up_and_down
from dpr_mini.scoring.stats import compare
from dpr_mini.types import ALL

WORDS = {
    "improved": "improved",
    "got worse": "got worse",
    "no change shown": "no change shown",
    "too few problems": f"fewer than {FEWEST} problems, nothing is claimed",
}
SEED = "how another seed would come out"
Finding = tuple[str, str]  # topic, sentence


def lead(results: Results, recipe: Mapping[str, Any]) -> str:
    """What was done to which model, and its accuracy before and after on all held-out problems."""
    name, models = _name(recipe), results.models
    if not models:
        done = _done(results, recipe, [i for i in recipe["phases"] if f"train-{i}" in results.at])
        reason = "the recipe has no held-out problems, or the run has not come that far"
        return f"{name} {done}. Nothing was evaluated: {reason}."
    done = _done(results, recipe, [i for i in recipe["phases"] if f"phase {i}" in {m.label for m in models}])
    last, where = models[-1], _where(results)
    if len(models) == 1:
        when = "" if last.label == "base" else f" after {last.label}"
        return f"{name} {done}: its accuracy (pass@1){when} on {where} is {said(last.cards[results.overall])}."
    c = _overall(results)
    before, after = (m.cards[results.overall].mean for m in (models[0], last))
    return (
        f"{name} {done}: its accuracy (pass@1) on {where} went from {before:.3f} to {after:.3f}, "
        f"a paired difference of {said_change(c.difference)}: {WORDS[c.verdict]}."
    )


def front(results: Results, recipe: Mapping[str, Any], to: Link) -> Section:
    """The figure of accuracy by phase, the findings, unsupported claims, and under which conditions all this holds."""
    blocks: list[Block] = []
    if results.models:
        (svg,) = figures.accuracy({m.label: m.cards for m in results.models}, to)
        blocks.append(Figures([(svg, f"Accuracy by benchmark and phase. From {results.graded()}.")], large=True))
        if points := findings(results):
            blocks.append(Points(points))
        if claims := unsupported(results, recipe):
            blocks.append(Points([("Claims of the method that this run does not support", f"{'; '.join(claims)}.")]))
    return Section("", [*blocks, Text(_conditions(results, recipe), small=True)])


def findings(results: Results) -> list[Finding]:
    """At most three: by benchmark or phase; sampled against greedy answers; format, or length where nothing changed."""
    if len(results.models) < 2:
        chosen = [_spread(results), _greedy_alone(results)] if results.models else []
    else:
        chosen = [_benchmarks(results) or _phases(results) or _problems(results), _greedy(results)]
        chosen.append(_format(results) or _length(results))
    return [finding for finding in chosen if finding]


# ---------------------------------------------------------------- one model


def _spread(results: Results) -> Finding | None:
    cards = [results.models[0].cards[b] for b in results.benchmarks if b != ALL]
    if len(cards) < 2:
        return None
    low, high = (f(cards, key=lambda c: c.mean) for f in (min, max))
    ends = f"from {said(low)} on {low.benchmark} to {said(high)} on {high.benchmark}"
    return "By benchmark", f"pass@1 goes {ends}. Not shown: what training would change."


def _greedy_alone(results: Results) -> Finding | None:
    card = results.models[0].cards[results.overall]
    if card.greedy_estimate is None:
        return None
    both = f"greedy answers score {said(card.greedy_estimate)}, sampled ones {said(card)}"
    return "Greedy", f"{both}. Not shown: what training would change."


# ---------------------------------------------------------------- two models and more


def _benchmarks(results: Results) -> Finding | None:
    """Where the benchmarks do not agree with each other: both ends, and those without a change that is shown."""
    changes = [_between_ends(results, b) for b in results.benchmarks if b != ALL]
    if len({c.verdict for c in changes}) < 2:
        return None
    low, high = (f(changes, key=lambda c: c.difference.mean) for f in (min, max))
    ends = f"the change runs from {_said(low)} on {low.benchmark} to {_said(high)} on {high.benchmark}"
    null = [c.benchmark for c in changes if c.verdict not in CHANGED]
    missing = f"a change on {_list(null)}; " if null else ""
    return "By benchmark", f"{ends}. Not shown: {missing}{SEED}."


def _phases(results: Results) -> Finding | None:
    if len(results.models) < 3:
        return None
    labels = [m.label for m in results.models]
    steps = [results.change(a, b, results.overall) for a, b in pairwise(labels)]
    null = [c.after for c in steps if c.verdict not in CHANGED]
    missing = f"a change by {_list(null)}; " if null else ""
    each = "; ".join(f"{c.after}, against {c.before}, {_said(c)}" for c in steps)
    return "By phase", f"{each}. Not shown: {missing}{SEED}."


def _problems(results: Results) -> Finding:
    c = _overall(results)
    counts = f"{up_and_down(c.difference)} of {c.difference.n}, sign-flip test {p_equals(c.difference)}"
    missing = "" if c.verdict in CHANGED else "a change; "
    return "By problem", f"pass@1 {_said(c)}: {counts}. Not shown: {missing}{SEED}."


def _greedy(results: Results) -> Finding | None:
    sampled, greedy = _overall(results), _between_ends(results, results.overall, "greedy")
    if greedy is None:
        return None
    both = f"greedy answers {_said(greedy)}; sampled ones {_said(sampled)}"
    words = sampled.verdict, greedy.verdict
    if greedy.verdict == "too few problems":
        missing = "a change of either"
    elif words == ("improved", "no change shown"):
        missing = "that the model can do more, not only says more often what it could say before"
    elif words == ("got worse", "no change shown"):
        missing = "that the model can do less, not only says less often what it could say before"
    elif sampled.verdict == greedy.verdict == "no change shown":
        missing = "a change of either"
    elif sampled.verdict == "no change shown":
        missing = "that the sampled answers changed with the greedy ones"
    elif sampled.verdict == greedy.verdict:
        missing = "which of the two changed more"
    else:
        missing = "why the two went different ways"
    return "Sampled and greedy", f"{both}. Not shown: {missing}."


def _format(results: Results) -> Finding | None:
    """None where no change is shown: there is nothing to divide."""
    by = by_scorer(results, results.models[0].label, results.models[-1].label)
    if by["official"].verdict not in CHANGED:
        return None
    scorers = f"scored by the last number in the text alone, {_said(by['last_number'])}"
    rest = f"the rest, format, is {said_change(by['format'].difference)}"
    missing = "that the steps before an answer are right: only final answers are graded"
    return "Format or arithmetic", f"{scorers}; {rest}: {origin(by)}. Not shown: {missing}."


def _length(results: Results) -> Finding:
    """Length of the sampled answers, where accuracy has nothing to divide."""
    first, last = results.models[0], results.models[-1]
    longer = compare(first.answers(), last.answers(), lambda a: a.tokens, (first.folder.name, last.folder.name))
    before, after = (m.cards[results.overall].tokens_mean for m in (first, last))
    missing = "that length has an effect, as no change in accuracy is shown"
    tokens = f"from {before:.0f} to {after:.0f} tokens, {said_change(longer, places=1)}"
    return "Length", f"the mean answer went {tokens}. Not shown: {missing}."


# ---------------------------------------------------------------- words


def _overall(results: Results) -> Change:
    return _between_ends(results, results.overall)


def _between_ends(results: Results, benchmark: str, measure: str = "official") -> Change | None:
    """From the first model to the last."""
    return results.change(results.models[0].label, results.models[-1].label, benchmark, measure)


def _said(c: Change) -> str:
    return f"{said_change(c.difference)} ({WORDS[c.verdict]})"


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _where(results: Results) -> str:
    n = results.models[0].cards[results.overall].n
    return f"all {n} held-out problems" if results.overall == ALL else f"the {n} problems of {results.overall}"


def _name(recipe: Mapping[str, Any]) -> str:
    """The model's name; of a local folder the last part."""
    name = recipe["model"]["name"]
    return Path(name).name if name.startswith(("/", "~", ".")) else name


def _done(results: Results, recipe: Mapping[str, Any], phases: Sequence[int]) -> str:
    """What had been done to the model when it was measured last; `phases` are those it had been through."""
    if not recipe["phases"]:
        return "was measured as it is, untrained"
    if not phases:
        return "was measured before any training" if results.models else "has not been trained yet"
    text = {
        (1,): "was trained on dialogues with itself that rules kept (phase 1",
        (2,): "was trained on answers of its own that rules kept (phase 2",
    }
    if len(phases) > 1:
        return "was trained in two phases on text of its own that rules kept"
    return f"{text[tuple(phases)]}{' alone' if len(recipe['phases']) == 1 else ' so far'})"


def _conditions(results: Results, recipe: Mapping[str, Any]) -> str:
    engines = sorted({results.metrics(r)["engine"] for r in results.generating})
    text = (
        "By the method of arXiv 2601.05616 with our own prompts, rules and settings. One run: seed "
        f"{recipe['seed']}, scale {recipe['scale']:g}" + (f", engine {', '.join(engines)}." if engines else ".")
    )
    if not results.models:
        return text
    k = draws(results.models[0].cards[results.overall])
    text += (
        f" pass@1: share of a problem's k={k} sampled answers that are right, mean over problems; brackets: 95 % "
        "interval over problems"
        + ("; improved and got worse are said where it excludes zero." if len(results.models) > 1 else ".")
        + " Underlined numbers and most bars can be clicked: they show dialogues behind them."
    )
    labels = {m.label for m in results.models}
    missing = [label for label in ("base", *(f"phase {i}" for i in recipe["phases"])) if label not in labels]
    return text + (f" Not evaluated: {', '.join(missing)}." if missing else "")
