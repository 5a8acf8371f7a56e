"""`dpr-mini compare`: arms of an experiment side by side, on the same held-out problems, with intervals.

An arm is a recipe; its runs are those of its seeds, and what counts is the evaluation after its last phase. A problem's
pass rate is the mean over its samples, then over seeds: problems are what the intervals and tests are over. How far the
seeds lie apart is shown beside them and is in no interval.

Problems are also put into two bins, by whether the untouched model's greedy answer is right. Bins by its sampled pass
rate would come from the very answers that are then compared, and show a gain on hard problems where nothing changed
(regression to the mean); the greedy answer is none of them and has no chance in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dpr_mini import store
from dpr_mini.machine.facts import facts
from dpr_mini.runs import ARMS, LATEST, RunError, read_latest
from dpr_mini.scoring.stats import Difference, bootstrap, paired, pass_rates, refuse_other_problems, subset
from dpr_mini.types import EASY, HARD, Graded

SAMPLING = ("dialogue-1", "probe-2", "sample-2")
TRAINING = ("train-1", "train-2")


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
        return store.read_json(self.stages[name] / store.MANIFEST)


@dataclass(frozen=True)
class Arm:
    """A recipe's answers by seed. `runs` are those that the answers come from."""

    name: str
    runs: Mapping[int, Run]
    stage: str  # the evaluation's name

    @cached_property
    def graded(self) -> dict[int, list[Graded]]:
        files = {seed: run.stages[self.stage] / "graded.jsonl" for seed, run in self.runs.items()}
        return {seed: [Graded.from_row(row) for row in store.read_rows(file)] for seed, file in files.items()}


