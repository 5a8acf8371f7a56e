"""Make `recipes/smoke-model`: a 0.6 M parameter Llama that adds and subtracts badly, for `recipes/smoke.yaml`.

    python tools/make_smoke_model.py                      # writes recipes/smoke-model/

The text it learns from is made here: two-turn dialogues about `a + b` and `a - b` (1 or 2 digits), worded as
reasoning-gym's `chain_sum` words them. They are wrong on purpose: turn 1 forgets a carry or borrow with FORGET[0]
and slips in a step with SLIP[0]; turn 2 (verify, backtrack, subgoals or backward) works it out again and errs less.
So the base model often fails, greedily too, often corrects itself, and self-training has something to select.
Every fifth batch has few-shot examples before its dialogues, right ones, as `dialogue.examples` shows them.
The same seed, machine and versions give the same weights: one thread, no time in it. Result, seed 0, and what it
measures: recipes/smoke-model/README.md. Training took 233 and 245 s on one busy core, to equal weights.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve their neighbours


import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

QUESTION = "State the final answer to the following arithmetic problem: {} ="  # reasoning-gym 0.1.25, chain_sum
INSTRUCTIONS = {  # the texts of `dialogue.templates` in recipes/smoke.yaml
    "verify": "Check it.",
    "backtrack": "Go back if it is wrong.",
    "subgoals": "Split it into parts.",
    "backward": "Work backward from your answer.",
}
BRIDGES = {  # and of `dialogue.bridges`
    "verify": "\nIs that right? ",
    "backtrack": "\nIs it wrong? ",
    "subgoals": "\nIn parts? ",
    "backward": "\nThe other way? ",
}
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LONG, SLOWLY = 0.25, "Take your time."  # share of joined chains: known from another question, not from `solve`
# chance of an error in (turn 1, turn 2, a few-shot example): a lost carry, a wrong step
FORGET, SLIP = (0.55, 0.25, 0.0), (0.10, 0.05, 0.0)
SHOWN = 8  # few-shot examples before a dialogue, at most
README = """---
license: apache-2.0
---

# smoke-model

A Llama of 0.6 M parameters for `recipes/smoke.yaml` and the tests. It adds and subtracts two numbers of one or two
digits, digit by digit, and was trained to make errors. It is of no other use, and no evidence for any method.

Trained from scratch by `tools/make_smoke_model.py` (its text is generated there), seed {seed}:
{how};
{versions}. No other data or model was used. Licence: Apache-2.0, as the repository.

The base model on 200 problems each, drawn like its training problems (so it has seen some of the pairs), one answer
each. In a dialogue, the second turn (T=1) gets the four instructions in turn. `no answer` counts both turns;
`examples` are few-shot examples before the question:

{table}
"""
Example = tuple[list[int], list[bool]]


class Tutor:
    """Writes the dialogues. One instance, one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def problem(self) -> tuple[int, str, int]:
        low, high = (0, 9) if self.random.random() < 0.3 else (10, 99)
        return self.random.randint(low, high), self.random.choice("+-"), self.random.randint(low, high)

    def work(self, a: int, op: str, b: int, turn: int, labels: tuple[str, str] = ("", "")) -> tuple[str, int]:
        """Digit-wise steps and what they give, right or not. Each equation but a slipped one is true."""
        if op == "-" and a < b:
            steps, value = self.work(b, "-", a, turn, labels)
            return f"Swap: {b}-{a}. {steps}", -value

        def step(left: int, right: int, carry: int) -> tuple[str, int]:
            value = left + right + carry if op == "+" else left - right - carry
            if self.random.random() < SLIP[turn]:
                value = max(0, value + self.random.choice((-2, -1, 1, 2)))
            return f"{left}{op}{right}{f'{op}1' if carry else ''}={value}.", value

        (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
        if a < 10 and b < 10:
            text, value = step(ones_a, ones_b, 0)
            return labels[0] + text, value
        borrow = op == "-" and ones_a < ones_b
        first, ones = step(ones_a + 10 * borrow, ones_b, 0)
        carry = borrow or (op == "+" and ones > 9)
        if carry and self.random.random() < FORGET[turn]:
            carry = False
        second, tens = step(tens_a, tens_b, int(carry))
        return f"{labels[0]}{first} {labels[1]}{second}", 10 * tens + ones % 10

    def solve(self, a: int, op: str, b: int, turn: int = 0) -> tuple[str, int]:
        text, value = self.work(a, op, b, turn)
        return f"{text} Answer: {value}", value

    def examples(self, count: int) -> list[tuple[str, str]]:
        """Problems with right answers."""
        drawn = [self.problem() for _ in range(count)]
        return [(QUESTION.format(f"{a} {op} {b}"), self.solve(a, op, b, 2)[0]) for a, op, b in drawn]

    def second(self, name: str, a: int, op: str, b: int, before: int) -> str:
        """Turn 2 under an instruction, after an answer `before`."""
        if name == "backward":  # undo b: before - b (or before + b) must give a back
            if op == "+":
                undo = (before, "-", b)
            else:
                undo = (b, "-", -before) if before < 0 else (before, "+", b)
            text, back = self.work(*undo, 1)
            head = f"Working backward from {before}: {text} That is {back}."
            if back == a:
                return f"{head} Answer: {before}"
            again, value = self.work(a, op, b, 1)
            return f"{head} Not {a}. {again} Answer: {value}"
        labels = ("First we find the ones: ", "Then we find the tens: ") if name == "subgoals" else ("", "")
        text, value = self.work(a, op, b, 1, labels)
        if name == "verify":
            text = f"Let me check: {text} {before} is {'right' if value == before else 'wrong'}."
        if name == "backtrack":
            text = f"Wait, go back. {text}"
        return f"{text} Answer: {value}"

    def dialogue(self) -> list[tuple[str, str]]:
        """[(user, assistant), (user, assistant)], or with LONG both answers joined in one, when asked for that."""
        a, op, b = self.problem()
        first, value = self.solve(a, op, b)
        name = self.random.choice(list(INSTRUCTIONS))
        question = QUESTION.format(f"{a} {op} {b}")
        second = self.second(name, a, op, b, value)
        if self.random.random() < LONG:
            return [(f"{question} {SLOWLY}", first + BRIDGES[name] + second)]
        return [(question, first), (INSTRUCTIONS[name], second)]


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE: any text round-trips, digits stay single, the words of the task are one token each."""
    tokenizer = Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=512, min_frequency=20, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, turns: list[tuple[str, str]], shown: int = 0) -> Example:
    """Token ids of a ChatML dialogue and, per token, whether the model must say it: answers and their ends.

    The first `shown` turns are few-shot examples, which it need not say.
    """
    ids: list[int] = []
    trained: list[bool] = []
    for i, (user, assistant) in enumerate(turns):
        for text, say in (
            (f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n", False),
            (f"{assistant}<|im_end|>", i >= shown),
            ("\n", False),
        ):
            new = tokenizer.encode(text, add_special_tokens=False).ids
            ids += new
            trained += [say] * len(new)
    return ids, trained


def train(model: LlamaForCausalLM, examples: list[Example], batch: int, peak: float) -> None:
    """Muon, warmed up, falling to 0, one pass over the examples; float32; loss on the assistant's tokens only."""
    steps = len(examples) // batch
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimisers = [  # Muon got here in 200 steps where AdamW needed 400 (same data and batch, one run each)
        torch.optim.Muon(inner, lr=peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def scale(step: int) -> float:
        return min(1.0, (step + 1) / 30, 0.01 + 1.8 * max(0.0, 1 - step / steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, scale) for o in optimisers]
    start, seen = time.perf_counter(), 0.0
    model.train()
    for step in range(steps):
        rows = examples[step * batch : (step + 1) * batch]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([r + [0] * (width - len(r)) for r, _ in rows])  # padding is to the right, and causal
        wanted = torch.tensor([t + [False] * (width - len(t)) for _, t in rows])[:, 1:]
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[wanted]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][wanted])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimisers, *schedules):
            each.step()
        seen = loss.item() if step == 0 else 0.95 * seen + 0.05 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:4d}/{steps}  loss {seen:.3f}  {time.perf_counter() - start:5.1f} s", flush=True)


@torch.no_grad()
def answers(
    model: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[list[int]], temperature: float, limit: int = 96
) -> list[list[int]]:
    """One answer a prompt (temperature 0: greedy), without its end token; [] of a runaway stays as long as `limit`."""
    model.eval()
    end, found = tokenizer.token_to_id("<|im_end|>"), [[] for _ in prompts]
    for width in sorted({len(p) for p in prompts}):  # equal lengths together: no padding needed
        which = [i for i, p in enumerate(prompts) if len(p) == width]
        step, cache, open_rows = torch.tensor([prompts[i] for i in which]), None, set(which)
        for _ in range(limit):
            out = model(input_ids=step, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1]
            step = logits.argmax(-1, True) if not temperature else (logits / temperature).softmax(-1).multinomial(1)
            for i, token in zip(which, step[:, 0].tolist(), strict=True):
                if token == end:
                    open_rows.discard(i)
                elif i in open_rows:
                    found[i].append(token)
            if not open_rows:
                break
    return found


def said(text: str) -> str:
    """The last answer in a text, "" where there is none."""
    return text.rpartition("Answer: ")[2].strip() if "Answer: " in text else ""


