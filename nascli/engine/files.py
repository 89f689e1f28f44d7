"""Files that are whole or absent: atomic replacement, durable appending, and the lock that one writer holds."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nascli.errors import RunBusyError, RunError, RunFormatError

log = logging.getLogger(__name__)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a sentence; what was written before is whole."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text = (
                f"There is no space left to write {path}. Nothing already written is lost: free some and run it again."
            )
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            what = os.strerror(error.errno).lower()
            text = f"{path} can't be written: {what}. Give --out a folder that you may write to."
        else:
            text = f"{path} can't be written: {error}."
        raise RunError(text) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that takes the file's place at the end, or vanishes if that fails."""
    with explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                # Temporary files are private; what takes their place is as readable as any file of the user's.
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left; for the holder of the folder's lock."""
    for file in folder.glob(".*.part"):
        with explained(file):
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; raises RunFormatError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFormatError(f"{path} can't be read as JSON: {error}.") from None


class Journal:
    """A file of one JSON object a line, only ever appended to. A torn last line is cut when a writer opens it."""

    def __init__(self, path: Path) -> None:
        """Open for writing, creating the file if need be."""
        self.path = path
        with explained(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            whole = sum(len(line) for line in _whole_lines(path.read_bytes()))
            if whole < os.fstat(self._file).st_size:
                log.warning("%s ended in a torn line, which is cut off", path)
                os.ftruncate(self._file, whole)

    def append(self, row: Any) -> None:
        """Hand one row to the operating system: it survives a kill, and after `sync` a power cut."""
        line = (json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n").encode()
        size = os.fstat(self._file).st_size
        with explained(self.path):
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file, size)
                raise

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        with explained(self.path):
            os.fsync(self._file)

    def keep(self, count: int) -> None:
        """Forget all but the first `count` rows."""
        lines = _whole_lines(self.path.read_bytes())[:count]
        with explained(self.path):
            os.ftruncate(self._file, sum(len(line) for line in lines))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal, [] if there is none; a torn last line is passed over. Raises RunFormatError."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(_whole_lines(path.read_bytes()), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise RunFormatError(f"{path}:{number} is damaged: it is no JSON object. Restore it from a copy.") from None
    return rows


def _whole_lines(data: bytes) -> list[bytes]:
    """Lines that end in a newline, the last only if it is JSON: a full disk can leave a newline behind half a row."""
    lines = data.splitlines(keepends=True)
    while lines and not (lines[-1].endswith(b"\n") and _is_json(lines[-1])):
        lines.pop()
        if not data.endswith(b"\n"):
            break
    return lines


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


class Lock:
    """The right to write a folder, held through the operating system, so that it dies with the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; raises RunBusyError naming who has it."""
        path = folder / "lock"
        with explained(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = _owner(self._file)
            os.close(self._file)
            raise RunBusyError(
                f"{folder} is being written by {owner}. Wait for it, or give --out another folder."
            ) from None
        if os.fstat(self._file).st_size:
            log.warning("%s was left by %s, which is gone; going on from what it wrote", folder, _owner(self._file))
        with explained(path):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError):
            os.ftruncate(self._file, 0)
        os.close(self._file)


def is_locked(folder: Path) -> bool:
    """Whether some process holds the folder's lock."""
    path = folder / "lock"
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _owner(file: int) -> str:
    try:
        row = json.loads(os.pread(file, 1000, 0))
    except ValueError:
        return "another process"
    where = "this machine" if row.get("host") == socket.gethostname() else repr(row.get("host"))
    return f"process {row.get('pid')} on {where}"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
