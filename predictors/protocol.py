"""What a latency model and a proxy are to the rest of the system: a network goes in, a number comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from predictors.probe import Probe


class Reading(NamedTuple):
    """A latency in milliseconds and its interquartile range; the range is 0 where this network was not itself timed."""

    ms: float
    iqr_ms: float


class LatencyModel(Protocol):
    """A frozen dataclass of settings that tells how long a forward pass takes."""

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        """The latency of `model(*inputs)`; the model is left as it was. Raises ScoreError, never returns NaN."""
        ...


class Examples(Protocol):
    """Some labelled examples: what goes into a network, and the losses that come of what it returns."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Images [n, c, h, w], tokens [n, t], or nodes [nodes, f] and edges [2, e]."""
        ...

    @property
    def targets(self) -> Tensor:
        """Class numbers [n], [n, t] or [nodes]."""
        ...

    def losses(self, logits: Tensor) -> Tensor:
        """One loss an example that counts, [examples]."""
        ...


@dataclass(frozen=True)
class About:
    """What a proxy says of itself, for people who choose among them."""

    goal: Literal["max", "min"]
    """Whether more or less of it promises a better network."""
    cost: float
    """Forward-and-backward passes of the batch that it takes when it is asked for alone; 0: none."""
    needs: Literal["nothing", "data", "labels"]
    """Whether it looks at no data, at inputs only, or at inputs and their labels."""
    passes: tuple[str, ...]
    """The passes of the probe that it reads; proxies that read the same share them."""
    paper: str
    """Authors, year and where to find it."""


class Proxy(Protocol):
    """A frozen dataclass of settings that scores a network as it is initialised, without training."""

    about: ClassVar[About]

    def __call__(self, probe: Probe) -> float:
        """The score. Raises DeadNetworkError or ScoreError; never returns NaN or infinity."""
        ...
