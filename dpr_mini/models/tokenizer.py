"""A model folder's tokenizer and chat template: read once, bounded, with nothing on that changes ids in silence."""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpr_mini.models.folder import AGAIN, ModelError, read_object, read_text, there

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE, OPTIONS, MAP = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, ADDITIONAL, LEGACY = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
TEMPLATE_BYTES = 1 << 20  # the longest published template has some 30 kB (ours)
GROWTH = 1000  # characters that a normaliser may make of one (ours; Unicode's own forms make at most 18)
KEPT = 4  # tokenizers in memory: the base model's and those of the models trained from it are mostly the same file
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_read: OrderedDict[bytes, tuple[Tokenizer, int, str]] = OrderedDict()


def load(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`/tokenizer.json, without the truncation and padding that the file may ask for.

    Shared between all who ask: not to be changed. Raises ModelError for a file that is missing or none, and for a
    normaliser or decoder that makes more than GROWTH characters of one (it could take all memory, and end the process).
    """
    return _load(folder)[0]


def highest(folder: Path) -> tuple[int, str]:
    """(id, text) of the token with the highest id; (-1, "") for a tokenizer without tokens. Raises as `load`."""
    return _load(folder)[1:]


def _load(folder: Path) -> tuple[Tokenizer, int, str]:
    path = folder / FILE
    if not there(path) and (folder / "tokenizer.model").exists():
        raise ModelError(
            f"{path}: missing, there is only tokenizer.model; write it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    if not there(path):
        raise ModelError(f"{path}: missing; dpr-mini needs a model with a fast tokenizer")
    text = read_text(path)
    key = hashlib.sha256(text.encode()).digest()
    if key in _read:
        _read.move_to_end(key)
        return _read[key]
    tokenizer = _parse(text, path)
    tokenizer.no_truncation()  # as transformers does before each call
    tokenizer.no_padding()
    for what, part in (("normaliser", tokenizer.normalizer), ("decoder", tokenizer.decoder)):
        grown = growth(json.loads(part.__getstate__())) if part is not None else 1.0  # what was read, not the file
        if grown > GROWTH:
            raise ModelError(f"{path}: its {what} makes {grown:.0e} characters of one; at most {GROWTH} are taken")
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    last, token = max(((i, token) for token, i in vocabulary.items()), default=(-1, ""))
    _read[key] = tokenizer, last, token
    while len(_read) > KEPT:
        _read.popitem(last=False)
    return _read[key]


def _parse(text: str, path: Path) -> Tokenizer:
    """The border to the tokenizers library: whatever it makes of a file is a tokenizer or one ModelError."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except BaseException as error:
        # a Rust panic is no Exception; Ctrl-C is none either, and passes
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{path}: not a tokenizer that can be read ({error}); {AGAIN}") from None


def growth(part: Any) -> float:
    """How many characters a normaliser or decoder can make of one, at most. `part`: as the library serialises it."""
    kind = part.get("type")
    if kind == "Sequence":
        return math.prod(map(growth, part.get("normalizers") or part.get("decoders") or ()))
    if kind == "Replace":
        literal = part["pattern"].get("String")
        made = len(part["content"])
        return max(
            1.0, made / max(1, len(literal)) if literal else made + 1.0
        )  # a pattern also finds nothing, anywhere
    if kind == "Prepend":
        return 1.0 + len(part["prepend"])
    return 1.0 if kind in ("Lowercase", "Strip", "StripAccents", "Nmt") else 18.0 if kind in FORMS else 4.0


FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def options(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json with its special tokens as text; those of special_tokens_map.json where transformers reads
    it. {} where there is neither. Raises ModelError."""
    path = folder / OPTIONS
    told = read_object(path) if there(path) else {}
    sources = [(path, told)]
    if reads_map(folder):
        sources.append((folder / MAP, read_object(folder / MAP)))
    for source, values in sources:
        for role in ROLES:
            token = values.get(role)
            text = token.get("content") if isinstance(token, dict) else token
            if (text is not None and not isinstance(text, str)) or (isinstance(token, dict) and text is None):
                raise ModelError(f"{source}: {role} is {json.dumps(token)[:80]}, where a text is needed; {AGAIN}")
            if role in values:
                told[role] = text
    return told


def reads_map(folder: Path) -> bool:
    """Whether special_tokens_map.json counts: transformers reads it where tokenizer_config.json lists no tokens."""
    path = folder / OPTIONS
    return there(folder / MAP) and not (there(path) and "added_tokens_decoder" in read_object(path))


def chat_template(folder: Path) -> str:
    """Source of the folder's chat template, from where transformers takes it; "" where there is none.

    chat_template.jinja and additional_chat_templates/*.jinja stand before chat_template of tokenizer_config.json (a
    text, or several by name, of which "default" is taken); last comes a processor's chat_template.json. Raises
    ModelError for what is no template, and for several without a default.
    """
    files = {TEMPLATE: "default"} if there(folder / TEMPLATE) else {}
    more = sorted((folder / ADDITIONAL).glob("*.jinja"))
    files |= {f"{ADDITIONAL}/{path.name}": path.stem for path in more}
    if files:
        where, told = folder, {name: _lines(folder / file) for file, name in files.items()}
    else:
        where = folder / OPTIONS
        told = (read_object(where) if there(where) else {}).get("chat_template")
        if told is None and there(legacy := folder / LEGACY):
            where, told = legacy, read_object(legacy).get("chat_template")
    return _default(told, where)


def _lines(path: Path) -> str:
    """A template's text with the line ends that any reader of text makes of them."""
    return read_text(path, TEMPLATE_BYTES).replace("\r\n", "\n").replace("\r", "\n")


def _default(told: Any, where: Path) -> str:
    if told is None:
        return ""
    if isinstance(told, list):  # [{"name": ..., "template": ...}]
        if not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in told):
            raise ModelError(f"{where}: a list of chat templates has an entry without a name; {AGAIN}")
        told = {t["name"]: t.get("template") for t in told}
    if isinstance(told, dict):
        if "default" not in told:
            names = ", ".join(sorted(map(str, told))) or "none"
            raise ModelError(f"{where}: several chat templates and none named default; there are: {names}")
        told = told["default"]
    if not isinstance(told, str):
        raise ModelError(f"{where}: chat_template is {type(told).__name__}, where a text is needed; {AGAIN}")
    if len(told) > TEMPLATE_BYTES:
        raise ModelError(f"{where}: the chat template has {len(told)} characters, more than {TEMPLATE_BYTES}")
    return told
