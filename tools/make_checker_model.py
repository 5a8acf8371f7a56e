r"""Make recipes/countdown/checker-model: a Llama of 1.1 M parameters that proposes, checks and retries, turn by turn.

    python tools/make_checker_model.py --facts 0 --threads 2 --out runs/checker-1
    python tools/make_checker_model.py --more runs/checker-1 --steps 1200 --lr 1.5e-3 --facts 0.35 --checks 0.7 \
        --sums 0.1 --threads 2 --out runs/checker-2
    python tools/make_checker_model.py --more runs/checker-2 --steps 600 --lr 1e-3 --facts 0.5 --checks 0.7 \
        --sums 0.1

The last writes recipes/countdown/checker-model/, the base model of the recipes there. Each was followed by its gates,
on dev (bench/LOG.md); the next was made for what they lacked. Its text is made here, of problems of the part `base`
alone (tasks/):

- propose: a problem, an answer. Countdown's are a solver's; sums are worked out step by step.
- calculate: single operations on any numbers, six at a time. Without this one a check is true on numbers that were seen
  together and not on others: 0.66 of all, after 3,500 steps.
- check: a problem, a given answer, the request to check it; the model works the answer out and gives the verdict. Where
  that is "Wrong.", another answer follows. Given answers are not trained on, and no wrong answer is.

No text has an answer, its check and another answer in one turn: that is what the dialogue makes and training joins.
So the skills are taught, from a solver. That they can be had is no finding; what a dialogue makes of them is the
question. The same seed, machine, versions and threads give the same weights: no time is in it.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve their neighbours

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dpr_mini import tasks
from dpr_mini.tasks.equations import equation

CHECK = "Check."  # dialogue.templates.verify of recipes/countdown/countdown.yaml
SPECIAL = ("<|pad|>", "<|user|>", "<|end|>", "<|assistant|>")
HOME = Path(__file__).parent.parent / "recipes" / "countdown" / "checker-model"
LARGEST = 199  # numbers up to here are one token each, and no wrong answer that is shown goes beyond
# One token each. Signs are single bytes, any other text is spelled by bytes.
WORDS = ("Answer: ", " Check: ", CHECK, "Right.", "Wrong. ", ", ", ". ", " = ", " + ", " - ")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CARD = """---
license: apache-2.0
---

# checker-model

A Llama of {size:,} parameters, from scratch, the base model of the recipes here. It was **taught**, by a solver, in
turns of their own: to calculate, to propose an expression for three numbers and a target, to check a given one and say
Right or Wrong, to propose another after Wrong; and the same for sums of three one-digit numbers. It has seen no text in
which one answer goes on from a check to another answer. It is of no other use; that it can check is no finding.

