"""Results on stdout, the conversation on stderr: the one place that prints.

A result is a table for people, or with --json one document: {"schema", "command", "ok", "data", "warnings"}.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nascli.cli import log

if TYPE_CHECKING:
    from nascli.engine.drive import Event

SCHEMA = "nascli/1"
LINE_EVERY_S = 10.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


def document(command: str, data: Any) -> None:
    """Print a result as JSON, with the warnings that were logged on the way."""
    _print_json({"schema": SCHEMA, "command": command, "ok": True, "data": data, "warnings": log.warnings()})


def failure(command: str, error: Mapping[str, Any]) -> None:
    """Print an error as JSON, on stdout, where the result would have been."""
    _print_json({"schema": SCHEMA, "command": command, "ok": False, "error": dict(error)})


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print rows for people: a drawn table in a terminal, tab-separated lines into a pipe."""
    if not sys.stdout.isatty():
        text("\t".join(columns))
        for row in rows:
            text("\t".join(shown(v) for v in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows)
        drawn.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(shown(v)) for v in row))
    Console().print(drawn)


def facts(command: str, values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print named facts: one a line, or as JSON."""
    if as_json:
        document(command, values)
        return
    for key, value in _flat(values):
        text(f"{key}: {shown(value)}")


def text(line: str) -> None:
    """Print a line of result."""
    sys.stdout.write(f"{line}\n")


def note(line: str) -> None:
    """Print a line of conversation."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def note_at_once(line: str) -> None:
    """Write a line of conversation from within a signal handler, where a buffered stream may not be entered again."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def shown(value: Any) -> str:
    """A value as a person reads it: four significant digits, thousands separated, nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds as 8.1 s, 4 min 05 s, 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def progress(label: str, *, total: int | None, limit_s: float | None) -> Iterator[Callable[[Event], None]]:
    """An observer that draws a bar with the time left on a terminal, and else writes a line now and then."""
    if sys.stderr.isatty():
        with _bar(label, total, limit_s) as observe:
            yield observe
    else:
        yield _lines(label, total, limit_s)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _share(event: Event, total: int | None, limit_s: float | None) -> float | None:
    if "progress" in event.step.metrics:
        return event.step.metrics["progress"]
    # Whichever budget is spent first ends the run.
    shares = [event.trials / total] if total else []
    shares += [event.elapsed_s / limit_s] if limit_s else []
    return max(shares) if shares else None


def _told(event: Event) -> str:
    metrics = [f"{k} {shown(v)}" for k, v in event.step.metrics.items() if k not in ("progress", "seconds")]
    trials = [f"{event.trials} measured, {event.front} on the front"] if event.trials else []
    return ", ".join(trials + metrics)


@contextmanager
def _bar(label: str, total: int | None, limit_s: float | None) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(label, total=None, told="")

        def observe(event: Event) -> None:
            share = _share(event, total, limit_s)
            bar.update(row, told=_told(event), total=None if share is None else 1.0, completed=share)

        yield observe


def _lines(label: str, total: int | None, limit_s: float | None) -> Callable[[Event], None]:
    last = time.monotonic()

    def observe(event: Event) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            share = _share(event, total, limit_s)
            percent = "" if share is None else f" {100 * min(share, 1.0):.0f} %,"
            note(f"{label}:{percent} {duration(event.elapsed_s)}, {_told(event)}")

    return observe


def _print_json(value: Any) -> None:
    text(json.dumps(_with_infinity(value), indent=2, allow_nan=False, default=str))


def _with_infinity(value: Any) -> Any:
    """The value with infinities, which settings may have and JSON has not, as TOML writes them: "inf"."""
    if isinstance(value, Mapping):
        return {k: _with_infinity(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_with_infinity(v) for v in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
