"""Where data are looked for, and what is said of missing and damaged files."""

import gzip
from pathlib import Path

import pytest

from nascli.data.files import contents, missing, root
from nascli.errors import DataError


def test_a_given_path_comes_before_the_variable_and_the_variable_before_the_default(monkeypatch):
    monkeypatch.delenv("NASCLI_DATA", raising=False)
    assert root("") == Path("data")
    monkeypatch.setenv("NASCLI_DATA", "/elsewhere")
    assert root("") == Path("/elsewhere")
    assert root("here") == Path("here")
    assert root("~") == Path.home()


def test_missing_is_one_sentence_with_all_places_and_the_remedy():
    message = str(missing("X", sought="x.bin", places=[Path("a"), Path("b/c")], source="https://x.org"))
    for part in ("X", "x.bin", "'a'", "'b/c'", "https://x.org", "--set data.path=DIR", "NASCLI_DATA"):
        assert part in message
    assert "\n" not in message and message.endswith(".") and ". " not in message


def test_contents_are_unpacked_by_ending(tmp_path):
    (tmp_path / "raw").write_bytes(b"abc")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"abc"))
    assert contents(tmp_path / "raw") == contents(tmp_path / "packed.gz") == b"abc"


@pytest.mark.parametrize(
    ("name", "stored", "why"),
    [
        ("empty", b"", "empty"),
        ("empty.gz", gzip.compress(b""), "empty"),
        ("cut.gz", gzip.compress(b"abcdefgh" * 50)[:-12], "gzip"),
        ("other.gz", b"no gzip at all", "gzip"),
        ("flipped.gz", gzip.compress(b"abcdefgh")[:-6] + b"\0" * 6, "gzip"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, stored, why):
    (tmp_path / name).write_bytes(stored)
    with pytest.raises(DataError, match=rf"{name}.*{why}"):
        contents(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="gone can't be read: No such file"):
        contents(tmp_path / "gone")
