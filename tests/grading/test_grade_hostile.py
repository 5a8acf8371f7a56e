"""Answers meant to hang, exhaust, fool or break into the grader, among 1,000 ordinary ones. All our own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dpr_mini.grading import grader as grading
from dpr_mini.grading.grader import Grader, given_up
from dpr_mini.grading.reading import extract
from dpr_mini.grading.tiers import decide
from dpr_mini.grading.worker import Worker
from dpr_mini.types import UserError, Verdict

LIMIT_S, MEMORY_MIB = 2.0, 1024


def huge() -> list[str]:
    return [
        "7^{7^{7^{7^{7}}}}", "2^{2^{2^{2^{2^{2}}}}}", "10^{10^{10^{10}}}", "9^9^9^9^9", "3**3**3**3**3",
        "(((5^9)^9)^9)^9",
        "99999999!", "(20!)!", "((5!)!)!", "170000!!", "(10^8)!", r"\Gamma(10^{12})",
        r"\binom{123456789}{61728394}", r"\binom{10^{12}}{10^{6}}", r"\dbinom{99999}{44444}",
        r"\sum_{n=1}^{10^{12}} \frac{1}{n^2}", r"\sum_{n=1}^{99999999} n!", r"\prod_{k=1}^{987654321} k",
        r"\sum_{a=1}^{9999}\sum_{b=1}^{9999}\sum_{c=1}^{9999} a^b", r"\int_0^{\infty} x^{x^{x^x}} e^{-x^{99}} dx",
        r"\lim_{n\to\infty} \frac{n!^{n!}}{(n^n)^{n^n}}", "(1+x)^{99999}", "(a+b+c+d+e+f+g+h)^{500}",
        r"(1+\sqrt2)^{100000}",
        r"\sqrt[99999999]{7^{99999999}}", r"\log_{10^{-99999}}(9^{99999})", "1e999999999", "-1e-999999999",
        "1E999999999",
        "0." + "0" * 400 + "1", "9" * 99_000, "-" + "1" * 99_000, "1" * 900, "3" * 450 + "/" + "7" * 449,
        "." * 99_000, "1," * 40_000, r"\frac{" + "1" * 450 + "}{" + "3" * 450 + "}", "2^{-99999999}", "0^{-99999}",
    ]  # fmt: skip


def deep() -> list[str]:
    return [
        "{" * 5_000 + "5" + "}" * 5_000, "(" * 5_000 + "5" + ")" * 5_000, "[" * 400 + "]" * 400, "{" * 90_000,
        r"\frac{1}{1+" * 5_000 + "1" + "}" * 5_000, r"\frac{1}{1+" * 35 + "x" + "}" * 35,
        r"\sqrt{1+" * 5_000 + "1" + "}" * 5_000,
        r"\sqrt{x+" * 35 + "y" + "}" * 35, r"\sin(\cos(" * 12 + "x" + "))" * 12, r"\tan(\ln(" * 19 + "x" + "))" * 19,
        r"\sin\cos\tan" * 30 + " x", "x^{" * 38 + "2" + "}" * 38, "a_{" * 300 + "1" + "}" * 300,
        r"\left(" * 300 + r"\right)" * 300,
        "-" * 900 + "5", "!" * 900, "5" + "!" * 40, "+".join(f"x^{k}" for k in range(150)), r"\pm" * 300 + "5",
        r"5 \cup " * 130, r"x<1 \text{ or } " * 60 + "x>2", "{1,2,3}," * 110, r"\begin{matrix}" * 60, "x" * 99_000,
        r"\begin{pmatrix}" + r"1&2\\" * 190 + r"\end{pmatrix}", r"\boxed{" * 9_000, "a b " * 24_000, "$" * 99_999,
        r"\text{" * 3_000 + "5" + "}" * 3_000, "((((5)))" * 90, r"\overline{" * 200 + "5" + "}" * 200,
        r"\sin^{2}(\cos^{2}(\sin^{2}(\cos^{2}(\sin^{2}(x)))))+\cos^{2}(\sin^{2}(\cos^{2}(x)))", "|" * 900, "=" * 900,
        "<" * 900,
    ]  # fmt: skip


def injected(canary: str) -> list[str]:
    shell = f"touch {canary}"
    return [
        f"__import__('os').system('{shell}')", f"exec(\"open('{canary}','w')\")", f"(lambda: open('{canary}', 'w'))()",
        f"[x for x in ().__class__.__base__.__subclasses__()][0]('{canary}')", f"sympify('open(\"{canary}\",\"w\")')",
        f"breakpoint() or open('{canary}','w')", f"$({shell})", f"`{shell}`", f"5; {shell}", f"5 && {shell} #",
        f"| {shell}",
        rf"\write18{{{shell}}}", rf"\input{{|'{shell}'}}", rf"\openout1={canary}", rf"\catcode`\{{=1 \input {canary}",
        f"'; DROP TABLE answers; -- {canary}", f"{{{{ ''.__class__.__mro__[1] }}}} {canary}", f"%s%n%x {canary}",
        f"!!python/object/apply:os.system ['{shell}']", f'"]}}\n["31", "31"]\n["{canary}', "31\n\"correct\"\n",
        '["correct", "x"]',
    ]  # fmt: skip


def odd() -> list[str]:
    return [
        "NaN", "nan", "NAN", r"\mathrm{NaN}", "inf", "-inf", "Infinity", r"-\infty", "0/0", "1/0", r"\frac{0}{0}",
        "None", "True",
        "31\x00", "\x0031", "3\x001", "\u0663\u0661", "\u2162\u2160", "\U0001d7db\U0001d7d9",
        "\u00b3\u00b9", "\u4e09\u5341\u4e00",
        "\u202e13", "\u202d31\u202c0", "3\u200b1", "\ufeff31x", "3\u03011", "31\u20e3", "\u00bd31", "31\u2070",
        "31\u00b2",
        "\\", "}", "{", "}{", r"\frac{31}", r"\frac", r"\sqrt", r"\left(31", r"31\right)", r"\begin{cases}31",
        r"31 \\ 32 \\", r"\boxed{31} 32",
        "31 or 32", "31, 32", r"31 \pm 1", "31 = 32", r"31 \neq 31", r"31 \approx 32", "between 31 and 32", "not 31",
        "31?32",
        "31 (or 13)", r"\{31, 32\}", "[31, 32]", "31..32", "31 mod 32", "x = 31 or x = 32", "31x", "31^{31}", "31!",
        "|31-32|+31", "31_8",
        "31%%", "0x1f", "0b11111", "1f", "31e1", "3.1e2", "31L", "31j", "31//1", "3 1", "31.31", "31,31", "31/13",
        "\u221231", "--31.5", "\t",
    ]  # fmt: skip


def everything(canary: str) -> list[str]:
    return huge() + deep() + injected(canary) + odd()


GOLDS = ("31", r"31\pi", r"x \geq 31")


def test_no_hostile_answer_is_slow_before_the_worker(tmp_path):
    """What runs in the caller's process has no limit but its own care."""
    slow = []
    for answer in everything(str(tmp_path / "canary")):
        for gold in GOLDS:
            begun = time.perf_counter()
            decide(gold, *extract(rf"\boxed{{{answer}}}"))
            if (seconds := time.perf_counter() - begun) > 0.5:
                slow.append((answer[:40], gold, seconds))
    assert not slow


