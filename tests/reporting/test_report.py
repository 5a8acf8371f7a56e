"""The report on a run made by hand: its numbers, its words, that nothing in it is trusted or fetched, how it looks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import graded as by_hand

from dpr_mini import recipe as recipes
from dpr_mini.reporting import answers, samples
from dpr_mini.reporting.results import Results, inside_bin, verdict
from dpr_mini.scoring.card import score_all
from dpr_mini.scoring.stats import Difference, sign_test
from dpr_mini.stages import report
from dpr_mini.stages.filter import metrics as filter_metrics
from dpr_mini.store import StoreError, read_json, write_json, write_rows
from dpr_mini.types import Graded, UserError

EVIL = "<script>alert('x')</script> & ```` | \\boxed{7} <img src=x onerror=y>"
N, K = 20, 2
# Share of the N problems of each benchmark that both samples get right, per evaluation.
RIGHT = {"eval-0": (4, 10), "eval-1": (14, 10), "eval-2": (15, 2)}


def stage(root: Path, role: str, metrics: dict[str, Any], files: dict[str, list[dict[str, Any]]]) -> Path:
    folder = root / f"{role.replace('_', '-')}-0a1b2c3d"
    folder.mkdir()
    for name, rows in files.items():
        write_rows(folder / f"{name}.jsonl", rows)
    manifest = {
        "stage": role, "key": "0a1b2c3d", "config": {}, "inputs": {}, "metrics": metrics,
        "seconds": 2.0, "finished": "2026-01-01T00:00:00Z", "versions": {"python": "3.11"}, "commit": "abc",
        "machine": {"cpu": "two cores", "cores": 2}, "peak_rss_gib": 1.0,
    }  # fmt: skip
    write_json(folder / "stage.json", manifest)
    return folder


def turns(count: int) -> dict[str, Any]:
    one = {"answers": 10, "prompt_tokens": 100, "cached_tokens": 25, "tokens": 80, "truncated": 1, "cached_share": 0.25}
    return {"dialogues": 10, "tokens": 80 * count, "turns": [one] * count, "engine": "scripted"}


def graded(role: str) -> list[Graded]:
    """Phase 1 gains on "easy" by format alone: the last number was right before. "hard" falls in phase 2."""
    answers = []
    for b, benchmark in enumerate(("easy", "hard")):
        for p in range(N):
            for sample in (None, *range(K)):
                right = p < RIGHT[role][b]
                answers.append(by_hand(
                    f"{benchmark}{p:02d}", sample, right, benchmark, tokens=10 * (1 + int(role[-1])) + p,
                    finish="length" if p == 19 else "stop", first=False, last=p < 14 if benchmark == "easy" else right,
                    attempt=False if p == 0 else None,
                    behaviours={"verification": int(p < 5), "backtracking": 0, "subgoals": 0, "backward": 0},
                ))  # fmt: skip
    return answers


def dialogue(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    said = [{"instruction": "solve", "prompt": f"What is 3 + 4? {EVIL}", "ids": [1, 2, 3], "text": t, "finish": "stop",
             "prompt_tokens": 5, "cached_tokens": 0} for t in texts]  # fmt: skip
    return {"id": name, "problem_id": name.split("#")[0], "sample": 0, "turns": said, "engine": "scripted", "seed": 1}


def kept(name: str, kind: str, texts: tuple[str, ...]) -> dict[str, Any]:
    right = {"status": "correct", "extracted": "7", "how": "boxed/exact"}
    return {"id": name, "problem_id": name.split("#")[0], "kind": kind, "verdicts": [right] * len(texts),
            "behaviours": {}, "dialogue": dialogue(name, texts)}  # fmt: skip


def filtering(kept_count: int, drops: list[dict[str, str]]) -> dict[str, Any]:
    shares = dict.fromkeys(("verification", "backtracking", "subgoals", "backward"), 0.5)
    kinds = {"single_right": 0, "confirmed": 1, "corrected": 1, "spoiled": 2, "never_right": 3}
    return {
        "dialogues": kept_count + len(drops), "kept": kept_count, "drops": Counter(d["rule"] for d in drops),
        "kinds": kinds, "kept_kinds": kinds, "statuses_by_turn": [{"correct": 4, "wrong": 6}], "acc@t1": 0.4,
        "acc@last": 0.4, "wrong_to_right": 1, "right_to_wrong": 2, "behaviours": shares, "kept_behaviours": shares,
        "problems": 4, "problems_covered": 2,
    }  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    return make(tmp_path)


def make(root: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Every stage of a run of two phases (role -> folder), and its recipe."""
    recipe = recipes.parse({"name": "by-hand", "problems": {"train": [{"file": "none"}]}}, "made")
    drops = [{"dialogue_id": "p1#0", "rule": "false_arithmetic", "evidence": f"1+1=3 {EVIL}"},
             {"dialogue_id": "p2#0", "rule": "false_arithmetic", "evidence": "2+2=5"},
             {"dialogue_id": "p3#0", "rule": "answered", "evidence": "no answer"}]  # fmt: skip
    talks = [dialogue(f"p{i}#0", (f"turn one of {i} {EVIL}", "turn two")) for i in range(4)]
    problems = [{"id": f"p{i}", "source": "made", "text": "3 + 4", "answer": "7"} for i in range(4)]
    loss = [{"step": i, "loss": 2.0 - i / 20, "lr": 1e-5, "grad_norm": 1.0, "tokens": 9, "seconds": 0.1}
            for i in range(20)]  # fmt: skip
    packed = {"rows": 3, "samples": 5, "tokens": 1234, "trained_tokens": 1000, "fill": 0.9, "dropped": 0, "longest": 9}
    trained = {"steps": 20, "tokens": 180, "trained_tokens": 90, "first_loss": 2.0, "last_loss": 1.05,
               "tokens_per_second": 90.0, "dtype": "float32"}  # fmt: skip
    budgets = [
        {"problem_id": f"p{i}", "tried": 4, "correct": c, "rate": c / 4, "wanted": w, "drawn": d, "right": r}
        for i, (c, w, d, r) in enumerate([(0, 4, 16, 0), (0, 4, 16, 2), (2, 2, 4, 2), (4, 1, 4, 4)])
    ]
    bins = dict.fromkeys(("0", "0.25-0.5", "1"))
    sampled = turns(1) | {"target": "prop2diff", "met": 2, "spent": 1, "never_solved": 1, "bins": bins}
    keep = [kept("p1#0", "single_right", (f"seven {EVIL}",)), kept("p2#1", "single_right", ("x",))]
    talk = [kept("p0#0", "confirmed", ("a", "b")), kept("p4#0", "corrected", ("MENDED", "b"))]
    asked = {role: (turns(1), {"rows": [dialogue(a.id, (f"{role} {EVIL}",)) for a in graded(role)]})
             for role in RIGHT}  # fmt: skip
    evals = {
        role: (
            {"cards": {name: card.to_row() for name, card in score_all(graded(role), ("easy", "hard")).items()}},
            {"graded": [a.to_row() for a in graded(role)]},
        )
        for role in RIGHT
    }
    probed = [dialogue(name, (f"drawn {EVIL}",)) for name in ("p0#0", "p1#0", "p2#0", "p3#0")]
    stages: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "problems": ({"splits": {"train": 4, "easy": N}, "sources": {"train/made": 4}, "dropped": {"duplicate": 1}},
                     {"rows": problems}),
        "eval-0-answers": asked["eval-0"],
        "eval-0": evals["eval-0"],
        "dialogue-1": (turns(2), {"rows": talks}),
        "filter-1": (filtering(2, drops), {"rows": talk, "drops": drops}),
        "pack-1": (packed, {}),
        "train-1": (trained, {"metrics": loss}),
        "eval-1-answers": asked["eval-1"],
        "eval-1": evals["eval-1"],
        "probe-2": (turns(1), {"rows": probed}),
        "sample-2": (sampled, {"budgets": budgets, "rows": [dialogue("p2#1", ("x",))]}),
        "filter-2": (filtering(2, drops[:1]), {"rows": keep, "drops": drops[:1]}),
        "pack-2": (packed, {}),
        "train-2": (trained, {"metrics": loss}),
        "eval-2-answers": asked["eval-2"],
        "eval-2": evals["eval-2"],
    }  # fmt: skip
    return {r: stage(root, r, m, f) for r, (m, f) in stages.items()}, recipe.model_dump(mode="json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    report.write(out, *make(tmp_path_factory.mktemp("run")))
    return out


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[str, str, dict[str, Any]]:
    return *((folder / n).read_text() for n in ("report.html", "report.md")), read_json(folder / "scorecards.json")


def test_numbers_are_those_of_the_rows(written: tuple[str, str, dict[str, Any]]) -> None:
    page, text, cards = written
    assert cards["models"]["base"]["cards"]["easy"]["mean"] == 4 / 20
    assert cards["models"]["phase 2"]["cards"]["all"]["mean"] == 17 / 40
    for words in (page.replace("<br><small>", " ").replace("</small>", ""), text.replace("<br>", " ")):
        assert "0.200" in words and "0.425" in words
        assert re.search(r"easy n=20, k=2", words)
        assert "1,234" in words
    found = {(d["before"], d["after"], d["benchmark"]): d for d in cards["differences"] if d["measure"] == "official"}
    up = found["base", "phase 1", "easy"]
    assert (up["n"], up["mean"], up["up"], up["down"], up["verdict"]) == (20, 0.5, 10, 0, "improved")
    assert up["p_sign"] == sign_test(10, 0) == 2 / 1024
    assert found["base", "phase 1", "all"]["mean"] == 0.25
    down = found["phase 1", "phase 2", "hard"]
    assert (down["mean"], down["verdict"]) == (-0.4, "got worse")
    assert len(found) == 9


def test_the_interval_is_one_of_paired_problems(written: tuple[str, str, dict[str, Any]]) -> None:
    """14 -> 15 of 20 problems: paired, 19 problems do not move; unpaired the interval would be some +-0.28."""
    found = next(d for d in written[2]["differences"] if d["measure"] == "official" and d["benchmark"] == "easy"
                 and d["before"] == "phase 1")  # fmt: skip
    assert found["mean"] == pytest.approx(0.05)
    assert 0 <= found["low"] < 0.01 and 0.1 <= found["high"] <= 0.2
    assert found["verdict"] == "no change shown"


def test_a_null_is_called_a_null(written: tuple[str, str, dict[str, Any]]) -> None:
    lines = [line for line in written[1].splitlines() if " on hard: " in line]
    null = next(line for line in lines if "base to phase 1" in line)
    assert null.startswith("- **no change shown**") and "no change that this many problems could show" in null
    claims = [line for line in written[1].splitlines() if line.startswith(("- **improved", "- **got worse"))]
    assert claims and all(re.search(r"[-+]0\.\d+ \\\[[-+]0\.\d+, [-+]0\.\d+\\\], n=\d+", line) for line in claims)


def test_a_gain_of_format_alone_is_called_that(written: tuple[str, str, dict[str, Any]]) -> None:
    """On "easy" the last number was right before and after: official rises by 0.25 over all, last number by 0."""
    line = next(x for x in written[1].splitlines() if x.startswith("- base to phase 1: official"))
    assert "one of format as far as these problems can tell" in line
    found = {d["measure"]: d for d in written[2]["differences"] if d["benchmark"] == "all" and d["after"] == "phase 1"}
    assert found["last_number"]["mean"] == 0 and found["format"]["mean"] == 0.25


def test_lengths_by_verdict(written: tuple[str, str, dict[str, Any]]) -> None:
    row = next(x for x in written[1].splitlines() if x.startswith("| easy | all | phase 1 |"))
    tokens = np.array([20 + p for p in range(20) for _ in range(2)])
    assert row == f"| easy | all | phase 1 | 40 | {tokens.mean():.1f} | {np.median(tokens):.1f} | " \
        f"{np.percentile(tokens, 90):.1f} | {29.5 / 19.5:.2f} | 5.0% |"  # fmt: skip
    right = next(x for x in written[1].splitlines() if x.startswith("| all | right | base |"))
    assert right.split(" | ")[3] == str(2 * (4 + 10))


def test_difficulty_before_and_after_the_quota(
    made: tuple[dict[str, Path], dict[str, Any]], written: tuple[str, str, dict[str, Any]]
) -> None:
    hard, middle, easy = Results(made[0]).bins
    assert (hard.problems, hard.tried, hard.plain, hard.wanted, hard.drawn, hard.right) == (2, 8, 0, 8, 32, 2)
    assert (hard.kept, hard.never, middle.kept, easy.plain, easy.kept) == (1, 1, 1, 4, 0)
    assert "| all | 4 | 16 | 6 | 11 | 40 | 8 | 2 | 1 |" in written[1]


@pytest.mark.parametrize(("label", "rates"), [("0", [0]), ("0-0.25", [0.1, 0.25]), ("0.75-1", [0.8]), ("1", [1])])
def test_bins_are_those_of_the_sampling_stage(label: str, rates: list[float]) -> None:
    from dpr_mini.stages.difficulty import bin_of

    for rate in [0, 0.1, 0.25, 0.3, 0.8, 1]:
        assert inside_bin(label, rate) == (rate in rates) == (bin_of(float(rate)) == label)


def test_filter_metrics_have_what_the_report_reads() -> None:
    """The fixture's filter metrics are made by hand: they must stay those of the filter."""
    import inspect

    source = inspect.getsource(filter_metrics)
    assert all(f'"{name}":' in source for name in filtering(1, []))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]


