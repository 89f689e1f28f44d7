from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import SpaceError
from search_spaces.measured_files import Content, locate, read

CSV = "choice.net.depth,choice.net.kind,top1,macs,note\n10,b,70,5,x\n2,a,60,3,y\n10,a,71,4,z\n10,b,72,5,x\n"


def content(path: Path, **settings: object) -> Content:
    defaults: dict[str, object] = {"also": (), "name": "t", "choices": (), "maximise": ()}
    return read(path, **{**defaults, **settings})  # type: ignore[arg-type]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "nets.csv"
    path.write_text(CSV)
    return path


def test_numbers_are_in_order_and_repeated_measurements_are_averaged(table: Path) -> None:
    found = content(table, maximise=("top1",))
    assert [(c.name, c.options, c.ordered) for c in found.table.choices] == [
        ("net.depth", ("2", "10"), True),
        ("net.kind", ("a", "b"), False),
    ]
    assert {n: c.goal for n, c in found.columns.items()} == {"top1": "max", "macs": "min"}
    assert found.columns["top1"].values[found.rows[("10", "b")]] == 71.0
    assert len(found.rows) == 3


def test_a_gzip_file_is_known_by_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "nets.data"
    path.write_bytes(gzip.compress(CSV.encode()))
    assert len(content(path).rows) == 3


def test_any_columns_can_be_the_choices(tmp_path: Path) -> None:
    path = tmp_path / "nets.csv"
    path.write_text("width,ratio,ms\n8,0.5,1\n16,1.0,2\n")
    found = content(path, choices=("width", "ratio"))
    assert [c.options for c in found.table.choices] == [("8", "16"), ("0.5", "1")]


def test_one_choice_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "nets.csv"
    path.write_text("choice.width,ms\n8,1\n16,2\n")
    assert set(content(path).rows) == {("8",), ("16",)}


def test_further_files_add_columns_row_by_row(tmp_path: Path) -> None:
    first, more = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("choice.width,ms\n8,1\n16,2\n")
    more.write_text("energy\n3\n4\n")
    assert content(first, also=[more]).columns["energy"].values.tolist() == [3.0, 4.0]
    more.write_text("energy\n3\n")
    with pytest.raises(SpaceError, match=r"'energy' in .* has 1 rows, but the table has 2"):
        content(first, also=[more])


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,b\n1,2\n", {}, "has no column that begins with 'choice.'.*out of a, b"),
        ("a,b\n1,2\n", {"choices": ("c",)}, "has no column 'c'.*out of a, b"),
        ("choice.a,b\n1,2\n,3\n", {}, "empty in some rows"),
        ("choice.a,b\nx,y\n", {}, "no column of numbers"),
        ("choice.a,b\nx/y,1\n", {}, "makes no table of choices: a: an option may not"),
        ("choice.a,b\nx,1\n", {"maximise": ("c",)}, "maximise: .* has no column 'c'; there are b"),
        ("", {}, "is no readable CSV"),
        ("a,b\n1,2,3,4\n1,2\n1,2,3,4,5\n", {}, "is no readable CSV"),
    ],
)
def test_a_csv_that_is_no_table_is_refused(
    tmp_path: Path, text: str, settings: dict[str, object], message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SpaceError, match=message):
        content(path, **settings)


def test_a_torn_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torn.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() * 100)[:-30])
    with pytest.raises(SpaceError, match="is no readable CSV"):
        content(path)


def test_a_torn_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torn.npz"
    np.savez_compressed(path, code=np.zeros((100, 6)), ops=np.zeros(5))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SpaceError, match="no readable npz file"):
        content(path)


def test_a_pickle_in_an_npz_is_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (canary,)

    path = tmp_path / "trap.npz"
    np.savez(path, code=np.array([Trap()], dtype=object), ops=np.zeros(5))
    with pytest.raises(SpaceError, match="no readable npz file"):
        content(path)
    assert not canary.exists()


def test_an_npz_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, x=np.zeros(3))
    with pytest.raises(SpaceError, match="no arrays 'code' and 'ops'"):
        content(path)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASCLI_DATA", raising=False)
    with pytest.raises(SpaceError, match=r"no table 'none.csv' .*or set NASCLI_DATA"):
        locate("none.csv")
    monkeypatch.setenv("NASCLI_DATA", str(tmp_path))
    with pytest.raises(SpaceError, match=f"{tmp_path}/nas/none.csv"):
        locate("none.csv")


def test_relative_paths_are_found_here_first_then_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, data = tmp_path / "here", tmp_path / "data"
    (data / "nas").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("NASCLI_DATA", str(data))
    for folder in (data / "nas", data, here):
        (folder / "t.csv").write_text("")
        assert locate("t.csv").absolute() == folder / "t.csv"
