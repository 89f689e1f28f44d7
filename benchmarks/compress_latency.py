"""What fewer multiply-adds are worth here: networks of compression runs timed in turns with the dense network.

    python benchmarks/compress_latency.py runs/compress/resnet56-0.5-*

One thread; a pass of one example, and of 64. The ratios are those to the dense network of the same run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nascli.cli.flags import layered
from nascli.engine import plan
from nascli.engine.evaluate import Subject
from nascli.engine.runs import Run
from nascli.engine.timing import side_by_side
from predictors.latency import Measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    asked = parser.parse_args()
    sys.stdout.write(f"{'run':44} {'MACs':>6} {'params':>6} {'batch 1':>8} {'batch 64':>8}\n")
    for path in asked.runs:
        for line in lines(path):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def lines(path: Path) -> list[str]:
    """A line for each compressed network of a run."""
    run = Run.open(path)
    layers = layered(defaults={}, config=[path / "settings.toml"], flags={"--device device": "cpu"}, sets=None)
    layers.values.pop("data", None)  # the shape of an image is all that timing needs
    task = plan.prepare(layers, kind="sweep").task
    stored = [row for row in run.rows if run.has_network(row["n"])]
    subjects = [Subject(run.network(row["n"], task.space), task) for row in stored]
    dense = next(i for i, row in enumerate(stored) if row["tag"].endswith("dense"))
    models = [s.structure for s in subjects]
    readings = [side_by_side(models, subjects[0].example, Measured(batch=b), rounds=9) for b in (1, 64)]

    def share(name: str, row: dict[str, Any]) -> float:
        return float(row["values"][name] / stored[dense]["values"][name])

    return [
        f"{path.name[-30:]:30} {row['tag']:13} {share('macs', row):6.3f} {share('params', row):6.3f} "
        + " ".join(f"{found[i].ms / found[dense].ms:8.3f}" for found in readings)
        for i, row in enumerate(stored)
        if i != dense
    ]


if __name__ == "__main__":
    main()
