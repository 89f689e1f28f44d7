"""How a step's candidates are measured: here, one after another. Every executor yields trials in the order asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nascli.engine.evaluate import measure
from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from nascli.engine.task import Task


def inline(networks: Sequence[Network], task: Task) -> Iterator[Trial]:
    """Measure in this process, one network at a time."""
    for network in networks:
        yield measure(network, task)
