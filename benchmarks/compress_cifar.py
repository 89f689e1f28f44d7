"""CIFAR-10 ResNets made smaller: WGSEF against cutting at once, at equal MACs and an equal budget of training.

A budget is counted in training steps of the dense network with its teacher, so that it is the same on a busy machine:
a step of a network that has the share s of the MACs costs 3 s (forward and backward) and 1 (the teacher) of 4. WGSEF's
pruning phase trains at full size and pays for it with fewer steps. CPU seconds are reported beside.

Every row is a run of `nascli compress` on a published checkpoint in a folder of its own, so that the script can be
stopped and started again; it is written to the CSV once it is known. Errors are those of the 10,000 test images.

    NASCLI_DATA=... python benchmarks/compress_cifar.py --model resnet20 --budget 800 --out runs/compress
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

from nascli.recipes.precision import Precision

CHECKPOINTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
SHARED = ("--data", "cifar10", "--set", "data.val=500")
NORMALISED = ("--set", "data.mean=[0.485,0.456,0.406]", "--set", "data.std=[0.229,0.224,0.225]")
"""What the checkpoints were trained with."""
RATES = {"resnet20": 0.01, "resnet56": 0.005}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wgsef": ("wgsef", {"pruning": 0.1}),
    "wgsef-layer": ("wgsef", {"pruning": 0.1, "weights": "layer"}),
    "magnitude": ("magnitude", {}),
    "torch-pruning": ("torch-pruning", {}),
}
KEY = ("model", "kept", "method", "seed", "budget", "lr", "precision")
COLUMNS = (
    *KEY,
    *("test_error", "dense_error", "macs", "params", "bytes", "latency", "alive", "groups", "projected", "cpu_s"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CHECKPOINTS, default="resnet20")
    parser.add_argument("--levels", default="0.7,0.5,0.4,0.3")
    parser.add_argument("--methods", default=",".join(METHODS), help="of " + ", ".join(METHODS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--budget", type=int, default=800, help="of each row, in steps of the dense network")
    parser.add_argument("--lr", type=float, help="0.01 for ResNet-20 and 0.005 for ResNet-56, if not given")
    parser.add_argument("--precision", choices=get_args(Precision), default="single")
    parser.add_argument("--out", type=Path, default=Path("runs/compress"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.csv"
    rate = RATES[asked.model] if asked.lr is None else asked.lr
    for seed, kept, method in product(*(given.split(",") for given in (asked.seeds, asked.levels, asked.methods))):
        values = (asked.model, kept, method, seed, asked.budget, rate, asked.precision)
        key = dict(zip(KEY, map(str, values), strict=True))
        if key not in [{c: found[c] for c in KEY} for found in known(file)]:
            append(file, row(key, asked.out))


def row(key: Mapping[str, str], out: Path) -> dict[str, Any]:
    """One compression, and what became of it."""
    model = key["model"]
    checkpoint = Path(os.environ["NASCLI_DATA"]) / "ckpt" / CHECKPOINTS[model]
    name, settings = METHODS[key["method"]]
    count = steps(int(key["budget"]), float(key["kept"]), settings.get("pruning", 0.0))
    settings = {**settings, "lr": float(key["lr"]), "precision": key["precision"], "steps": count}
    sets = [part for k, v in settings.items() for part in ("--set", f"compressor.{name}.{k}={json.dumps(v)}")]
    folder = out / "-".join(key.values())
    command = (
        *(sys.executable, "-m", "nascli", "compress", str(checkpoint), "--model", f"examples.cifar_resnet:{model}"),
        *SHARED,
        *NORMALISED,
        *("--with", name, "--level", key["kept"], "--of", "macs", "--seed", key["seed"]),
        *("--out", str(folder), "--json", *sets),
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = reading(folder)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**key, **found, "cpu_s": round(spent)}


def steps(budget: int, kept: float, pruning: float) -> int:
    """How many steps a budget is, if a share of them trains the network at full size."""
    return round(4 * budget / (4 * pruning + (3 * kept + 1) * (1 - pruning)))


def reading(folder: Path) -> dict[str, Any]:
    """The figures of a finished run: its dense network is the first trial, the compressed one the second."""
    dense, small = lines(folder / "trials.jsonl")
    finals: dict[str, dict[str, float]] = {}
    for line in lines(folder / "finals.jsonl"):
        finals.setdefault(line["key"], {}).update(line["values"])
    told = [r for r in lines(folder / "steps.jsonl") if "share" in r][-1]

    def share(name: str) -> float:
        after, before = (t["values"] | finals.get(t["key"], {}) for t in (small, dense))
        return round(float(after[name] / before[name]), 4)

    def error(trial: Mapping[str, Any]) -> Any:
        found = finals.get(trial["key"], {})
        return round(100 - found["test_accuracy"], 2) if "test_accuracy" in found else ""

    return {
        "test_error": error(small),
        "dense_error": error(dense),
        "macs": share("macs"),
        "params": share("params"),
        "bytes": share("size_bytes"),
        "latency": share("latency_ms"),
        "alive": int(told["alive"]),
        "groups": int(told["groups"]),
        "projected": int(told["projected"]) if "projected" in told else "",
    }


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a journal."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def known(file: Path) -> list[dict[str, str]]:
    """The rows written so far."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def append(file: Path, found: Mapping[str, Any]) -> None:
    """Add a row, and the head if it is the first."""
    first = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if first:
            table.writeheader()
        table.writerow(found)
    show([found])


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as they come."""
    for found in rows:
        sys.stdout.write("  ".join(f"{c}={found[c]}" for c in COLUMNS) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
