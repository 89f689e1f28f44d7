"""What remains of a run: a folder whose journal of trials is the truth and whose other files can be made from it.

The format is described in runs/README.md. Here it is read; `writer` writes it.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nascli import __version__
from nascli.engine.files import read_json, read_rows
from nascli.engine.network import Network, restore
from nascli.engine.objectives import judge
from nascli.engine.protocol import Trial
from nascli.errors import RunError, RunFormatError

if TYPE_CHECKING:
    from nascli.engine.task import Task
    from search_spaces.space import SearchSpace

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """A run directory, to be read; `Writer` is for the one process that also writes it."""

    path: Path
    header: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """The run in a folder; raises RunFormatError if it is none of ours, or of a newer nascli."""
        if not (path / "run.json").exists():
            raise RunFormatError(f"{path} is no run directory: it has no run.json. See what there is: nascli runs ls")
        header = read_json(path / "run.json")
        if not isinstance(header, dict) or not isinstance(header.get("schema"), int):
            raise RunFormatError(f"{path}/run.json is not of a format that nascli knows.")
        if header["schema"] > SCHEMA:
            raise RunFormatError(
                f"{path} was written by nascli {header.get('nascli')} in format {header['schema']}; "
                f"this nascli {__version__} reads up to {SCHEMA}. Upgrade it: pip install -U nascli"
            )
        return cls(path, header)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The journal: one row a trial."""
        return read_rows(self.path / "trials.jsonl")

    @property
    def finals(self) -> dict[str, dict[str, float]]:
        """Network key -> what was measured once, at the end: on the test split, side by side."""
        found: dict[str, dict[str, float]] = {}
        for row in read_rows(self.path / "finals.jsonl"):
            found.setdefault(row["key"], {}).update(row["values"])
        return found

    @property
    def scores(self) -> list[dict[str, Any]]:
        """One row a score that the strategy asked for on its way."""
        return read_rows(self.path / "scores.jsonl")

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings that the run was started with."""
        try:
            return tomllib.loads((self.path / "settings.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise RunFormatError(f"{self.path}/settings.toml can't be read: {error}.") from None

    @property
    def front(self) -> dict[str, Any]:
        """The front as last written."""
        return dict(read_json(self.path / "front.json"))

    def trials(self, task: Task) -> list[Trial]:
        """The journal as trials, judged by the task's objectives and limits."""
        return [_trial(row, task) for row in self.rows]

    def network_path(self, number: int) -> Path:
        """Where the tensors of a front member lie, or would."""
        return self.path / "networks" / f"{number}.safetensors"

    def has_network(self, number: int) -> bool:
        """Whether a trial's tensors are stored whole: their description is written last."""
        return self.network_path(number).with_suffix(".json").exists()

    def network(self, number: int, space: SearchSpace) -> Network:
        """A trial's network, with its tensors if they are stored; raises RunError if there is no such trial."""
        rows = {row["n"]: row for row in self.rows}
        if number not in rows:
            raise RunError(f"{self.path} has no trial {number}; it has 0 to {len(rows) - 1}.")
        path = self.network_path(number)
        if not self.has_network(number):
            return restore(rows[number], space)
        from nascli.engine.checkpoints import read_described

        tensors, description = read_described(path)
        return restore(description, space, tensors)


def name(command: str, *parts: str) -> str:
    """A new folder name: time, what it is, four random digits against a collision."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return "-".join([stamp, command, *parts, secrets.token_hex(2)])


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two settings, a line each: "strategy.population: 50 -> 20"."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if None in (a, b) and not (a or b):
            continue  # a setting that one version did not know, and that is empty in the other
        if a != b and all(v is None or isinstance(v, dict) for v in (a, b)):
            lines += differences(a or {}, b or {}, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def _trial(row: Mapping[str, Any], task: Task) -> Trial:
    network = restore(row, task.space)
    # A broken limit is judged afresh, so only errors of measuring are taken from the journal.
    costs, error, violation = judge(row["values"], task.objectives, row["error"])
    vectors = {name: np.array(value) for name, value in row.get("vectors", {}).items()}
    missing = row.get("missing", {})
    return Trial(
        row["n"], row["key"], network, row["values"], costs, error, violation, row["seconds"], missing, vectors
    )
