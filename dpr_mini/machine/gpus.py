"""The NVIDIA GPUs that a process started here would see, as the driver's own tool describes them. Loads no torch.

CUDA_VISIBLE_DEVICES is read as CUDA reads it: numbers, or beginnings of UUIDs, of GPUs or MIG slices; what stands
behind an entry that does not exist is not visible either. Numbers count in the tool's order (CUDA_DEVICE_ORDER=
PCI_BUS_ID, which `cli.py` sets where nothing else is said). A field that the driver does not know ("[N/A]", as on a
card in MIG mode) is None here: unknown is not zero.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

FIELDS = ("uuid", "name", "memory.total", "memory.free", "driver_version", "compute_cap", "mig.mode.current")
MIG = re.compile(r"^\s+MIG \S*?(?P<gib>\d+)gb\S*\s.*\(UUID: (?P<uuid>MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """One visible GPU or MIG slice. Memory in GiB; None where the driver does not say."""

    uuid: str
    name: str  # as torch.cuda.get_device_name gives it too
    total: float | None
    free: float | None
    driver: str
    capability: str  # e.g. "9.0"
    mig: bool = False  # a slice, or a card that only its slices can be used of

    @property
    def taken(self) -> float:
        """GiB that somebody holds, the driver's own part included; 0 where it is not known."""
        return self.total - self.free if self.total is not None and self.free is not None else 0.0

    def words(self) -> str:
        size = "memory not known" if self.total is None else f"{self.total:.1f} GiB"
        return f"{self.name}, {size}" + ("" if self.free is None else f", {self.free:.1f} of them free")


def visible() -> list[Gpu]:
    """The GPUs that CUDA would show here, in its order; [] without one, or without the driver's tool."""
    cards = _cards()
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return [slices[0] if (slices := _slices(card)) else card for card in cards]
    gpus: list[Gpu] = []
    for word in (part.strip() for part in setting.split(",")):
        if (one := _find(word, cards)) is None or one in gpus:
            break
        gpus.append(one)
    return gpus


def first() -> Gpu | None:
    """The one that training and the engine use: CUDA's device 0."""
    return next(iter(visible()), None)


def lack(need: float) -> str:
    """Why `need` GiB cannot be had of the first GPU now; "" where they can, or where nobody says what is free."""
    card = first()
    if card is None or card.free is None or card.free >= need:
        return ""
    return (
        f"needs {need:.1f} GiB of the card, but {card.words()}: others hold {card.taken:.1f} GiB (nvidia-smi lists "
        "them); end them or take a smaller recipe"
    )


def _find(word: str, cards: list[Gpu]) -> Gpu | None:
    """The card or slice of one entry of CUDA_VISIBLE_DEVICES; None for one that there is not."""
    if re.fullmatch("[0-9]+", word):  # isdigit() takes a superscript, too
        if int(word) >= len(cards):
            return None
        card = cards[int(word)]
        return next(iter(_slices(card)), card)
    every = [s for card in cards for s in _slices(card)] if word.startswith("MIG-") else cards
    matches = [one for one in every if word.startswith(("MIG-", "GPU-")) and one.uuid.startswith(word)]
    return matches[0] if len(matches) == 1 else None  # a beginning that two share names none


def _cards() -> list[Gpu]:
    rows = _ask(f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    cards = []
    for row in rows:
        values = [part.strip() for part in row.split(",")]
        if len(values) == len(FIELDS):
            uuid, name, total, free, driver, capability, mode = values
            cards.append(Gpu(uuid, name, _gib(total), _gib(free), driver, capability, mode == "Enabled"))
    return cards


def _slices(card: Gpu) -> list[Gpu]:
    """The slices of a card in MIG mode. Their name gives their size; what is free of it is not reported: None."""
    if not card.mig:
        return []
    slices, inside = [], False
    for line in _ask("-L"):
        if line.startswith("GPU "):
            inside = card.uuid in line
        elif inside and (slice_ := MIG.match(line)):
            slices.append(replace(card, uuid=slice_["uuid"], total=float(slice_["gib"]), free=None))
    return slices


def _gib(mib: str) -> float | None:
    return float(mib) / 1024 if mib.replace(".", "", 1).isdigit() else None


def _ask(*arguments: str) -> list[str]:
    """Lines of nvidia-smi's answer; [] where it is missing, fails or hangs."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