@dataclass(frozen=True, slots=True)
class ArmScore:
    """An arm on one slice: pass@1 over n problems x k samples of each seed, with its 95 % interval over problems.

    `per_seed` is pass@1 of each seed, `sd_over_seeds` their standard deviation (None for one seed); `greedy` is None
    without greedy answers; `tokens_mean` and `truncated` are of the sampled answers.
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


@dataclass(frozen=True, slots=True)
class ArmDifference(Difference):
    """Arm - baseline on one slice, over the `seeds` that both have; `per_seed` is that of each."""

    seeds: tuple[int, ...]
    per_seed: Mapping[int, float]


@dataclass(frozen=True)
class Comparison:
    """Arms on the same problems; `baseline` is one of them, `base` the untouched model."""

    arms: Mapping[str, Arm]
    baseline: str
    base: str
    left_out: Sequence[str] = ()  # runs that are not complete

    @cached_property
    def benchmarks(self) -> list[str]:
        """In the recipe's order; ALL is the last of several."""
        arm = self.arms[self.baseline]
        return list(next(iter(arm.runs.values())).manifest(arm.stage)["metrics"]["cards"])

    @cached_property
    def bins(self) -> dict[str, str]:
        """Problem id -> bin; empty where no greedy answers were asked for."""
        greedy = [a for answers in self.arms[self.base].graded.values() for a in subset(answers, greedy=True)]
        return {problem: EASY if rate >= 0.5 else HARD for problem, rate in pass_rates(greedy).items()}

    @cached_property
    def slices(self) -> list[str]:
        """Benchmarks, all of them, and the bins that have problems."""
        return [*self.benchmarks, *(b for b in (HARD, EASY) if b in self.bins.values())]

    def answers(self, arm: str, seed: int, name: str, greedy: bool = False) -> list[Graded]:
        """An arm's answers of one seed to the problems of a slice."""
        of = self.arms[arm].graded[seed]
        if name in self.benchmarks:
            return subset(of, name, greedy)
        return [a for a in subset(of, greedy=greedy) if self.bins[a.problem_id] == name]

    def rates(self, arm: str, seeds: Sequence[int], name: str, greedy: bool = False) -> dict[str, float]:
        """Problem id -> share of right answers, over samples and then over seeds."""
        by: dict[str, list[float]] = {}
        for seed in seeds:
            for problem, rate in pass_rates(self.answers(arm, seed, name, greedy)).items():
                by.setdefault(problem, []).append(rate)
        return {problem: fmean(rates) for problem, rates in sorted(by.items())}

    def scores(self, arm: str, name: str) -> ArmScore:
        """One arm on one slice."""
        seeds = list(self.arms[arm].runs)
        rates = self.rates(arm, seeds, name)
        mean, low, high = bootstrap(list(rates.values()))
        sampled = [a for s in seeds for a in self.answers(arm, s, name)]
        per_seed = {s: fmean(self.rates(arm, [s], name).values()) for s in seeds}
        greedy = self.rates(arm, seeds, name, greedy=True)
        return ArmScore(
            n=len(rates),
            k=len({a.sample for a in sampled}),
            mean=mean,
            low=low,
            high=high,
            per_seed=per_seed,
            sd_over_seeds=stdev(per_seed.values()) if len(per_seed) > 1 else None,
            greedy=fmean(greedy.values()) if greedy else None,
            tokens_mean=fmean(a.tokens for a in sampled),
            truncated=fmean(a.finish == "length" for a in sampled),
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(arm, the arm that it is compared with): every pair once, those with the baseline first."""
        others = [name for name in self.arms if name != self.baseline]
        return [(name, self.baseline) for name in others] + [(b, a) for a, b in combinations(others, 2)]

    def difference(self, arm: str, baseline: str, name: str, greedy: bool = False) -> ArmDifference | None:
        """Arm - baseline on the same problems, over the seeds that both have; None where there is nothing."""
        seeds = [s for s in self.arms[arm].runs if s in self.arms[baseline].runs]

        def rates(chosen: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
            before, after = (self.rates(a, chosen, name, greedy) for a in (baseline, arm))
            return before, after

        before, after = rates(seeds)
        if not before and not after:
            return None
        compared = paired(before, after, (baseline, arm))
        each = {s: fmean(b.values()) - fmean(a.values()) for s in seeds for a, b in [rates([s])]}
        return ArmDifference(**asdict(compared), seeds=tuple(seeds), per_seed=each)

    def costs(self, arm: str) -> dict[str, float]:
        """What an arm asked, kept, trained and took, as if run alone; means over seeds."""
        each = [costs(run, self.arms[arm].stage) for run in self.arms[arm].runs.values()]
        return {name: fmean(c[name] for c in each) for name in each[0]}


def costs(run: Run, evaluation: str) -> dict[str, float]:
    """What the stages that lead to `evaluation` asked, kept, trained on (tokens of all epochs) and took (seconds)."""
    upto = list(run.stages)[: list(run.stages).index(evaluation) + 1]
    both = (f"{evaluation}-answers", evaluation)
    manifests = {n: run.manifest(n) for n in upto if not n.startswith("eval-") or n in both}
    sampling, training = ([manifests[n]["metrics"] for n in names if n in manifests] for names in (SAMPLING, TRAINING))

    def seconds(names: Sequence[str]) -> float:
        return sum(m["seconds"] for n, m in manifests.items() if n in names)

    return {
        "sampled_answers": sum(t["answers"] for m in sampling for t in m["turns"]),
        "sampled_tokens": sum(m["tokens"] for m in sampling),
        "kept": sum(m["metrics"]["kept"] for n, m in manifests.items() if n.startswith("filter-")),
        "trained_tokens": sum(m["trained_tokens"] for m in training),
        "steps": sum(m["steps"] for m in training),
        "seconds_sampling": seconds(SAMPLING),
        "seconds_training": seconds(TRAINING),
        "seconds_evaluation": seconds(both),
    }


def collect(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders: a run's own, or an experiment's, whose arms stand below it. In order, each once.

    If the store's latest.json and an arm have the same name and seed, the arm wins. Raises RunError for a folder that
    is neither, and for two runs that would be one arm's with the same seed.
    """
    homes: dict[tuple[str, int], Path] = {}
    for folder in folders:
        arms = sorted(p.parent for p in folder.glob(f"{ARMS}/*/{LATEST}"))
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
    settings = {
        (r.name, store.canonical({**r.recipe["evaluate"], "turns": None, "template": None, "examples": False}))
        for r in runs
    }
    if len({how for _, how in settings}) > 1:
        names = ", ".join(sorted({name for name, _ in settings}))
        raise RunError(f"these runs were evaluated with different settings (evaluate: ...): {names}")
    complete = [r for r in runs if r.complete(r.last)]
    left_out = [f"{r.name}, seed {r.seed}" for r in runs if r not in complete]
    arms: dict[str, Arm] = {}
    for name in dict.fromkeys(r.name for r in complete):
        by_seed = {r.seed: r for r in sorted(complete, key=lambda r: r.seed) if r.name == name}
        stages = {r.last for r in by_seed.values()}
        if len(stages) > 1:
            raise RunError(f"{name}: its seeds were run with different phases")
        arms[name] = Arm(name, by_seed, stages.pop())
    base = next((name for name, arm in arms.items() if all(r.is_base for r in arm.runs.values())), None)
    if base is None:
        scored = {r.seed: r for r in complete if r.complete("eval-0") and r.asks_once}
        if not scored:
            raise RunError("no complete evaluation in these runs (of the untouched model there must be one); run them")
        base = "base"
        if base in arms:
            raise RunError(f"a trained run is named {base!r}, the untouched model's name here: give it another name")
        arms = {base: Arm(base, dict(sorted(scored.items())), "eval-0"), **arms}
    problems = {name: {a.problem_id for of in arm.graded.values() for a in of} for name, arm in arms.items()}
    for name in arms:
        refuse_other_problems(problems[base], problems[name], (base, name))
    if baseline is not None and baseline not in arms:
        raise RunError(f"no arm {baseline!r} to compare with; there are: {', '.join(arms)}")
    return Comparison(arms, baseline or base, base, left_out)


def summary(comparison: Comparison) -> dict[str, Any]:
    """All numbers with their conditions, as comparison.json holds them.

    An arm's `differs` is what its recipe says otherwise than the one in `conditions`, the first arm's.
    """
    names = comparison.slices
    first = next(iter(comparison.arms.values()))
    plain = {name: _settings(next(iter(arm.runs.values())).recipe) for name, arm in comparison.arms.items()}
    return {
        "baseline": comparison.baseline,
        "bins": {
            HARD: f"greedy answer of {comparison.base} wrong",
            EASY: f"greedy answer of {comparison.base} right",
        },
        "arms": {
            name: {
                "seeds": list(arm.runs),
                "evaluations": {seed: run.stages[arm.stage].name for seed, run in arm.runs.items()},
                "costs": comparison.costs(name),
                "scores": {s: asdict(comparison.scores(name, s)) for s in names},
                "differs": {
                    k: v
                    for k in plain[name] | plain[first.name]
                    if (v := plain[name].get(k)) != plain[first.name].get(k) and k != "seed"
                },
            }
            for name, arm in comparison.arms.items()
        },
        "differences": [
            {"arm": name, "baseline": other, "on": s, "measure": measure, **asdict(difference)}
            for name, other in comparison.pairs
            for s in names
            for measure in ("pass@1", *(["greedy"] if s in comparison.benchmarks else []))
            if (difference := comparison.difference(name, other, s, measure == "greedy"))
        ],
        "left_out": list(comparison.left_out),
        "conditions": conditions(comparison) | {"recipe": {**next(iter(first.runs.values())).recipe, "like": None}},
        "written_by": facts(),
    }


def _settings(recipe: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A recipe as {"section.key": value}; of the recipe that it is measured by, the name."""
    settings: dict[str, Any] = {}
    for key, value in recipe.items():
        if key == "like":
            settings[key] = value["name"] if value else None
        elif isinstance(value, Mapping) and value:
            settings |= _settings(value, f"{at}{key}.")
        else:
            settings[f"{at}{key}"] = value
    return settings


def conditions(comparison: Comparison) -> dict[str, Any]:
    """What the stages say of how they were made; a list where they differ."""
    runs = [run for arm in comparison.arms.values() for run in arm.runs.values()]
    folders = {run.stages[n]: run.manifest(n) for run in runs for n in run.stages if run.complete(n) and n != "report"}

    def of(values: list[Any]) -> list[Any]:
        return list({store.canonical(v): v for v in values}.values())

    config = runs[0].recipe["evaluate"]
    return {
        "model": of([run.recipe["model"] for run in runs]),
        "engine": of([m["metrics"]["engine"] for m in folders.values() if "engine" in m["metrics"]]),
        "scale": of([run.recipe["scale"] for run in runs]),
        "evaluation": {k: config[k] for k in ("samples", "greedy", "temperature", "top_p", "max_new_tokens")},
        **{name: of([m[name] for m in folders.values()]) for name in ("machine", "versions", "commit")},
    }
