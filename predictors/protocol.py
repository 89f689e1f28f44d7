"""What a latency model is to the rest of the system: a network and one example go in, milliseconds come out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn


class Reading(NamedTuple):
    """A latency in milliseconds and its interquartile range; the range is 0 where this network was not itself timed."""

    ms: float
    iqr_ms: float


class LatencyModel(Protocol):
    """A frozen dataclass of settings that tells how long a forward pass takes."""

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        """The latency of `model(*inputs)`; the model is left as it was. Raises ScoreError, never returns NaN."""
        ...