@pytest.mark.slow
def test_hostile_answers_beside_ordinary_ones(tmp_path):
    canary = tmp_path / "canary"
    answers = everything(str(canary))
    assert len(set(answers)) >= 150
    cases = [((i, g), gold, rf"\boxed{{{a}}}") for i, a in enumerate(answers) for g, gold in enumerate(GOLDS)]
    ordinary = [(("n", i), f"{i}", f"so it is {i}.0") for i in range(700)]
    ordinary += [(("e", i), f"{i}x+1", rf"\boxed{{1 + {i}x}}") for i in range(2, 292)]
    ordinary += [(("w", i), rf"\sin({2 * i}x)", rf"\boxed{{2\sin({i}x)\cos({i}x)}}") for i in range(1, 11)]
    mixed = [c for k in range(1000) for c in (cases[k : k + 1] + ordinary[k : k + 1])]
    found, slowest = {}, (0.0, None)
    with Grader(workers=2, timeout_s=LIMIT_S, memory_mib=MEMORY_MIB) as grader, _peaks(grader) as peaks:
        for name, verdict, ms in grader._many(mixed):
            found[name] = verdict
            slowest = max(slowest, (ms, str(name)))
    assert len(ordinary) == 1000 and len(found) == len(mixed)
    assert not [(answers[n[0]][:60], GOLDS[n[1]], v) for n, v in found.items() if isinstance(n[0], int) and v.ok]
    assert not [(n, v) for n, v in found.items() if isinstance(n[0], str) and not v.ok]
    assert not canary.exists()
    assert slowest[0] < 5_000, slowest
    if sys.platform == "linux":
        assert 0 < max(peaks) <= MEMORY_MIB << 10, f"{max(peaks)} KiB of address space"


# ---------------------------------------------------------------- workers that end

ANGLES = [(i, rf"\sin({2 * i}x)", rf"\boxed{{{2 + i % 2}\sin({i}x)\cos({i}x)}}") for i in range(2, 8)]  # half right


class Ends:
    """Ends workers for real: `when` is "send" or "start", `by` the signals in turn, of the cases that `which` names."""

    def __init__(self, patch: pytest.MonkeyPatch, when: str, by: list[signal.Signals], which: str = "") -> None:
        self.by, self.which, self.seen = list(by), which, 0
        name = {"send": "send", "start": "__init__"}[when]
        original = getattr(Worker, name)

        def method(worker: Worker, *given: object) -> None:
            original(worker, *given)
            if self.which in str(given):
                self.seen += 1
                if self.by:
                    os.kill(worker.process.pid, self.by.pop(0))

        patch.setattr(Worker, name, method)


def statuses(cases: list[tuple[int, str, str]]) -> dict[int, Verdict]:
    with Grader(workers=2) as grader:
        return dict(grader.grade_many(cases))


