"""The files of a model folder as bytes: JSON read within bounds, safetensors by their headers. Nothing is loaded.

A folder comes from anybody. What cannot be read becomes one `ModelError` that names the file and says what to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_mini.types import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
AGAIN = "copy or download the folder again"
# bytes of a number; safetensors' names of the types that a model's weights have
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
OTHERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
JSON_BYTES = 256 << 20  # the largest tokenizer.json published has 35 MB (ours)
HEADER_BYTES = 100_000_000  # safetensors' own limit
LFS = b"version https://git-lfs"


class ModelError(UserError, ValueError):
    """A model folder that is not to be used: one line that names the file, what was seen there and what to do."""


def there(path: Path) -> bool:
    """Whether the folder has such a name: also one that leads nowhere, which is damage and not absence."""
    return path.is_symlink() or path.exists()


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """A text file of at most `limit` bytes, without a byte order mark. Raises ModelError."""
    try:
        if not path.is_file():
            raise ModelError(f"{path} is missing or no file: not a whole model folder; {AGAIN}")
        if (size := path.stat().st_size) > limit:
            raise ModelError(f"{path} has {size} bytes, more than the {limit} that are read of such a file")
        data = path.read_bytes()
        if data.startswith(LFS):
            raise ModelError(f"{path} is a Git LFS pointer, not the file itself; fetch it: git lfs pull")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); {AGAIN}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None


def read_object(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelError for one that is none, too large, or nested too deeply."""
    return parse_object(read_text(path, limit), path)


def parse_object(text: str, path: Path) -> dict[str, Any]:
    """The JSON object in the text of `path`. Raises ModelError."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ModelError(f"{path}: nested too deeply to be a model's; {AGAIN}") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}:{error.lineno}: not JSON ({error.msg}); {AGAIN}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise ModelError(f"{path}: not JSON ({error}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: a JSON object is needed, not {type(value).__name__}; {AGAIN}")
    return value


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header: its type's name, its shape, its bytes from `start` in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATS


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are the model: those that transformers reads, and no others beside them.

    That is model.safetensors, else what model.safetensors.index.json names: plain names of files in the folder.
    Raises ModelError where there are none, or where the index leads elsewhere.
    """
    if there(single := folder / WEIGHTS):
        return [single]
    index = folder / INDEX
    if there(index):
        return [folder / name for name in sorted(set(weight_map(index).values()))]
    found = sorted(p.name for p in folder.glob("*.safetensors"))
    seen = f" (but {found[0]})" if found else ""
    raise ModelError(f"{folder} has no {WEIGHTS} and no {INDEX}{seen}; write them with model.save_pretrained(folder)")


def weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as an index says it; every file a plain name beside the index. Raises ModelError."""
    told = read_object(index)
    files, about = told.get("weight_map"), told.get("metadata", {})
    if not isinstance(files, dict) or not files or not isinstance(about, dict):
        raise ModelError(f"{index}: no weight_map of tensors to files; {AGAIN}")
    for tensor, name in files.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
            raise ModelError(
                f"{index}: {tensor} is said to be in {name!r}; only *.safetensors files of the folder itself are read"
            )
    for name in sorted(set(files.values())):
        if not (index.parent / name).is_file():
            raise ModelError(f"{index}: names {name}, which is not there; {AGAIN}")
    return files


def tensors(folder: Path) -> dict[str, tuple[Path, Tensor]]:
    """Name -> (file, entry) of every tensor of the model in `folder`, read from the headers. Raises ModelError."""
    found: dict[str, tuple[Path, Tensor]] = {}
    for path in weight_files(folder):
        for name, tensor in header(path).items():
            if name in found:
                raise ModelError(f"{path}: tensor {name} is also in {found[name][0].name}; {AGAIN}")
            found[name] = (path, tensor)
    if not there(folder / WEIGHTS):
        for name, file in weight_map(folder / INDEX).items():
            if name not in found or found[name][0].name != file:
                raise ModelError(f"{folder / INDEX}: tensor {name} is not in {file}, where it is said to be; {AGAIN}")
    return found


def header(path: Path) -> dict[str, Tensor]:
    """Name -> entry of a safetensors file whose entries fill it without a gap. Raises ModelError."""
    try:
        if not path.is_file():
            raise ModelError(f"{path} is missing or no file; {AGAIN}")
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(len(LFS))
            if first == LFS:
                raise ModelError(f"{path} is a Git LFS pointer, not the weights; fetch them: git lfs pull")
            length = int.from_bytes(first[:8], "little")
            if size < 8 or length > min(size - 8, HEADER_BYTES):
                raise ModelError(f"{path}: cut off or no safetensors file ({size} bytes); {AGAIN}")
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        entries = parse_object(text.decode("utf-8"), path)
    except UnicodeDecodeError:
        raise ModelError(f"{path}: its header is no text; {AGAIN}") from None
    entries.pop("__metadata__", None)
    found = {name: _entry(path, name, entry, 8 + length) for name, entry in entries.items()}
    at = 8 + length
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start != at:
            raise ModelError(f"{path}: tensor {name} does not begin where the one before it ends; {AGAIN}")
        at += tensor.size
    if at != size:
        raise ModelError(f"{path}: {size} bytes, where its header tells of {at}: cut off or damaged; {AGAIN}")
    return found


def _entry(path: Path, name: str, entry: Any, begin: int) -> Tensor:
    entry = entry if isinstance(entry, Mapping) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    whole = all(
        isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 60 for n in numbers)
        for numbers in (shape, offsets)
    )
    if not isinstance(dtype, str) or not whole or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(f"{path}: the header's entry of tensor {name} is not one of safetensors; {AGAIN}")
    tensor = Tensor(dtype, tuple(shape), begin + offsets[0], offsets[1] - offsets[0])
    width = FLOATS.get(dtype) or OTHERS.get(dtype)
    if width and tensor.size != width * math.prod(shape):
        raise ModelError(f"{path}: tensor {name} of shape {shape} has {tensor.size} bytes; {AGAIN}")
    return tensor


def finite(folder: Path) -> None:
    """Read every weight once. Raises ModelError for the first tensor with a value that is not a finite number.

    For what is loaded by others' code: an engine or a trainer of ours looks at what it has loaded instead.
    """
    for name, (path, tensor) in tensors(folder).items():
        if tensor.floating and not all_finite(path, tensor):
            raise ModelError(f"{path}: tensor {name} holds values that are not finite (NaN or infinite); {AGAIN}")


def all_finite(path: Path, tensor: Tensor) -> bool:
    """Whether every value of a floating tensor in a file is finite: no exponent of ones only."""
    import numpy as np

    bits, exponent = {
        "F64": (np.uint64, 0x7FF << 52),
        "F32": (np.uint32, 0xFF << 23),
        "F16": (np.uint16, 0x1F << 10),
        "BF16": (np.uint16, 0xFF << 7),
    }[tensor.dtype]
    if not tensor.size:
        return True
    values = np.memmap(path, bits, "r", tensor.start, tensor.size // np.dtype(bits).itemsize)
    mask = bits(exponent)
    step = 1 << 22  # values at a time: a few MiB
    return not any(((values[at : at + step] & mask) == mask).any() for at in range(0, len(values), step))


def equal_bytes(one: tuple[Path, Tensor], other: tuple[Path, Tensor]) -> bool:
    """Whether two tensors have the same type, shape and bytes."""
    (path, a), (elsewhere, b) = one, other
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    with path.open("rb") as left, elsewhere.open("rb") as right:
        left.seek(a.start)
        right.seek(b.start)
        step = 1 << 24
        return all(
            left.read(min(step, a.size - at)) == right.read(min(step, a.size - at)) for at in range(0, a.size, step)
        )
