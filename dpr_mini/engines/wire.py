"""SGLang's native protocol: what is sent to /generate, and what comes back in the releases that we know.

The native endpoint because it takes and gives token ids and knows `sampling_seed`; its OpenAI endpoints re-apply
templates and drop seeds in some releases. Replies are read tolerantly (their shape has changed between releases and
routers); what a sample cannot do without, its token ids, is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpr_mini.engines.base import Completion, EngineError, Request
from dpr_mini.engines.decode import Decoder


def payload(request: Request, room: int, eos: tuple[int, ...], rid: str) -> dict[str, Any]:
    """The body of one /generate call: one sample of one prompt, every setting said (max_new_tokens defaults to 128)."""
    s = request.sampling
    greedy = s.temperature == 0
    return {
        "rid": rid,
        "input_ids": list(request.ids),
        "sampling_params": {
            "max_new_tokens": room,
            "temperature": 0.0 if greedy else s.temperature,
            "top_p": 1.0 if greedy else s.top_p,
            "top_k": 1 if greedy else -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "stop": list(s.stop),
            "stop_token_ids": list(eos),
            "skip_special_tokens": False,
            "no_stop_trim": True,  # cut here, the same for every engine
            "sampling_seed": request.seed,  # counts only where the server runs deterministically
        },
        "stream": False,
    }


def completion(request: Request, reply: Any, decoder: Decoder) -> Completion:
    """Read a reply to `payload`. Raises EngineError for one without token ids."""
    reply = one(reply)
    meta = reply.get("meta_info") if isinstance(reply, Mapping) else None
    if not isinstance(meta, Mapping):
        raise EngineError(f"request {request.id}: the server's reply is none of SGLang's: {reply!r:.120}")
    kind, why = finish(meta.get("finish_reason"))
    raw = reply.get("output_ids", meta.get("output_ids"))
    if raw is None and kind != "error":
        raise EngineError(f"request {request.id}: the reply has no output_ids; SGLang 0.5 or newer gives them")
    ids, text, ended = decoder.cut(raw or (), request.sampling.stop)
    if kind == "stop" and not ended and why not in ("", "stop"):
        # it stopped for a reason that is not ours: say so rather than call half an answer whole
        kind, why = "error", f"the server stopped at {why!r}, which is neither an end token nor a stop string here"
    elif kind != "error":
        kind, why = ("stop" if ended else kind), ""
    return Completion(
        id=request.id,
        ids=ids,
        text=text,
        finish=kind,
        prompt_tokens=len(request.ids),
        cached_tokens=min(int(meta.get("cached_tokens") or 0), len(request.ids)),
        error=why if kind == "error" else "",
    )


def one(reply: Any) -> Any:
    """The reply to one prompt: some releases and routers put it into a list."""
    return reply[0] if isinstance(reply, list) and len(reply) == 1 else reply


def finish(reason: Any) -> tuple[Any, str]:
    """("stop" | "length" | "error", detail) of a finish reason, which is an object, or a word in old releases."""
    if isinstance(reason, Mapping):
        told = reason.get("matched", reason.get("message"))
        kind, detail = reason.get("type"), "" if told is None else str(told)
    else:
        kind, detail = reason, ""
    if kind in ("stop", "length"):
        return kind, detail
    return "error", detail or f"the server ended it with {reason!r}"


@dataclass(frozen=True, slots=True)
class Info:
    """What a server says of itself. `pool` is the number of tokens that its KV cache holds."""

    version: str
    model_path: str
    dtype: str
    attention: str
    pool: int
    longest: int  # tokens that one prompt may have
    running: int  # requests that it decodes together at most
    page: int  # tokens in a block of its cache
    prefix_cache: bool
    deterministic: bool  # seeds count

    @staticmethod
    def read(server: Mapping[str, Any]) -> Info:
        """From /get_server_info. Raises EngineError where the size of the cache cannot be found."""
        inner = next(iter(server.get("internal_states") or [{}]), {})

        def first(*names: str, default: Any) -> Any:
            return next((v for n in names for v in (server.get(n), inner.get(n)) if v is not None), default)

        pool = first("max_total_num_tokens", "max_total_tokens", default=0)
        if not pool:
            raise EngineError("the server does not say how many tokens its cache holds (max_total_num_tokens)")
        return Info(
            version=str(first("version", default="?")),
            model_path=str(first("model_path", default="")),
            dtype=str(first("dtype", default="?")),
            attention=str(first("attention_backend", default="?")),
            pool=int(pool),
            longest=int(first("max_req_input_len", default=pool)),
            running=int(first("max_running_requests", "effective_max_running_requests_per_dp", default=256)),
            page=int(first("page_size", default=1)),
            prefix_cache=not first("disable_radix_cache", default=False),
            deterministic=bool(first("enable_deterministic_inference", default=False)),
        )
