"""The report's sections on problems of tasks: what responses are made of, where planted attempts end, what checks give.

And the score on test sets, with when they were opened. Every share has its counts; all are read from the stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpr_mini.reporting.document import Block, Section, Table, Text
from dpr_mini.reporting.results import LABELS, Results
from dpr_mini.reporting.words import estimate, interval
from dpr_mini.runs import TEST, opened, openings
from dpr_mini.scoring.anatomy import Anatomy, Part, Slope, slope
from dpr_mini.scoring.scores import Card, Estimate
from dpr_mini.scoring.stats import pass_rates, subset
from dpr_mini.types import ALL, Graded, from_row

CUT = "A response cut after its first attempt has the accuracy of first answers."


def evaluations(results: Results) -> Iterator[tuple[str, str]]:
    """(role, model's label) of every evaluation that is there, those on test sets behind the others."""
    for end in ("", TEST):
        yield from ((role + end, label) for role, label in LABELS.items() if role + end in results.at)


def anatomies(results: Results) -> list[tuple[str, str, str, Anatomy]]:
    """(benchmark, model's label, role, anatomy), where there are problems of tasks."""
    return [
        (benchmark, label, role, Anatomy.from_row(row))
        for role, label in evaluations(results)
        for benchmark, row in results.metrics(role).get("anatomy", {}).items()
    ]


def section(results: Results) -> Section:
    """First and final answers, checks and verdicts, length; planted attempts; redraws."""
    found = anatomies(results)
    blocks: list[Block] = []
    if found:
        source = ", ".join(results.source(role) for role in dict.fromkeys(role for _, _, role, _ in found))
        blocks += [ends(found, source), verdicts(found, source), _lengths(results, found, source)]
    return Section("Attempts and checks", [*blocks, *_planted(results), *_redrawn(results)])


def share(of: Part) -> str:
    """ "0.250\n10 of 40" """
    return "-" if of.share is None else f"{of.share:.3f}\n{of.n:,} of {of.of:,}"


def ends(found: list[tuple[str, str, str, Anatomy]], source: str) -> Table:
    """Counts of (benchmark, model's label, role, anatomy) by first and final answer."""
    head = "benchmark | model | responses | right, right | right, wrong | wrong, right | wrong, wrong"
    head += " | first right | final right | mended of rejected"
    head += " | right after a true rejection | after any | drawn afresh"
    rows = [
        (b, label, f"{a.responses:,}", *(f"{n:,}" for n in (a.kept, a.spoiled, a.mended, a.lost)),
         *map(share, (a.first, a.final, a.mends, a.retry_true, a.retry_any)),
         "-" if a.fresh is None else f"{a.fresh:.3f}")
        for b, label, _, a in found
    ]  # fmt: skip
    note = (
        f"Sampled responses by their first and their final answer. {CUT} Mended of rejected: of responses whose wrong "
        "first attempt was rejected, those that end right. Right after a true rejection: of attempts that follow a "
        "wrong one that was rejected (after any: any rejected one), those that are right. Drawn afresh: first "
        "attempts of the other responses to these problems, what another answer would have given."
    )
    return Table(head.split(" | "), rows, source, "First and final answers", note)


def verdicts(found: list[tuple[str, str, str, Anatomy]], source: str) -> Table:
    """Of the same, how good verdicts and checks are."""
    head = ("benchmark", "model", "accepts right", "accepts wrong", "verdicts right", "checks true", "attempts")
    parts = ("accept_right", "accept_wrong", "verdicts", "true_checks")
    rows = [
        (b, label, *(share(getattr(a, name)) for name in parts), f"{a.attempts_mean:.2f}") for b, label, _, a in found
    ]
    note = (
        "Of verdicts on right and on wrong attempts, those that accept. A check is true where each of its lines is, "
        "executed, and they work out the attempt before it. Attempts: mean of a response."
    )
    return Table(head, rows, source, "Verdicts and checks", note)


def _lengths(results: Results, found: list[tuple[str, str, str, Anatomy]], source: str) -> Table:
    head = ("benchmark", "model", "tokens", "not said before", "compressed", "log tokens on base's fail rate")
    rates: dict[str, dict[str, float]] = {}
    rows = []
    for b, label, role, a in found:
        end = TEST if role.endswith(TEST) else ""
        if end not in rates:
            rates[end] = pass_rates(subset(_graded(results, f"eval-0{end}"))) if f"eval-0{end}" in results.at else {}
        rise = slope(subset(_graded(results, role), b), rates[end])
        sizes = (f"{a.tokens:.1f}", f"{a.distinct:.1f}", f"{a.deflated:.2f}")
        rows.append((b, label, *sizes, _rise(rise)))
    note = (
        "Means over sampled responses. Not said before: tokens outside of runs of four that came before in the same "
        "response. Compressed: bytes by deflate, of one. The last column is the slope of a problem's mean log tokens "
        "from one that the base always solves to one that it never does, with its 95 % bootstrap interval."
    )
    return Table(head, rows, source, "Length and what it carries", note)


def _rise(of: Slope | None) -> str:
    return "-" if of is None else f"{of.mean:+.3f} [{of.low:+.3f}, {of.high:+.3f}]\n{of.n:,} problems"


def _graded(results: Results, role: str) -> list[Graded]:
    return list(results.read(Graded, role, "graded.jsonl"))


def _planted(results: Results) -> list[Block]:
    rows, sources = [], []
    for role, label in evaluations(results):
        if (name := f"{role}-planted") not in results.at:
            continue
        sources.append(results.source(name))
        for benchmark, by in results.metrics(name)["planted"].items():
            for prefix, of in by.items():
                ends, on = (share(_part(of[key])) for key in ("ends_right", "goes_on"))
                rows.append((benchmark, label, prefix, ends, on, f"{of['without']:,} of {of['problems']:,}"))
    return [planted_table(rows, ", ".join(sources))] if rows else []


def planted_table(rows: list[tuple[str, ...]], source: str) -> Table:
    """Of (benchmark, model's label, "right" or "wrong", ends right, goes on, problems without such an attempt)."""
    head = ("benchmark", "model", "first attempt", "ends right", "makes another attempt", "problems without such")
    note = (
        "The causal test: the response was made to begin with a right or a wrong first attempt of another sampled "
        "answer of the same model to the same problem, and the model went on. No word pattern is in it."
    )
    return Table(head, rows, source, "Planted first attempts", note)


def _redrawn(results: Results) -> list[Block]:
    rows, checked, sources = [], [], []
    for role, label in evaluations(results):
        if (name := f"{role}-redrawn") not in results.at:
            continue
        sources += [results.source(name), results.source(f"{role}-checks")]
        for benchmark, by in results.metrics(name)["redrawn"].items():
            for draws, point in by.items():
                mean = interval(from_row(Estimate, point))
                rows.append((benchmark, label, draws, f"{point['n']:,}", mean, f"{point['tokens_mean']:.1f}"))
        for benchmark, of in results.metrics(f"{role}-checks")["checks"].items():
            names = ("accept_right", "accept_wrong", "true_checks", "read")
            checked.append((benchmark, label, *(share(_part(of[name])) for name in names)))
    if not rows:
        return []
    head = ("benchmark", "model", "answers at most", "problems", "pass@1", "tokens")
    note = (
        "Plain answers drawn one after another until the checker accepts one, else the last. Tokens: of all answers "
        "drawn and checks asked for a response, each check up to its verdict. One answer: none is checked."
    )
    source = ", ".join(sources)
    checks = ("benchmark", "model", "accepts right", "accepts wrong", "checks true", "verdict there")
    return [
        Table(head, rows, source, "Drawn until a check accepts", note),
        Table(checks, checked, source, "The checker", "Of the model's plain answers. No verdict is a rejection."),
    ]


def _part(row: Mapping[str, Any]) -> Part:
    return Part(row["n"], row["of"])


def test(results: Results) -> Section:
    """When the test sets were opened, and every model's score on them; empty while they are closed."""
    there = [(role, label) for role, label in evaluations(results) if role.endswith(TEST)]
    if not there:
        return Section("Test sets")
    rows = []
    for role, label in there:
        for name, row in results.metrics(role)["cards"].items():
            card = Card.from_row(row)
            greedy = "-" if card.greedy_estimate is None else interval(card.greedy_estimate)
            scores = (estimate(card.estimate), greedy, f"{card.tokens_mean:.1f}")
            rows.append(("all test sets" if name == ALL else name, label, f"{card.n:,}", str(card.k), *scores))
    lines = openings(results.at[there[0][0]].parent)
    said = [Text(opened(line)) for line in lines] or [Text("No line in the store says when these sets were opened.")]
    head = ("set", "model", "problems", "samples", "pass@1", "greedy", "tokens")
    source = ", ".join(results.source(role) for role, _ in there)
    return Section("Test sets", [*said, Table(head, rows, source)])
