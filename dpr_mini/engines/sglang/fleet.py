"""The SGLang servers behind the engine: one that is started, watched and started again here, or running ones by URL."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from dpr_mini.engines.base import EngineError, Request, SamplingParams
from dpr_mini.engines.decode import Decoder
from dpr_mini.engines.sglang import calls, launch, server, wire
from dpr_mini.engines.sglang.calls import Absent, Lost, Refused
from dpr_mini.engines.sglang.process import ServerProcess, free_port
from dpr_mini.machine import gpus, requirements
from dpr_mini.messages import keep_secret
from dpr_mini.models.folder import ModelError, finite
from dpr_mini.recipe import ServerConfig
from dpr_mini.recipe.serving import AUTH

PROBE = "The cache keeps what it has read. A second turn begins where the first one ended. " * 6
GPU_SLACK = 1.0  # GiB that may be missing: the driver's part, a context that is being taken down
GPU_PATIENCE = 60.0  # seconds in which memory that was given back must be there
SERVER_INFO, MODEL_INFO = ("/server_info", "/get_server_info"), ("/model_info", "/get_model_info")  # new and old names


@dataclass(slots=True, eq=False)
class Replica:
    url: str
    info: wire.Info
    reserved: int = 0  # tokens that the requests in flight may come to hold in its cache


class Fleet:
    """Servers of one model. `epoch` counts how often ours was started again; all methods belong to one event loop.

    Raises EngineError where the recipe's section asks for what is not there.
    """

    def __init__(self, model_dir: Path, decoder: Decoder, config: ServerConfig, logs: Path) -> None:
        self.model_dir, self.decoder, self.config, self.logs = model_dir, decoder, config, logs
        self.urls = tuple(url.rstrip("/") for url in config.urls)
        self.replicas: list[Replica] = []
        self.process: ServerProcess | None = None
        self.epoch = 0
        self.versions: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None
        self._key = authorization(os.environ.get(AUTH, "")) if self.urls else ""
        self._key_goes_to = {_host(url) for url in self.urls}  # to nobody else whom a router names
        if not self.urls:
            self.gpu = gpus.first() is not None
            self.python = launch.find_python(config.python, self.gpu)
            self.versions = launch.versions(self.python)
            self.cuda_home = launch.cuda_home(self.python) if requirements.cuda_compiler() else None
            if self.gpu and (lack := requirements.cuda_compiler(self.cuda_home)):
                raise EngineError(lack)
            self._command(model_dir, 0)  # a mistake in the arguments should show before a model is converted

    @property
    def name(self) -> str:
        version = self.versions.get("sglang") or (self.replicas[0].info.version if self.replicas else "")
        return " ".join(filter(None, ["sglang", version, self.replicas[0].info.dtype if self.replicas else ""]))

    async def open(self) -> None:
        """Start our server, or take over the running ones, and prove that a second turn is cached."""
        # no limit on connections: the engine's window is the limit
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        if self.urls:
            self.replicas = await self._adopt_all()
        else:
            await self._start()
        if self.config.deterministic and not all(r.info.deterministic for r in self.replicas):
            raise EngineError("engine.deterministic: the server runs without --enable-deterministic-inference")

    async def close(self) -> None:
        """End what was started here. The GPU must be free again: what comes next may be training."""
        if self._session:
            await self._session.close()
        if self.process is None:
            return
        process, self.process = self.process, None
        await asyncio.to_thread(process.stop)
        before, deadline = self._free_before, time.monotonic() + GPU_PATIENCE
        while before is not None:
            if (card := gpus.first()) is None or card.free is None:
                raise EngineError("nvidia-smi no longer says how much GPU memory is free; what comes next may need it")
            if before - card.free <= GPU_SLACK:
                return
            if time.monotonic() > deadline:  # the next one to use the card looks whether that is enough
                print(
                    f"{before - card.free:.1f} GiB of GPU memory did not come back when the SGLang server ended: "
                    f"{card.words()}; another program may have taken them",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                return
            await asyncio.sleep(0.5)

    @property
    def dead(self) -> bool:
        """Whether our server, or a process that it cannot do without, has ended."""
        return self.process is not None and not self.process.alive()

    def said(self) -> str:
        """The last lines of our server."""
        return self.process.tail(3) if self.process else ""

    async def restart(self) -> None:
        """Kill what is left of our server and start it again. Raises EngineError."""
        assert self.process
        await asyncio.to_thread(self.process.kill)
        self.epoch += 1
        await self._start()

    async def _room(self) -> None:
        """Wait until the card is as free as the server's share of it needs. Raises EngineError, with numbers."""
        self._free_before: float | None = None
        share, deadline = launch.memory_share(self.config.arguments), time.monotonic() + GPU_PATIENCE
        while card := gpus.first():
            if card.total is None or card.free is None:
                print(f"engine: how much of {card.words()} is free is not known; starting", file=sys.stderr, flush=True)
                return
            self._free_before = card.free
            if card.free >= share * card.total - GPU_SLACK:
                if card.taken > GPU_SLACK:
                    print(f"engine: others hold {card.taken:.1f} GiB of {card.words()}", file=sys.stderr, flush=True)
                return
            if time.monotonic() > deadline:
                fits = max(0.0, (card.free - GPU_SLACK) / card.total)
                raise EngineError(
                    f"the SGLang server wants {share:g} of the card (engine.arguments.mem_fraction_static), "
                    f"{share * card.total:.1f} GiB, but {card.words()}: others hold {card.taken:.1f} GiB (nvidia-smi "
                    f"lists them); end them, or run with engine.arguments.mem_fraction_static={int(fits * 100) / 100:g}"
                )
            await asyncio.sleep(0.5)
        if self.gpu:
            raise EngineError("nvidia-smi no longer shows a GPU: nobody can say whether the server finds room")

    async def _start(self, ports: int = 3) -> None:
        """Start our server, on a free port each time, and wait until it answers; `ports` are tried."""
        await self._room()
        try:
            finite(self.model_dir)
        except ModelError as error:
            raise EngineError(str(error)) from error
        folder = launch.serving_folder(self.model_dir, self.logs / "sglang-model")
        port = free_port()
        environment = {"HF_HUB_OFFLINE": "1"} | launch.LONGER_CONTEXT | ({} if self.gpu else launch.CPU_ENVIRONMENT)
        environment |= {"CUDA_HOME": str(self.cuda_home)} if self.gpu and self.cuda_home else {}
        key = keep_secret(secrets.token_hex(32))  # a new one each time: another program may have taken the old port
        environment[server.VARIABLE] = key
        self.process = process = ServerProcess(self._command(folder, port), self.logs / "sglang.log", environment)
        print(f"starting {self.name}, its log: {process.log}", file=sys.stderr, flush=True)
        process.start()  # in this thread: an interrupt must not leave a start behind that nobody waits for
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + self.config.start_timeout
        self._key, self._key_goes_to = f"Bearer {key}", {_host(url)}
        while not await self.healthy(url, "/health", 5.0):
            if not process.alive():
                raise EngineError(f"the SGLang server died while starting: {process.tail()} (log: {process.log})")
            if ports > 1 and "address already in use" in process.tail():  # SGLang 0.5.9 does not end then
                print(f"port {port} was taken while the server started; taking another", file=sys.stderr, flush=True)
                process.kill()
                return await self._start(ports - 1)
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the SGLang server is not ready after {self.config.start_timeout:.0f} s (engine.start_timeout): "
                    f"{process.tail(3)} (log: {process.log})"
                )
            await asyncio.sleep(0.25)
        if not _same_folder(serving := await self._serving(url), folder):
            raise EngineError(f"port {port} was taken by another server, which serves {serving}; run the command again")
        process.ready("sglang::")
        self.replicas = [Replica(url, await self._info(url))]
        await self._check_cache(self.replicas[0])

    def _command(self, folder: Path, port: int) -> list[str]:
        c = self.config
        arguments = {"context_length": self.decoder.context + launch.CONTEXT_SLACK} | c.arguments
        return launch.command(
            self.python,
            folder,
            port,
            arguments,
            gpu=self.gpu,
            deterministic=c.deterministic,
            release=self.versions["sglang"],
        )

    async def _adopt_all(self) -> list[Replica]:
        """The running servers; a router stands for its workers, which are asked themselves.

        A router has neither weight updates nor aborts, and tells the cache of its first worker alone.
        """
        urls: list[str] = []
        for url in self.urls:
            if not await self.healthy(url, "/health", 10.0):
                raise EngineError(f"engine.urls: no SGLang server answers at {url}")
            workers = await self._workers(url)
            if not workers:
                urls.append(url)
                continue
            for worker in workers:
                if not await self.healthy(worker, "/health", 10.0):
                    raise EngineError(f"engine.urls: the worker {worker} of the router at {url} does not answer")
                if await self._workers(worker):
                    raise EngineError(f"engine.urls: the worker {worker} of the router at {url} is a router itself")
            print(f"{url} is a router; its workers are asked: {', '.join(workers)}", file=sys.stderr, flush=True)
            urls += workers
        once = list(dict.fromkeys(urls))
        if len(once) < len(urls):
            print(f"engine.urls: {len(urls) - len(once)} named twice are asked once", file=sys.stderr, flush=True)
        return [await self._adopt(url) for url in once]

    async def _workers(self, url: str) -> tuple[str, ...]:
        """The addresses of a router's workers, () of a server. Raises EngineError for a router that hides them."""
        for path in ("/workers", "/list_workers"):  # the second before 0.2.2 of the router
            try:
                return wire.workers(url, await self.ask(url, path, None, 30.0))
            except Absent:
                continue
            except (Lost, Refused) as error:
                raise EngineError(f"engine.urls: {url} does not tell {path}: {error}") from None
        return ()

    async def _adopt(self, url: str) -> Replica:
        """A running server; our weights are loaded into it where it has others (the same architecture, same files)."""
        if not _same_folder(await self._serving(url), self.model_dir):
            await self._load_weights(url)
        replica = Replica(url, await self._info(url))
        await self._check_cache(replica)
        return replica

    async def _load_weights(self, url: str) -> None:
        """Swap weights in a running server, drained first: a swap beside work has killed servers (sglang#14062)."""
        print(f"loading {self.model_dir} into {url}", file=sys.stderr, flush=True)
        deadline = time.monotonic() + 120
        while not await self.healthy(url, "/flush_cache", 30.0):
            if time.monotonic() > deadline:
                raise EngineError(f"engine.urls: {url} is busy with other work: its cache cannot be flushed")
            await asyncio.sleep(0.5)
        body = {"model_path": str(self.model_dir.resolve())}
        try:
            reply = await self.ask(url, "/update_weights_from_disk", body, self.config.start_timeout)
        except (Lost, Refused) as error:
            reply = {"message": str(error)}
        if not (isinstance(reply, dict) and reply.get("success") is True):
            why = reply.get("message") if isinstance(reply, dict) else reply
            why = wire.line(why) if isinstance(why, str) else wire.shown(why)
            raise EngineError(f"engine.urls: {url} cannot load {self.model_dir}: {why}")
        await self.healthy(url, "/flush_cache", 30.0)  # what was cached belongs to the old weights
        if not _same_folder(serving := await self._serving(url), self.model_dir):
            raise EngineError(f"engine.urls: {url} still serves {serving}; start it again with {self.model_dir}")

    async def _check_cache(self, replica: Replica) -> None:
        """Two turns: the second must find the first's prompt and answer in the cache. Says where there is none."""
        if not self.config.check_cache:
            return
        if not replica.info.prefix_cache:
            self._say_no_cache(replica)
            return
        ids = tuple(self.decoder.tokenizer.encode(PROBE, add_special_tokens=False).ids[:96])
        draw = SamplingParams(8, temperature=0.0)
        try:
            one = Request("probe-1", ids, draw, 0)
            answer = wire.drawn(one, await self._probe(replica, one, 8), self.decoder, 8)
            turn = Request("probe-2", (*ids, *answer, *ids[:8]), draw, 0)
            reply = await self._probe(replica, turn, 1)
        except (Lost, Refused) as error:
            raise EngineError(f"the server at {replica.url} does not answer a probe of two turns: {error}") from None
        cached = wire.completion(turn, reply, self.decoder, 1).cached_tokens
        expected = len(ids) + len(answer) - 1 - replica.info.page
        if cached < expected:
            raise EngineError(
                f"the server at {replica.url} had {cached} tokens of a second turn cached where {expected} were "
                "expected: turns would be computed again and again (engine.check_cache=false goes on all the same)"
            )

    async def _probe(self, replica: Replica, request: Request, room: int) -> Any:
        body = wire.payload(request, room, (), uuid.uuid4().hex)
        return await self.ask(replica.url, "/generate", body, 300.0, wire.most_bytes(room))

    def _say_no_cache(self, replica: Replica) -> None:
        """One line, unless the recipe itself turned the cache off."""
        if self.config.arguments.get("disable_radix_cache"):
            return
        why = "it was started without"
        if replica.info.deterministic:
            why = f"with seeds that count, its attention ({replica.info.attention}) keeps none"
        print(
            f"the server at {replica.url} has no prefix cache ({why}): every turn is computed from its beginning; "
            "engine.arguments.attention_backend=triton has one, engine.check_cache=false says no more of it",
            file=sys.stderr,
            flush=True,
        )

    async def _info(self, url: str) -> wire.Info:
        return wire.Info.read(await self._told(url, *SERVER_INFO))

    async def _serving(self, url: str) -> str:
        """The folder whose model it serves, on one line; "" where it names none."""
        path = (await self._told(url, *MODEL_INFO)).get("model_path")
        if not isinstance(path, str):
            return ""
        return path if path.isprintable() and len(path) <= 4096 else wire.line(path)

    _old_names_said = False

    async def _told(self, url: str, path: str, old: str) -> dict[str, Any]:
        """What a server says of itself, by the endpoint's old name only where it does not have the new one.

        Raises EngineError where it says nothing, or not as SGLang does.
        """
        for name in (path, old):
            try:
                answer = await self.ask(url, name, None, 30.0)
            except Absent:
                continue
            except (Lost, Refused) as error:
                raise EngineError(f"the server at {url} does not tell {name}: {error}") from None
            if not isinstance(answer, dict):
                raise EngineError(f"the server at {url} is none of SGLang's: {name} gives {wire.shown(answer, 80)}")
            if name == old and not self._old_names_said:
                self._old_names_said = True
                print(f"{url} has no {path}; {old} is asked, as in older releases", file=sys.stderr, flush=True)
            return answer
        raise EngineError(f"the server at {url} is none of SGLang's: it has neither {path} nor {old}")

    async def healthy(self, url: str, path: str, seconds: float) -> bool:
        """Whether a GET of `path` is answered with 200 in time."""
        return await calls.healthy(self._session, url + path, seconds, self._key_for(url, path))

    async def ask(
        self, url: str, path: str, body: dict[str, Any] | None, seconds: float, most: int = wire.REPLY_BYTES
    ) -> Any:
        """The JSON, of `most` bytes, that is answered to a POST of `body` (a GET without one). Raises as calls.ask."""
        return await calls.ask(self._session, url + path, body, seconds, most, self._key_for(url, path))

    def _key_for(self, url: str, path: str) -> str:
        """The Authorization header for a server; none for /health, which is asked before we know who answers."""
        return self._key if not path.startswith("/health") and _host(url) in self._key_goes_to else ""


def authorization(secret: str) -> str:
    """The Authorization header of "user:password" or of a key, "" for "". Raises EngineError for what is neither."""
    if not secret:
        return ""
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise EngineError(f"${AUTH}: a key, or user:password, without spaces and in ASCII")
    for part in (secret, secret.partition(":")[2]):
        keep_secret(part)
    if ":" not in secret:
        return f"Bearer {secret}"
    return f"Basic {keep_secret(base64.b64encode(secret.encode()).decode())}"


def _host(url: str) -> tuple[str, str | None, int | None]:
    """What decides who reads a key: scheme, host, and the port, which on this machine may be another user's."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    return parts.scheme, parts.hostname, parts.port if local else None


def _same_folder(serving: str, ours: Path) -> bool:
    try:
        return serving != "" and Path(serving).resolve() == ours.resolve()
    except (ValueError, OSError, RuntimeError):  # no path of this system
        return False
