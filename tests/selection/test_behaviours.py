"""The marker counters: what they find in text that shows a behaviour, and leave alone in text that does not.

tests/data/behaviours.jsonl holds snippets of our own, hand-labelled by the definitions of arXiv 2503.01307: per
behaviour, does the writer do it (several may hold)?

    verification   tests a result or step of their own against conditions, a known value, a small case, the equation
    backtracking   sees that a way fails or holds an error, and goes back to correct it or to try another
    subgoals       splits the task and names an intermediate goal; a bare calculation or a step's number is none
    backward       starts from the goal or the answer and reasons toward what is given

An announcement ("Let me check.") without the act is labelled false. `near` names the behaviours whose words a snippet
uses without the act, or that a plain solution is put beside. Odd ids are the dev half that patterns are tuned on, even
ids the test half, of which only totals were looked at. Ids to 186 were labelled before any tuning. Then, each time dev
was met in full, dev grew by odd ids (187 to 265, 267 to 323) and patterns were tuned once more; the longer test
snippets (even ids from 188) were written between those two rounds. Whoever tunes again needs new test snippets.
"""

import importlib.util
import time
from pathlib import Path

import pytest
from places import BENCH, TEST_DATA

from dpr_mini import store
from dpr_mini.selection import behaviours

ROWS = list(store.read_rows(TEST_DATA / "behaviours.jsonl"))
MORE = list(store.read_rows(Path(__file__).parent / "held_back.jsonl"))
SHOWN = {
    "verification": [
        "Let me verify this: 4 * 6 = 24.",
        "We can double-check by adding 3 + 4.",
        "Substituting x = 2 back into the equation gives 7.",
        "Check: 5 + 7 = 12.",
        "So 12 satisfies both, and this checks out.",
    ],
    "backtracking": [
        "Wait, 3 * 4 is 12.",
        "So x = 5. Hmm, 5 is too big.",
        "This is wrong because 7 is odd.",
        "Let me try another approach.",
        "I made a mistake in the second line.",
    ],
    "subgoals": [
        "Step 1: find the cost of one pen.",
        "First, we need to find the total.",
        "Let me break this down into two sums.",
        "The first step is to add 3 and 4.",
    ],
    "backward": [
        "Let me work backward from 12: 12 / 2 = 6.",
        "Starting from the answer, divide by 3.",
        "Suppose the answer is 12; then each has 4.",
        "To get 24, one factor must be even.",
    ],
}
PLAIN = [
    "Tom has 3 apples and buys 4 more. 3 + 4 = 7. The answer is 7.",
    "She waited at the bank to deposit a check for $50.",
    "The tester paid 12 dollars for a backward-facing seat.",
    "There are 3 steps to the door and 4 parts in the box.",
    "He walked back to the shop with 2 bags.",
    "",
]


@pytest.mark.parametrize("name", behaviours.NAMES)
def test_shown_behaviour_is_counted(name):
    for text in SHOWN[name]:
        assert behaviours.count(text)[name] >= 1, text


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_has_no_marker(text):
    assert behaviours.count(text) == dict.fromkeys(behaviours.NAMES, 0)


def test_behaviours_are_told_apart():
    for name, texts in SHOWN.items():
        for text in texts:
            others = {n: c for n, c in behaviours.count(text).items() if n != name and c}
            assert not others, (name, text, others)


def test_each_instance_counts():
    text = "Wait, that is 8.\nWait, that is 9.\nStep 1: add. \nStep 2: halve."
    assert behaviours.count(text) == {"verification": 0, "backtracking": 2, "subgoals": 2, "backward": 0}


@pytest.mark.parametrize(
    ("name", "hollow", "done"),
    [
        ("verification", "6 * 4 = 24\nLet me check: 6 * 4 = 24", "6 * 4 = 24\nLet me check: 24 / 4 = 6"),
        ("verification", "It is 24.\nLet me verify this.", "It is 24.\nLet me verify this. 24 - 20 = 4."),
        ("verification", "It is 24.\nLet me check: The answer is 24.", "It is 24.\nLet me check: 4 + 20 = 24."),
        ("backtracking", "9 - 5 = 4\nWait, let me go back: 9 - 5 = 4", "9 - 5 = 3\nWait, let me go back: 9 - 5 = 4"),
        ("backtracking", "It is 4.\nWait.", "It is 4.\nWait, I have to add the 5 as well."),
        ("backward", "6 * 4 = 24\nWorking backward: 24", "6 * 4 = 24\nWorking backward: 24 / 4 = 6"),
        ("backward", "6 * 4 = 24\nWorking backward: Let me check: 6 * 4 = 24", "Working backward, 24 is before it 12."),
    ],
)
def test_an_announcement_counts_only_with_an_act(name, hollow, done):
    """Small models that learned our bridges say them and then repeat themselves."""
    assert behaviours.count(hollow)[name] == 0
    assert behaviours.count(done)[name] == 1


