"""Selection rules on RobustDARTS' S2 and S4: the cells that each chooses, trained from scratch for the same short time.

Real CIFAR-10 images averaged to 16x16; see `SEARCH` and `TRAIN` for the scale. Magnitude and perturbation select from
the same supernet. Every step is a run of nascli in a folder of its own, so that the script can be started again.

    NASCLI_DATA=... python benchmarks/relaxed_s2_s4.py --out runs/s2-s4
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATA = ("--data", "cifar10", "--set", "data.shrink=2")
SEARCH = (
    *("--set", "space.channels=4", "--set", "space.cells=4", "--set", "data.limit=2560", "--set", "data.val=2500"),
    *("--set", "strategy.epochs=15", "--set", "strategy.optimisers.alpha_lr=3e-3", "-O", "macs", "-O", "params"),
)
"""4 channels, 4 cells, 2,560 images to train the network and 2,500 for the architecture, 600 steps."""
TUNED = ("--set", "strategy.tune_epochs=0.5", "--set", "strategy.last_epochs=0")
TRAIN = (
    *("--set", "space.channels=8", "--set", "space.cells=5", "--set", "data.limit=10000", "--set", "data.val=2500"),
    *("--recipe", "cells", "--epochs", "4", "--set", "strategy.cutout=8", "--set", "strategy.lr=0.1"),
)
"""8 channels, 5 cells, 10,000 images, 4 epochs of 104 steps, cutout of half a side."""
RULES: Mapping[str, tuple[str, ...]] = {
    "magnitude": ("--strategy", "darts"),
    "perturbation": ("--strategy", "darts-pt", *TUNED),
    "fixed-alpha perturbation": ("--strategy", "darts-pt", *TUNED, "--set", "strategy.alpha=fixed"),
}
COLUMNS = ("space", "rule", "seed", "test_accuracy", "skips", "params", "search_s", "genotype")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="s2,s4")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/s2-s4"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "results.csv").open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, COLUMNS)
        table.writeheader()
        for seed in range(asked.seeds):
            for preset in asked.presets.split(","):
                for rule in (*RULES, "random"):
                    found = row(preset, rule, seed, asked.out)
                    table.writerow(found)
                    lines.flush()
                    print(found)


def row(preset: str, rule: str, seed: int, out: Path) -> dict[str, Any]:
    """What one rule finds in one space, trained."""
    space = ("--space", "darts", "--preset", preset)
    search_s = 0.0
    if rule == "random":
        arch = json.loads(nascli("spaces", "sample", "darts", "--preset", preset, "--seed", seed, "--json"))["data"][0]
    else:
        folder = out / f"{preset}-{rule.replace(' ', '-')}-{seed}"
        start = ["--supernet", out / f"{preset}-magnitude-{seed}"] if rule == "perturbation" else []
        options = [*space, *DATA, *SEARCH, *RULES[rule], *start, "--seed", seed, "--out", folder, "--json"]
        arch = json.loads(nascli("search", *options))["data"]["front"]["members"][0]["arch"]
        search_s = elapsed(folder) + (elapsed(Path(start[1])) if start else 0.0)
    folder = out / f"{preset}-{rule.replace(' ', '-')}-{seed}-trained"
    options = [*space, *DATA, *TRAIN, "--arch", arch, "--seed", seed, "--out", folder, "--json"]
    trained = json.loads(nascli("train", *options))["data"]["networks"][0]["values"]
    skips = arch.count("skip_connect")
    return {"space": preset, "rule": rule, "seed": seed, "test_accuracy": trained["test_accuracy"], "skips": skips,
            "params": trained["params"], "search_s": search_s, "genotype": arch}  # fmt: skip


def nascli(*arguments: Any) -> str:
    command = [sys.executable, "-m", "nascli", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def elapsed(folder: Path) -> float:
    return float(json.loads((folder / "run.json").read_text(encoding="utf-8"))["elapsed_s"])


if __name__ == "__main__":
    main()