@pytest.mark.slow
def test_verdicts_are_the_same_whatever_ends_the_workers(monkeypatch):
    """While they work, while they start, while they are idle; the same case several times."""
    alone = statuses(ANGLES)
    assert {v.status for v in alone.values()} == {"correct", "wrong"}
    with monkeypatch.context() as patch:
        ends = Ends(patch, "send", [signal.SIGKILL, signal.SIGTERM] * 2)
        assert statuses(ANGLES) == alone and not ends.by
    with monkeypatch.context() as patch:
        ends = Ends(patch, "send", [signal.SIGKILL] * 2, which=r"sin(8x)")
        assert statuses(ANGLES) == alone and ends.seen == 3, "one case met the killer twice"
    with monkeypatch.context() as patch:
        ends = Ends(patch, "start", [signal.SIGKILL] * 4)
        assert statuses(ANGLES) == alone and not ends.by
    with Grader(workers=2) as grader:
        first = dict(grader.grade_many(ANGLES[:3]))
        for worker in list(grader._workers):
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        assert first | dict(grader.grade_many(ANGLES[3:])) == alone
        assert not grader._suspects, "an idle worker's death is no case's"


@pytest.mark.slow
@pytest.mark.parametrize(("by", "times"), [(signal.SIGSEGV, 2), (signal.SIGKILL, 3)])
def test_a_case_that_ends_every_worker_is_counted_and_the_others_are_graded(monkeypatch, by, times):
    monkeypatch.setattr(grading, "KILLS", 3)  # each costs the start of two workers
    alone = statuses(ANGLES)
    ends = Ends(monkeypatch, "send", [by] * 99, which="sin(10x)")
    found = statuses(ANGLES)
    assert ends.seen == times and found.pop(5).how == "boxed/crashed"
    assert found == {i: v for i, v in alone.items() if i != 5}


def test_what_the_grader_gives_up_on_is_counted_by_kind():
    ends = ["boxed/crashed", "boxed/killed", "phrase/killed", "boxed/memory", "boxed/exact", "none"]
    assert given_up(Verdict("unparsed", "", how) for how in ends) == {"timeout": 2, "crashed": 1}
    assert given_up([]) == {"timeout": 0, "crashed": 0}


@pytest.mark.slow
def test_a_late_case_is_a_timeout_and_counted_as_one():
    with Grader(workers=1, timeout_s=0.02) as grader:  # sympy's first call takes a second
        verdicts = [v for _, v in grader.grade_many(ANGLES[:2])]
    assert given_up(verdicts) == {"timeout": 2, "crashed": 0} and {v.status for v in verdicts} == {"timeout"}


@pytest.mark.slow
def test_a_worker_that_was_stopped_is_waited_for(monkeypatch):
    """Its case has had no time of the processor, so it is not late."""
    with Grader(workers=1, timeout_s=3) as grader:
        grader.grade(*ANGLES[0][1:])  # sympy is loaded
        ends = Ends(monkeypatch, "send", [signal.SIGSTOP])
        (worker,) = grader._workers
        going_on = threading.Timer(4, os.kill, (worker.process.pid, signal.SIGCONT))
        going_on.start()
        begun = time.monotonic()
        assert grader.grade(*ANGLES[1][1:]).status == "wrong" and time.monotonic() - begun > 3.5
        assert ends.seen == 1, "it was asked once"
        going_on.join()


@pytest.mark.slow
def test_a_worker_that_never_goes_on_is_replaced(monkeypatch):
    monkeypatch.setattr("dpr_mini.grading.worker.STALLED", 2)
    Ends(monkeypatch, "send", [signal.SIGSTOP], which="sin(6x)")
    with Grader(workers=1, timeout_s=1) as grader:
        assert [v.status for _, v in grader.grade_many(ANGLES[1:2])] == ["wrong"]


@pytest.mark.slow
def test_workers_that_are_ended_whatever_they_grade_are_one_line(monkeypatch):
    monkeypatch.setattr(grading, "KILLS", 2)
    Ends(monkeypatch, "send", [signal.SIGKILL] * 99)
    with Grader(workers=1) as grader, pytest.raises(UserError, match="ended from outside, whatever they work on"):
        grader.grade(*ANGLES[0][1:])


def test_workers_that_are_ended_whenever_they_start_are_one_line(monkeypatch):
    ends = Ends(monkeypatch, "start", [signal.SIGKILL] * 99)
    with Grader(workers=2) as grader, pytest.raises(UserError, match="did not start: ended from outside"):
        grader.grade(*ANGLES[0][1:])
    assert ends.seen <= 2 * grading.STARTS + 2


class _peaks:
    """KiB of address space that any worker ever had, watched from outside."""

    def __init__(self, grader: Grader) -> None:
        self.grader, self.seen, self.ended = grader, [0], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        while not self.ended.wait(0.02):
            for worker in list(self.grader._workers):
                status = Path(f"/proc/{worker.process.pid}/status")
                try:
                    text = status.read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended between the two lines
                self.seen += [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmPeak")]

    def __enter__(self) -> list[int]:
        self.thread.start()
        return self.seen

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.thread.join()
