"""The board as a file: CSV, JSON or Parquet, by the ending of its name."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nascli.engine.files import explained, replacing, write_text
from nascli.errors import SettingsError, UnsupportedError
from nascli.report.board import Board

ENDINGS = (".csv", ".json", ".parquet")


def check(path: str) -> None:
    """Refuse, with SettingsError or UnsupportedError, a file that could not be written in the end."""
    if Path(path).suffix not in ENDINGS:
        raise SettingsError(f"--output {path!r}: its ending is none of {', '.join(ENDINGS)}.")
    if Path(path).suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UnsupportedError(
            'Parquet files need pyarrow: pip install "nascli[parquet]", or take --output scores.csv.'
        )


def columns(board: Board, training: np.ndarray | None = None) -> dict[str, list[Any]]:
    """Column name -> values, a row a network that was asked for; None where there is no score.

    `training` (bool [networks]) tells the networks that a predictor was fitted on.
    """
    found: dict[str, list[Any]] = {
        "arch": [str(arch) for arch in board.asked],
        "field": list(board.fields),
        "measured": [str(arch) for arch in board.measured],
    }
    for score in board.scores:
        found[score.name] = _numbers(score.values)
        if score.name in board.deviations:
            found[f"{score.name}_std"] = _numbers(board.deviations[score.name])
    if board.truth is not None:
        name = board.truth.column
        found[f"against_{name}" if name in found else name] = _numbers(board.truth.values)
    if training is not None:
        found["split"] = ["train" if fitted else "test" for fitted in training]
    return found


def write(path: Path, table: Mapping[str, Sequence[Any]]) -> None:
    """Replace the file by the table, whole or not at all; raises RunError if it can't be written."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pandas

        with replacing(path) as temporary:
            pandas.DataFrame(dict(table)).to_parquet(temporary, index=False)
    elif path.suffix == ".json":
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        write_text(path, json.dumps(rows, allow_nan=False, indent=1) + "\n")
    else:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
        write_text(path, text.getvalue())


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(v) else float(v) for v in values]