def test_labelled_file_is_what_it_says():
    assert len({r["id"] for r in ROWS}) == len({r["text"] for r in ROWS}) == len(ROWS) >= 100
    for name in behaviours.NAMES:
        for parity in (0, 1):
            half = [r for r in ROWS if r["id"] % 2 == parity]
            assert sum(r[name] for r in half) >= 13
            assert sum(name in r["near"] for r in half) >= 13
        assert not [r["id"] for r in ROWS if r[name] and name in r["near"]]


@pytest.fixture(scope="module")
def bench():
    path = BENCH / "behaviours.py"
    spec = importlib.util.spec_from_file_location("bench_behaviours", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Measured minus 0.03. A drop means that a pattern lost what it could do; raise the floors when they improve.
@pytest.mark.parametrize(
    ("half", "name", "precision", "recall"),
    [
        ("dev", "verification", 0.97, 0.92),
        ("dev", "backtracking", 0.97, 0.93),
        ("dev", "subgoals", 0.97, 0.97),
        ("dev", "backward", 0.97, 0.93),
        ("test", "verification", 0.92, 0.78),
        ("test", "backtracking", 0.97, 0.88),
        ("test", "subgoals", 0.97, 0.75),
        ("test", "backward", 0.91, 0.69),
    ],
)
def test_labelled_snippets(bench, half, name, precision, recall):
    rows = bench.halves(ROWS)[half]
    counts = [behaviours.count(t) for t in [r["text"] for r in rows]]
    found = bench.score(rows, counts, name)
    missed = [r["id"] for r, c in zip(rows, counts, strict=True) if r[name] != (c[name] > 0)]
    assert found["precision"] >= precision and found["recall"] >= recall, (found, missed)


@pytest.mark.parametrize(
    ("part", "name", "precision", "recall"),
    [
        ("tuning", "backtracking", 0.97, 0.97),
        ("tuning", "backward", 0.97, 0.93),
        ("untouched", "backtracking", 0.90, 0.87),
        ("untouched", "backward", 0.93, 0.90),
        ("later rounds", "backtracking", 0.97, 0.93),
        ("later rounds", "backward", 0.97, 0.80),
    ],
)
def test_held_back_snippets(bench, part, name, precision, recall):
    """Held back while the patterns were widened; which ones is decided by a hash, see bench/behaviours.py."""
    rows = bench.held_back(MORE)[part]
    found = bench.score(rows, [behaviours.count(r["text"]) for r in rows], name)
    assert found["precision"] >= precision and found["recall"] >= recall, found


def test_held_back_file_is_what_it_says(bench):
    parts = bench.held_back(MORE)
    assert sum(map(len, parts.values())) == len(MORE) == len({r["text"] for r in MORE})
    assert not {r["text"] for r in MORE} & {r["text"] for r in ROWS}
    for part in ("tuning", "untouched"):
        for name in ("backtracking", "backward"):
            assert sum(r[name] for r in parts[part]) >= 25 and sum(name in r["near"] for r in parts[part]) >= 25
    assert not [r for r in MORE if r["backtracking"] and r["backward"]]


def test_bench_scores_by_hand(bench):
    rows = [{"backward": label, "near": []} for label in (True, True, True, False, False)]
    counts = [{"backward": n} for n in (2, 1, 0, 1, 0)]
    found = bench.score(rows, counts, "backward")
    assert (found["labelled"], found["found"], found["both"]) == (3, 3, 2)
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3, abs=1e-4)
    low, high = found["recall_interval"]
    assert low == pytest.approx(0.2077, abs=1e-3) and high == pytest.approx(0.9385, abs=1e-3)  # Wilson, 2 of 3


HOSTILE = {
    "cues": "the first step to get this back ",
    "lines": "\n",
    "spaces": " ",
    "stars": "** ",
    "wait": "Wait, ",
    "put": "put x back ",
    "dots": "...",
    "dashes": "-",
    "word": "a",
    "sums": "3 * 4 = 12 ",
    "end": "need a in the end ",
    "to": "to find ",
    "check": "Let me check: ",
    "number": "1",
    "hmm": "hmm ",
    "not": "not 3 ",
    "left": "left was ",
    "want": "we want 3, so ",
    "try": "try 3: over ",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_text_not_faster(name):
    def seconds(length):
        text = (HOSTILE[name] * length)[:length]
        best = float("inf")
        for _ in range(3):  # the smallest: other work on the machine only ever adds
            begun = time.process_time()
            behaviours.count(text)
            best = min(best, time.process_time() - begun)
        return best

    # 8 when linear, 64 when quadratic; a busy core has been seen to make 13 of 8
    assert seconds(32_000) < 24 * seconds(4_000) + 0.05


def test_longer_text_is_not_read():
    text = "x" * behaviours.LONGEST + "\nI made a mistake."
    assert behaviours.count(text) == dict.fromkeys(behaviours.NAMES, 0)
    assert behaviours.count(text[1_000:])["backtracking"] == 1
