"""Derivatives of losses by lists of tensors, first and second, without a matrix ever being formed.

A product of the Hessian and a vector is the gradient of a gradient's inner product with the vector (Pearlmutter 1994,
doi:10.1162/neco.1994.6.1.147).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.problem import Loss, Tensors


def detached(tensors: Tensors) -> list[Tensor]:
    """The same values as constants: what depends on nothing else leaves no graph behind."""
    return [t.detach() for t in tensors]


def gradients(loss: Tensor, by: Tensors) -> list[Tensor]:
    """The loss's derivatives by these tensors, shaped as they are; zeros for those it does not depend on.

    They may share memory with each other: they are to be read, not to be changed in place.
    """
    if not loss.requires_grad:
        return [torch.zeros_like(t, requires_grad=False) for t in by]
    return list(torch.autograd.grad(loss, list(by), materialize_grads=True))


def partial(loss: Loss, alpha: Tensors, weights: Tensors) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The loss [], and its derivatives by architecture weights and by network weights, in one pass."""
    value = loss(alpha, weights)
    found = gradients(value, [*alpha, *weights])
    return value.detach(), found[: len(alpha)], found[len(alpha) :]


class Curvature:
    """The second derivatives of a loss at a point, which must not move as long as they are asked for."""

    def __init__(self, loss: Loss, alpha: Tensors, weights: Tensors) -> None:
        value = loss(alpha, weights)
        self._alpha, self._weights = list(alpha), list(weights)
        self._slope = torch.autograd.grad(value, self._weights, create_graph=True, materialize_grads=True)
        self.value = value.detach()
        """The loss [] itself."""

    def along(self, vector: Tensors) -> list[Tensor]:
        """The Hessian by the network weights times a vector, shaped as they are."""
        return self._product(vector, self._weights, last=False)

    def across(self, vector: Tensors) -> list[Tensor]:
        """The slope of d loss / d weights . vector by the architecture weights; the graph is gone afterwards."""
        return self._product(vector, self._alpha, last=True)

    def _product(self, vector: Tensors, by: list[Tensor], *, last: bool) -> list[Tensor]:
        # Where the loss is linear, or does not depend on a weight, its slope is a constant without a graph.
        pairs = [(s, v) for s, v in zip(self._slope, vector, strict=True) if s.requires_grad]
        if not pairs:
            return [torch.zeros_like(t, requires_grad=False) for t in by]
        slopes, vectors = zip(*pairs, strict=True)
        found = torch.autograd.grad(slopes, by, vectors, retain_graph=not last, materialize_grads=True)
        return list(found)
