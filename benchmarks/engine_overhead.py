"""What the engine itself costs: CPU milliseconds a journalled trial, when proposing and measuring cost next to nothing.

Beside it, in the same run, a bare loop that writes and syncs the same bytes: what no journal can do without.

    python benchmarks/engine_overhead.py [--trials 5000]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from nascli.engine.drive import Budget, drive
from nascli.engine.network import Network
from nascli.engine.objectives import Objective, judge
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from search_spaces import Architecture, Choice, ChoiceTable

TARGET_MS = 1.0
TABLE = ChoiceTable("grid", tuple(Choice(f"block{b}.width", tuple(map(str, range(1, 9)))) for b in range(1, 21)))
"""Twenty choices: strings and keys are as long as those of real spaces."""


@dataclass(frozen=True)
class Listed:
    """Networks that were drawn beforehand, so many a step."""

    archs: Sequence[Architecture]
    batch: int

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        for start in range(0, len(self.archs), self.batch):
            yield Step([Network(arch) for arch in self.archs[start : start + self.batch]])


class Free:
    """An executor that knows all values: points near a front, so that the front is crowded as in a real search."""

    def __init__(self, archs: Sequence[Architecture], objectives: tuple[Objective, ...]) -> None:
        rng = np.random.default_rng(1)
        points = rng.dirichlet(np.ones(len(objectives)), len(archs)) * rng.uniform(1, 1.5, (len(archs), 1))
        names = [o.name for o in objectives]
        rows = [dict(zip(names, map(float, row), strict=True)) for row in points]
        self._values = {str(arch): row for arch, row in zip(archs, rows, strict=True)}
        self._objectives = objectives

    def __call__(self, networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        for network in networks:
            values = self._values[network.key]
            yield Trial(-1, network.key, network, values, *judge(values, self._objectives), seconds=0.001)


@dataclass(frozen=True)
class Setting:
    """One measurement."""

    objectives: int
    batch: int
    trials: int

    @cached_property
    def archs(self) -> list[Architecture]:
        rng = np.random.default_rng(0)
        return list(dict.fromkeys(TABLE.sample(rng) for _ in range(self.trials)))

    def engine(self, folder: Path) -> tuple[float, int, list[bytes]]:
        """CPU ms a trial, members of the front, and the lines of the journal."""
        objectives = tuple(Objective(f"cost{i}", "min", "ms", 0, _never) for i in range(self.objectives))
        archs, free = self.archs, Free(self.archs, objectives)
        space: Any = SimpleNamespace(table=TABLE)
        header = {"fingerprint": TABLE.fingerprint}
        started = time.process_time()
        with Writer(folder / "run", command="search", resolved={}, header=header) as run:
            front = drive(Listed(archs, self.batch), Task(space, objectives=objectives), run, free, budget=Budget())
        spent = time.process_time() - started
        lines = (folder / "run/trials.jsonl").read_bytes().splitlines(keepends=True)
        if len(lines) != len(archs):
            raise RuntimeError(f"{len(lines)} trials were journalled instead of {len(archs)}")
        return 1000 * spent / len(lines), len(front), lines

    def reference(self, folder: Path, lines: Sequence[bytes]) -> float:
        """CPU ms a line of turning the same rows into JSON, writing each, and syncing once a step."""
        rows = [json.loads(line) for line in lines]
        started = time.process_time()
        file = os.open(folder / "reference.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for start in range(0, len(rows), self.batch):
            for row in rows[start : start + self.batch]:
                os.write(file, (json.dumps(row) + "\n").encode())
            os.fsync(file)
        os.close(file)
        return 1000 * (time.process_time() - started) / len(rows)


def _never(subject: object, task: Task) -> float:
    raise RuntimeError("the free executor measures nothing")


def main() -> None:
    """Print one JSON document: the settings, and whether all of them met the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    trials = parser.parse_args().trials
    rows = []
    for objectives in (2, 3):
        for batch in (1, 50):
            setting = Setting(objectives, batch, trials)
            with tempfile.TemporaryDirectory() as name:
                engine_ms, members, lines = setting.engine(Path(name))
                reference_ms = setting.reference(Path(name), lines)
            row: dict[str, float] = {"objectives": objectives, "batch": batch, "trials": len(lines), "front": members}
            row |= {"engine_cpu_ms": round(engine_ms, 4), "reference_cpu_ms": round(reference_ms, 4)}
            rows.append(row | {"ratio": round(engine_ms / reference_ms, 2)})
    met = all(row["engine_cpu_ms"] <= TARGET_MS for row in rows)
    print(json.dumps({"target_cpu_ms": TARGET_MS, "met": met, "settings": rows}, indent=2))


if __name__ == "__main__":
    main()
