"""A file of tile sizes: which weights are to become zero in tiles, and how large these are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nascli.errors import DataError, SettingsError

_FORM = '{"glob of weights": [rows, columns]}'


def read_tiles(path: str) -> Mapping[str, tuple[int, ...]]:
    """Tile sizes by globs of weights' names, in the file's order.

    Raises DataError if the file can't be read as JSON, SettingsError if it says something else.
    """
    try:
        read: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; give a JSON file of tiles, {_FORM}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); it must look like {_FORM}.") from None
    if not isinstance(read, dict) or not read:
        raise SettingsError(f"{path} holds no tiles; it must look like {_FORM}.")
    for glob, sizes in read.items():
        whole = isinstance(sizes, list) and all(type(s) is int and s > 0 for s in sizes)
        if not whole or len(sizes) < 2:
            raise SettingsError(
                f"{path}: the tile of {glob!r} is {sizes!r}; it must be two or more sizes of at least 1."
            )
    return {glob: tuple(sizes) for glob, sizes in read.items()}


def tile_for(tiles: Mapping[str, Sequence[int]], weight: str) -> Sequence[int]:
    """The sizes of the first glob that matches a weight's name, () if none does."""
    return next((sizes for glob, sizes in tiles.items() if fnmatchcase(weight, glob)), ())
