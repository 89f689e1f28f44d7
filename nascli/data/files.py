"""Where the files of a data set are looked for, and their contents; whatever is wrong is said with the file's name."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from nascli.errors import DataError


def root(path: str) -> Path:
    """The folder to look in: `path`, else the environment variable NASCLI_DATA, else ./data."""
    return Path(path or os.environ.get("NASCLI_DATA") or "data").expanduser()


def missing(name: str, *, sought: str, places: Iterable[Path], source: str) -> DataError:
    """The error for a data set that is not there: what was looked for, in which places, and how to get it."""
    listed = ", ".join(repr(str(place)) for place in places)
    return DataError(
        f"{name} was not found: looked for {sought} in {listed}; get it from {source} "
        "and give its folder by --set data.path=DIR or the variable NASCLI_DATA."
    )


def contents(path: Path) -> bytes:
    """The file's bytes, unpacked if it ends in .gz; raises DataError if it is unreadable, damaged or empty."""
    try:
        raw = path.read_bytes()
        found = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no whole gzip file ({error}); fetch it anew.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    if not found:
        raise DataError(f"{path} is empty; fetch it anew.")
    return found
