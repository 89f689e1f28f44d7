"""The usual two optimisers of differentiable search: SGD with clipped gradients below, Adam above.

Section 2.1 of Liu et al. 2019 (DARTS, arXiv:1806.09055).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.derivatives import detached
from nascli.strategies.gradient.bilevel.problem import Loss, Optimisers, Tensors


class Below:
    """SGD with momentum and weight decay on the network's weights."""

    def __init__(self, weights: Tensors, optimisers: Optimisers) -> None:
        self.weights = list(weights)
        self._clip = optimisers.clip
        self._sgd = torch.optim.SGD(
            self.weights, lr=0.0, momentum=optimisers.momentum, weight_decay=optimisers.weight_decay
        )

    def descend(self, loss: Loss, alpha: Tensors, lr: float) -> Tensor:
        """The loss [] before a step down it; the architecture weights are constants."""
        value = loss(detached(alpha), self.weights)
        # Weights that the loss does not depend on get no gradient, and stay without decay or momentum.
        value.backward(inputs=self.weights)  # type: ignore[no-untyped-call]
        self._move(lr)
        return value.detach()

    def move(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Nothing; the weights make a step down the gradients, which are used up."""
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        self._move(lr)

    def _move(self, lr: float) -> None:
        if self._clip < math.inf:
            torch.nn.utils.clip_grad_norm_(self.weights, self._clip)
        for group in self._sgd.param_groups:
            group["lr"] = lr
        self._sgd.step()
        self._sgd.zero_grad()

    def momentum(self) -> list[Tensor]:
        """The momentum's buffers, shaped as the weights; zeros at first."""
        found = [self._sgd.state[w].get("momentum_buffer") if w in self._sgd.state else None for w in self.weights]
        return [torch.zeros_like(w) if b is None else b for w, b in zip(self.weights, found, strict=True)]

    def state(self) -> dict[str, Any]:
        """What the optimiser remembers, not copied."""
        return self._sgd.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, which is copied."""
        self._sgd.load_state_dict(copy.deepcopy(dict(state)))


class Above:
    """Adam on the architecture weights; entries whose gradient and value are always 0 stay 0."""

    def __init__(self, alpha: Tensors, optimisers: Optimisers) -> None:
        self._alpha = list(alpha)
        self._adam = torch.optim.Adam(
            self._alpha,
            lr=optimisers.alpha_lr,
            betas=optimisers.alpha_betas,
            weight_decay=optimisers.alpha_decay,
        )

    def move(self, gradients: Sequence[Tensor]) -> None:
        """Nothing; the architecture weights make a step down the gradients."""
        for weight, gradient in zip(self._alpha, gradients, strict=True):
            weight.grad = gradient
        self._adam.step()
        self._adam.zero_grad()

    def state(self) -> dict[str, Any]:
        """What the optimiser remembers, not copied."""
        return self._adam.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, which is copied."""
        self._adam.load_state_dict(copy.deepcopy(dict(state)))
