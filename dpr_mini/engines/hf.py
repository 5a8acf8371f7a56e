"""transformers `generate`, plain and dependable: left-padded static batches of what is queued.

`generate` has one random stream for the whole batch, so a sample would depend on its neighbours. Here every row adds
its own Gumbel noise, from a generator seeded by its request, and takes the argmax: an exact draw from the softmax
(Gumbel-max; Maddison et al., arXiv 1411.0030) that does not depend on what else is in the batch, up to the rounding
of the matrix products. Nothing is kept between batches: `cached_tokens` is 0.

A batch lasts as long as its longest answer. Where few answers are left, they go back to the queue with what they have
and are continued in a later batch, together with other batches' last ones; each takes its noise along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from dpr_mini.engines.base import Completion, EngineError, Request
from dpr_mini.engines.decode import Decoder
from dpr_mini.machine import mkl, progress
from dpr_mini.models.folder import ModelError, weight_files
from dpr_mini.models.loading import load_causal_lm

NUCLEUS = 1024  # tokens looked at first for top-p; a flatter distribution is sorted whole
SMALL = 4 << 30  # bytes of weights up to which a CPU computes in fp32
AGAIN = 16  # a batch is left where what goes on has at most so many tokens to read again for each that ended (ours)
ROWS = 32  # of a batch; a larger window is split into SPLIT batches, so that each is of prompts of one length (ours)
SPLIT = 4
SHORTEST = 8  # tokens that every batch adds at least: reading a prompt again costs more than that


@dataclass
class _Waiting:
    """A request in the queue, with the tokens that it has so far and the generator of its noise."""

    request: Request
    limit: int  # tokens that the answer may have
    generator: torch.Generator | None  # None: greedy
    said: tuple[int, ...] = ()

    @classmethod
    def of(cls, request: Request, limit: int, device: torch.device) -> _Waiting:
        hot = request.sampling.temperature > 0
        return cls(request, limit, torch.Generator(device).manual_seed(request.seed) if hot else None)

    @property
    def ids(self) -> tuple[int, ...]:
        return (*self.request.ids, *self.said)


class _Draw(LogitsProcessor):
    """Scores [rows, vocabulary] -> scores whose argmax is each row's draw (temperature, top-p, Gumbel noise)."""

    def __init__(self, batch: Sequence[_Waiting], vocabulary: int, device: torch.device) -> None:
        sampling = [w.request.sampling for w in batch]
        self.generators = {i: w.generator for i, w in enumerate(batch) if w.generator}
        self.hot = list(self.generators)
        self.temperature = torch.tensor([sampling[i].temperature for i in self.hot], device=device)[:, None]
        self.top_p = torch.tensor([sampling[i].top_p for i in self.hot], device=device)[:, None]
        # A tiny vocabulary's noise is drawn for many steps at once. The number depends on nothing else, so that a
        # sample's noise is the same in every batch: one that is left early ends with such a block.
        self.steps = max(1, 4096 // vocabulary)
        self.noise = torch.empty(len(batch), self.steps, vocabulary, device=device)
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.hot:
            return scores
        at = self.step % self.steps
        if at == 0:
            for i, generator in self.generators.items():
                self.noise[i].exponential_(generator=generator)
        self.step += 1
        warm = scores[self.hot].float() / self.temperature
        if (self.top_p < 1).any():
            warm = nucleus(warm, self.top_p)
        warm = warm - self.noise[self.hot, at].log()  # -log(Exp(1)) is Gumbel(0, 1)
        if len(self.hot) == len(scores):
            return warm
        scores = scores.float()
        scores[self.hot] = warm
        return scores


def nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Mask [rows, vocabulary] to -inf outside the smallest set of tokens whose probability reaches top_p [rows, 1]."""
    size = min(NUCLEUS, logits.shape[-1])
    total = logits.logsumexp(-1, keepdim=True)
    best = logits.topk(size).values
    mass = (best - total).exp().cumsum(-1)
    if size < logits.shape[-1] and (mass[:, -1:] < top_p).any():
        best = logits.sort(descending=True).values
        mass = (best - total).exp().cumsum(-1)
    last = (mass < top_p).sum(-1, keepdim=True).clamp(max=best.shape[-1] - 1)  # first place where it is reached
    floor = torch.where(top_p < 1, best.gather(-1, last), -torch.inf)
    return logits.masked_fill(logits < floor, -torch.inf)


class _Ends(StoppingCriteria):
    """A row ends at its own limit of new tokens, or where its text holds one of its stop strings.

    All end where few are left, after a multiple of `block` tokens.
    """

    def __init__(self, batch: Sequence[_Waiting], prompt: int, decoder: Decoder, block: int) -> None:
        self.limits = torch.tensor([w.limit - len(w.said) for w in batch])
        self.prompt, self.decoder, self.block = prompt, decoder, block
        self.stops = [(i, w.request.sampling.stop) for i, w in enumerate(batch) if w.request.sampling.stop]
        self.said = [len(w.said) for w in batch]
        self.longest = max((len(s) for _, stops in self.stops for s in stops), default=0)  # characters
        self.ended = torch.zeros(len(batch), dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        new = input_ids.shape[1] - self.prompt
        last = input_ids[:, -1].cpu()
        self.ended |= (self.limits <= new) | sum(last == end for end in self.decoder.eos).bool()
        back = self.longest + 4  # a character is at most four byte tokens
        tails = input_ids[:, -back:].tolist() if self.stops else []  # one copy from the device for all rows
        for i, stops in self.stops:
            tail = self.decoder.text(tails[i][-(new + self.said[i]) :])
            self.ended[i] |= any(s in tail for s in stops)
        ended = int(self.ended.sum())
        few = (len(self.ended) - ended) * input_ids.shape[1] <= ended * AGAIN
        if few and new >= SHORTEST and new % self.block == 0:
            return torch.ones_like(self.ended).to(input_ids.device)
        return self.ended.to(input_ids.device)


class HfEngine:
    """Engine (see base.py) on transformers. poll() runs one static batch of the shortest in the queue.

    A batch has ROWS rows, or a quarter of a window that is larger than four of those: equal lengths pad nothing.
    dtype: "auto" is bfloat16 on a GPU, on a CPU float32 (bfloat16 above 4 GiB of weights); or a torch dtype's name.
    device: "auto" is the GPU if there is one. cached_tokens is always 0: nothing outlives its batch.
    Raises EngineError for a folder that is not whole (models/check.py), and for a request that does not fit.
    """

    def __init__(self, model_dir: Path, *, window: int = 32, dtype: str = "auto", device: str = "auto") -> None:
        self.model_dir, self.window = Path(model_dir), window
        self.rows = max(min(window, ROWS), window // SPLIT)
        self.decoder = Decoder(self.model_dir)
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        if dtype == "auto":
            weights = sum(p.stat().st_size for p in weight_files(self.model_dir))
            dtype = "float32" if self.device.type == "cpu" and weights <= SMALL else "bfloat16"
        self.dtype = getattr(torch, dtype)
        self.name = f"hf {transformers.__version__} {dtype}"
        self.reproducible = self.dtype in (torch.float32, torch.float64)  # lower precision rounds with the batch
        self._model: Any = None
        self._queue: list[_Waiting] = []

    def __enter__(self) -> Self:
        mkl.settle()
        progress.quiet_transformers()
        try:
            self._model = load_causal_lm(self.model_dir, dtype=self.dtype)
        except ModelError as error:
            raise EngineError(str(error)) from error
        self._model.to(self.device).eval()
        # The folder's own settings (repetition_penalty, top_k) would be merged in silence.
        self._model.generation_config = GenerationConfig()
        return self

    def __exit__(self, *exc: object) -> None:
        self._model = None
        self._queue.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def submit(self, request: Request) -> None:
        """Queue one request. Raises EngineError for an empty prompt or one that leaves no room to answer."""
        if self._model is None:
            raise EngineError("the hf engine is not open; use it in a with block")
        self._queue.append(_Waiting.of(request, self.decoder.room(request), self.device))

    def poll(self) -> list[Completion]:
        """Run batches, the shortest prompts first, until one ends an answer; [] only when nothing is in flight."""
        while self._queue:
            if done := self._batch():
                return done
        return []

    def _batch(self) -> list[Completion]:
        """One batch of what is queued. Answers that it leaves unfinished are queued again."""
        self._queue.sort(key=lambda w: len(w.request.ids) + len(w.said))  # equal lengths pad nothing
        batch, self._queue = self._queue[: self.rows], self._queue[self.rows :]
        prompts = [w.ids for w in batch]
        width = max(map(len, prompts))
        ids = torch.full((len(batch), width), self.decoder.eos[0])
        mask = torch.zeros_like(ids)  # from lengths: the padding token may be the end token
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        draw = _Draw(batch, self._model.config.get_text_config().vocab_size, self.device)
        with torch.inference_mode():
            out = self._model.generate(
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=GenerationConfig(
                    max_new_tokens=max(w.limit - len(w.said) for w in batch),
                    do_sample=False,
                    eos_token_id=list(self.decoder.eos),
                    pad_token_id=self.decoder.eos[0],
                ),
                logits_processor=[draw],
                stopping_criteria=[_Ends(batch, width, self.decoder, draw.steps)],
            )
        done = []
        for waiting, row in zip(batch, out[:, width:].tolist(), strict=True):
            said = [*waiting.said, *row][: waiting.limit]
            completion = self._complete(waiting.request, said)
            if completion.finish == "stop" or len(said) == waiting.limit:
                done.append(completion)
            else:
                waiting.said = tuple(said)
                self._queue.append(waiting)
        return done

    def cancel(self) -> None:
        """Drop what is queued: a batch runs within poll()."""
        self._queue.clear()

    def facts(self) -> dict[str, Any]:
        return {"device": str(self.device)}

    def _complete(self, request: Request, ids: list[int]) -> Completion:
        """`ids` is at most the request's limit long, so an end token in it was drawn, or padded after a stop string."""
        ids, text, ended = self.decoder.cut(ids, request.sampling.stop)
        return Completion(request.id, ids, text, "stop" if ended else "length", len(request.ids), 0)
