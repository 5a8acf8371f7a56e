"""Score a model on the held-out problems: k sampled answers and a greedy one each, graded and counted.

Two halves. `answers` asks the model: `rows.jsonl` holds what it said. `cards` grades that: `graded.jsonl` holds what
the grader said of each answer, the score cards are the metrics. So every number can be traced, and graded again with
another grader without asking the model again. Besides the official verdict each answer is scored by its first and by
its last number: the gap between them separates a better format from better arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini import behaviours
from dpr_mini.chat import Template, join_text
from dpr_mini.conversation import Conversation, examples, hold, script, usage
from dpr_mini.engines.base import Engine, Sampling
from dpr_mini.grade import Grader, first_result, last_number
from dpr_mini.recipe import Evaluate, Example, Grading, RecipeError
from dpr_mini.stats import GREEDY, estimate, lengths, majority, official, pass_at_k, pass_rates
from dpr_mini.store import StoreError, read_rows, write_rows
from dpr_mini.types import Dialogue, Problem, ScoreCard, from_row, seed_for, to_row

ANSWERS = 1  # version of the rows that `answers` writes
VERSION = 4  # version of the graded rows and cards

Row = Mapping[str, Any]


def answers(
    folder: Path,
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    config: Evaluate,
    templates: Mapping[str, str],
    seed: int,
    title: str = "eval",
    known: Sequence[Example] = (),
) -> dict[str, Any]:
    """Ask the model for every answer that `folder`/rows.jsonl lacks; returns what was used. Raises EngineError.

    `known` are worked examples to show before the questions, where `config.examples` says so.
    An answer's seed depends on the recipe's seed, the problem and its number alone: a larger k adds to the same draws.
    Raises RecipeError where examples are asked for and no problem is shown any.
    """
    drawn = Sampling(config.max_new_tokens, config.temperature, config.top_p)
    greedy = Sampling(config.max_new_tokens, temperature=0.0)

    def conversation(number: int, p: Problem, i: int) -> Conversation:
        turns = script(config.turns or ((config.template,),), templates, p.text, number + i)
        shown = examples(known, p, [name for name, _ in turns], templates) if config.examples else ()
        sampling = greedy if i == GREEDY else drawn
        return Conversation(p.id, i, turns, sampling, seed_for(seed, "eval", p.id, i), config.system, shown)

    wanted = [
        conversation(number, p, i)
        for number, p in enumerate(problems)
        for i in [*range(config.k(p.split)), *([GREEDY] if config.greedy else [])]
    ]
    if config.examples and not any(c.shown for c in wanted):
        levels = ", ".join(sorted({p.level for p in problems})) or "none"
        raise RecipeError(f"evaluate.examples: no example is for a problem here; levels: {levels}")
    given = hold(folder / "rows.jsonl", engine, template, wanted, title, whole=True)
    return usage(given.values(), len(wanted))


def cards(
    folder: Path, answered: Path, problems: Sequence[Problem], bridges: Mapping[str, str], limits: Grading
) -> dict[str, Any]:
    """Grade the answers in `answered`/rows.jsonl into `folder`/graded.jsonl; metrics: a score card per benchmark.

    Raises StoreError for an answer to a problem that is not among `problems`.
    """
    given = [from_row(Dialogue, row) for row in read_rows(answered / "rows.jsonl")]
    if strange := {d.problem_id for d in given} - {p.id for p in problems}:
        raise StoreError(f"{answered / 'rows.jsonl'}: {len(strange)} problems are not held out here: {min(strange)}")
    rows = grade(given, problems, bridges, limits)
    write_rows(folder / "graded.jsonl", rows)
    benchmarks = list(dict.fromkeys(p.split for p in problems))  # in the recipe's order
    found = {b: score(b, [r for r in rows if r["benchmark"] == b]) for b in benchmarks}
    if len(benchmarks) > 1:
        found["all"] = score("all", rows)
    return {"cards": found}


def grade(
    answers: Sequence[Dialogue],
    problems: Sequence[Problem],
    bridges: Mapping[str, str],
    limits: Grading = Grading(),  # noqa: B008  frozen
) -> list[dict[str, Any]]:
    """One row an answer, sorted by id. `attempt_ok` is the verdict on what stands before the first bridge, or None.

    Of a dialogue (`evaluate.turns`) the last turn's answer counts; `attempt_ok` is that of its first turn, `joined_ok`
    that of the whole chain. `vote` is the answer that a sample stands for in a majority vote: the first of its
    problem's answers that the grader takes for the same, None where nothing was found.
    """
    by_id = {p.id: p for p in problems}
    cases = []
    for d in answers:
        gold, text = by_id[d.problem_id].answer, d.turns[-1].text
        cases += [
            (f"{d.id}|final", gold, text),
            (f"{d.id}|first", gold, first_result(text)),
            (f"{d.id}|last", gold, last_number(text)),
        ]
        if (before := d.turns[0].text if len(d.turns) > 1 else first_attempt(text, bridges)) is not None:
            cases.append((f"{d.id}|attempt", gold, before))
        if len(d.turns) > 1:
            cases.append((f"{d.id}|joined", gold, join_text(d, bridges)))
    with Grader(timeout_s=limits.timeout_s, memory_mib=limits.memory_mib) as grader:
        verdicts = dict(grader.grade_many(cases))
        rows = []
        for d in sorted(answers, key=lambda d: d.id):
            problem, final = by_id[d.problem_id], verdicts[f"{d.id}|final"]
            attempt, joined = verdicts.get(f"{d.id}|attempt"), verdicts.get(f"{d.id}|joined")
            rows.append(
                {
                    "id": d.id,
                    "problem_id": d.problem_id,
                    "benchmark": problem.split,
                    "source": problem.source,
                    "level": problem.level,
                    "subject": problem.subject,
                    "sample": d.sample,
                    "tokens": d.tokens,
                    "finish": d.finish,
                    **to_row(final),
                    "first_ok": verdicts[f"{d.id}|first"].ok,
                    "last_ok": verdicts[f"{d.id}|last"].ok,
                    "attempt_ok": attempt.ok if attempt else None,
                    "joined_ok": joined.ok if joined else None,
                    "behaviours": behaviours.count("\n\n".join(t.text for t in d.turns)),
                }
            )
        cast = votes(rows, grader)
    return [{**row, "vote": cast.get(row["id"])} for row in rows]


def votes(rows: Sequence[Row], grader: Grader) -> dict[str, str]:
    """Row id -> the answer it votes for, of the sampled rows in which one was found.

    All right answers are one vote, by the verdict they have. A wrong one joins the first wrong answer of its problem
    that the grader takes for the same. What the grader gave up on is compared as a string: asking again would cost the
    same seconds again.
    """
    by: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r["sample"]):
        if row["sample"] != GREEDY and row["status"] != "unparsed":
            by.setdefault(row["problem_id"], []).append(row)
    wrong = {i: list(dict.fromkeys(r["extracted"] for r in of if r["status"] == "wrong")) for i, of in by.items()}
    same = dict(
        grader.grade_many(
            ((i, a, b), a, rf"\boxed{{{b}}}")
            for i, found in wrong.items()
            for n, a in enumerate(found)
            for b in found[n + 1 :]
        )
    )
    cast: dict[str, str] = {}
    for i, of in by.items():
        heads: dict[str, str] = {}  # wrong answer -> the one it counts as
        for b in wrong[i]:
            heads[b] = next((a for a in dict.fromkeys(heads.values()) if same[i, a, b].ok), b)
        right = next((r["extracted"] for r in of if official(r)), "")
        for r in of:
            cast[r["id"]] = right if official(r) else heads.get(r["extracted"], r["extracted"])
    return cast


def first_attempt(text: str, bridges: Mapping[str, str]) -> str | None:
    """The text before the first bridge sentence in it; None where there is none."""
    found = [at for bridge in bridges.values() if bridge.strip() and (at := text.find(bridge.strip())) > 0]
    return text[: min(found)] if found else None


def score(benchmark: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A ScoreCard of graded rows and what stands beside it: pass@k, maj@k, other scorers, behaviours, lengths.

    Every score is an `estimate` over problems. `k` is the smallest number of samples a problem, `k_most` the largest
    (they differ only over several benchmarks); pass@k and maj@k need one k, so they are None where the two differ.
    """
    sampled = [r for r in rows if r["sample"] != GREEDY]
    greedy = [r for r in rows if r["sample"] == GREEDY]
    by = _by_problem(sampled)
    draws = [len(of) for of in by]
    main, length = estimate(list(pass_rates(sampled).values())), lengths([r["tokens"] for r in sampled])
    revised = [r for r in sampled if r["attempt_ok"] is not None]
    alone = estimate(list(pass_rates(greedy).values())) if greedy else None
    talked = [r for r in sampled if r.get("joined_ok") is not None]
    card = ScoreCard(
        benchmark=benchmark,
        n=main["n"],
        k=min(draws),
        mean=main["mean"],
        low=main["low"],
        high=main["high"],
        greedy=alone and alone["mean"],
        truncated=share(r["finish"] == "length" for r in sampled),
        tokens_mean=length["mean"],
        tokens_median=length["median"],
        tokens_p90=length["p90"],
        se=main["se"],
    )
    return {
        **to_row(card),
        "k_most": max(draws),
        "greedy_estimate": alone,
        "pass_at": _pass_at(by, min(draws)) if min(draws) == max(draws) else None,
        "maj": _maj(by) if min(draws) == max(draws) else None,
        "lengths": {name: lengths([r["tokens"] for r in sampled if official(r) is ok])
                    for name, ok in (("right", True), ("wrong", False))},
        "by_level": _by_label("level", sampled) if benchmark != "all" else {},
        "by_subject": _by_label("subject", sampled) if benchmark != "all" else {},
        "first_result": share(r["first_ok"] for r in sampled),
        "last_number": share(r["last_ok"] for r in sampled),
        "unparsed": share(r["status"] == "unparsed" for r in sampled),
        "timeouts": sum(r["status"] == "timeout" for r in rows),
        "behaviours": {
            name: share(r["behaviours"][name] > 0 for r in sampled) for name in behaviours.NAMES
        },
        **({"joined": share(r["joined_ok"] for r in talked)} if talked else {}),
        "revised": len(revised),
        "wrong_to_right": share(not r["attempt_ok"] and r["status"] == "correct" for r in revised),
        "right_to_wrong": share(r["attempt_ok"] and r["status"] != "correct" for r in revised),
    }  # fmt: skip


