"""What a recipe needs of a machine: memory of the card for training and for the engine, host memory, disk.

Engine and trainer never hold the card together, so each must fit alone. What cannot be counted is assumed, and says
so where it is printed: the constants in capitals below.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from dpr_mini.engines.sglang import launch
from dpr_mini.models.shapes import Shape
from dpr_mini.planning.memory import LARGE, Job, Moment
from dpr_mini.recipe import DialogueConfig, Recipe, TrainConfig, prompts

GIB = 2**30
CONTEXT = 0.5 * GIB  # of the card: CUDA context and library workspaces
SLACK = 0.05  # of what is counted: blocks that the caching allocator holds and nobody uses
PROCESS = {True: 2.5 * GIB, False: 0.5 * GIB}  # host: Python and torch, with CUDA's libraries or without
PROMPT, INSTRUCTION = 512, 128  # tokens of a question with its template; of each further turn's instruction
CHARACTERS = 2  # characters per token of an example (low: digits are single tokens)
MESSAGE = 8  # chat-template tokens per message
WINDOWS = {"hf": 32, "openvino": 64}  # requests in flight: the engines' own defaults; SGLang's: launch.window
OPENVINO_CACHE = 2 * GIB  # its prefix cache
ROW_BYTES = 12  # disk: a generated token as text and as an id
STEP, MOST = 256, 1 << 20  # row lengths that are tried: multiples, up to


@dataclass(frozen=True)
class Card:
    """What is planned for. `bytes` None: no GPU, the host's memory."""

    bytes: float | None
    name: str  # as bench/results/*.json name what they were measured on; "" for a card that only has a size

    @property
    def gpu(self) -> bool:
        return self.bytes is not None

    @property
    def large(self) -> bool:
        return self.bytes is not None and self.bytes >= LARGE


@dataclass(frozen=True)
class Training:
    """One section's training on one row, at its peak."""

    section: str  # train, train_2
    job: Job

    @property
    def peak(self) -> Moment:
        return self.job.peak()

    @property
    def fixed(self) -> float:
        return CONTEXT + SLACK * self.peak.total if self.job.gpu else PROCESS[False]

    @property
    def total(self) -> float:
        return self.peak.total + self.fixed

    @property
    def loading(self) -> float:
        """The weights in host memory, on their way to the card."""
        return float(self.job.shape.parameters() * self.job.weight)

    def host(self) -> float:
        """Host memory where a GPU trains: first the weights, later the offloaded checkpoints; and the process."""
        return max(self.job.host(), self.loading) + PROCESS[True]

    def longest_row(self, most: float) -> int:
        """Tokens of the longest row, a multiple of STEP up to MOST, whose total is at most `most` bytes; 0 for none."""
        low, high = 0, MOST // STEP
        while low < high:
            middle = (low + high + 1) // 2
            fits = Training(self.section, replace(self.job, tokens=middle * STEP)).total <= most
            low, high = (middle, high) if fits else (low, middle - 1)
        return low * STEP


def sections(recipe: Recipe) -> dict[str, TrainConfig]:
    """The training sections that the recipe's phases use, by name."""
    return {name: s for phase, name, s in ((1, "train", recipe.train), (2, "train_2", recipe.train_2))
            if phase in recipe.phases}  # fmt: skip


def trainings(recipe: Recipe, shape: Shape, gpu: bool, bf16: bool, large: bool = False) -> list[Training]:
    """One for each training section of the recipe's phases; the first alone where both take the same memory."""
    rows = {"train": recipe.pack.tokens_per_row, "train_2": recipe.pack_2.tokens_per_row}
    kind = {"gpu": gpu, "bf16": bf16, "large": large}
    candidates = [Training(n, Job(shape, train, rows[n], **kind)) for n, train in sections(recipe).items()]
    same = len({(t.peak, t.job.host()) for t in candidates}) == 1  # what differs, e.g. epochs, takes no memory
    return candidates[:1] if same else candidates


