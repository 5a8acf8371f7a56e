"""SGLang's native protocol: what is sent to /generate, and what comes back in the releases that we know.

The native endpoint because it takes and gives token ids and knows `sampling_seed`; its OpenAI endpoints re-apply
templates and drop seeds in some releases. Replies are read tolerantly in their shape (it has changed between releases)
and strictly in what a sample is made of: its ids are tokens of the vocabulary, no more than asked, drawn for the prompt
that was sent. Everything that a server says is data of somebody else: bounded, and printable before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpr_mini.engines.base import Completion, EngineError, Request
from dpr_mini.engines.decode import Decoder
from dpr_mini.engines.sglang import launch
from dpr_mini.messages import redacted
from dpr_mini.recipe import serving

REPLY_BYTES = 1 << 20  # of an answer at most, beside the tokens that were asked for
TOKEN_BYTES = 256  # of one token at most: its id, and its text with JSON's escapes
WORKERS = 1024  # that a router may name
LARGEST = 1 << 40  # number that a server may say of itself


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


def most_bytes(room: int) -> int:
    """How long the reply to a request of `room` tokens may be."""
    return REPLY_BYTES + TOKEN_BYTES * room


def line(text: str, most: int = 200) -> str:
    """Text from outside on one line, without control characters and secrets, at most `most` characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(redacted(text[: 4 * most]).split()))[:most]


def shown(value: Any, most: int = 60) -> str:
    """Any value of a reply, on one line."""
    try:
        return line(repr(value), most)
    except RecursionError:
        return "something nested too deep to show"


def completion(
    request: Request, reply: Any, decoder: Decoder, room: int | None = None, rid: str | None = None
) -> Completion:
    """Read a reply to `payload` of `room` and `rid`. Raises EngineError for one that is not what was asked for."""
    meta = _meta(request, reply)
    if rid is not None and meta.get("id") not in (None, rid):
        raise EngineError(f"request {request.id}: the answer is another request's ({shown(meta['id'])})")
    kind, why = finish(meta.get("finish_reason"))
    raw = _ids(request, one(reply), meta, decoder, room, needed=kind != "error")
    read = _count(request, meta, "prompt_tokens", len(request.ids))
    if read != len(request.ids):
        raise EngineError(f"request {request.id}: the server read {read} prompt tokens of {len(request.ids)}")
    ids, text, ended = decoder.cut(raw, request.sampling.stop)
    if kind == "stop" and not ended:
        # it stopped for a reason that is not ours: say so rather than call half an answer whole
        at = f"at {why!r}, which is neither" if why else "without"
        kind, why = "error", f"the server stopped {at} an end token {'nor' if why else 'or'} a stop string here"
    elif kind != "error":
        kind, why = ("stop" if ended else kind), ""
    return Completion(
        id=request.id,
        ids=ids,
        text=text,
        finish=kind,
        prompt_tokens=len(request.ids),
        cached_tokens=min(_count(request, meta, "cached_tokens", 0), len(request.ids)),
        error=line(why) if kind == "error" else "",
    )


def drawn(request: Request, reply: Any, decoder: Decoder, room: int) -> tuple[int, ...]:
    """The ids of a reply as the server gave them, end token included. Raises EngineError."""
    return _ids(request, one(reply), _meta(request, reply), decoder, room, needed=True)


def retractions(request: Request, reply: Any) -> int:
    """How often the server took the request back: `num_retractions` since 0.5.13 or so, `total_retractions` before."""
    meta = _meta(request, reply)
    return max(_count(request, meta, name, 0) for name in ("num_retractions", "total_retractions"))


def _meta(request: Request, reply: Any) -> Mapping[str, Any]:
    reply = one(reply)
    meta = reply.get("meta_info") if isinstance(reply, Mapping) else None
    if not isinstance(meta, Mapping):
        raise EngineError(f"request {request.id}: the server's reply is none of SGLang's: {shown(reply, 120)}")
    return meta


def _ids(
    request: Request, reply: Any, meta: Mapping[str, Any], decoder: Decoder, room: int | None, needed: bool
) -> tuple[int, ...]:
    raw = reply.get("output_ids", meta.get("output_ids"))
    if raw is None:
        if needed:
            raise EngineError(f"request {request.id}: the reply has no output_ids; SGLang 0.5 or newer gives them")
        return ()
    if not isinstance(raw, list | tuple):
        raise EngineError(f"request {request.id}: the reply's output_ids are no list: {shown(raw)}")
    if len(raw) > (most := request.sampling.max_new_tokens if room is None else room):
        raise EngineError(f"request {request.id}: {len(raw)} tokens came back where {most} were asked for")
    wrong = next((i for i in raw if type(i) is not int or not 0 <= i < decoder.vocabulary), None)
    if wrong is not None or None in raw:
        raise EngineError(
            f"request {request.id}: the reply's {shown(wrong)} is no token of a vocabulary of {decoder.vocabulary}"
        )
    return tuple(raw)


