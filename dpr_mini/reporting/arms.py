"""`dpr-mini compare`: arms of an experiment side by side, on the same held-out problems, with intervals.

An arm is a recipe; its runs are those of its seeds, and what counts is the evaluation after its last phase. A problem's
pass rate with one seed is the mean over its samples. Intervals are over problems and seeds (scoring/crossed.py): about
the method, trained once more. Those over problems alone, about these very trainings, stand beside them.

Problems are also put into two bins, by whether the untouched model's greedy answer is right. Bins by its sampled pass
rate would come from the very answers that are then compared, and show a gain on hard problems where nothing changed
(regression to the mean); the greedy answer is none of them and has no chance in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from dpr_mini import store
from dpr_mini.files.rows import read_as
from dpr_mini.recipe import Hypothesis
from dpr_mini.runs import ARMS, LATEST, TEST, RunError, evaluations, read_latest, refuse_ways_out
from dpr_mini.scoring.crossed import crossed, matrix, mean_squares, spread
from dpr_mini.scoring.stats import Difference, estimate, pass_rates, rate_interval, refuse_other_problems, subset
from dpr_mini.types import ALL, EASY, HARD, Graded, UserError

GRADED, REDRAWN = "graded.jsonl", "redrawn.jsonl"  # of an evaluation; the second where it redrew


@dataclass(frozen=True)
class Run:
    """One recipe with one seed: its stages' folders by name."""

    name: str
    seed: int
    recipe: Mapping[str, Any]
    stages: Mapping[str, Path]

    @property
    def last(self) -> str:
        """The evaluation after the last phase."""
        return f"eval-{max(self.recipe['phases'], default=0)}"

    @property
    def is_base(self) -> bool:
        """Whether what it evaluates last is the untouched model, asked as all are asked."""
        return self.last == "eval-0" and self.asks_once

    @property
    def asks_once(self) -> bool:
        return not self.recipe["evaluate"]["turns"] and not self.recipe["evaluate"].get("examples")

    def complete(self, name: str) -> bool:
        return name in self.stages and (self.stages[name] / store.MANIFEST).exists()

    def manifest(self, name: str) -> dict[str, Any]:
        return store.verified(self.stages[name])


@dataclass(frozen=True)
class Arm:
    """A recipe's answers by seed. `runs` are those that the answers come from."""

    name: str
    runs: Mapping[int, Run]
    stage: str  # the evaluation's name
    tested: bool = False  # whether the evaluation on the test sets counts too

    @property
    def evaluations(self) -> list[str]:
        """The evaluation's name and, where test sets are open, that of the one on them."""
        return [self.stage, f"{self.stage}{TEST}"] if self.tested else [self.stage]

    @cached_property
    def graded(self) -> dict[int, list[Graded]]:
        return self._rows(self._files(GRADED, ""))

    @cached_property
    def redrawn(self) -> dict[int, list[Graded]]:
        """Answers redrawn until the base's own check accepts one. Raises UserError where an evaluation has none."""
        files = self._files(REDRAWN, "-redrawn")
        if lack := next((file for each in files.values() for file in each if not file.exists()), None):
            raise UserError(f"{self.name}: {lack.parent.name} has no {REDRAWN}: evaluate it with redraws")
        return self._rows(files)

    def _files(self, name: str, of: str) -> dict[int, list[Path]]:
        """Of every evaluation, or of its stage that is called so."""
        where = {seed: run.stages for seed, run in self.runs.items()}
        return {s: [at.get(n + of, at[n]) / name for n in self.evaluations] for s, at in where.items()}

    @staticmethod
    def _rows(files: Mapping[int, Sequence[Path]]) -> dict[int, list[Graded]]:
        return {s: [answer for file in each for answer in read_as(Graded, file)] for s, each in files.items()}


