"""Two nested problems: the best architecture weights for the validation loss, given the best network weights for the
training loss.

    min over alpha of upper(alpha, w*(alpha))   where   w*(alpha) = argmin over w of lower(alpha, w)

A method knows only this; whether the losses are those of a supernet on minibatches or two quadratics is not its
business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Tensors = Sequence[Tensor]
Loss = Callable[[Tensors, Tensors], Tensor]
"""(architecture weights, network weights) -> loss []. The same minibatch and the same draws whenever it is called."""


class Problem(Protocol):
    """What is to be solved. Both kinds of weights are leaves that require gradients and are changed in place."""

    @property
    def alpha(self) -> Tensors:
        """The architecture weights: the upper variables."""
        ...

    @property
    def weights(self) -> Tensors:
        """The network's weights: the lower variables."""
        ...

    def lower(self) -> Loss:
        """The training loss on the next minibatch."""
        ...

    def upper(self) -> Loss:
        """The validation loss on the next minibatch, what regularises the architecture weights included."""
        ...

    def excess(self, alpha: Tensors) -> Tensor | None:
        """How far a resource is expected to exceed its limit [], relative to it, negative within; None: no limit."""
        ...


@dataclass(frozen=True)
class Pace:
    """What the schedules say of a step."""

    lr: float
    """The learning rate of the network's weights."""
    spent: float
    """The share of the search used up, in [0, 1)."""
    searching: bool = True
    """Whether the architecture weights move; else only the network's weights do."""


@dataclass(frozen=True)
class Told:
    """What a step came to; tensors are detached and may still be on the device."""

    lower: Tensor
    """The training loss [] before the step, of the last minibatch used."""
    upper: Tensor | None
    """The validation loss []; None if the architecture weights did not move."""


class Solver(Protocol):
    """A method at work on one problem."""

    def step(self, pace: Pace) -> Told:
        """Move both kinds of weights once: as many lower minibatches as the method takes, and one upper one."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What the method itself remembers: momentum, copies of weights; tensors, numbers, lists and dicts."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...


class Method(Protocol):
    """A frozen dataclass of settings."""

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """The method at work on this problem, from the start."""
        ...


@dataclass(frozen=True, kw_only=True)
class Optimisers:
    """How the usual two optimisers are set, SGD below and Adam above (section 2.1 of Liu et al. 2019, DARTS)."""

    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    """Gradients of the network's weights are clipped by their norm to this."""
    alpha_lr: float = 3e-4
    alpha_decay: float = 1e-3
    alpha_betas: tuple[float, float] = (0.5, 0.999)