def _count(request: Request, meta: Mapping[str, Any], name: str, default: int) -> int:
    """A number that may be absent."""
    value = meta.get(name)
    if value is None:
        return default
    if type(value) is not int or value < 0:
        raise EngineError(f"request {request.id}: the reply's {name} is {shown(value)}, no count")
    return value


def one(reply: Any) -> Any:
    """The reply to one prompt: some releases and routers put it into a list."""
    return reply[0] if isinstance(reply, list) and len(reply) == 1 else reply


def finish(reason: Any) -> tuple[Any, str]:
    """("stop" | "length" | "error", detail) of a finish reason, which is an object, or a word in old releases."""
    if isinstance(reason, Mapping):
        cause = reason.get("matched", reason.get("message"))
        kind, detail = (
            reason.get("type"),
            "" if cause is None else line(str(cause)) if isinstance(cause, str | int) else shown(cause),
        )
    else:
        kind, detail = reason, ""
    if kind in ("stop", "length"):
        return kind, detail
    return "error", detail or f"the server ended it with {shown(reason)}"


def workers(router: str, reply: Any) -> tuple[str, ...]:
    """The addresses of a router's workers, from its GET /workers ({"workers": [{"url", "worker_type",
    "connection_mode", ...}]}, the gateway and routers since 0.2.2) or /list_workers ({"urls": [...]}, before).

    Raises EngineError for workers that cannot be asked one by one over HTTP.
    """
    entries = reply.get("workers", reply.get("urls")) if isinstance(reply, Mapping) else None
    if not isinstance(entries, list) or len(entries) > WORKERS:
        raise EngineError(f"engine.urls: {router} does not name its workers as SGLang's routers do: {shown(reply, 80)}")
    if not entries:
        raise EngineError(f"engine.urls: the router at {router} has no workers (yet)")
    urls = []
    for worker in entries:
        about = worker if isinstance(worker, Mapping) else {"url": worker}
        url, kind = about.get("url"), about.get("worker_type", "regular")
        name = f"engine.urls: the router at {router} has the worker {shown(url, 80)}"
        if kind not in (None, "regular"):
            raise EngineError(f"{name} for {shown(kind, 20)} alone; name servers that do both")
        try:  # a rank ("...:30000@1", data parallel) is no address of its own
            urls.append(serving.address(url if isinstance(url, str) else "").rstrip("/"))
        except ValueError:
            raise EngineError(f"{name}, which cannot be asked over HTTP; name the servers themselves") from None
    return tuple(dict.fromkeys(urls))


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

    @property
    def window(self) -> int:
        """Requests in flight that keep it busy."""
        return launch.window(self.pool, self.running)

    @staticmethod
    def read(server: Mapping[str, Any]) -> Info:
        """From /server_info. Raises EngineError where the size of the cache cannot be found, or a number is none."""
        states = server.get("internal_states")
        inner = states[0] if isinstance(states, list) and states and isinstance(states[0], Mapping) else {}

        def first(*names: str) -> Any:
            return next((v for n in names for v in (server.get(n), inner.get(n)) if v is not None), None)

        def number(*names: str, default: int) -> int:
            value = first(*names)
            if value is None:
                return default
            if type(value) is not int or not 1 <= value <= LARGEST:
                raise EngineError(f"the server's {names[0]} is {shown(value)}, not a number above 0")
            return value

        def flag(name: str) -> bool:
            value = first(name)
            if not isinstance(value, bool | None):
                raise EngineError(f"the server's {name} is {shown(value)}, neither true nor false")
            return bool(value)

        def word(name: str, default: str = "?") -> str:
            return default if first(name) is None else line(str(first(name)), 60)

        pool = number("max_total_num_tokens", "max_total_tokens", default=0)
        if not pool:
            raise EngineError("the server does not say how many tokens its cache holds (max_total_num_tokens)")
        return Info(
            version=word("version"),
            model_path=word("model_path", ""),
            dtype=word("dtype"),
            attention=word("attention_backend"),
            pool=pool,
            longest=number("max_req_input_len", default=pool),
            running=number("max_running_requests", "effective_max_running_requests_per_dp", default=launch.RUNNING),
            page=number("page_size", default=1),
            prefix_cache=not flag("disable_radix_cache"),
            deterministic=flag("enable_deterministic_inference"),
        )
