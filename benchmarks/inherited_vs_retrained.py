"""Does the accuracy that a sub-network inherits tell how good it gets when trained alone?

Draws networks evenly over the measured accuracies of a finished search, trains each alone with `nascli train` for the
same time, and prints the rank correlation of inherited and retrained validation accuracy. One CSV row a network is
written as it is done; run it again to go on.

    python benchmarks/inherited_vs_retrained.py runs/search --networks 12 --time-limit 90s --out runs/retrained
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from nascli.engine.runs import Run
from predictors.ranking import kendall_tau, spearman_rho


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="a finished search with an accuracy objective")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--numbers", default="", help="trial numbers, instead of an even draw: 3,17,40")
    parser.add_argument("--time-limit", default="90s")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    run = Run.open(options.search)
    rows = sorted((r for r in run.rows if "accuracy" in r["values"]), key=lambda r: (r["values"]["accuracy"], r["n"]))
    last, count = len(rows) - 1, options.networks
    drawn = [rows[round(i * last / (count - 1))] for i in range(count)]
    if options.numbers:
        drawn = [r for r in rows if r["n"] in set(map(int, options.numbers.split(",")))]
    options.out.mkdir(parents=True, exist_ok=True)
    inherited, retrained = [], []
    with (options.out / "retrained.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["n", "inherited_val", "retrained_val", "retrained_test", "macs", "arch"])
        for row in drawn:
            found = train(run, row, options.time_limit, options.out / str(row["n"]))
            inherited.append(row["values"]["accuracy"])
            retrained.append(found["accuracy"])
            test = found["test_accuracy"]
            table.writerow([row["n"], inherited[-1], retrained[-1], test, row["values"].get("macs"), row["arch"]])
            file.flush()
            print(f"{row['n']:4d} {row['arch']}")
            print(f"     inherited {inherited[-1]:.2f}, alone {retrained[-1]:.2f}, test {test:.2f}", flush=True)
    if len(inherited) > 2:
        print(f"Kendall {kendall_tau(inherited, retrained):.3f}  Spearman {spearman_rho(inherited, retrained):.3f}")


def train(run: Run, row: dict, limit: str, out: Path) -> dict[str, float]:
    """Validation and test accuracy of the row's architecture after training it alone."""
    parts = {k: v for k, v in run.settings.items() if k in ("space", "data", "seed", "device")}
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        from nascli.settings import to_toml

        config.write(to_toml(parts))
        config.flush()
        command = [sys.executable, "-m", "nascli", "train", "--config", config.name, "--arch", row["arch"]]
        command += ["--time-limit", limit, "--out", str(out), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)["data"]["networks"][0]["values"]


if __name__ == "__main__":
    main()
