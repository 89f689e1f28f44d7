"""Relaxed searches on NAS-Bench-201: what the benchmark says of the cells that each rule chooses, seed by seed.

Real CIFAR-10 images at a scale that two cores can bear: see `SCALE`. Every search is a run of `nascli search` in a
folder of its own, so that the script can be stopped and started again; a row is written to the CSV once it is known.

    NASCLI_DATA=... python benchmarks/relaxed_nb201.py --seeds 4 --out runs/relaxed
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
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

SCALE = (
    *("--space", "nb201", "--set", "space.channels=8", "--set", "space.cells=1"),
    *("--set", "space.path=nas/nasbench201.npz"),
    *("--data", "cifar10", "--set", "data.shrink=2", "--set", "data.limit=5000", "--set", "data.val=5000"),
)
"""8 channels, one cell a stage, images averaged to 16x16, 5,000 to train the network and 5,000 for the architecture."""
SHORT = {"epochs": 20, "optimisers.alpha_lr": 3e-3, "report_steps": 100}
"""1,560 steps instead of 39,100, so architecture weights learn ten times as fast."""
TUNED = {"tune_epochs": 2, "last_epochs": 0}
METHODS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    # strategy, settings, and the method whose supernet it selects from
    "darts": ("darts", SHORT, ""),
    "darts-pt": ("darts-pt", SHORT | TUNED, "darts"),
    "blank-pt": ("darts-pt", SHORT | TUNED | {"alpha": "fixed"}, ""),
    "beta-darts": ("darts", SHORT | {"beta_decay": 50}, ""),
    "drnas": ("darts", SHORT | {"relaxation": "dirichlet", "anchor": 1e-3}, ""),
    "gdas": ("darts", SHORT | {"relaxation": "gumbel"}, ""),
    "zero-cost-pt": ("darts-pt", {"criterion": "zero-cost"}, ""),
}
PROXIES = ("jacov", "meco", "params")
SAMPLE = 200
COLUMNS = ("method", "seed", "cifar10_test", "cifar100_test", "imagenet16_test", "cpu_s", "cell")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--methods", default=",".join(["random", "proxy", *METHODS]))
    parser.add_argument("--out", type=Path, default=Path("runs/relaxed"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.csv"
    for seed in range(asked.first, asked.first + asked.seeds):
        for method in asked.methods.split(","):
            if (method, str(seed)) not in {(r["method"], r["seed"]) for r in known(file)}:
                append(file, row(method, seed, asked.out))
    for line in summary(known(file)):
        print(line)


def row(method: str, seed: int, out: Path) -> dict[str, Any]:
    """What one method finds with one seed."""
    if method == "random":
        found = json.loads(nascli("spaces", "sample", "nb201", "--seed", seed, "--json"))["data"][0]
        return {"method": method, "seed": seed, "cpu_s": 0.0} | looked_up(found, seed, out)
    if method == "proxy":
        return by_proxy(seed, out)
    strategy, settings, source = METHODS[method]
    folder = out / f"{method}-{seed}"
    sets = [text for name, value in settings.items() for text in ("--set", f"strategy.{name}={value}")]
    start = ["--supernet", out / f"{source}-{seed}"] if source else []
    before = children_s()
    done = json.loads(
        nascli(
            "search",
            *SCALE,
            "--strategy",
            strategy,
            *sets,
            *start,
            *columns(),
            "--seed",
            seed,
            "--out",
            folder,
            "--json",
        )
    )
    member = done["data"]["front"]["members"][0]
    cpu_s = spent(folder, before) + (spent(out / f"{source}-{seed}") if source else 0.0)
    values = {c: member["values"][c] for c in COLUMNS if c in member["values"]}
    return {"method": method, "seed": seed, "cpu_s": cpu_s, "cell": member["arch"], **values}


def by_proxy(seed: int, out: Path) -> dict[str, Any]:
    """The best of a random sample by the ranks of three proxies together, the best single figure of `nascli score`."""
    before = children_s()
    folder = out / f"proxy-{seed}"
    scores = ["--proxy", ",".join(PROXIES), "--sample", SAMPLE, "--aggregate", f"log_rank:{','.join(PROXIES)}"]
    nascli("score", *SCALE, *scores, "--seed", seed, "--out", folder)
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    name = next(c for c in rows[0] if c.startswith("log_rank"))
    best = max((r for r in rows if r[name]), key=lambda r: float(r[name]))
    return {"method": "proxy", "seed": seed, "cpu_s": spent(folder, before)} | looked_up(best["arch"], seed, out)


def looked_up(arch: str, seed: int, out: Path) -> dict[str, Any]:
    """What the benchmark says of an architecture."""
    folder = out / f"look-up-{seed}-{abs(hash(arch))}"
    listed = ["--strategy", "listed", "--set", f'strategy.archs=["{arch}"]', "--out", folder, "--json"]
    found = json.loads(nascli("search", *SCALE[:8], *listed, *columns()))["data"]["front"]["members"][0]
    return {"cell": found["arch"], **{c: found["values"][c] for c in COLUMNS if c in found["values"]}}


def columns() -> list[str]:
    return [text for c in COLUMNS if c.endswith("_test") for text in ("-O", c)]


def nascli(*arguments: Any) -> str:
    command = [sys.executable, "-m", "nascli", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    return done.stdout


def children_s() -> float:
    """CPU seconds of all commands so far: other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(folder: Path, before: float | None = None) -> float:
    """The CPU seconds of a run, start-up and resumed parts included; `before` is where its last part began."""
    file = folder / "cpu_s.txt"
    so_far = float(file.read_text(encoding="utf-8")) if file.exists() else 0.0
    if before is not None:
        so_far += children_s() - before
        file.write_text(str(so_far), encoding="utf-8")
    return so_far


def known(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def append(file: Path, values: Mapping[str, Any]) -> None:
    fresh = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(dict(values))


def summary(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A line a method: mean and deviation of the test accuracies over the seeds, and the mean seconds."""
    lines = []
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method]
        parts = []
        for column in (c for c in COLUMNS if c.endswith("_test")):
            values = [float(r[column]) for r in mine]
            parts.append(f"{fmean(values):.2f} ± {stdev(values) if len(values) > 1 else 0.0:.2f}")
        cpu_s = fmean(float(r["cpu_s"]) for r in mine)
        lines.append(f"{method:14} {len(mine)} seeds   {'   '.join(parts)}   {cpu_s:.0f} CPU s")
    return lines


if __name__ == "__main__":
    main()
