from __future__ import annotations

import logging
from typing import Any

import pytest

from nascli.cli.compressed import print_rows, warn

DENSE = {"accuracy": 80.0, "macs": 1000.0, "latency_ms": 2.0, "latency_ms_iqr": 0.1}


def row(tag: str, **values: float) -> dict[str, Any]:
    """A row as `rows` makes it, of the network tagged "dense" or of a smaller one."""
    found = DENSE | values
    facts = {"n": 0, "network": tag, "dense": "dense", "on_front": tag == "dense", "values": found, "error": ""}
    return {**facts, "of_dense": {"macs": found["macs"] / 1000}, "points": {"accuracy": found["accuracy"] - 80}}


@pytest.mark.parametrize(
    ("latency_ms", "spread", "warned"),
    [(1.0, 0.1, False), (1.89, 0.1, False), (1.91, 0.1, True), (2.5, 0.1, True), (1.0, 1.0, True), (1.7, 0.2, False)],
)
def test_a_latency_that_did_not_fall_by_more_than_the_spread(
    caplog: pytest.LogCaptureFixture, latency_ms: float, spread: float, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, logger="nascli"):
        warn([row("dense"), row("Halve-macs0.5", latency_ms=latency_ms, latency_ms_iqr=spread)])
    said = [record.getMessage() for record in caplog.records]
    assert (len(said) == 1) is warned
    assert not warned or said[0].startswith("Halve-macs0.5 is not measurably faster here: it takes ")


def test_what_was_not_measured_is_said_and_no_latency_is_made_up(caplog: pytest.LogCaptureFixture) -> None:
    failed = {**row("Halve-macs0.5"), "values": {}, "error": "out of memory"}
    with caplog.at_level(logging.WARNING, logger="nascli"):
        warn([row("dense"), failed, {**row("other"), "dense": "missing"}])
    assert [r.getMessage() for r in caplog.records] == ["Halve-macs0.5 is not on the front: out of memory"]


def test_the_table_says_what_is_left_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    smaller = row("Halve-macs0.5", macs=500.0, accuracy=79.25, latency_ms=1.5)
    failed = {**row("Halve-macs0.1"), "values": {}, "of_dense": {}, "points": {}}
    print_rows([row("dense"), smaller, failed])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["n", "network", "front", "accuracy (%)", "macs (MACs)", "latency_ms (ms)"],
        ["0", "dense", "yes", "80", "1,000", "2 ± 0.1"],
        ["0", "Halve-macs0.5", "no", "79.25 (-0.75)", "500 (50.0 %)", "1.5 ± 0.1"],
        ["0", "Halve-macs0.1", "no", "", "", ""],
    ]
