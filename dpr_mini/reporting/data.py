"""The report's sections on data: from problems to training rows, what it cost, difficulty."""

from __future__ import annotations

from dataclasses import fields

from dpr_mini.reporting.document import Block, Section, Table
from dpr_mini.reporting.figures import Link
from dpr_mini.reporting.results import Bin, Results

PACKED = {"distinct_samples": "distinct samples", "contents": "distinct texts", "trained_tokens": "trained tokens"}
ORDER = (
    "drawn",
    "right",
    "wrong,",
    "right,",
    "kept",
    "kept:",
    "mix:",
    "problems",
    "packed:",
)  # first words, down the funnel


def funnel(results: Results, to: Link) -> Section:
    blocks: list[Block] = []
    if "problems" in results.at:
        metrics = results.metrics("problems")
        rows = [(name, f"{count:,}") for name, count in {**metrics["splits"], **metrics["sources"]}.items()]
        rows += [(f"dropped: {rule}", f"{count:,}") for rule, count in metrics["dropped"].items()]
        note = "Held-out benchmarks, train, then each by source; held_out: repeats over splits."
        blocks.append(Table(("split or source", "problems"), rows, results.source("problems"), "Problems", note))
    counts = {f"phase {phase}": by for phase in (1, 2) if (by := _counts(results, phase))}
    if counts:
        names = sorted({n: None for by in counts.values() for n in by}, key=lambda n: ORDER.index(n.split()[0]))
        rows = [(name, *(by.get(name, "-") for by in counts.values())) for name in names]
        roles = ("dialogue-1", "probe-2", "sample-2", "filter-1", "filter-2", "pack-1", "pack-2")
        source = ", ".join(results.source(r) for r in roles if r in results.at)
        blocks.append(Table(("what", *counts), rows, source, "From dialogues to training rows"))
    rules = list(dict.fromkeys(rule for by in results.drops.values() for rule, _ in by.most_common()))
    if rules:
        table = [(rule, *(str(by[rule]) for by in results.drops.values())) for rule in rules]
        head = ("rule", *(f"phase {role[-1]}" for role in results.drops))
        note = "The first rule that objects is counted; quota and limit are no faults, enough were kept already."
        source = ", ".join(results.source(role, "drops.jsonl") for role in results.drops)
        links = {
            (i, j): to("dropped", role, rule) for i, rule in enumerate(rules) for j, role in enumerate(results.drops, 1)
        }
        blocks.append(Table(head, table, source, "Dropped, by rule", note, links=links))
    return Section("Data", blocks + _costs(results))


def _counts(results: Results, phase: int) -> dict[str, str]:
    """What was drawn, kept and packed in one phase, by name."""
    counts = {}
    for role in ("dialogue-1",) if phase == 1 else ("probe-2", "sample-2"):
        if role in results.at:
            counts[f"drawn by {role.split('-')[0]}"] = f"{results.metrics(role)['dialogues']:,}"
    if (role := f"filter-{phase}") in results.at:
        metrics = results.metrics(role)
        for i, statuses in enumerate(metrics["statuses_by_turn"], 1):
            right, of = statuses.get("correct", 0), sum(statuses.values())
            counts[f"right after turn {i}"] = f"{right:,} of {of:,} ({right / of:.1%})"
        if len(metrics["statuses_by_turn"]) > 1:
            counts["wrong, then right"] = f"{metrics['wrong_to_right']:,}"
            counts["right, then wrong"] = f"{metrics['right_to_wrong']:,}"
        counts["kept"] = (
            f"{metrics['kept']:,} of {metrics['dialogues']:,} ({metrics['kept'] / metrics['dialogues']:.1%})"
        )
        kinds = {kind: n for kind, n in metrics["kept_kinds"].items() if n}
        counts |= {f"kept: {kind.replace('_', ' ')}": f"{n:,}" for kind, n in kinds.items()}
        if prefixes := metrics.get("prefixes"):
            counts["kept: first turns of dropped dialogues"] = f"{prefixes['kept']:,} of {prefixes['tried']:,}"
        if mix := metrics.get("mix"):
            limits = mix["limited_by"]
            for kind, n in mix["kept"].items():
                few = ", which limits the rest" if kind in limits else ""
                counts[f"mix: {kind.replace('_', ' ')}"] = f"{n:,} of {mix['there'][kind]:,} that passed the rules{few}"
        counts["problems covered"] = f"{metrics['problems_covered']:,} of {metrics['problems']:,}"
    if (role := f"pack-{phase}") in results.at:
        metrics = results.metrics(role)
        packed = ("samples", "distinct_samples", "contents", "rows", "tokens", "trained_tokens", "dropped")
        counts |= {f"packed: {PACKED.get(n, n)}": f"{metrics[n]:,}" for n in packed if n in metrics}  # older ones lack
        counts["packed: row space filled"] = f"{metrics['fill']:.1%}"
    return counts