@dataclass(frozen=True, slots=True)
class ArmScore:
    """An arm on one slice: pass@1 over n problems x k samples of each seed, with its 95 % interval over both.

    [problems_low, problems_high] is over problems alone, and so is [low, high] with one seed. `per_seed` is pass@1 of
    each seed, `sd_over_seeds` their standard deviation (None for one seed); `greedy` is None without greedy answers;
    `tokens_mean` and `truncated` are of the sampled answers. What is None by default older files lack: their
    [low, high] is over problems alone.
    """

    n: int
    k: int
    mean: float
    low: float
    high: float
    per_seed: Mapping[int, float]
    sd_over_seeds: float | None
    greedy: float | None
    tokens_mean: float
    truncated: float
    problems_low: float | None = None
    problems_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDifference(Difference):
    """Arm - baseline on one slice, over problems and the `seeds` that both have; `per_seed` is that of each.

    [low, high], `se`, `df` and `p` are the crossed ones, the others as in `Crossed`. `up` and `down` count problems,
    their seeds averaged. What is None by default older files lack: their [low, high] is over problems alone.
    """

    seeds: tuple[int, ...]
    per_seed: Mapping[int, float]
    df: float | None = None
    problems_low: float | None = None
    problems_high: float | None = None
    p_problems: float | None = None
    p_seeds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Arms on the same problems; `baseline` is one of them, `base` the untouched model."""

    arms: Mapping[str, Arm]
    baseline: str
    base: str
    left_out: Sequence[str] = ()  # runs that are not complete
    closed: Sequence[str] = ()  # runs whose test sets are not evaluated, where others' are: then nobody's count

    @cached_property
    def dev(self) -> list[str]:
        """Benchmarks that may be looked at as often as one likes, where test sets are open; else []."""
        arm = self.arms[self.baseline]
        return self._asked(arm.stage) if arm.tested else []

    @cached_property
    def pooled(self) -> list[str]:
        """The benchmarks that ALL and the bins are of: the test sets where they are open, without dev."""
        return [name for n in self.arms[self.baseline].evaluations for name in self._asked(n) if name not in self.dev]

    def _asked(self, evaluation: str) -> list[str]:
        run = next(iter(self.arms[self.baseline].runs.values()))
        return [name for name in run.manifest(evaluation)["metrics"]["cards"] if name != ALL]

    @cached_property
    def benchmarks(self) -> list[str]:
        """In the recipe's order, test sets first; ALL is the last where several are pooled."""
        return [*self.pooled, *self.dev, *([ALL] if len(self.pooled) > 1 else [])]

    @cached_property
    def bins(self) -> dict[str, str]:
        """Problem id -> bin; empty where no greedy answers were asked for."""
        greedy = [a for answers in self.arms[self.base].graded.values() for a in subset(answers, greedy=True)]
        return {problem: EASY if rate >= 0.5 else HARD for problem, rate in pass_rates(greedy).items()}

    @cached_property
    def slices(self) -> list[str]:
        """Benchmarks, all of them, and the bins that have problems."""
        some = next(iter(self.arms[self.base].graded.values()))
        return [*self.benchmarks, *(b for b in (HARD, EASY) if self.bins and self.within(some, b))]

    def within(self, answers: Sequence[Graded], name: str) -> list[Graded]:
        """Those of some answers that are to the problems of a slice (ALL: of every pooled benchmark)."""
        if name in self.benchmarks and name != ALL:
            return [a for a in answers if a.benchmark == name]
        of = set(self.pooled)
        return [a for a in answers if a.benchmark in of and (name == ALL or self.bins[a.problem_id] == name)]

    def answers(self, arm: str, seed: int, name: str, greedy: bool = False) -> list[Graded]:
        """An arm's answers of one seed to the problems of a slice."""
        return self.within(subset(self.arms[arm].graded[seed], greedy=greedy), name)

    def rates(self, arm: str, seeds: Sequence[int], name: str, greedy: bool = False) -> dict[int, dict[str, float]]:
        """Seed -> problem id -> share of right answers; {} where the slice has no such answer."""
        key = arm, name, greedy
        if key not in self._rates:  # once: every arm is in a difference to each other one
            self._rates[key] = {s: pass_rates(self.answers(arm, s, name, greedy)) for s in self.arms[arm].runs}
        by = {seed: self._rates[key][seed] for seed in seeds}
        return by if any(by.values()) else {}

    @cached_property
    def _rates(self) -> dict[tuple[str, str, bool], dict[int, dict[str, float]]]:
        return {}

    @cached_property
    def votes(self) -> dict[tuple[str, str, str], Any]:
        """Majority votes that were computed, by arm, other side and slice (sides.py)."""
        return {}

    def scores(self, arm: str, name: str) -> ArmScore:
        """One arm on one slice."""
        seeds = list(self.arms[arm].runs)
        values = matrix(self.rates(arm, seeds, name), arm)
        per_seed = dict(zip(sorted(seeds), values.mean(axis=0).tolist(), strict=True))
        alone = estimate(values.mean(axis=1))
        low, high = rate_over_both(values) or (alone.low, alone.high)
        sampled = [a for s in seeds for a in self.answers(arm, s, name)]
        greedy = self.rates(arm, seeds, name, greedy=True)
        return ArmScore(
            n=len(values),
            k=len({a.sample for a in sampled}),
            mean=alone.mean,
            low=low,
            high=high,
            per_seed=per_seed,
            sd_over_seeds=stdev(per_seed.values()) if len(per_seed) > 1 else None,
            greedy=float(matrix(greedy, arm).mean()) if greedy else None,
            tokens_mean=fmean(a.tokens for a in sampled),
            truncated=fmean(a.finish == "length" for a in sampled),
            problems_low=alone.low,
            problems_high=alone.high,
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(arm, the arm that it is compared with): every pair once, those with the baseline first."""
        others = [name for name in self.arms if name != self.baseline]
        return [(name, self.baseline) for name in others] + [(b, a) for a, b in combinations(others, 2)]

    def difference(self, arm: str, baseline: str, name: str, greedy: bool = False) -> ArmDifference | None:
        """Arm - baseline on the same problems, over the seeds that both have; None where there is nothing."""
        seeds = [s for s in self.arms[arm].runs if s in self.arms[baseline].runs]
        before, after = (self.rates(a, seeds, name, greedy) for a in (baseline, arm))
        if not before and not after:
            return None
        for seed in seeds:
            refuse_other_problems(before.get(seed, {}), after.get(seed, {}), (baseline, arm))
        values = matrix(after, arm) - matrix(before, baseline)
        found, rows = crossed(values), values.mean(axis=1)
        return ArmDifference(
            **{name: getattr(found, name) for name in ("n", "mean", "low", "high", "se", "df", "p")},
            **{name: getattr(found, name) for name in ("problems_low", "problems_high", "p_problems", "p_seeds")},
            up=int((rows > 0).sum()),
            down=int((rows < 0).sum()),
            seeds=tuple(sorted(seeds)),
            per_seed=dict(zip(sorted(seeds), values.mean(axis=0).tolist(), strict=True)),
        )


def rate_over_both(rates: np.ndarray) -> tuple[float, float] | None:
    """The interval of a mean rate over problems and seeds; None where only problems can say: one seed, no spread."""
    n, seeds = rates.shape
    if n < 2 or seeds < 2 or not 0 < rates.mean() < 1:
        return None
    se, df = map(float, spread(*mean_squares(rates), n, seeds))
    return rate_interval(float(rates.mean()), se, df) if se > 0 else None


def collect(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders: a run's own, or an experiment's, whose arms stand below it. In order, each once.

    If the store's latest.json and an arm have the same name and seed, the arm wins. Raises RunError for a folder that
    is neither, and for two runs that would be one arm's with the same seed.
    """
    homes: dict[tuple[str, int], Path] = {}
    for folder in folders:
        arms = sorted(p.parent for p in folder.glob(f"{ARMS}/*/{LATEST}"))
        for home in arms:
            refuse_ways_out(home, folder)
        if not arms:
            read_latest(folder)  # says what is wrong with it
        here = {}
        for home in [*([folder] if (folder / LATEST).exists() else []), *arms]:
            latest = read_latest(home)["recipe"]
            here[latest["name"], latest["seed"]] = home
        if twice := homes.keys() & here.keys():
            name, seed = min(twice)
            raise RunError(f"{homes[name, seed]} and {here[name, seed]} are both {name} with seed {seed}")
        homes |= here
    runs = []
    for (name, seed), home in homes.items():
        latest = read_latest(home)
        runs.append(Run(name, seed, latest["recipe"], {n: home / f for n, f in latest["stages"].items()}))
    return runs


def arrange(runs: Sequence[Run], baseline: str | None = None) -> Comparison:
    """Runs as arms. The untouched model is one of them, as every run has scored it; it is the baseline by default.

    Raises RunError where runs were asked differently, nothing is complete, or the baseline is not there; UserError
    where arms were asked different problems.
    """
    # An arm may have these of its own; `samples` too: more draws of a problem say more of the same pass rate.
    own = {"turns": None, "template": None, "examples": False, "planted": None, "redraw": None, "samples": None}
    settings = {(r.name, store.canonical({**r.recipe["evaluate"], **own})) for r in runs}
    if len({how for _, how in settings}) > 1:
        names = ", ".join(sorted({name for name, _ in settings}))
        raise RunError(f"these runs were evaluated with different settings (evaluate: ...): {names}")
    complete = [r for r in runs if r.complete(r.last)]
    left_out = [f"{r.name}, seed {r.seed}" for r in runs if r not in complete]
    # Test sets count where every run has opened them: what is compared is asked the same.
    shut = [f"{r.name}, seed {r.seed}" for r in complete if len(evaluations(r.stages, r.last)) < 2]
    tested, closed = bool(complete) and not shut, shut if len(shut) < len(complete) else []
    arms: dict[str, Arm] = {}
    for name in dict.fromkeys(r.name for r in complete):
        by_seed = {r.seed: r for r in sorted(complete, key=lambda r: r.seed) if r.name == name}
        stages = {r.last for r in by_seed.values()}
        if len(stages) > 1:
            raise RunError(f"{name}: its seeds were run with different phases")
        arms[name] = Arm(name, by_seed, stages.pop(), tested)
    base = next((name for name, arm in arms.items() if all(r.is_base for r in arm.runs.values())), None)
    if base is None:
        scored = {r.seed: r for r in complete if r.complete("eval-0") and r.asks_once}
        if not scored:
            raise RunError("no complete evaluation in these runs (of the untouched model there must be one); run them")
        base = "base"
        if base in arms:
            raise RunError(f"a trained run is named {base!r}, the untouched model's name here: give it another name")
        arms = {base: Arm(base, dict(sorted(scored.items())), "eval-0", tested), **arms}
    problems = {name: {a.problem_id for of in arm.graded.values() for a in of} for name, arm in arms.items()}
    for name in arms:
        refuse_other_problems(problems[base], problems[name], (base, name))
    if baseline is not None and baseline not in arms:
        raise RunError(f"no arm {baseline!r} to compare with; there are: {', '.join(arms)}")
    return Comparison(arms, baseline or base, base, left_out, closed)


def registered(runs: Sequence[Run]) -> tuple[Hypothesis, ...]:
    """The hypotheses of the runs' recipes; () where none has any. Raises RunError where two have different ones."""
    having = [r for r in runs if r.recipe.get("hypotheses")]  # runs made before there were any lack the key
    if not having:
        return ()
    first = having[0]
    for other in having[1:]:
        if other.recipe["hypotheses"] != first.recipe["hypotheses"]:
            raise RunError(
                f"{first.name}, seed {first.seed}, and {other.name}, seed {other.seed}, register different hypotheses; "
                "run them with the same ones, or say which count: --hypotheses RECIPE.yaml"
            )
    return tuple(Hypothesis.model_validate(row) for row in first.recipe["hypotheses"])
