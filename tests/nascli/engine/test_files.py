from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nascli.engine.files import Journal, Lock, is_locked, read_json, read_rows, replacing, sweep, write_json
from nascli.errors import RunBusyError, RunError, RunFormatError

ROWS = [{"n": i, "text": "é" * i} for i in range(6)]


def written(path: Path) -> Path:
    journal = Journal(path)
    for row in ROWS:
        journal.append(row)
    journal.sync()
    journal.close()
    return path


def test_rows_come_back(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path / "j")) == ROWS
    assert read_rows(tmp_path / "none") == []


def test_a_torn_tail_is_cut_wherever_it_tears(tmp_path: Path) -> None:
    whole = written(tmp_path / "j").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        path = tmp_path / "torn"
        path.write_bytes(whole[:cut])
        expected = ROWS[: sum(end <= cut for end in ends)]
        assert read_rows(path) == expected
        journal = Journal(path)
        journal.append({"n": "next"})
        journal.close()
        assert read_rows(path) == [*expected, {"n": "next"}]


def test_damage_before_the_end_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{broken\n", *lines[2:]]))
    with pytest.raises(RunFormatError, match=r"j:2 is damaged"):
        read_rows(path)


def test_keep_forgets_the_rest(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"))
    journal.keep(2)
    journal.append({"n": 9})
    journal.close()
    assert read_rows(tmp_path / "j") == [*ROWS[:2], {"n": 9}]


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append({"n": float("nan")})
    journal.close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A limit on the file's size stands in for the disk: the write that does not fit is taken back whole."""
    code = f"""
import signal, sys
sys.path.insert(0, {str(Path.cwd())!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from resource import RLIMIT_FSIZE, setrlimit
from pathlib import Path
from nascli.engine.files import Journal, read_rows
from nascli.errors import RunError
journal = Journal(Path({str(tmp_path / "j")!r}))
setrlimit(RLIMIT_FSIZE, (100, 100))
for n in range(100):
    try:
        journal.append({{"n": n, "text": "x" * 20}})
    except RunError as error:
        print(error, len(read_rows(journal.path)) == n)
        break
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "There is no space left" in done.stdout and "True" in done.stdout
    assert [row["n"] for row in read_rows(tmp_path / "j")] == list(range(len(read_rows(tmp_path / "j"))))


def test_a_failed_replacement_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("inf")})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_unreadable_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(RunFormatError, match="can't be read as JSON"):
        read_json(tmp_path / "a.json")


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("nascli.engine.files.tempfile.mkstemp", refuse)
    with pytest.raises(RunError, match="a.json can't be written: permission denied. Give --out a folder"):
        write_json(tmp_path / "a.json", {})


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    lock = Lock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(RunBusyError, match=f"is being written by process {os.getpid()} on this machine"):
        Lock(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
    Lock(tmp_path).release()


def test_a_dead_owner_is_succeeded_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lock").write_text(json.dumps({"pid": 4121, "host": "elsewhere"}))
    Lock(tmp_path).release()
    assert "was left by process 4121 on 'elsewhere', which is gone" in caplog.text


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    """A process that is killed while it replaces a file leaves the old file and a temporary one beside it."""
    write_json(tmp_path / "a.json", {"a": 1})
    (tmp_path / ".hidden").write_text("mine")
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        (tmp_path / (temporary.name[:-6] + "x.part")).write_text("as a kill would leave it")
        temporary.write_text("{}")
    sweep(tmp_path)
    sweep(tmp_path / "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.json"]
