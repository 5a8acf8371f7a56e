"""Controls for tasks: checks taken out, verdicts by a coin; what is masked, to the token and to the character."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from chains import BRIDGES, CORRECTED, MENDS, ONE_TURN, RIGHT, WRONG, talk
from hypothesis import given, settings
from hypothesis import strategies as st
from places import RECIPES, SMOKE_MODEL

from dpr_mini import tasks
from dpr_mini.chat.template import Template, Unspelled, holding, join_text, to_sample
from dpr_mini.selection.controls import coin_verdicts, controlled, wrong_spans
from dpr_mini.tasks.countdown import Countdown
from dpr_mini.types import Problem

TASK = Countdown()
CHECKER_MODEL = RECIPES / "countdown" / "checker-model"


@pytest.fixture(scope="module")
def template() -> Template:
    return Template.load(SMOKE_MODEL)


class Coarse:
    """Tokens of up to five characters, cut anywhere: they straddle attempts, checks and verdicts."""

    end = 0

    def __init__(self) -> None:
        self.pieces = ["<end>"]

    def opening(self, text):
        return self.encode(text)

    def encode(self, text):
        rng, ids = random.Random(text), []
        while text:
            n = rng.randint(1, 5)
            if text[:n] not in self.pieces:
                self.pieces.append(text[:n])
            ids.append(self.pieces.index(text[:n]))
            text = text[n:]
        return tuple(ids)

    def decode(self, ids):
        return "".join(self.pieces[i] for i in ids)


def own(dialogue, template, checks="own", verdicts="own"):
    return controlled(dialogue, "countdown", checks, verdicts, template, BRIDGES)


def test_checks_are_taken_out_and_nothing_else(template):
    said = own(talk(*CORRECTED, encode=template.encode), template, checks="none")
    assert [t.text for t in said.turns] == [WRONG, "Wrong. Answer: 3*7+5", "Right."]
    assert [template.decode(t.ids) for t in said.turns] == [t.text for t in said.turns]
    chain = own(talk(ONE_TURN, encode=template.encode), template, checks="none")
    assert chain.turns[0].text == "Answer: 3*7-5 Check: Wrong. Answer: 3*7+5 Check: Right." == join_text(said, BRIDGES)
    words = own(talk(RIGHT, "Let me see: 3*7=21, and 21+5=26, so it is right!"), template, checks="none")
    assert words.turns[1].text == "Let me see: right!"


def test_a_check_and_its_verdict_may_stand_in_two_turns(template):
    split = talk(WRONG, "3*7=21, 21-5=16.", "Wrong. " + RIGHT)
    assert [t.text for t in own(split, template, checks="none").turns] == [WRONG, "", "Wrong. " + RIGHT]
    assert own(split, template, verdicts="coin").turns[1] is split.turns[1]


def test_turns_that_are_not_edited_keep_their_tokens(template):
    plain = talk(RIGHT)  # with tokens that no tokenizer would give
    assert own(plain, template, "none", "coin") == plain
    said = talk(*CORRECTED)
    assert own(said, template) == said
    assert own(said, template, "none", "coin").turns[0] is said.turns[0]


def test_a_coin_is_fair_and_no_other_word_changes():
    rights = 0
    for i in range(400):
        edits = coin_verdicts(TASK, ONE_TURN, f"c#{i}")
        assert [ONE_TURN[a:b] for a, b, _ in edits] == ["Wrong", "Right"]
        assert edits == coin_verdicts(TASK, ONE_TURN, f"c#{i}")
        rights += sum(word == "Right" for *_, word in edits)
        assert {word for *_, word in edits} <= {"Right", "Wrong"}
    assert 340 < rights < 460, "800 coins, sd 14"


def test_a_coins_word_has_the_tokens_of_the_other_word_and_the_rest_keeps_its_own():
    """The checker model has "Right." and "Wrong. " as a token each: "Wrong." in letters would tell the end."""
    template = Template.load(CHECKER_MODEL)
    coins = set()
    for i in range(40):
        plain = talk(*CORRECTED, name=f"c#{i}", encode=template.encode)
        said = own(plain, template, verdicts="coin")
        before, after = (
            to_sample(d, template, BRIDGES, spans=wrong_spans(d, "countdown", (0,), BRIDGES)) for d in (plain, said)
        )
        assert after.trained == before.trained
        pairs = zip(before.ids, after.ids, strict=True)
        changed = {(template.decode([a]), template.decode([b])) for a, b in pairs if a != b}
        assert changed <= {("Right.", "Wrong. "), ("Wrong. ", "Right.")}
        assert [template.decode(t.ids) for t in said.turns] == [t.text for t in said.turns]
        trace = tasks.read(TASK, join_text(said, BRIDGES))
        assert [a.answer for a in trace.attempts] == ["3*7-5", "3*7+5"] and all(
            len(r.lines) == 2 for r in trace.reviews
        )
        coins.add(tuple(r.accepts for r in trace.reviews))
    assert len(coins) == 4


def test_a_coin_is_thrown_anew_where_the_dialogue_was_drawn_anew(template):
    """A seed's training problems are partly those of another seed, with the same ids."""
    drawn = [replace(talk(*CORRECTED), seed=seed) for seed in range(20)]
    assert len({join_text(own(d, template, verdicts="coin"), BRIDGES) for d in drawn}) == 4


