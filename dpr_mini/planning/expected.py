"""What each stage is expected to do by the lengths and pass rates of assumed.py, beside the bounds of forecast.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpr_mini.planning import assumed
from dpr_mini.recipe import EvaluateConfig, FilterConfig, PackConfig, Recipe, TrainConfig
from dpr_mini.runs import TEST
from dpr_mini.sampling import budgets

MOST = 100_000  # pass rates that are simulated; of more problems a part stands for all


@dataclass(frozen=True)
class Expected:
    """What one stage is expected to do."""

    items: float  # answers, or samples trained on in an epoch
    tokens: float
    length: float  # tokens of one conversation, or of one sample, the question's included
    labelled: float = 0.0  # of a training: tokens that are predicted, in all epochs


def expected(
    recipe: Recipe, sizes: Mapping[str | None, Sequence[int]], other: Mapping[str, Expected], test: bool = False
) -> dict[str, Expected]:
    """Stage -> what is expected of it.

    `sizes`: problems of each source, by benchmark, None for training. `other`: what is expected of the run `like`.
    {} where that is not known: answers of a source have no assumed length, or a budget cannot be kept.
    """
    sets = {"": recipe.problems.evaluated, TEST: recipe.problems.test if test else {}}
    groups = {None: recipe.problems.train, **sets[""], **sets[TEST]}
    if any((s.hub or "") not in assumed.ANSWERS for group in groups.values() for s in group):
        return {}
    answers = {name: [(n, assumed.ANSWERS[s.hub or ""]) for n, s in zip(sizes[name], group, strict=True)]
               for name, group in groups.items()}  # fmt: skip
    problems, d, probe = sum(sizes[None]), recipe.dialogue, recipe.probe
    one = sum(n * tokens for n, tokens in answers.pop(None)) / max(1, problems)

    def evaluation(number: int, taught: int) -> dict[str, Expected]:
        each = {end: {name: answers[name] for name in of} for end, of in sets.items()}
        return {f"eval-{number}{end}-answers": _evaluating(recipe.evaluate, of, taught) for end, of in each.items()}

    rates, stages = budgets.assumed(min(problems, MOST)), evaluation(0, 1)
    times = problems / max(1, len(rates))  # as many problems stand behind each rate
    taught = 1  # turns that one answer has
    try:
        if 1 in recipe.phases:
            taught = len(d.longest)
            stages["dialogue-1"] = _generating(problems * d.most_answers, one, d.max_new_tokens, taught)
            kept_samples = times * right(
                assumed.PASSED * rates, d.most_dialogues, at_most(recipe.filter, d.most_dialogues)
            )
            chain = min(one, d.max_new_tokens) * taught
            stages["train-1"] = _training(recipe.filter, recipe.pack, recipe.train, kept_samples, chain, other)
            stages |= evaluation(1, taught)
        if 2 in recipe.phases:
            probed, draws, usable = (times * n for n in _phase_2(recipe, rates, recipe.scale / times))
            stages["probe-2"] = _generating(probed, one * taught, probe.max_new_tokens)
            stages["sample-2"] = _generating(draws, one * taught * assumed.HARDER, probe.max_new_tokens)
            chain = min(one * taught, probe.max_new_tokens)
            stages["train-2"] = _training(recipe.filter_2, recipe.pack_2, recipe.train_2, usable, chain, other)
            stages |= evaluation(2, taught)
    except _Unknown:
        return {}
    return stages


class _Unknown(Exception):
    """A number that nothing is assumed of."""


def at_most(rules: FilterConfig, each: int) -> int:
    """Samples of one problem that can pass the filter, of `each` that there are."""
    most = [r["per_problem"].get("at_most", each) for r in rules.rules if isinstance(r, dict) and "per_problem" in r]
    return min([each, *most])


def right(rates: budgets.Floats, draws: int, most: int) -> float:
    """Expected right answers kept, at most `most` of each problem's `draws`: sum of E[min(Binomial, most)]."""
    values, times = np.unique(rates, return_counts=True)
    k = np.arange(draws + 1)
    whole = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])  # log k!
    ways = whole[draws] - whole - whole[::-1]
    values = np.clip(values, 1e-12, 1 - 1e-12)
    logs = np.log(values), np.log1p(-values)
    return float(sum(
        n * (np.minimum(k, most) * np.exp(ways + k * p + (draws - k) * q)).sum()
        for p, q, n in zip(*logs, times, strict=True)
    ))  # fmt: skip


def _generating(items: float, tokens: float, limit: int, turns: int = 1) -> Expected:
    tokens = min(tokens, limit)
    return Expected(items, items * tokens, assumed.QUESTION + turns * tokens)


def _evaluating(
    config: EvaluateConfig, answers: Mapping[str | None, Sequence[tuple[int, int]]], taught: int
) -> Expected:
    """`answers`: (problems, tokens of an untaught answer) of each benchmark's sources."""
    turns, items, tokens = len(config.longest), 0, 0.0
    for name, sources in answers.items():
        for problems, one in sources:
            draws = problems * (config.k(str(name)) + config.greedy) * turns
            items, tokens = items + draws, tokens + draws * min(one * taught, config.max_new_tokens)
    return Expected(items, tokens, assumed.QUESTION + turns * tokens / max(1, items))


def _training(
    rules: FilterConfig,
    packing: PackConfig,
    train: TrainConfig,
    samples: float,
    chain: float,
    other: Mapping[str, Expected],
) -> Expected:
    """What training on `samples` kept answers of `chain` tokens takes, within the limits of the recipe or its `like`.

    Raises _Unknown where `other`, what is expected of the run `like`, lacks a stage that sets a limit.
    """
    limit, total = rules.limit, packing.trained_tokens
    named = [limit.replace("filter", "train")] if isinstance(limit, str) else []
    if not other.keys() >= {*named, *(total if isinstance(total, tuple) else ())}:
        raise _Unknown
    most = other[named[0]].items if named else limit or math.inf
    if isinstance(total, tuple):
        total = sum(other[name].labelled for name in total)
    labelled = total or min(samples, most) * chain * train.epochs
    sample = assumed.QUESTION + chain
    return Expected(labelled / chain / train.epochs, labelled / chain * sample, sample, labelled)


def _phase_2(recipe: Recipe, rates: budgets.Floats, scale: float) -> tuple[int, int, float]:
    """Draws of the probe, draws after it, samples kept: one simulated sampling with `scale` of the budget."""
    rng = np.random.default_rng(0)
    probe_draws = np.full(len(rates), recipe.probe.samples)
    probe = budgets.Counts(probe_draws, probe_draws, rng.binomial(probe_draws, rates))
    try:
        now, quotas = budgets.play(rates, probe, recipe.sample.scaled(scale), rng)
    except budgets.BudgetError:  # the lines on sample-2 say so
        raise _Unknown from None
    each = at_most(recipe.filter_2, recipe.sample.max_tries)
    usable = np.minimum(np.minimum(now.right, quotas), each).sum()
    return int(probe_draws.sum()), int(now.asked.sum() - probe_draws.sum()), float(usable)
