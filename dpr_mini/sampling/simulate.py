"""What each sampling strategy would give and cost, before anything is spent: the real rounds with simulated answers.

    start = read(Path("runs/mine/probe-2-.../rates.jsonl"), samples=8)
    print(*table(start, SamplingConfig(quota=8, max_tries=64)), sep="\n")

Each replica plays budgets.step to its end with binomial draws. Pass rates are known (`known`), or come from a finished
probe (`probed`), whose few samples leave them uncertain: then each replica draws them anew. Not modelled: draws that
an engine fails, and the filter's rules after the sampling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpr_mini.files.foreign import foreign_rows
from dpr_mini.recipe import Recipe, SamplingConfig
from dpr_mini.sampling import budgets
from dpr_mini.sampling.budgets import TARGETS, BudgetError, Counts, Floats, Ints, bin_of
from dpr_mini.store import Stage
from dpr_mini.types import Difficulty, UserError

Start = Callable[[np.random.Generator], tuple[Floats, Counts]]  # true pass rates, and the counts of a probe of them

GRID = np.sin(np.linspace(0, np.pi / 2, 101)) ** 2  # pass rates: equal weights on them are Jeffreys' prior
ROUNDS, RESAMPLES = 300, 40  # of EM, and of problems; how often 95 % intervals then hold: the tests and bench/LOG.md
REPLICAS = (20, 100)  # fewest and most; PROBLEMS says where between
PROBLEMS = 40_000  # problems played in all replicas of one strategy
MOST = 10_000  # problems that `planned` simulates; of more a part, so that it takes seconds
HARD = ("0", "0-0.25")  # the hardest bins


@dataclass(frozen=True)
class Estimate:
    """A number over replicas: its mean, and the standard deviation of one run."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)))

    @property
    def interval(self) -> tuple[float, float]:
        """Where 95 % of single runs are expected (normal approximation)."""
        return self.mean - 1.96 * self.sd, self.mean + 1.96 * self.sd


@dataclass(frozen=True)
class Forecast:
    """One strategy's expected run. `draws` include the probe's; `usable` are correct and within what is wanted.

    `hard` is the share of the usable ones from problems with a pass rate of at most 0.25 in the probe. `bins` has the
    manifest's numbers ("problems", "asked", "right", "usable") by bin; a bin that a replica lacks counts as 0 there.
    """

    target: str
    draws: Estimate
    usable: Estimate
    right: Estimate
    hard: Estimate
    never_solved: Estimate
    bins: dict[str, dict[str, Estimate]]


def known(rates: Sequence[float], samples: int) -> Start:
    """A start from true pass rates; each replica also simulates a probe of `samples` draws a problem."""
    p = np.asarray(rates, dtype=np.float64)

    def draw(rng: np.random.Generator) -> tuple[Floats, Counts]:
        draws = np.full(len(p), samples, dtype=np.int64)
        return p, Counts(draws, draws, rng.binomial(samples, p))

    return draw


def probed(difficulties: Sequence[Difficulty], samples: int) -> Start:
    """A start from a finished probe: each replica draws every problem's pass rate from its posterior.

    A problem's pass rate has as prior the distribution of pass rates over all problems, which `spread` fits to a
    bootstrap resample of them: so replicas vary as the estimate does. How many draws the hardest would take is what a
    small probe says least about.
    """
    outcomes, which = np.unique([(d.tried, d.correct) for d in difficulties], axis=0, return_inverse=True)
    which = which.ravel()
    tried, right = outcomes[which].T
    counts, sizes = Counts.of([samples] * len(which), tried, right), np.bincount(which)
    again = np.random.default_rng(0).multinomial(len(which), sizes / len(which), RESAMPLES)
    priors = [spread(outcomes, times) for times in again]

    def draw(rng: np.random.Generator) -> tuple[Floats, Counts]:
        p = np.empty(len(which))
        for i, weights in enumerate(likelihood(outcomes) * priors[rng.integers(RESAMPLES)]):
            p[which == i] = rng.choice(GRID, sizes[i], p=weights / weights.sum())
        return p, counts

    return draw


def assumed(problems: int, samples: int) -> Start:
    """A start with `problems` pass rates distributed as in budgets.ASSUMED."""
    return known(budgets.assumed(problems), samples)


def read(path: Path, samples: int) -> Start:
    """Where a simulation starts, from a file: see `known` and `probed`.

    A .jsonl file has rows of {problem_id, tried, correct}, as a probe's rates.jsonl or a sampling's budgets.jsonl. Any
    other is a JSON list of pass rates. Raises UserError or StoreError, one line, for anything else.
    """
    if path.suffix == ".jsonl":
        if not (rows := [_difficulty(where, row) for where, row in foreign_rows(path)]):
            raise UserError(f"{path}: no rows")
        return probed(rows, samples)
    try:
        rates = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from None
    fits = isinstance(rates, list) and all(type(r) in (int, float) and 0 <= r <= 1 for r in rates)
    if not fits or not rates:
        raise UserError(f"{path}: must be a JSON list of pass rates from 0 to 1, e.g. [0, 0.25, 0.9]")
    return known(rates, samples)


def _difficulty(where: str, row: Mapping[str, Any]) -> Difficulty:
    tried, correct = row.get("tried"), row.get("correct")
    if type(tried) is not int or type(correct) is not int or not 0 <= correct <= tried:
        raise UserError(f"{where}: needs whole numbers tried >= correct >= 0, got {tried!r} and {correct!r}")
    return Difficulty(str(row.get("problem_id", where)), tried, correct)


def likelihood(outcomes: Ints) -> Floats:
    """p^right (1 - p)^wrong of each (tried, right) row at each p of GRID: shape (outcomes, grid)."""
    tried, right = outcomes[:, :1], outcomes[:, 1:]
    return GRID**right * (1 - GRID) ** (tried - right)


