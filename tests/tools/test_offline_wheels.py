"""tools/offline_wheels.py on made-up wheels: slimmed, carried in portions, joined and installed without a network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline_wheels", ROOT / "tools" / "offline_wheels.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["offline_wheels"] = module
    spec.loader.exec_module(module)
    return module


def made(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """A wheel that pip takes; content that does not compress stays as large as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {n: base64.urlsafe_b64encode(hashlib.sha256(c).digest()).rstrip(b"=").decode() for n, c in files.items()}
    record = "".join(f"{n},sha256={digests[n]},{len(c)}\n" for n, c in files.items()) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for n, content in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(n, content)
    return path


def noise(size: int, seed: int) -> bytes:
    return Random(seed).randbytes(size)


BUILDS = ("cuda118", "cuda130", "cuda1305", "rocm70", "cpu")


def test_a_slimmed_wheel_keeps_one_build_and_its_record_names_no_other(wheels: ModuleType, tmp_path: Path) -> None:
    libraries = {f"bits/libbits_{build}.so": noise(50_000, n) for n, build in enumerate(BUILDS)}
    old = made(tmp_path / "old", "bits", {"bits/__init__.py": b"BUILDS = 5\n", **libraries})
    new = wheels.slim(old, tmp_path / old.name, ("cuda130.", "_cpu."))
    assert new.name == old.name and new.stat().st_size < old.stat().st_size / 2
    with zipfile.ZipFile(new) as archive:
        kept = {n for n in archive.namelist() if n.endswith(".so")}
        assert kept == {"bits/libbits_cuda130.so", "bits/libbits_cpu.so"}
        assert archive.read("bits/libbits_cuda130.so") == libraries["bits/libbits_cuda130.so"]
        record = archive.read("bits-1.0.dist-info/RECORD").decode()
        rows = {line.partition(",")[0] for line in record.splitlines()}
        assert rows == set(archive.namelist())
    with pytest.raises(wheels.WheelError, match=r"no library for 'cuda140.'; it has libbits_cpu.so, libbits_cuda118"):
        wheels.slim(old, tmp_path / "other.whl", ("cuda140.", "_cpu."))


@given(sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=8), room=st.integers(6_000, 20_000))
def test_portions_hold_everything_and_none_is_too_large(
    wheels: ModuleType, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], room: int
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    files = [folder / f"{n}.whl" for n in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(b"x" * size)
    try:
        pieces = wheels.portions(files, room)
    except wheels.WheelError as error:
        assert "raise --most-mib" in str(error) and sum(sizes) > room
        return
    assert all(sum(p.end - p.begin for p in some) <= room for some in pieces)
    assert len(pieces) == 1 or sum(sizes) > room
    for file, size in zip(files, sizes, strict=True):
        parts = sorted({(p.begin, p.end) for some in pieces for p in some if p.source == file})
        whole = all(any(p.source == file and p.name == file.name for p in some) for some in pieces)
        assert whole or [a for a, _ in parts] == [0, *(b for _, b in parts[:-1])], parts
        assert parts[-1][1] == size


def test_a_large_wheel_is_carried_in_two_portions_joined_and_installed(
    wheels: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = made(tmp_path, "big", {"big.py": b"SIZE = 1\n", "big.bin": noise(300_000, 1)})
    small = made(tmp_path, "tiny", {"tiny.py": b"NAME = 'tiny'\n"})
    room = 200_000
    pieces = wheels.portions([large, small], room)
    assert len(pieces) == 2
    folders = [wheels.write_portion(tmp_path / "carried" / str(n), some, pieces) for n, some in enumerate(pieces)]
    assert all((f / small.name).exists() and sum(x.stat().st_size for x in f.glob("*whl*")) <= room for f in folders)

    first, site = tmp_path / "first", tmp_path / "there" / "site"  # the first call of a machine has one portion
    folders[0].rename(first)
    assert wheels.install(first, site) == [small.name]
    assert f"{large.name} is left out: {large.name}.part-2-of-2 not here" in capsys.readouterr().out
    first.rename(folders[0])  # the second has both
    assert wheels.install(tmp_path / "carried", site) == [large.name]
    assert wheels.install(tmp_path / "carried", site) == []  # and the third nothing to do
    code = "import big, tiny; print(big.SIZE, tiny.NAME)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert done.stdout == "1 tiny\n", done.stderr
    assert (site / "big.bin").read_bytes() == noise(300_000, 1)


@pytest.mark.parametrize("what", ["part", "wheel"])
def test_a_file_that_was_spoiled_on_its_way_is_refused(wheels: ModuleType, tmp_path: Path, what: str) -> None:
    large = made(tmp_path, "big", {"big.bin": noise(300_000, 1)})
    small = made(tmp_path, "tiny", {"tiny.py": b""})
    pieces = wheels.portions([large, small], 200_000)
    for n, some in enumerate(pieces):
        wheels.write_portion(tmp_path / "carried" / str(n), some, pieces)
    pattern = "*/*.part-2-of-2" if what == "part" else "1/*.whl"
    (victim,) = (tmp_path / "carried").glob(pattern)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(wheels.WheelError, match=r"sha256 .*carry (it|its parts) again"):
        wheels.install(tmp_path / "carried", tmp_path / "site")
    assert not list((tmp_path / "site").glob("*.py"))


def test_a_folder_of_plain_wheels_is_installed_too(wheels: ModuleType, tmp_path: Path) -> None:
    wheel = made(tmp_path / "plain", "tiny", {"tiny.py": b""})
    assert wheels.install(tmp_path / "plain", tmp_path / "site") == [wheel.name]