def _by_problem(rows: Sequence[Row]) -> list[list[Row]]:
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(row["problem_id"], []).append(row)
    return list(by.values())


def _pass_at(by: Sequence[Sequence[Row]], k: int) -> dict[str, dict[str, Any]]:
    """pass@1, 2, 4 ... and pass@k, from all k draws of each problem."""
    chosen = sorted({*(2**i for i in range(k.bit_length())), k})
    return {str(j): estimate([pass_at_k(len(of), sum(map(official, of)), j) for of in by]) for j in chosen}


def _maj(by: Sequence[Sequence[Row]]) -> dict[str, Any] | None:
    """None where the rows carry no votes (graded before version 4)."""
    if not all("vote" in r for of in by for r in of):
        return None
    return estimate([majority([r["vote"] for r in of], [official(r) for r in of]) for of in by])


def _by_label(label: str, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """pass@1 and mean length of the problems of each level or subject; {} where the rows have none."""
    names = sorted({r[label] for r in rows if r.get(label)})
    inside = {name: [r for r in rows if r.get(label) == name] for name in names}
    return {
        name: {**estimate(list(pass_rates(of).values())), "tokens_mean": lengths([r["tokens"] for r in of])["mean"]}
        for name, of in inside.items()
    }


def share(flags: Any) -> float:
    """Share of true flags; 0 of none is 0."""
    flags = list(flags)
    return round(sum(flags) / len(flags), 4) if flags else 0.0
