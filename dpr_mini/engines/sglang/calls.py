"""HTTP with a server that may say anything: answers are bounded, nothing is followed, unpacked or run."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from dpr_mini.engines.sglang import wire
from dpr_mini.recipe.serving import AUTH

# An answer is read as it comes: neither fetched from elsewhere nor unpacked to more than was sent.
PLAIN: dict[str, Any] = {"allow_redirects": False, "auto_decompress": False}
HEADERS = {"Accept-Encoding": "identity"}


class Lost(Exception):
    """No answer, but the server may be there: worth asking again."""


class Refused(Exception):
    """The server says that the request is wrong, or answers what nobody should read: asking again would not help."""


class Absent(Refused):
    """The server has no such endpoint."""


async def healthy(session: aiohttp.ClientSession, url: str, seconds: float, key: str = "") -> bool:
    """Whether a GET of `url` is answered with 200 in time."""
    limit = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.get(url, timeout=limit, headers=_headers(key), **PLAIN) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    body: dict[str, Any] | None,
    seconds: float,
    most: int = wire.REPLY_BYTES,
    key: str = "",
) -> Any:
    """The JSON answer, of `most` bytes at most, to a POST of `body` (to a GET where it is None).

    `key` is the Authorization header, "" for none. Raises Lost, Refused, or Absent where there is no such endpoint,
    each with one printable line.
    """
    limit = aiohttp.ClientTimeout(total=seconds, sock_connect=10)
    try:
        async with session.request(
            "GET" if body is None else "POST", url, json=body, timeout=limit, headers=_headers(key), **PLAIN
        ) as response:
            status = response.status
            if status == 200:
                return _json(await _read(response, most))
            text = (await response.content.read(2000)).decode(errors="replace")
            where = response.headers.get("Location", "nowhere")
    except TimeoutError:
        raise Lost(f"no answer in {seconds:.0f} s") from None
    except aiohttp.ClientError as error:
        raise Lost(f"{type(error).__name__}: {wire.line(str(error))}") from None
    if 300 <= status < 400:
        raise Refused(f"HTTP {status} points to {wire.line(where, 80)}, and nothing is sent there")
    message = f"HTTP {status}: {wire.line(text)}"
    if status in (404, 405):
        raise Absent(message)
    if status in (401, 403):
        message += f" (the key of a server in engine.urls goes into ${AUTH})"
    raise (Refused if 400 <= status < 500 and status != 429 else Lost)(message)


def _headers(key: str) -> dict[str, str]:
    return HEADERS | ({"Authorization": key} if key else {})


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body. Raises Refused for one that is packed or longer than `most` bytes, and reads no more of it."""
    packed = response.headers.get("Content-Encoding", "identity")
    if packed.lower() != "identity":
        raise Refused(f"the answer is packed ({wire.line(packed, 20)}), which nobody asked for")
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > most:
            raise Refused(f"the answer is longer than {most} bytes")
    return bytes(data)


def _json(data: bytes) -> Any:
    """Raises Lost for what is none (a proxy's page: the server may be back soon), Refused for brackets without end."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise Lost(f"the answer is no JSON: {wire.line(str(error))}") from None
    except RecursionError:
        raise Refused("the answer is nested too deep") from None
