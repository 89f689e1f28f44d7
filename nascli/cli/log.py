"""Where log records go: warnings to stderr and into JSON results, all of them to the log of the run that is written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOGGERS = [logging.getLogger(name) for name in ("nascli", "search_spaces", "predictors")]


@contextmanager
def to_stderr() -> Iterator[None]:
    """Within: what is logged as a warning goes to stderr, and is collected for `warnings`."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(logging.Formatter("nascli: %(message)s"))
    stream.setLevel(logging.WARNING)
    stream.addFilter(_Once())
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in LOGGERS]
    collected = _Collected()
    for logger in LOGGERS:
        logger.handlers, logger.propagate = [stream, collected], False
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def be_verbose(count: int) -> None:
    """Send more to stderr: once for information, twice for everything."""
    for handler in LOGGERS[0].handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel({0: logging.WARNING, 1: logging.INFO}.get(count, logging.DEBUG))


def warnings() -> list[str]:
    """The warnings so far, in their order."""
    return [text for handler in LOGGERS[0].handlers if isinstance(handler, _Collected) for text in handler.texts]


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Within: everything that is logged is appended to the file, with time and place."""
    file = _File(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for logger in LOGGERS:
        logger.addHandler(file)
    try:
        yield
    finally:
        for logger in LOGGERS:
            logger.removeHandler(file)
        with suppress(OSError):
            file.close()


class _Once(logging.Filter):
    """Lets a warning through once: what is true of a network is found anew at every level that it is taken to."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = record.levelno < logging.WARNING or text not in self._said
        self._said.add(text)
        return new


class _Collected(logging.Handler):
    """The texts of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(_Once())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class _File(logging.FileHandler):
    """A log whose disk may fill up: that stops the journal, and is told there."""

    def handleError(self, record: logging.LogRecord) -> None:
        return
