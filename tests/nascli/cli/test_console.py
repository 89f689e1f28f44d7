from __future__ import annotations

import json
import math
import sys

import pytest

from nascli.cli import console
from nascli.engine.drive import Event
from nascli.engine.protocol import Step


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        ("name", "name"),
        (7, "7"),
        (1643328, "1,643,328"),
        (1643328.0, "1,643,328"),
        (95.5555, "95.56"),
        (12345.6, "12,346"),
        (0.000123456, "0.0001235"),
        (62.0, "62"),
        (0, "0"),
    ],
)
def test_numbers_as_people_read_them(value: object, text: str) -> None:
    assert console.shown(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.06, "8.1 s"), (59.94, "59.9 s"), (245, "4 min 05 s"), (3599.7, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_table_into_a_pipe_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["n", "network"], [[1, "a:1/2"], [None, "b"]], title="not shown")
    assert capsys.readouterr().out == "n\tnetwork\n1\ta:1/2\n\tb\n"


def test_a_table_in_a_terminal_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    console.table(["n", "network"], [[1234, "[bold]a:1/2"]], title="Front")
    out = capsys.readouterr().out
    assert "Front" in out and "1,234" in out and "[bold]a:1/2" in out and "━" in out


def test_facts_are_flat_lines_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"a": 1, "b": {"c": "x", "d": {"e": 2.5}}}
    console.facts("doctor", values, as_json=False)
    assert capsys.readouterr().out == "a: 1\nb.c: x\nb.d.e: 2.5\n"
    console.facts("doctor", values, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": "nascli/1", "command": "doctor", "ok": True, "data": values, "warnings": []}


def test_infinity_is_written_as_settings_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"clip": math.inf, "limits": [1.5, -math.inf]}
    console.facts("train", {"settings": settings}, as_json=True)
    told = json.loads(capsys.readouterr().out)["data"]["settings"]
    assert told == {"clip": "inf", "limits": [1.5, "-inf"]}
    console.facts("train", {"settings": settings}, as_json=False)
    assert "settings.clip: inf\n" in capsys.readouterr().out


def test_nan_never_becomes_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.document("search", {"a": float("nan")})


def test_conversation_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    console.note("one")
    console.note_at_once("two")
    assert capfd.readouterr() == ("", "one\ntwo\n")


def event(trials: int = 0, elapsed_s: float = 0.0, **metrics: float) -> Event:
    return Event(trials, elapsed_s, min(trials, 3), Step(metrics=metrics))


def test_progress_lines_come_now_and_then(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress("search", total=40, limit_s=None) as observe:
        for seconds in range(0, 25, 4):
            now = 100.0 + seconds
            observe(event(seconds, float(seconds)))
    assert capfd.readouterr() == (
        "",
        "search: 30 %, 12.0 s, 12 measured, 3 on the front\nsearch: 60 %, 24.0 s, 24 measured, 3 on the front\n",
    )


@pytest.mark.parametrize(
    ("total", "limit_s", "given", "percent"),
    [
        (40, None, event(10, 5.0), " 25 %,"),
        (None, 20.0, event(10, 5.0), " 25 %,"),
        (40, 20.0, event(10, 15.0), " 75 %,"),
        (40, None, event(0, 5.0, progress=0.5, loss=1.25), " 50 %,"),
        (None, 10.0, event(1, 11.0), " 100 %,"),
        (None, None, event(1, 5.0), ""),
    ],
)
def test_the_share_done_is_the_larger_of_both_budgets(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    total: int | None,
    limit_s: float | None,
    given: Event,
    percent: str,
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    with console.progress("x", total=total, limit_s=limit_s) as observe:
        observe(given)
    line = capfd.readouterr().err
    assert line.startswith(f"x:{percent} {console.duration(given.elapsed_s)}, ")
    assert ("loss 1.25" in line) == ("loss" in given.step.metrics)


def test_a_bar_in_a_terminal_leaves_stdout_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("train", total=None, limit_s=None) as observe:
        observe(event())
        observe(event(1, 1.0, progress=0.42, loss=2.0))
    out, err = capsys.readouterr()
    assert out == "" and "train" in err