def test_model_text_is_inert_and_nothing_is_fetched(written: tuple[str, str, dict[str, Any]]) -> None:
    page, text, _ = written
    parsed = Page()
    parsed.feed(page)
    assert parsed.tags["svg"] == 11
    assert not any(parsed.tags[t] for t in ("script", "img", "link", "iframe", "object", "base"))
    assert all(link.startswith("#") for link in parsed.links), set(parsed.links)
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 4  # both sides, kept and dropped
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "alert" not in outside and "MENDED" in text  # "corrected" comes before "confirmed"


def test_phase_one_alone(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    at = {role: folder for role, folder in made[0].items() if not role.endswith("2")}
    found = report.write(tmp_path, at, {**made[1], "phases": [1]})
    assert found["headline"]["pass@1"]["easy"] == {"base": 0.2, "phase 1": 0.7}
    text = (tmp_path / "report.md").read_text()
    assert "in 1 of 1 phases" in text and "phase 2 vs" not in text and "Difficulty (phase 2)" not in text


def test_without_evaluations(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    at = {role: folder for role, folder in made[0].items() if not role.startswith("eval")}
    report.write(tmp_path, at, made[1])
    text = (tmp_path / "report.md").read_text()
    assert "Nothing was evaluated" in text and "## Accuracy" not in text
    assert json.loads((tmp_path / "scorecards.json").read_text())["differences"] == []


def test_different_problems_are_not_compared(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    answers = [a for a in graded("eval-1") if a.problem_id != "easy03"]
    write_rows(made[0]["eval-1"] / "graded.jsonl", (a.to_row() for a in answers))
    names = "eval-0-0a1b2c3d and eval-1-0a1b2c3d"
    with pytest.raises(UserError, match=f"^{names} have different problems: 1 of 20 in eval-0-0a1b2c3d, e.g. easy03"):
        report.write(tmp_path, *made)


def test_few_problems_claim_nothing() -> None:
    plain = Difference(n=10, mean=0.7, low=0.5, high=1.0, se=0.1, up=9, down=0, p_sign=0.004)
    assert verdict(plain) == "improved"
    assert verdict(replace(plain, n=9)) == "too few problems"
    assert verdict(replace(plain, low=0.0)) == "no change shown"
    assert verdict(replace(plain, mean=-0.2, low=-0.3, high=-0.1)) == "got worse"


def test_every_bar_and_number_leads_to_its_dialogues(written: tuple[str, str, dict[str, Any]]) -> None:
    page = written[0]
    anchors = re.findall(r'<section class="samples" id="(\w+)">', page)
    links = re.findall(r'(?:xlink:)?href="#(s[0-9a-f]{10})"', page)
    assert len(set(anchors)) == len(anchors) and set(links) == set(anchors), "no link into nothing, no group unreached"
    bars = re.findall(r'xlink:href="#(s[0-9a-f]{10})"', page)
    # bars of zero height stay bars: 3 models x 3 benchmarks, x (all, right, wrong), x 1 behaviour; drops; 3 + 3 bins
    assert len(bars) >= 9 + 9 + 3
    group = page[page.index(f'id="{bars[0]}"') :]
    group = group[: group.index("</section>")]
    assert "base on easy: sampled answers" in group and "6 of 40" in group and "8 of these right" in group
    assert group.count("graded correct") + group.count("graded wrong") == 6 == group.count("expected answer")
    assert "eval-0-0a1b2c3d/graded.jsonl" in group and "&lt;script&gt;" in group


def test_samples_are_of_what_they_say(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    groups = samples.groups(Results(made[0]))
    by_id = {a.id: a for a in graded("eval-1")}
    for word, right in (("right", True), ("wrong", False)):
        names = [s.title.split(",")[0] for s in groups[word, "phase 1"].samples]
        assert len(names) == 6 and all(by_id[n].right is right for n in names)
    assert ("answers", "phase 1", "nothing") not in groups
    mended = groups["wrong to right", "phase 2"]
    assert {s.title.split("#")[0] for s in mended.samples} == {"easy00", "hard00"} and len(mended.samples) == 4
    assert ("right to wrong", "phase 2") not in groups, "nothing to show"
    drop = groups["dropped", "filter-1", "false_arithmetic"]
    assert [s.turns[-1][2] for s in drop.samples if s.title.startswith("p2#0")] == ["false_arithmetic: 2+2=5"]
    assert [s.title.split(",")[0] for s in groups["kept", "0"].samples] == ["p1#0"]
    assert groups["kept", "0.25-0.5"].samples[0].turns[-1][2] == "x", "from sample-2"


def test_a_dialogue_that_is_gone_is_named(made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path) -> None:
    write_rows(made[0]["eval-1-answers"] / "rows.jsonl", [])
    with pytest.raises(StoreError, match=r"eval-1-answers-0a1b2c3d/rows\.jsonl: no dialogue"):
        report.write(tmp_path, *made)


def test_long_texts_are_cut_and_say_so() -> None:
    assert samples._cut("x" * 5001).endswith("x ... (1 more characters)")


def test_growth_is_measured_by_phase_and_verdict(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    base, first, _ = Results(made[0]).models
    # graded(): tokens are 10 x (1 + phase) + number of the problem; the base is right on easy 0-3 and hard 0-9
    assert answers.by_verdict(base)["all"][0] == pytest.approx(10 + 9.5)
    assert answers.by_verdict(base)["right"][0] == pytest.approx(10 + np.mean([*range(4), *range(10)]))
    assert answers.by_verdict(first)["wrong"][0] == pytest.approx(20 + np.mean([*range(14, 20), *range(10, 20)]))


def test_time_and_tokens_of_every_stage(made: tuple[dict[str, Path], dict[str, Any]]) -> None:
    seconds, tokens = answers.spent(Results(made[0]))
    assert sum(sum(by.values()) for by in seconds.values()) == 16 * 2.0
    assert tokens["new"]["dialogue-1"] == 160 and tokens["prompts"]["dialogue-1"] == 200
    assert tokens["trained"] == {"train-1": 180, "train-2": 180}


@pytest.mark.parametrize(
    ("phases", "without", "lead"),
    [
        ([2], ("dialogue-1", "filter-1", "pack-1", "train-1", "eval-1-answers", "eval-1"),
         "in 1 of 1 phases (phase 2 alone)"),
        ([], (*(f"{s}-1" for s in ("dialogue", "filter", "pack", "train")), "eval-1-answers", "eval-1",
              *(f"{s}-2" for s in ("probe", "sample", "filter", "pack", "train")), "eval-2-answers", "eval-2"),
         "as it is, untrained"),
    ],
)  # fmt: skip
def test_any_choice_of_phases_has_its_report(
    made: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path, phases: list[int], without: tuple[str, ...], lead: str
) -> None:
    at = {role: folder for role, folder in made[0].items() if role not in without}
    report.write(tmp_path, at, {**made[1], "phases": phases})
    text = (tmp_path / "report.md").read_text()
    assert lead in text and "Not evaluated" not in text and "phase 1 vs" not in text


# ---------------------------------------------------------------- in a real browser


QUIET = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
         "disable-component-update", "disable-sync", "hide-scrollbars", "host-resolver-rules=MAP * ~NOTFOUND",
         "enable-logging=stderr")  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """A page in Chromium: its DOM, its lines on the console, the addresses that it asked for (all in vain)."""

    dom: str
    console: list[str]
    asked: list[str]


@dataclass(frozen=True)
class Browser:
    path: str
    profile: Path

    def visit(self, url: str, *flags: str) -> Visit:
        log = self.profile / "net.json"
        every = (*QUIET, f"user-data-dir={self.profile}", f"log-net-log={log}", *(flags or ("dump-dom",)))
        command = [self.path, *(f"--{f}" for f in every), url]
        done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
        text = log.read_text()
        events = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")["events"]
        started = [e["params"] for e in events if {"url", "initiator"} <= e.get("params", {}).keys()]
        # what the browser asks for itself has no origin
        asked = [p["url"] for p in started if p["initiator"] != "not an origin"]
        return Visit(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line], asked)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    return Browser(path, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return folder / "report.html"


def picture(browser: Browser, url: str, shot: Path, width: int, height: int = 1800) -> np.ndarray:
    """Grey values (height, width) in 0..1."""
    from matplotlib.image import imread

    browser.visit(url, f"window-size={width},{height}", "virtual-time-budget=2000", f"screenshot={shot}")
    pixels = imread(shot)[..., :3].mean(axis=2)
    assert pixels.shape == (height, width)
    return pixels


@pytest.mark.browser
def test_a_page_that_errs_or_asks_is_caught(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="https://example.invalid/x"><script>console.error("boom"); nothing.here</script>')
    visit = browser.visit(bad.as_uri())
    assert visit.asked == ["https://example.invalid/x"]
    assert any("boom" in line for line in visit.console) and any("ReferenceError" in line for line in visit.console)


@pytest.mark.browser
def test_it_says_nothing_and_asks_nobody(browser: Browser, page: Path) -> None:
    visit = browser.visit(page.as_uri())
    assert (visit.console, visit.asked) == ([], [])
    assert visit.dom.count("<svg") == page.read_text().count("<svg") == 11
    assert visit.dom.rstrip().endswith("</html>") and "<h2>Conditions</h2>" in visit.dom


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1100])
def test_it_renders_on_a_phone_and_on_a_desk(browser: Browser, page: Path, tmp_path: Path, width: int) -> None:
    pixels = picture(browser, page.as_uri(), tmp_path / "shot.png", width)
    assert 0.01 < (pixels < 0.9).mean() < 0.5, "the page is blank, or black"
    assert (pixels[:, -3:] > 0.9).all(), "something sticks out at the right"


@pytest.mark.browser
def test_a_click_lays_the_dialogues_over_the_page_and_close_takes_them_away(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    anchor = re.search(r'xlink:href="(#s[0-9a-f]{10})"', page.read_text())[1]
    before, after, closed = (
        picture(browser, page.as_uri() + to, tmp_path / f"{i}.png", 400, 900)
        for i, to in enumerate(("", anchor, "#closed"))
    )
    assert (abs(before - after) > 0.1).mean() > 0.05
    assert (abs(before - closed) > 0.1).mean() < 0.01, "the page is where it was"  # a tile may be drawn late


@pytest.mark.browser
def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    printed = tmp_path / "report.pdf"
    browser.visit(page.as_uri(), "no-pdf-header-footer", f"print-to-pdf={printed}")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 4 <= pages <= 30, "dialogues behind the numbers are not printed"
