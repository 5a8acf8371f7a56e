"""What may be said: foreign text that a terminal or a page only shows, and nothing with a secret in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 2000  # characters of a message: more than a screen helps nobody


def printable(text: str, keep: str = "") -> str:
    """The text with what a terminal or a page would obey, not show, spelled out: controls, bidi marks, half surrogates.

    Characters of `keep` stay as they are, e.g. newlines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The text as one printable line of at most LONGEST characters; a longer one loses its middle."""
    line = printable(" ".join(part.strip() for part in text.splitlines() if part.strip()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[10 - LONGEST // 2 :]}"


HIDDEN = "***"  # stands for a secret
SHORTEST = 8  # characters of one that is known by itself: a key "test" would be hidden in every word that has it
_KEYS = r"(?:api|access|private|secret|auth|admin|ssh)[_-]?key|passw(?:or)?d|passphrase|secret|credentials?"
# A setting or a variable of the environment that holds one: api_key, HF_TOKEN, DPR_MINI_SGLANG_AUTH; not max_tokens.
SECRET_NAME = re.compile(rf"(?:^|[_\W])(?:{_KEYS}|token|auth(?:orization)?)$", re.IGNORECASE)
_FORMS = (
    # user and password of a URL, which may be cut off behind them; host:port is none
    (re.compile(r"(?<=//)(?:[^\s'\"]*(?=@)|[^\s'\"/:\[]+:(?!\d{1,5}(?!\w))[^\s'\"]*)"), HIDDEN),
    (re.compile(r"(?<![\w/])[\w.+-]+:[^\s'\"@/:]+@(?=[\w\[])"), f"{HIDDEN}@"),
    (re.compile(r"(?<![A-Za-z0-9])(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA)[\w-]{8,}"), HIDDEN),
    (re.compile(r"\b(bearer|basic) (?=\S*[\d=])[\w.~+/-]{6,}=*", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (  # key=value, "key": "value"; prose such as "auth_key: no such name" is none
        re.compile(
            rf"((?:{_KEYS}|(?:hf|api|access|auth|session)[_-]?token)(?:[\"']\s?[=:]|\s?=)\s?[\"']?)[^\s&\"',;)\]}}]+",
            re.IGNORECASE,
        ),
        rf"\g<1>{HIDDEN}",
    ),
)
# A name with a value behind it, as YAML, JSON and a command line write it; the last 40 characters tell whose it is.
_GIVEN = re.compile(r"([\w.-]{1,40})[\"']?\s*[:=]")
_secrets: set[str] = set()  # that this process made or was told


def keep_secret(text: str) -> str:
    """From now on `redacted` hides this text wherever it stands, if it is not too short (SHORTEST). Returns it."""
    if len(text) >= SHORTEST:
        _secrets.add(text)
    return text


def gives_secret(text: str) -> bool:
    """Whether a setting's text gives a secret by name, as {api_key: x} does. Prose with a colon may look like one."""
    return any(SECRET_NAME.search(name) for name in _GIVEN.findall(text))


def redacted(value: Any, wording: bool = False) -> Any:
    """Text, or a setting with all in it, without secrets: what is dumped, logged, printed or published goes through it.

    Secrets: values whose name says so (SECRET_NAME), in settings and in the environment; users and passwords of URLs;
    tokens by their usual forms; what `keep_secret` was told. Of `wording`, and of a recipe's `dialogue`, which is
    prompts, only secrets that are known are hidden: its own words stay as a model reads them.
    """
    if isinstance(value, str):
        environment = (v for n, v in os.environ.items() if SECRET_NAME.search(n) and not v.startswith("/"))
        known = _secrets | {part for v in environment for part in (v, v.partition(":")[2]) if len(part) >= SHORTEST}
        for secret in sorted(known, key=len, reverse=True):
            value = value.replace(secret, HIDDEN)
        for form, hidden in () if wording else _FORMS:
            value = form.sub(hidden, value)
        return value
    if isinstance(value, Mapping):
        secret_names = () if wording else {k for k in value if isinstance(k, str) and SECRET_NAME.search(k)}
        return {
            redacted(k, wording): HIDDEN
            if k in secret_names and isinstance(v, str)
            else redacted(v, wording or k == "dialogue")
            for k, v in value.items()
        }
    return [redacted(v, wording) for v in value] if isinstance(value, list | tuple) else value