def _costs(results: Results) -> list[Block]:
    turns, trained = [], []
    for role in results.generating:
        metrics, seconds = results.metrics(role), results.manifests[role]["seconds"]
        for i, t in enumerate(metrics["turns"], 1):
            counts = [f"{t[k]:,}" for k in ("answers", "prompt_tokens")]
            share, cut = f"{t['cached_share']:.1%}", f"{t['truncated'] / max(t['answers'], 1):.1%}"
            speed = (
                (f"{seconds:,.1f}", f"{metrics['tokens'] / seconds:,.0f}" if seconds else "-") if i == 1 else ("", "")
            )
            turns.append((role, str(i), *counts, share, f"{t['tokens']:,}", cut, *speed))
    for role in (r for r in ("train-1", "train-2") if r in results.at):
        m = results.metrics(role)
        counts = [f"{m[k]:,}" for k in ("steps", "tokens", "trained_tokens")]
        loss, speed = [f"{m[k]:.3f}" for k in ("first_loss", "last_loss")], f"{m['tokens_per_second']:,.0f}"
        seconds = f"{results.manifests[role]['seconds']:,.1f}"
        trained.append((role, *counts, *loss, seconds, speed, m["dtype"]))
    head = "stage | turn | answers | prompt tokens | cached | new tokens | truncated | seconds"
    generated = f"{head} | tokens/s".split(" | ")
    note = "Seconds are the whole stage's, with loading and grading. "
    note += "Cached: share of prompt tokens that the engine had (OpenVINO: as our model of its block cache expects)."
    source, blocks = "stage.json of the stages named", []
    if turns:
        blocks.append(Table(generated, turns, source, "Generation", note))
    if trained:
        head = "stage | steps | tokens | trained tokens | first loss | last loss | seconds | tokens/s | matmuls"
        blocks.append(Table(head.split(" | "), trained, source, "Training"))
    return blocks


def difficulty(results: Results, to: Link) -> Section:
    if not results.bins:
        return Section("Difficulty (phase 2)")
    plain, kept_count = sum(b.plain for b in results.bins), sum(b.kept for b in results.bins)
    rows = []
    for b in results.bins:
        counts = [getattr(b, f.name) for f in fields(Bin)[1:]]
        shares = (f"{b.plain / max(plain, 1):.0%}", f"{b.kept / max(kept_count, 1):.0%}")
        rows.append((b.label, *map(str, counts), *shares))
    total = [sum(getattr(b, f.name) for b in results.bins) for f in fields(Bin)[1:]]
    rows.append(("all", *map(str, total), "", ""))
    head = "pass rate | problems | probed | right in probe | wanted | drawn | right | kept | never"
    head += " | % plain | % kept"
    m = results.metrics("sample-2")
    note = (
        f"Pass rate is the probe's. Target {m['target']}: {m['met']} problems met their quota, {m['spent']} spent "
        f"their draws with some right, {m['never_solved']} were never solved. % plain: share of what rejection "
        "sampling on the probe alone would keep; % kept: of what is trained on, after the rules."
    )
    source = ", ".join([results.source("sample-2", "budgets.jsonl"), results.source("filter-2", "rows.jsonl")])
    links = {(i, 2): to("probed", b.label) for i, b in enumerate(results.bins)}
    links |= {(i, 7): to("kept", b.label) for i, b in enumerate(results.bins)}
    return Section("Difficulty (phase 2)", [Table(head.split(" | "), rows, source, note=note, links=links)])
