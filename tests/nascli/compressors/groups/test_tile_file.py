from __future__ import annotations

from pathlib import Path

import pytest

from nascli.compressors.groups.tile_file import read_tiles, tile_for
from nascli.errors import DataError, SettingsError


def test_the_first_glob_that_matches_counts(tmp_path: Path) -> None:
    (tmp_path / "tiles.json").write_text('{"a.*.weight": [4, 2], "*": [1, 2, 3, 4]}')
    tiles = read_tiles(str(tmp_path / "tiles.json"))
    assert tile_for(tiles, "a.0.weight") == (4, 2) and tile_for(tiles, "b.weight") == (1, 2, 3, 4)
    assert tile_for({"a*": (1, 1)}, "b") == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", DataError),
        ("\xff", DataError),
        ("[]", SettingsError),
        ("{}", SettingsError),
        ('{"a": 4}', SettingsError),
        ('{"a": [4]}', SettingsError),
        ('{"a": [4, 0]}', SettingsError),
        ('{"a": [4, true]}', SettingsError),
        ('{"a": [4, 1.5]}', SettingsError),
    ],
)
def test_files_that_say_something_else(tmp_path: Path, text: str, error: type[Exception]) -> None:
    (tmp_path / "tiles.json").write_text(text, encoding="latin-1")
    with pytest.raises(error, match=r"tiles\.json"):
        read_tiles(str(tmp_path / "tiles.json"))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_tiles(str(tmp_path / "none.json"))