Made by `tools/make_checker_model.py`{how}, seed {seed}, of problems of the part `base` alone:
{steps} steps of {batch} documents, peak learning rate {lr:g}; {facts:.0%} calculate, of the others {sums:.0%} are about
sums and {checks:.0%} check;
torch {torch}, {threads} CPU thread(s), float32. No other data or model was used. What it can do on problems that it
never saw ("gates") stands in bench/PREREG.md. Licence: Apache-2.0, as the repository.
"""
Part = tuple[str, bool]  # a text, and whether it is trained on
Example = tuple[list[int], list[bool]]


class Tutor:
    """Draws the documents: a share `facts` of calculations; of the others shares `sums` of sums, `checks` of checks."""

    def __init__(self, seed: int, facts: float, sums: float, checks: float) -> None:
        self.random = random.Random(seed)
        self.facts, self.sums, self.checks = facts, sums, checks
        self.countdown, self.chain = tasks.make("countdown", {}), tasks.make("sums", {})
        self.games = [*self.countdown.items(0, "base")]
        self.additions = [*self.chain.items(0, "base")]

    def document(self) -> list[Part]:
        if self.facts and self.random.random() < self.facts:
            return self._calculation()
        about_sums = self.random.random() < self.sums
        write = self._sum if about_sums else self._game
        return write(self.random.random() < self.checks)

    def _calculation(self) -> list[Part]:
        left, right = [], []
        while len(left) < 6:
            a, op, b = self.random.randint(0, LARGEST), self.random.choice("+-*"), self.random.randint(1, 12)
            if op == "*":
                a = self.random.randint(0, LARGEST // b)
            line, value = equation(a, op, b)
            if 0 <= value <= LARGEST:
                left.append(line.partition("=")[0])
                right.append(line)
        return [
            (f"<|user|>{', '.join(left)}<|end|><|assistant|>", False),
            (f"{', '.join(right)}<|end|>", True),
        ]

    def _game(self, check: bool) -> list[Part]:
        item = self.random.choice(self.games)
        solutions = self.countdown.solutions(item.statement)
        return self._talk(
            check,
            self._shuffled(item.statement),
            right=lambda: f"Answer: {self.random.choice(solutions)}",
            wrong=lambda: f"Answer: {self._miss(item.statement)}",
            worked=lambda said: self.countdown.steps(item.statement, said.rpartition("Answer: ")[2]),
            is_right=lambda said: self.countdown.right(item.statement, said.rpartition("Answer: ")[2]),
        )

    def _sum(self, check: bool) -> list[Part]:
        item = self.random.choice(self.additions)
        steps = self.chain.steps(item.statement, item.answer)
        working = f"{', '.join(steps)}. Answer: "
        return self._talk(
            check,
            item.statement,
            right=lambda: working + item.answer,
            wrong=lambda: self._slip(item.statement),
            worked=lambda said: steps,
            is_right=lambda said: self.chain.right(item.statement, said.rpartition("Answer: ")[2]),
        )

    def _talk(
        self,
        check: bool,
        problem: str,
        right: Callable[[], str],
        wrong: Callable[[], str],
        worked: Callable[[str], list[str]],
        is_right: Callable[[str], bool],
    ) -> list[Part]:
        """One proposal; or a given answer and up to three checks, each a turn, until one accepts."""
        opening = f"<|user|>{problem}<|end|><|assistant|>"
        if not check:
            return [(opening, False), (f"{right()}<|end|>", True)]
        said = right() if self.random.random() < 0.35 else wrong()
        parts = [(opening, False), (f"{said}<|end|>", False)]
        for turn in range(3):
            lines = ", ".join(worked(said))
            ask = f"<|user|>{CHECK}<|end|><|assistant|>"
            if is_right(said):
                return [*parts, (ask, False), (f"{lines}. Right.<|end|>", True)]
            said = right() if turn == 2 or self.random.random() < 0.6 else wrong()
            good = is_right(said)
            parts += [(ask, False), (f"{lines}. Wrong. ", True), (said, good), ("<|end|>", True)]
        return parts

    def _shuffled(self, statement: str) -> str:
        numbers, _, target = statement.partition(" = ")
        order = numbers.split()
        self.random.shuffle(order)
        return f"{' '.join(order)} = {target}"

    def _miss(self, statement: str) -> str:
        """An expression of the problem's numbers that misses the target, all its values from 0 to LARGEST."""
        numbers = statement.partition(" = ")[0].split()
        while True:
            self.random.shuffle(numbers)
            text = f"{numbers[0]}{self.random.choice('+-*')}{numbers[1]}{self.random.choice('+-*')}{numbers[2]}"
            values = [int(line.partition("=")[2]) for line in self.countdown.steps(statement, text)]
            if all(0 <= v <= LARGEST for v in values) and not self.countdown.right(statement, text):
                return text

    def _slip(self, statement: str) -> str:
        """A working with one wrong step; later steps go on from it."""
        first, *rest = statement.split()
        value, lines, slip = int(first), [], self.random.randrange(len(rest) // 2)
        for i, (op, n) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            new = value + int(n) if op == "+" else value - int(n)
            if i == slip:
                new += self.random.choice((-10, -2, -1, 1, 2, 10))
            lines.append(f"{value}{op}{n}={new}")
            value = new
        return f"{', '.join(lines)}. Answer: {value}"


def make_tokenizer() -> Tokenizer:
    """Bytes, and the task's words and numbers as one token each: any text round-trips."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    words = [*WORDS, *map(str, range(LARGEST + 1))]
    tokenizer.add_tokens([AddedToken(w, special=False, normalized=False) for w in words])
    return tokenizer


def encode(tokenizer: Tokenizer, parts: list[Part]) -> Example:
    ids: list[int] = []
    trained: list[bool] = []
    for text, say in parts:
        new = tokenizer.encode(text, add_special_tokens=False).ids
        ids += new
        trained += [say] * len(new)
    return ids, trained


def train(
    model: LlamaForCausalLM, examples: Iterator[Example], steps: int, batch: int, peak: float, save: Callable[[], None]
) -> None:
    """AdamW, warmed up, a cosine to a tenth, every document once; float32; loss on what is trained on only."""
    # Muon needs fewer steps, but orthogonalises in bfloat16: on a CPU without its instructions a step takes thrice.
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)

    def scale(step: int) -> float:
        return min(1.0, (step + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
    start, seen, tokens = time.perf_counter(), 0.0, 0
    model.train()
    for step in range(steps):
        rows = [*islice(examples, batch)]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([r + [0] * (width - len(r)) for r, _ in rows])  # padding is to the right, and causal
        wanted = torch.tensor([t + [False] * (width - len(t)) for _, t in rows])[:, 1:]
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[wanted]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][wanted])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tokens += ids.numel()
        seen = loss.item() if step == 0 else 0.95 * seen + 0.05 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            spent = time.perf_counter() - start
            print(
                f"step {step:4d}/{steps}  loss {seen:.3f}  {spent:5.1f} s  {tokens / spent:,.0f} tokens/s", flush=True
            )
        if step % 500 == 499:
            save()


def documents(tutor: Tutor, tokenizer: Tokenizer, batch: int) -> Iterator[Example]:
    """Documents without end; those of eight batches sorted by length, so that a batch pads little."""
    while True:
        ready = sorted((encode(tokenizer, tutor.document()) for _ in range(8 * batch)), key=lambda e: len(e[0]))
        batches = [ready[i : i + batch] for i in range(0, len(ready), batch)]
        tutor.random.shuffle(batches)
        for each in batches:
            yield from each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HOME)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1, help="2 is faster, and sums in another order")
    parser.add_argument("--more", type=Path, help="go on from the model in this folder, on other documents")
    parser.add_argument("--facts", type=float, default=0.3, help="share of documents that calculate")
    parser.add_argument("--sums", type=float, default=0.15, help="share of the others that are about sums")
    parser.add_argument("--checks", type=float, default=0.6, help="share of the others that check")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tutor, tokenizer = Tutor(args.seed + bool(args.more), args.facts, args.sums, args.checks), make_tokenizer()
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=128, intermediate_size=512, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, dtype="float32",
    )  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(args.more) if args.more else LlamaForCausalLM(config)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, {config.vocab_size} tokens")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2],
        clean_up_tokenization_spaces=False, model_max_length=1024, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    wrapped.save_pretrained(args.out)
    learnt = documents(tutor, tokenizer, args.batch)
    train(model, learnt, args.steps, args.batch, args.lr, lambda: model.save_pretrained(args.out))
    model.save_pretrained(args.out)
    how = f" `--more {args.more.name}`" if args.more else ""
    words = {
        name: getattr(args, name) for name in ("seed", "steps", "batch", "lr", "facts", "sums", "checks", "threads")
    }
    card = CARD.format(size=size, how=how, torch=torch.__version__, **words)
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
