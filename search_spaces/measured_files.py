"""Files of measured architectures become a table of choices, a row for each architecture, and columns of numbers.

What a file is, its contents say: an npz with `code` and `ops` is NAS-Bench-201, anything that is no npz is a CSV.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from search_spaces import nasbench201
from search_spaces.choices import Choice, ChoiceTable
from search_spaces.errors import SpaceError

if TYPE_CHECKING:
    import pandas

Goal = Literal["min", "max"]


@dataclass(frozen=True)
class Column:
    """One measured number of every architecture; NaN where it was not measured."""

    values: np.ndarray
    goal: Goal = "min"
    unit: str = ""


@dataclass(frozen=True)
class Content:
    """What a file says."""

    table: ChoiceTable
    rows: Mapping[tuple[str, ...], int]
    """Options -> row."""
    columns: Mapping[str, Column]


def locate(path: str) -> Path:
    """The file: as given, else below NASCLI_DATA, else below NASCLI_DATA/nas. Raises SpaceError where it is nowhere."""
    data = os.environ.get("NASCLI_DATA")
    roots = [Path(), *([Path(data), Path(data) / "nas"] if data else [])]
    given = Path(path).expanduser()
    found = next((root / given for root in roots if (root / given).is_file()), None)
    if found is None:
        where = ", ".join(str((root / given).absolute()) for root in roots)
        hint = "" if data else " or set NASCLI_DATA to the folder that holds it"
        raise SpaceError(f"There is no table {path!r} (looked for {where}); give the path of an npz or CSV file{hint}.")
    return found


def read(
    path: Path, *, also: Sequence[Path], name: str, choices: tuple[str, ...], maximise: tuple[str, ...]
) -> Content:
    """The table in a file with the columns of others in the same row order. Raises SpaceError."""
    if _is_npz(path):
        arrays = _arrays(path)
        if not {"code", "ops"} <= arrays.keys():
            raise SpaceError(f"{path} has no arrays 'code' and 'ops', so it says nothing of architectures.")
        if choices:
            raise SpaceError(f"choices={choices!r} name columns of a CSV, but {path} is an npz; leave them out.")
        names, options, keys = nasbench201.architectures(arrays, path)
        columns = {n: Column(*c) for n, c in nasbench201.columns(arrays).items()}
    else:
        names, options, keys, columns = _csv(path, choices)
    for extra in also:
        columns |= _further(extra, len(keys))
    if unknown := sorted(set(maximise) - columns.keys()):
        raise SpaceError(f"maximise: {path} has no column {unknown[0]!r}; there are {', '.join(sorted(columns))}.")
    columns |= {n: Column(columns[n].values, "max", columns[n].unit) for n in maximise}
    try:
        table = ChoiceTable(name, tuple(Choice(n, o) for n, o in zip(names, options, strict=True)))
    except ValueError as error:
        raise SpaceError(f"{path} makes no table of choices: {error}.") from None
    return Content(table, {key: row for row, key in enumerate(keys)}, columns)


def _further(path: Path, rows: int) -> dict[str, Column]:
    if _is_npz(path):
        columns = {n: Column(*c) for n, c in nasbench201.further_columns(_arrays(path), rows).items()}
        if not columns:
            raise SpaceError(
                f"{path} has no columns for a table: neither 'metrics', nor 'columns', nor 'proxies' with 'row'."
            )
    else:
        columns = {n: Column(v) for n, v in _numbers(_frame(path)).items()}
    for name, column in columns.items():
        if len(column.values) != rows:
            raise SpaceError(f"{name!r} in {path} has {len(column.values)} rows, but the table has {rows}.")
    return columns


# -- npz -------------------------------------------------------------------------------------------------------------


def _is_npz(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise SpaceError(f"{path} can't be read: {error.strerror}.") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz; pickled objects are refused, as unpickling runs whatever the file says."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise SpaceError(f"{path} is no readable npz file of plain arrays ({error}); get it again.") from None


# -- CSV -------------------------------------------------------------------------------------------------------------

_Rows = tuple[list[str], list[tuple[str, ...]], list[tuple[str, ...]], dict[str, Column]]


def _csv(path: Path, choices: tuple[str, ...]) -> _Rows:
    """Choice names, their options, the options of each row, the numeric columns; repeated measurements are averaged."""
    frame = _frame(path)
    headers = [str(c) for c in frame.columns]
    chosen = list(choices) or [h for h in headers if h.startswith("choice.")]
    missing = [repr(c) for c in chosen if c not in headers] or (["that begins with 'choice.'"] if not chosen else [])
    if missing:
        raise SpaceError(
            f"{path} has no column {missing[0]}; name its choices with choices=[...] out of {', '.join(headers)}."
        )
    if frame[chosen].isna().any().any():
        raise SpaceError(
            f"{path}: a choice is empty in some rows; every row must name an option for {', '.join(chosen)}."
        )
    options: list[tuple[str, ...]] = []
    for header in chosen:
        texts = [_text(v) for v in frame[header].tolist()]
        frame[header] = texts
        options.append(tuple(sorted(set(texts), key=_number_first)))
    values = list(_numbers(frame.drop(columns=chosen)))
    if not values:
        raise SpaceError(f"{path} has no column of numbers beside its choices, so there is nothing to look up.")
    means = frame.groupby(chosen, sort=False)[values].mean()
    keys = [key if isinstance(key, tuple) else (key,) for key in means.index.tolist()]
    columns = {name: Column(means[name].to_numpy(dtype=np.float64)) for name in values}
    return [h.removeprefix("choice.") for h in chosen], options, keys, columns


def _frame(path: Path) -> pandas.DataFrame:
    import pandas  # takes a second, so only where a CSV is read

    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        return pandas.read_csv(path, compression="gzip" if zipped else None)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise SpaceError(
            f"{path} is no readable CSV file ({error}); it needs a header and a row an architecture."
        ) from None


def _numbers(frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    numeric = frame.select_dtypes("number")
    return {str(name): numeric[name].to_numpy(dtype=np.float64) for name in numeric.columns}


def _text(value: object) -> str:
    """How an option is written: numbers without a needless ".0"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number_first(option: str) -> tuple[float, str]:
    """Numbers by size, and words after them by the alphabet."""
    try:
        return float(option), option
    except ValueError:
        return float("inf"), option