SUM = Problem("s", "sums", "8 - 9 - 5", "-6", verifier="sums", statement="8 - 9 - 5")
SUMMED = (
    "8-9=-1, -1-5=-4. Answer: -4",
    "8-9=-1, -1-5=-6. Wrong. 8-9=-1, -1-5=-7. Answer: -7",
    "8-9=-1, -1-5=-6. Wrong. 8-9=-1, -1-5=-6. Answer: -6",
    "8-9=-1, -1-5=-6. Right.",
)


@pytest.mark.parametrize("verdicts", ["own", "coin"])
def test_the_working_of_a_wrong_attempt_is_masked_with_it(verdicts):
    """It holds the false equation; its check, and the right attempt's working, are trained on."""
    template = Template.load(CHECKER_MODEL)
    for i in range(6):
        plain = talk(*SUMMED, name=f"s#{i}", problem=SUM, encode=template.encode)
        dialogue = controlled(plain, "sums", "own", verdicts, template, BRIDGES)
        sample = to_sample(dialogue, template, BRIDGES, spans=wrong_spans(dialogue, "sums", (0, 1), BRIDGES))
        begin = len(template.opening(SUM.text))
        pairs = list(zip(sample.ids, sample.trained, strict=True))[begin:]
        masked, trained = (template.decode([i for i, on in pairs if on is wanted]) for wanted in (False, True))
        assert masked == "8-9=-1, -1-5=-4. Answer: -48-9=-1, -1-5=-7. Answer: -7"
        assert trained.count("-1-5=-6") == 4 and "-1-5=-4" not in trained


def test_equations_behind_a_verdict_that_ends_with_a_full_stop_are_read():
    trace = tasks.read(TASK, "Answer: 3*7-5 Right.3*7=21, 21+5=26. Answer: 3*7+5")
    assert trace.attempts[1].begin == len("Answer: 3*7-5 Right.")
    assert tasks.read(TASK, "Answer: 3*7-5 Check: 0.3*7=21. Wrong.").reviews[0].lines == ()


def test_reviews_of_one_chain_have_coins_of_their_own():
    pairs = {tuple(w for *_, w in coin_verdicts(TASK, ONE_TURN, f"c#{i}")) for i in range(40)}
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        ("right", {"right", "wrong"}),
        ("INCORRECT", {"CORRECT", "INCORRECT"}),
        ("Correct", {"Correct", "Incorrect"}),
        ("not right", {"right", "wrong"}),
    ],
)
def test_the_coins_word_is_spelled_as_the_old_one(template, word, spelled):
    said = [own(talk(RIGHT, f"3*7=21, 21+5=26. {word}.", name=f"c#{i}"), template, verdicts="coin") for i in range(20)]
    assert {t.turns[1].text for t in said} == {f"3*7=21, 21+5=26. {w}." for w in spelled}


def test_a_swapped_verdict_parts_no_word_behind_it():
    """Here a token holds the verdict's end and the A of the next word: "A nswer: 1-1+1" would be no attempt."""
    tokens = Coarse()
    turn = ". Wrong. Answer: 8 + 1 - 1 Check: . Wrong. So. Answer: 1+1+1 Check: . Wrong. Answer: 1-1+1 Check: . Wrong. "
    said = own(talk("Answer: 1+1+1", turn, encode=tokens.encode), tokens, verdicts="coin")
    assert "Right." in said.turns[1].text and len(tasks.read(TASK, join_text(said, BRIDGES)).attempts) == 4


def test_both_controls_at_once(template):
    for i in range(20):
        said = own(talk(*CORRECTED, name=f"c#{i}"), template, "none", "coin")
        first, second = said.turns[1].text.split(".")[0], said.turns[2].text
        assert said.turns[1].text == f"{first}. Answer: 3*7+5" and second in ("Right.", "Wrong.")
        alone = own(talk(*CORRECTED, name=f"c#{i}"), template, "own", "coin")
        assert first in alone.turns[1].text and alone.turns[2].text.endswith(second), "the same coins"


