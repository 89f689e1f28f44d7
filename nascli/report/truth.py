"""What networks really reached: a column of a benchmark's table, of a list of architectures, or of another run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nascli.engine.runs import Run
from nascli.errors import DataError, SettingsError, did_you_mean
from search_spaces import Architecture, ArchitectureError, SpaceError
from search_spaces.measured_files import locate
from search_spaces.table import TableSpace

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

Goal = Literal["min", "max"]
LookUp = Callable[[Architecture, str], float]
"""The value of an architecture in a column; NaN where it was not measured."""

USUAL = "cifar10_test"
"""The column of NAS-Bench-201 that rankings are held against in the literature."""


@dataclass(frozen=True)
class Truth:
    """What was measured of some networks, [networks]; NaN where nothing was."""

    source: str
    column: str
    goal: Goal
    unit: str
    values: np.ndarray

    @property
    def label(self) -> str:
        """The column with its unit."""
        return f"{self.column} ({self.unit})" if self.unit else self.column


@dataclass(frozen=True)
class _Source:
    """A place to look values up: columns with goal ("" where it does not say) and unit, and the way to do it."""

    path: str
    columns: Mapping[str, tuple[Goal | Literal[""], str]]
    usual: str
    look_up: LookUp


def read(text: str, archs: Sequence[Architecture], space: SearchSpace) -> Truth:
    """What "TABLE", "TABLE:COLUMN" or "RUN:COLUMN:min" says of the architectures.

    Raises SettingsError for the column, DataError if it says nothing of any of them, SpaceError or RunFormatError if
    it can't be read.
    """
    path, column, goal = _parts(text)
    source = _run(path, space) if Path(path).is_dir() else _file(path, space)
    column = column or source.usual
    if column not in source.columns:
        raise SettingsError(
            f"{path} has no column {column!r}.{did_you_mean(column, source.columns)}"
            if column
            else f"{path} has several columns; name the one to rank by: {path}:COLUMN. {_listed(source)}"
        )
    known_goal, unit = source.columns[column]
    values = np.array([source.look_up(arch, column) for arch in archs])
    if np.isnan(values).all():
        raise DataError(
            f"{path} says nothing in {column!r} of the {len(values)} networks asked for, the first of them "
            f"{archs[0]}; take a table of the space {space.table.name!r}."
        )
    return Truth(path, column, goal or known_goal or "max", unit, values)


def _parts(text: str) -> tuple[str, str, Goal | Literal[""]]:
    if Path(text).exists():
        return text, "", ""
    goal: Goal | Literal[""] = ""
    if text.endswith((":min", ":max")):
        text, goal = text[:-4], "min" if text.endswith("min") else "max"
    path, colon, column = text.rpartition(":")
    return (path, column, goal) if colon else (text, "", goal)


def _listed(source: _Source) -> str:
    return f"There are {', '.join(sorted(source.columns))}."


def _usual(columns: Mapping[str, tuple[Goal | Literal[""], str]]) -> str:
    """The column to take where none is named; "" where only the user can say."""
    best = [name for name, (goal, _) in columns.items() if goal == "max"]
    return USUAL if USUAL in columns else next(iter(best or columns), "") if best or len(columns) == 1 else ""


def _file(path: str, space: SearchSpace) -> _Source:
    file = locate(path)
    with file.open("rb") as start:
        zipped = start.read(4) == b"PK\x03\x04"
    return _table(path, space) if zipped else _csv(path, file, space)


def _table(path: str, space: SearchSpace) -> _Source:
    """A table that tells architectures apart by their options, choice by choice."""
    measured = TableSpace(path)
    names, own = [c.name for c in measured.table.choices], [c.name for c in space.table.choices]
    if sorted(names) != sorted(own):
        raise DataError(
            f"{path} tells architectures apart by {', '.join(names)}, but those of {space.table.name!r} have "
            f"{', '.join(own)}; give a table of this space, or a CSV with a column 'arch' of architecture strings."
        )
    order = [own.index(name) for name in names]

    def look_up(arch: Architecture, column: str) -> float:
        try:
            return measured.look_up(measured.table.canonical([arch.options[i] for i in order]), column)
        except (ArchitectureError, SpaceError):
            return math.nan

    return _Source(path, measured.columns, _usual(measured.columns), look_up)


def _csv(path: str, file: Path, space: SearchSpace) -> _Source:
    """A list of architecture strings in a column "arch", or a table of choices."""
    import pandas

    try:
        frame = pandas.read_csv(file)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no readable CSV file ({error}).") from None
    if "arch" not in frame.columns:
        # Its columns do not say which way is up; whoever ranks by one wants it large, unless they say otherwise.
        source = _table(path, space)
        columns = {name: ("", unit) for name, (_, unit) in source.columns.items()}
        return _Source(path, columns, _usual(columns), source.look_up)  # type: ignore[arg-type]
    rows: dict[str, int] = {}
    for row, text in enumerate(frame["arch"].astype(str)):
        try:
            rows[str(space.parse(text))] = row
        except ArchitectureError as error:
            raise DataError(f"{path}, row {row + 2}: {error}") from None
    numbers = {str(name): column.to_numpy(np.float64) for name, column in frame.select_dtypes("number").items()}
    columns = {name: ("", "") for name in numbers}

    def look_up(arch: Architecture, column: str) -> float:
        return float(numbers[column][rows[str(arch)]]) if str(arch) in rows else math.nan

    return _Source(path, columns, _usual(columns), look_up)  # type: ignore[arg-type]


def _run(path: str, space: SearchSpace) -> _Source:
    """A run's journal, and what it measured at the end of its front; of several trials of one architecture the last."""
    run = Run.open(Path(path))
    if run.header["fingerprint"] != space.table.fingerprint:
        raise DataError(
            f"{path} is a run on the space {run.header['space']!r} with other choices than those of "
            f"{space.table.name!r} here; give the same space settings."
        )
    finals = run.finals
    found = {row["arch"]: row["values"] | finals.get(row["key"], {}) for row in run.rows}
    goals = {o["name"]: (o["goal"], o["unit"]) for o in run.header["objectives"]}
    columns = goals | {name: ("", "") for values in found.values() for name in values if name not in goals}

    def look_up(arch: Architecture, column: str) -> float:
        return float(found.get(str(arch), {}).get(column, math.nan))

    return _Source(path, columns, next(iter(goals)), look_up)
