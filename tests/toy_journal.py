"""A run directory to write into, and trials to write: the journal without any search."""

from __future__ import annotations

from pathlib import Path

from nascli.engine.network import Network
from nascli.engine.objectives import judge
from nascli.engine.protocol import Trial
from nascli.engine.writer import Writer
from tests.toys import TABLE, toy_task

SETTINGS = {"seed": 0, "strategy": {"name": "random", "batch": 4}, "budget": {"evaluations": 3}}


def write(path: Path, command: str = "search", **changes: object) -> Writer:
    return Writer(path, command=command, resolved=SETTINGS | changes, header={"fingerprint": TABLE.fingerprint})


def trial(number: int) -> Trial:
    values = {"error": float(number), "size": 1.0}
    network = Network(TABLE.smallest, tag=str(number))
    return Trial(number, network.key, network, values, *judge(values, toy_task().objectives), seconds=0.25)