numbers = st.integers(1, 12)
answers = st.builds(
    lambda a, x, b, y, c, gap: f"{a}{gap}{x}{gap}{b}{gap}{y}{gap}{c}",
    numbers,
    st.sampled_from("+-*"),
    numbers,
    st.sampled_from("+-*"),
    numbers,
    st.sampled_from(["", " "]),
)


@st.composite
def chains(draw):
    """(texts of the turns, all answers): turns of one or several attempts with checks, verdicts and other words."""
    found = draw(st.lists(answers, min_size=1, max_size=5))
    texts, turn = [], ""
    for i, answer in enumerate(found):
        turn += draw(st.sampled_from(["", "Well: ", "So. "])) + f"Answer: {answer}"
        check = ", ".join(TASK.steps("", answer)) if draw(st.booleans()) else ""
        review = f"{check}. {draw(st.sampled_from(['Wrong', 'Right', 'not right']))}. "
        if draw(st.booleans()):
            texts, turn = [*texts, turn], review
        else:
            turn += " Check: " + review
        if i + 1 == len(found):
            texts.append(turn)
    return texts, found


@given(chains(), st.data(), st.sampled_from(["own", "none"]), st.sampled_from(["own", "coin"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_is_masked_is_the_wrong_attempts_and_nothing_else(template, made, data, checks, verdicts, coarse):
    texts, found = made
    wrong = data.draw(st.lists(st.integers(0, len(found) - 1), unique=True).map(sorted))
    tokens = Coarse() if coarse else template
    dialogue = own(talk(*texts, encode=tokens.encode), tokens, checks, verdicts)
    chain = join_text(dialogue, BRIDGES)
    spans = wrong_spans(dialogue, "countdown", wrong, BRIDGES)
    assert [chain[a:b] for a, b in spans] == [f"Answer: {found[n]}" for n in wrong]
    assert [a.answer for a in tasks.read(TASK, chain).attempts] == found, "no control changes an answer"

    plain, masked = (to_sample(dialogue, tokens, BRIDGES, spans=s) for s in ((), spans))
    assert plain.ids == masked.ids and not any(m and not p for p, m in zip(plain.trained, masked.trained, strict=True))
    inside = {n for a, b in spans for n in range(a, b)}
    start, at = plain.trained.index(True), 0
    for token, on in zip(masked.ids[start:-1], masked.trained[start:-1], strict=True):
        covers = set(range(at, at := at + len(tokens.decode([token]))))
        assert on != bool(covers & inside), "a token is masked if it holds a character of a wrong attempt"
    assert at == len(chain) and masked.trained[-1]


def test_masked_tokens_decode_to_exactly_the_wrong_attempts(template):
    dialogue = talk(WRONG, MENDS.replace("3*7+5", "5*7-3"), "5*7=35, 35-3=32. Wrong. " + RIGHT, encode=template.encode)
    sample = to_sample(dialogue, template, BRIDGES, spans=wrong_spans(dialogue, "countdown", (0, 1), BRIDGES))
    begin = len(template.opening(dialogue.turns[0].prompt))
    masked = [i for i, on in zip(sample.ids[begin:], sample.trained[begin:], strict=True) if not on]
    assert template.decode(masked).replace(" Answer", "Answer") == "Answer: 3*7-5Answer: 5*7-3"
    trained = [i for i, on in zip(sample.ids, sample.trained, strict=True) if on]
    assert template.decode(trained) == (
        " Check: 3*7=21, 21-5=16. Wrong. Check: 5*7=35, 35-3=32. Wrong. Answer: 3*7+5"
    ), "with the space before it that its first token holds"


def test_an_attempt_that_begins_in_a_bridge_is_masked_there_too(template):
    bridges = {"verify": "\nAnswer: "}
    dialogue = talk("Hm.", "3*7-5 Wrong. " + RIGHT, encode=template.encode)
    (span,) = wrong_spans(dialogue, "countdown", (0,), bridges)
    sample = to_sample(dialogue, template, bridges, spans=[span])
    trained = template.decode([i for i, on in zip(sample.ids, sample.trained, strict=True) if on])
    assert trained == "Hm.\n Wrong. " + RIGHT


def test_an_offer_without_an_answer_is_masked_without_the_space_behind_it(template):
    dialogue = talk("Answer: Wrong. " + RIGHT, encode=template.encode)
    assert wrong_spans(dialogue, "countdown", (0,), BRIDGES) == [(0, len("Answer:"))]


def test_tokens_that_do_not_spell_an_attempt_are_refused(template):
    with pytest.raises(Unspelled, match=r"Answer: 3\*7-5"):
        holding(template.encode("Answer: 3*8-5"), WRONG, 0, len(WRONG), template)
