"""Latencies that can be compared: networks are timed in turns, so that a busy machine slows all of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from torch import Tensor, nn

from nascli.errors import UnsupportedError
from predictors.latency import LatencyModel, Reading

ROUNDS = 7


def side_by_side(
    models: Sequence[nn.Module], example: tuple[Tensor, ...], latency: LatencyModel | None, *, rounds: int = ROUNDS
) -> list[Reading]:
    """For each model the median of its readings, one a round, and of their spreads.

    Every second round goes backwards, so that no network always follows the same one. Raises UnsupportedError without
    a latency model.
    """
    if latency is None:
        raise UnsupportedError("Latencies need a latency model; give --latency measured, roofline or table.")
    readings: list[list[Reading]] = [[] for _ in models]
    order = list(range(len(models)))
    for number in range(rounds):
        for index in order if number % 2 == 0 else reversed(order):
            readings[index].append(latency(models[index], example))
    return [Reading(median(r.ms for r in found), median(r.iqr_ms for r in found)) for found in readings]