@dataclass(frozen=True)
class Serving:
    """The engine in its own phases. Bytes; lengths in tokens."""

    kind: str
    weights: float
    token: float  # keys and values of one
    conversation: int  # the longest: question, instructions, answers at their limits
    window: int  # requests in flight that are wanted
    logits: float  # beside each request in flight
    room: float | None  # for all of this; None: the host's memory

    @property
    def cache(self) -> float:
        """SGLang's pool is what the weights leave, OpenVINO's is fixed; hf holds its whole window."""
        if self.kind == "openvino":
            return OPENVINO_CACHE
        if self.kind == "sglang" and self.room is not None:
            return max(0.0, self.room - self.weights)
        return self.window * self.conversation * self.token

    @property
    def at_once(self) -> int:
        """Conversations of full length that the cache holds; what is beyond waits, or is computed again."""
        return int(self.cache / (self.token * self.conversation))

    @property
    def need(self) -> float:
        """The least with which it runs: one conversation for SGLang, which queues, the whole window for hf."""
        least = self.token * self.conversation if self.kind == "sglang" else self.cache
        return self.weights + least + self.window * self.logits

    @property
    def fits(self) -> bool:
        return self.room is None or self.need <= self.room

    def window_that_fits(self) -> int:
        """The most requests at once, 0 where not even one fits or where fewer do not help."""
        if self.room is None or self.kind != "hf":
            return 0
        return max(0, int((self.room - self.weights) / (self.token * self.conversation + self.logits)))


def conversation(recipe: Recipe) -> int:
    """Tokens of the longest conversation of any stage."""
    d, e = recipe.dialogue, recipe.evaluate
    conversations = [(len(d.longest), d.max_new_tokens, shown(d))] if 1 in recipe.phases else []
    conversations += (
        [(len(e.longest), e.max_new_tokens, shown(d) if e.examples else 0)] if recipe.problems.evaluated else []
    )
    conversations += [(2, e.max_new_tokens, shown(d) if e.examples else 0)] if e.redraw else []  # the answer, its check
    conversations += [(1, recipe.probe.max_new_tokens, 0)] if 2 in recipe.phases else []
    return max(
        (PROMPT + more + (turns - 1) * INSTRUCTION + turns * new for turns, new, more in conversations), default=PROMPT
    )


def shown(dialogue: DialogueConfig) -> int:
    """Tokens of the few-shot examples that one dialogue is shown, at most: those for all and those of one level."""
    templates = dialogue.words().templates
    longest = [max((templates.get(name, "") for name in turn), key=len) for turn in dialogue.longest]
    tokens = Counter[str | None]()
    for example in dialogue.examples:
        turns = list(zip(longest, example.answers, strict=False))
        texts = [text for template, answer in turns for text in (prompts.fill(template, example.problem), answer)]
        tokens[example.level] += sum(len(text) // CHARACTERS + 1 for text in texts) + MESSAGE * len(texts)
    return tokens.pop(None, 0) + max(tokens.values(), default=0)


def serving(recipe: Recipe, shape: Shape, card: Card) -> Serving:
    """bfloat16 weights and cache on a GPU, float32 on a CPU. `auto` is hf on a GPU, OpenVINO elsewhere."""
    engine, room = recipe.engine, card.bytes
    kind = engine.kind if engine.kind != "auto" else ("hf" if card.gpu else "openvino")
    if kind == "openvino":
        room = None  # it computes on the host
    elif kind == "sglang" and room is not None:
        room *= launch.memory_share(engine.arguments)
    elif room is not None:
        room = room * (1 - SLACK) - CONTEXT
    width = 4 if room is None else 2
    weights, token = float(width * shape.parameters()), float(2 * shape.layers * shape.kv_width * width)
    window = engine.window or WINDOWS.get(kind)
    if window is None:
        # as the engine asks its server; on a CPU the cache is CPU_FLAGS' own
        pool = launch.CPU_FLAGS["max_total_tokens"] if room is None else max(0.0, room - weights) / token
        limit = engine.arguments.get("max_running_requests")
        window = launch.window(int(pool), limit if type(limit) is int else launch.RUNNING)
    return Serving(
        kind,
        weights=weights,
        token=token,
        conversation=conversation(recipe),
        window=window,
        logits=3 * 4.0 * shape.vocab if kind == "hf" else 0.0,  # scores, scaled, with noise
        room=room,
    )


def disk(recipe: Recipe, shape: Shape, trained: list[Training], tokens: int, download: bool) -> dict[str, float]:
    """Bytes a run leaves or passes through, at most. `tokens`: generated in all stages together."""
    models = sum(shape.parameters() * (2 if t.save_dtype == "bfloat16" else 4) for t in sections(recipe).values())
    return {
        "base model": 2.0 * shape.parameters() if download else 0.0,
        "trained models": float(models),
        "checkpoints, two while one is replaced": 2 * max((_checkpoint(t.job) for t in trained), default=0.0),
        "rows": float(ROW_BYTES * tokens),
    }


def _checkpoint(job: Job) -> float:
    """Trained weights and the optimiser's moments."""
    return sum(job.trained) * (job.weight if job.full else 4) + job.optimiser()
