"""One forward pass in evaluation mode, and as many backward passes through it as wanted, read use by use.

In that mode BatchNorm is fixed, so examples do not mix: the gradient at what a part returned, together with what it had
read, gives the gradients of every single example at the part's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from predictors import ScoreError
from predictors.layers import Weighted
from predictors.passes import forward
from predictors.probe import Probe

Scaled = _BatchNorm | nn.LayerNorm | nn.GroupNorm
"""Normalisations with a scale and a shift."""


@dataclass(frozen=True)
class Use:
    """One use of a part that holds parameters, and what it read [examples, ...]."""

    part: Weighted | Scaled
    x: Tensor


Visit = Callable[[Use, Tensor], None]
"""Takes a use and the gradient at what it returned."""


class _Listener:
    """What stands between gradients and whoever wants them; kept apart from the graph, which its hooks keep alive."""

    def __init__(self) -> None:
        self.visit: Visit | None = None

    def hear(self, use: Use, gradient: Tensor) -> None:
        """Pass the gradient at one output on."""
        if self.visit is not None:
            self.visit(use, gradient)


class EvalPass:
    """A network in evaluation mode, what it returned for the batch [examples, classes], and the uses of its parts."""

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Run the forward pass; raises ScoreError if the network fails or returns no [examples, classes]."""
        self.net = net.eval()
        self.uses: list[Use] = []
        self._listener = _Listener()
        handles = [
            part.register_forward_hook(self._forward) for part in net.modules() if isinstance(part, Weighted | Scaled)
        ]
        self._inputs = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
        self.logits = logits(net, tuple(self._inputs))
        # Graph -> gradient hook -> part -> forward hook -> this -> graph: no collector would see through that circle.
        for handle in handles:
            handle.remove()

    @property
    def separable(self) -> bool:
        """Whether the uses tell all of every example: each reads one example a row, and no parameter acts elsewhere."""
        parts = list(self.net.modules())
        others = [part for part in parts if not isinstance(part, Weighted | Scaled)]
        return (
            all(x.is_floating_point() for x in self._inputs)
            and all(len(use.x) == len(self.logits) for use in self.uses)
            and not any(list(part.parameters(recurse=False)) for part in others)
            # Without running statistics the batch's are used even in evaluation mode.
            and not any(isinstance(part, _BatchNorm) and part.running_var is None for part in parts)
        )

    def backward(self, cotangent: Tensor, visit: Visit) -> bool:
        """Whether a gradient reaches the input; hands `visit` each use and the gradient of (cotangent * logits)."""
        if not self.logits.requires_grad:
            return False
        self._listener.visit = visit
        found = torch.autograd.grad(self.logits, self._inputs, cotangent, retain_graph=True, materialize_grads=True)
        self._listener.visit = None
        return any(bool(gradient.any()) for gradient in found)

    def _forward(self, part: Weighted | Scaled, inputs: tuple[Any, ...], output: Tensor) -> None:
        use = Use(part, inputs[0].detach())
        self.uses.append(use)
        if output.requires_grad:
            output.register_hook(partial(self._listener.hear, use))  # type: ignore[no-untyped-call]


def logits(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the network returns, [rows, classes]; raises ScoreError if it is of another shape."""
    found = forward(net, inputs)
    if not isinstance(found, Tensor) or found.dim() != 2:
        shape = "x".join(map(str, found.shape)) if isinstance(found, Tensor) else type(found).__name__
        raise ScoreError(f"The network returns {shape}; only [examples, classes] can be scored.")
    return found


def normalised(part: Scaled, x: Tensor) -> Tensor:
    """What the part makes of `x` before it scales and shifts, in evaluation mode."""
    if isinstance(part, nn.LayerNorm):
        return F.layer_norm(x, part.normalized_shape, eps=part.eps)
    if isinstance(part, nn.GroupNorm):
        return F.group_norm(x, part.num_groups, eps=part.eps)
    return F.batch_norm(x, part.running_mean, part.running_var, eps=part.eps)


def counted_rows(probe: Probe, found: Tensor) -> list[int]:
    """The rows of the network's output [rows, classes] on which the batch's losses depend."""
    if probe.examples == "independent":
        return list(range(len(found)))
    leaf = found.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(probe.batch.losses(leaf).sum(), leaf)
    return [int(i) for i in gradient.any(1).nonzero()]


def row_by_row(rows: Tensor, parameters: list[nn.Parameter]) -> Iterator[list[Tensor]]:
    """The gradients of each of the numbers [rows] at the parameters: what works for every network, slowly."""
    for row in rows:
        if row.requires_grad:
            yield list(torch.autograd.grad(row, parameters, retain_graph=True, materialize_grads=True))
        else:
            yield [torch.zeros_like(p) for p in parameters]
