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

from dpr_mini.files.rows import read_rows
from dpr_mini.selection import behaviours

ROWS = list(read_rows(TEST_DATA / "behaviours.jsonl"))
MORE = list(read_rows(Path(__file__).parent / "held_back.jsonl"))
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


# One or two of each kind in which a writer takes something back; and words of the kind where nothing is taken back.
TAKEN_BACK = {
    "own slip": [
        "It comes to 84. I overlooked the second crate, so 126.",
        "30. We misapplied the ratio, it is 3 to 2: 20.",
    ],
    "turned round": ["A to B is 3:4. I got those two reversed, so 4:3."],
    "own thing bad": ["My tally for June is off, July's rain is in it. 12."],
    "restated": ["That is 14 rather than 17.", "Make that 31.", "Step 2 (corrected): 9 + 4 = 13."],
    "nowhere said": ["Nothing says that the angle is right. Law of cosines."],
    "more than can be": ["That's 8 days, more than there are in a week. 6."],
    "seemed good": ["Squaring looked promising, but the root stays. Substitute."],
    "apology": ["Sorry about that, each box holds 9: 9 * 4 = 36."],
    "thrown away": ["Let me throw this equation out and count."],
    "way is bad": ["That's messier than before.", "This comparison tells us nothing.", "I am stuck here."],
    "better way": ["Expanding gets horrible. Factor instead.", "There is an easier way: pair the terms."],
    "failed check": ["Let me recheck: 3 * 5 = 15 \u2260 18. It must be 6."],
    "candidates": [
        "Try n = 4: 16 + 4 = 20, too small. n = 5: 30.",
        "Test 7: 49 is over. Then 6: 36.",
    ],
    "text says": ["I took all 30 pupils, but the problem says 2 were ill. 28."],
    "broken off": ["The area is 40... except the base is 6. 24.", "It weighs 9 \u2014 no, 8 kg."],
    "outcry": ["The share is 9/8. More than all! 1/8 was meant."],
    "two values": ["8 * 7 = 54. Then 8 * 7 = 56.", "The sum is 14. Five is in it. The sum is 19."],
    "other operator": ["20 + 5 = 25. He does not gain but lose. 20 - 5 = 15."],
}
KEPT = [
    "Wait, did I count the twins? I did, so 14 stands.",
    "Hmm, is that all of them? Nothing changes, it's 9.",
    "If we forgot the tip, the bill would be $20. With it, it is $24.",
    "Suppose 5 = 2k. Then k is no integer, which is impossible. So 5 is odd.",
    "The clerk misread 2 of 40 labels and threw them away.",
    "Back to the main problem with t = 4: 4 * 3 = 12.",
    "8 - 2 = 6 km/h upstream and 8 + 2 = 10 km/h downstream.",
    "The total is 12. If one leaves, the total is 11.",
]
BACK_TO_FRONT = {
    "turned process": ["Run the recipe the other way: 12 / 3 = 4, 4 - 1 = 3.", "From the end: 8, before it 16."],
    "undone": ["Give back the 4 he ate: 10.", "Adding 6 is undone by taking 6: undo the adding of 6, so 11."],
    "state before": [
        "Each has 6, so just before that deal A had 3.",
        "She must have had 14 - 5 + 2 = 11.",
        "So 9 beforehand.",
    ],
    "dated": [
        "On day three it was 20, so day two: 10, day one: 5.",
        "The fourth stop took half, so 8; at the third, 9.",
    ],
    "left at last": ["Now 7 remain. He gave 3 away, so he started with 10."],
    "traced": ["20 came from adding 8 to 12, and 12 was three times 4."],
    "whole from part": ["12 is two thirds of it, so all of it is 18.", "If a third of it is 5, it is 15."],
    "clock": ["She arrived at 9:40 after 25 minutes, so she left at 9:15."],
    "what brings it": ["What would force n to be even? A factor 2.", "What sends this to 9? Only 3."],
    "enough": ["It would follow if k were odd.", "The claim holds if the two sums agree, and they do."],
    "end in view": ["To leave 3 I need to have 4 or 5.", "To be even is the goal. It needs a factor 2."],
    "game": ["Pile 0 is losing, so 1 and 2 are winning and 3 is losing."],
    "predecessor": ["The only squares from which it can come are b1 and d1."],
    "goal needs": ["For the mean to be 9, the sum has to be 27.", "If the sum has to be odd, one number must be odd."],
}
FORWARD = [
    "On the third day she ran 5 km, on the second 4: 9 km.",
    "He gave the book back and paid $3.",
    "The original price is $40. A tenth off leaves $36.",
    "To reach 50 she adds 8 to 42.",
    "The car went in reverse for 5 m.",
    "The bill before tax is 20 + 30 = 50.",
    "Suppose it holds for k. Then it holds for k + 1.",
    "Equality holds if a = b.",
]


@pytest.mark.parametrize("kind", TAKEN_BACK)
def test_each_kind_of_taking_back_counts(kind):
    for text in TAKEN_BACK[kind]:
        assert behaviours.count(text)["backtracking"], text


@pytest.mark.parametrize("kind", BACK_TO_FRONT)
def test_each_kind_of_reasoning_from_the_end_counts(kind):
    for text in BACK_TO_FRONT[kind]:
        assert behaviours.count(text)["backward"], text


@pytest.mark.parametrize(("name", "texts"), [("backtracking", KEPT), ("backward", FORWARD)])
def test_words_of_a_kind_without_the_act_do_not_count(name, texts):
    for text in texts:
        assert not behaviours.count(text)[name], text


def test_a_curly_apostrophe_is_an_apostrophe():
    assert behaviours.count("12. That doesn\u2019t work, so 13.") == behaviours.count("12. That doesn't work, so 13.")
    assert behaviours.count("12. That doesn\u2019t work, so 13.")["backtracking"]


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
        ("test", "backward", 0.91, 0.92),
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
        ("untouched", "backtracking", 0.90, 0.93),
        ("untouched", "backward", 0.93, 0.97),
        ("later rounds", "backtracking", 0.97, 0.93),
        ("later rounds", "backward", 0.97, 0.88),
        ("rounds by kind", "backtracking", 0.96, 0.92),
        ("rounds by kind", "backward", 0.96, 0.94),
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
    assert not [r for r in MORE if r["round"] < 5 and r["backtracking"] and r["backward"]]
    assert not [r for r in MORE if any(r[name] and name in r["near"] for name in ("backtracking", "backward"))]


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
    "own": "my equation is ",
    "slip": "i have the ",
    "dotted": "5... that ",
    "doubted": "= 3? ",
    "twice": "2 + 2 = 5 ",
    "restated": "the total is 12. the total is 13. ",
    "dated": "day three: 4 day two ",
    "had": "so the second had 4 before ",
    "must": "it must have been ",
    "undone": "undo the add ",
    "traced": "3, and 3 was ",
    "condition": "if abcde is abcde. abcde ",
    "ended": "it ends with 3. ",
    "goal": "we want it, which would ",
    "seemed": "seemed natural, ",
    "leave": "to leave one i need to have ",
    "candidate": "take x = 3, no ",
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
    assert seconds(12_000) < 24 * seconds(1_500) + 0.02


def test_longer_text_is_not_read():
    text = "x" * behaviours.LONGEST + "\nI made a mistake."
    assert behaviours.count(text) == dict.fromkeys(behaviours.NAMES, 0)
    assert behaviours.count(text[1_000:])["backtracking"] == 1
