"""What is declared done survives a power cut, and can be told from what was damaged since.

A disk keeps the order of writes only where it is asked to: a file's content is synced before the name that declares it
done appears, and the folder after it. `seal` does so for a folder and lists its files with size and sha256; `damage`
holds a folder against such a list.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

Listing = dict[str, list[Any]]  # {name below the folder: [bytes, sha256 in hex]}
TICK = 0.02  # seconds in which a change may not show in a file's times: the kernel's clock goes in steps of up to 10 ms
TEMPORARY = re.compile(r"\..+\.\d+")  # as `replace` names them: .NAME.PID

_unchanged: set[tuple[Any, ...]] = set()  # files whose digest this process has compared, as the system describes them


def sync(path: Path) -> None:
    """Have the disk hold a file's content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder. A file system that cannot be asked for that is let be."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES, errno.ENOTSUP):
            raise


def replace(path: Path, write: Callable[[IO[str]], None]) -> None:
    """Write a text file atomically and durably: there is the old one or the new one, never half. No temporary stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def files_of(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, sorted; links are not followed."""
    for home, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(home, name) for name in sorted(names)):
            if path.is_file() and not path.is_symlink():
                yield path


def sync_tree(folder: Path) -> None:
    """Sync every file of a folder, then its folders and its own name."""
    for path in files_of(folder):
        sync(path)
    for home, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(home))
    sync_folder(folder.parent)


def seal(folder: Path, *, without: str = "") -> Listing:
    """Sync a folder as `sync_tree` does. Returns the listing of all its files but `without`."""
    sync_tree(folder)
    listing: Listing = {}
    for path in files_of(folder):
        if (name := path.relative_to(folder).as_posix()) != without:
            now = path.lstat()
            listing[name] = [now.st_size, sha256(path)]
            _remember(path, listing[name][1], now)
    return listing


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(
    folder: Path, listing: Mapping[str, Any], *, content: Callable[[str], bool] = lambda name: False
) -> tuple[Path, str] | None:
    """The first file that is not as listed, and how it differs, with the names of the others; None where all are.

    Sizes are always compared, digests of the files that `content` names. A digest is computed once in a process as
    long as the file's size, times and inode stay the same.
    """
    if not _is_listing(listing):
        return folder, "its files are listed in no form that this version reads"
    found = {
        name: how
        for name, listed in listing.items()
        if (how := _elsewhere(name) or _difference(folder / name, *listed, content(name)))
    }
    if not found:
        return None
    (first, how), *others = found.items()
    more = f" (and {', '.join(name for name, _ in others[:4])}{' ...' if len(others) > 4 else ''})" if others else ""
    return folder / first, how + more


def _is_listing(listing: Any) -> bool:
    each = listing.values() if isinstance(listing, Mapping) else [None]
    return all(isinstance(e, list) and list(map(type, e)) == [int, str] for e in each)


def _elsewhere(name: str) -> str:
    """Why a listed name is none that `seal` gives: it leads out of the folder, which may be somebody else's."""
    path = Path(name)
    return "is no name in this folder" if path.is_absolute() or ".." in path.parts else ""


def _difference(path: Path, size: int, digest: str, content: bool) -> str:
    """How a file differs from its size and, with `content`, from its digest; "" where it does not."""
    try:
        now = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    if now.st_size != size:
        return f"has {now.st_size:,} bytes, {size:,} when it was complete"
    if not content or _seen(path, digest, now) in _unchanged:
        return ""
    if sha256(path) != digest:
        return "has another content than when it was complete"
    _remember(path, digest, now)
    return ""


def _seen(path: Path, digest: str, now: os.stat_result) -> tuple[Any, ...]:
    return str(path), digest, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino


def _remember(path: Path, digest: str, now: os.stat_result) -> None:
    """That a file had this digest, unless it is so new that another change could leave the same times."""
    if time.time() - max(now.st_mtime, now.st_ctime) > TICK:
        _unchanged.add(_seen(path, digest, now))


def sweep(folder: Path) -> None:
    """Remove what killed runs left of files they were writing. Only while nobody else writes there."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left of writing `path`, where others may be at work: only of those that are gone."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if not TEMPORARY.fullmatch(left.name) or _runs(int(left.name.rpartition(".")[2])):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