def spread(outcomes: Ints, times: Ints) -> Floats:
    """Weights on GRID, summing to 1: how pass rates are distributed over problems, `times` each outcome was seen.

    Maximum likelihood without a form given beforehand (Laird 1978), by EM from Jeffreys' prior, stopped early. The
    prior counts as one problem more: what no problem has shown in a small probe is rare, not impossible.
    """
    of = likelihood(outcomes)
    weights = np.full(len(GRID), 1 / len(GRID))
    for _ in range(ROUNDS):
        posterior = of * weights
        weights = times @ (posterior / posterior.sum(axis=1, keepdims=True)) + 1 / len(GRID)
        weights /= times.sum() + 1
    return weights


def forecast(start: Start, config: SamplingConfig, replicas: int | None = None, seed: int = 0) -> Forecast:
    """Play the strategy of `config`. The same seed gives every strategy the same probes.

    `replicas`: as many as make up PROBLEMS problems, within REPLICAS. Raises BudgetError where the probe costs more
    than the budget.
    """
    if replicas is None:
        problems = len(start(np.random.default_rng(seed))[0])
        replicas = int(np.clip(PROBLEMS // max(problems, 1), *REPLICAS))
    runs = [played(start, config, np.random.default_rng((seed, i))) for i in range(replicas)]
    labels = sorted({label for run in runs for label in run} - {"all"})
    names = ("problems", "asked", "right", "usable")

    def over(label: str, name: str) -> Estimate:
        return Estimate.of([run[label][name] if label in run else 0.0 for run in runs])

    shares = [sum(run[b]["usable"] for b in HARD if b in run) / max(run["all"]["usable"], 1) for run in runs]
    return Forecast(
        config.target,
        *(over("all", name) for name in ("asked", "usable", "right")),
        hard=Estimate.of(shares),
        never_solved=over("all", "never"),
        bins={label: {name: over(label, name) for name in names} for label in labels},
    )


def played(start: Start, config: SamplingConfig, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """One replica: sums by bin of the probe's pass rate, and over all problems under "all"."""
    p, first = start(rng)
    now, quotas = budgets.play(p, first, config, rng)
    rates, where = np.unique(first.rate, return_inverse=True)
    label = np.array([bin_of(r) for r in rates])[where]
    columns = {
        "problems": np.ones(len(p)),
        "asked": now.asked,
        "right": now.right,
        "usable": np.minimum(now.right, quotas),
        "never": now.right == 0,
    }
    sums = {b: {k: float(v[label == b].sum()) for k, v in columns.items()} for b in np.unique(label)}
    return {**sums, "all": {k: float(v.sum()) for k, v in columns.items()}}


def table(start: Start, config: SamplingConfig, seed: int = 0) -> list[str]:
    """Lines to print: every strategy at equal draws, the one of `config` first.

    Equal draws are the budget, or without one what the strategy of `config` is expected to draw.
    """
    try:
        own = forecast(start, config, seed=seed)
    except BudgetError as error:
        return [str(error)]
    budget = config.budget or round(own.draws.mean)
    others = [t for t in TARGETS if t != config.target]
    changed = (config.model_copy(update={"target": t, "budget": budget}) for t in others)
    rows = [(f.target, *_cells(f)) for f in (own, *(forecast(start, c, seed=seed) for c in changed))]
    head = ("strategy", "draws", "correct kept", "of these hard", "never solved")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in (head, *rows)
    ] + [
        f"quota {config.quota}, at most {config.max_tries} draws a problem; those after {config.target} may draw "
        f"{budget:,} in all",
        "± is where 95 % of runs end; hard: problems with at most 0.25 right in the probe",
    ]


def planned(recipe: Recipe, stages: Mapping[str, Stage], root: Path) -> list[str]:
    """Lines of `dpr-mini plan` on phase 2's strategies; [] without phase 2, or once its sampling is complete."""
    sampling = stages.get("sample-2")
    if sampling is None or sampling.state(root) == "reuse":
        return []
    samples, config = recipe.probe.samples, recipe.sample.scaled(recipe.scale)
    probe, problems = sampling.inputs["probed"], sampling.inputs["problems"]
    if probe.state(root) == "reuse":
        path = probe.folder(root) / budgets.RATES
        return [f"sample-2, expected from {path.parent.name}:", *table(read(path, samples), config)]
    counts = [recipe.count(source) for source in recipe.problems.train]
    if problems.state(root) == "reuse":
        n = problems.manifest(root)["metrics"]["splits"]["train"]
    else:
        n = sum(c for c in counts if c) if all(counts) else None
    if n is None and config.budget is not None:
        return ["sample-2: what to expect of sample.budget is known once the problems are: run --until problems"]
    conditions = "for each 1,000 problems" if n is None else f"for {n:,} problems"
    if n is not None and n > MOST:
        conditions, config, n = f"for each {MOST:,} of {n:,} problems", config.scaled(MOST / n), MOST
    conditions += ", pass rates ASSUMED, a 7B model's on GSM8K and MATH: no probe yet"
    return [f"sample-2, expected {conditions}:", *table(assumed(n or 1000, samples), config)]


def _cells(outcome: Forecast) -> Iterator[str]:
    for e in (outcome.draws, outcome.usable):
        yield f"{e.mean:,.0f} ± {1.96 * e.sd:,.0f}"
    yield f"{outcome.hard.mean:.0%} ± {1.96 * outcome.hard.sd:.0%}"
    yield f"{outcome.never_solved.mean:,.0f} ± {1.96 * outcome.never_solved.sd:,.0f}"
