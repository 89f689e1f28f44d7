from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nascli.errors import RunError, SettingsError, UnsupportedError
from nascli.report.board import Board
from nascli.report.files import check, columns, write
from tests.toy_board import NAN, board, reached

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None


@pytest.fixture
def found() -> Board:
    two = board({"jacov": [1 / 3, NAN], "vote:a,b": [2.0, 1.0]}, reached([90.5, NAN]))
    return replace(two, fields=("|a|", "|b|"), deviations={"jacov": np.array([0.1, NAN])})


def test_a_column_a_score_and_none_where_there_is_none(found: Board) -> None:
    table = columns(found)
    assert list(table) == ["arch", "field", "measured", "jacov", "jacov_std", "vote:a,b", "accuracy"]
    assert table["jacov"] == [1 / 3, None] and table["accuracy"] == [90.5, None]
    assert table["arch"] == [str(arch) for arch in found.asked] and table["field"] == ["|a|", "|b|"]
    assert columns(found, np.array([True, False]))["split"] == ["train", "test"]


def test_a_truth_of_the_same_name_as_a_score_stands_apart(found: Board) -> None:
    table = columns(replace(found, truth=reached([1, 2], column="jacov")))
    assert table["jacov"] == [1 / 3, None] and table["against_jacov"] == [1.0, 2.0]


def test_numbers_survive_every_format(found: Board, tmp_path: Path) -> None:
    table = columns(found)
    write(tmp_path / "new" / "a.csv", table)
    with (tmp_path / "new" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["arch"] for r in rows] == table["arch"]
    assert float(rows[0]["jacov"]) == 1 / 3 and rows[1]["jacov"] == "" and float(rows[0]["vote:a,b"]) == 2
    write(tmp_path / "a.json", table)
    assert json.loads((tmp_path / "a.json").read_text())[1] == {name: values[1] for name, values in table.items()}


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed")
def test_parquet_holds_the_same(found: Board, tmp_path: Path) -> None:
    import pandas

    write(tmp_path / "a.parquet", columns(found))
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert frame["jacov"][0] == 1 / 3 and np.isnan(frame["jacov"][1]) and list(frame["field"]) == ["|a|", "|b|"]


def test_parquet_without_pyarrow_names_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r'pip install "nascli\[parquet\]"'):
        check("a.parquet")


def test_endings_are_checked() -> None:
    check("a.csv")
    check("deep/a.json")
    with pytest.raises(SettingsError, match=r"--output 'a.xlsx': its ending is none of .csv, .json, .parquet"):
        check("a.xlsx")


def test_a_place_that_can_not_be_written_is_named(found: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"):
        write(tmp_path / "file" / "a.csv", columns(found))