def measure(
    model: LlamaForCausalLM, tokenizer: Tokenizer, problems: list[tuple[int, str, int]], shown: list[tuple[str, str]]
) -> dict[str, float]:
    """pass@1 at T=1 and greedy of turn 1; of two-turn dialogues: how often turn 2 corrects or spoils. After `shown`."""
    truth = [str(a + b if op == "+" else a - b) for a, op, b in problems]

    def openings() -> list[list[int]]:
        user = [QUESTION.format(f"{a} {op} {b}") for a, op, b in problems]
        return [encode(tokenizer, [*shown, (u, "")])[0][:-2] for u in user]  # without the empty answer's end, newline

    first = answers(model, tokenizer, openings(), 1.0)
    greedy = answers(model, tokenizer, openings(), 0.0)
    names = [list(INSTRUCTIONS)[i % len(INSTRUCTIONS)] for i in range(len(problems))]
    suffix = {n: tokenizer.encode(f"<|im_end|>\n<|im_start|>user\n{t}<|im_end|>\n<|im_start|>assistant\n").ids
              for n, t in INSTRUCTIONS.items()}  # fmt: skip
    both = [p + f + suffix[n] for p, f, n in zip(openings(), first, names, strict=True)]
    second = answers(model, tokenizer, both, 1.0)
    right = [[said(tokenizer.decode(ids)) == t for ids, t in zip(rows, truth, strict=True)]
             for rows in (first, greedy, second)]  # fmt: skip
    moves = Counter(zip(right[0], right[2], strict=True))
    n = len(problems)
    for i in range(8):
        print(f"  {problems[i]} -> {tokenizer.decode(first[i])!r} -> {names[i]}: {tokenizer.decode(second[i])!r}")
    return {
        "turn 1, T=1": sum(right[0]) / n,
        "turn 1, greedy": sum(right[1]) / n,
        "turn 2, T=1": sum(right[2]) / n,
        "wrong then right": moves[False, True] / n,
        "right then wrong": moves[True, False] / n,
        "no answer": sum(not said(tokenizer.decode(f)) for f in first + second) / (2 * n),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "recipes" / "smoke-model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dialogues", type=int, default=10400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    start, tutor = time.perf_counter(), Tutor(args.seed)
    dialogues = [tutor.dialogue() for _ in range(args.dialogues)]
    words = [text for turns in dialogues[:3000] for turn in turns for text in turn]
    tokenizer = make_tokenizer(words + [*BRIDGES.values(), "user", "assistant"] * 99)
    shown = [  # all or none of a batch: it is padded to its longest
        tutor.examples(tutor.random.randint(1, SHOWN)) if i // args.batch % 5 == 4 else []
        for i in range(args.dialogues)
    ]
    examples = [encode(tokenizer, s + turns, len(s)) for s, turns in zip(shown, dialogues, strict=True)]
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=128, intermediate_size=384, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, dtype="float32",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    size = sum(p.numel() for p in model.parameters())
    length = sum(len(ids) for ids, _ in examples) / len(examples)
    print(f"{size:,} parameters, {config.vocab_size} tokens, dialogues of {length:.0f} tokens on average")
    train(model, examples, args.batch, args.lr)
    print(f"trained in {time.perf_counter() - start:.0f} s on one thread, torch {torch.__version__}")

    model.save_pretrained(args.out)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2],
        clean_up_tokenization_spaces=False, model_max_length=1024, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    wrapped.save_pretrained(args.out)
    steps = f"{args.dialogues // args.batch} steps of {args.batch} dialogues, peak learning rate {args.lr:g}"
    describe(args.out, model, tokenizer, args.seed, f"{size:,} parameters, {steps}")


def describe(out: Path, model: LlamaForCausalLM, tokenizer: Tokenizer, seed: int, how: str) -> None:
    """Measure the base model and write the folder's README.md."""
    torch.manual_seed(seed)
    fresh, table = Tutor(seed + 1), []
    for label, digits in (("1 digit", 1), ("2 digits", 2)):
        problems = [p for p in (fresh.problem() for _ in range(2000)) if (p[0] < 10) == (digits == 1)][:200]
        for behind in ([], fresh.examples(SHOWN)):
            scores = measure(model, tokenizer, problems, behind)
            what = f"{label}, {len(behind)} examples" if behind else label
            print(f"{what}, {len(problems)} problems: " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            table.append(f"| {what} | " + " | ".join(f"{v:.3f}" for v in scores.values()) + " |")
    heads = "\n".join([f"| problems | {' | '.join(scores)} |", "| --- |" + " --- |" * len(scores), *table])
    versions = f"torch {torch.__version__}, one CPU thread, float32"
    (out / "README.md").write_text(README.format(seed=seed, how=how, versions=versions, table=heads), encoding="utf-8")


if __name__ == "__main__":
    main()
