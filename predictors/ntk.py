"""The neural tangent kernel's condition: networks whose examples train at equal pace train well.

Theta_ij is the product of the gradients of two examples' summed outputs; Jacot et al. 2018, arXiv:1806.07572, and for
search TE-NAS, Chen et al. 2021, arXiv:2102.11535.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.eval_pass import EvalPass, Scaled, Use, counted_rows, logits, normalised, row_by_row
from predictors.per_example import per_example_gradients, weight_gradients
from predictors.probe import Probe, finite
from predictors.protocol import About

Norm = Literal["example", "batch", "running"]
"""What BatchNorm normalises by: each example's own statistics, those of the batch, or the running ones."""

_ROUNDING = 1e-11
"""Eigenvalues as far below the largest come from rounding: the gradients are in single precision."""


@dataclass(frozen=True)
class NtkCondition:
    """Largest over least eigenvalue of the tangent kernel of the batch (Chen et al. 2021, arXiv:2102.11535).

    TE-NAS itself normalises by the batch: with `norm` "batch" examples depend on one another, and take a backward pass
    each. By its own statistics, the default here, each example is what it would be in a batch of one, and a single pass
    will do. "running" is evaluation mode: fast too, but says little of a fresh network. Biases do not count, scales of
    normalisations only with "batch" and "running".
    """

    about: ClassVar[About] = About("min", 1.5, "data", ("summed outputs",), "Chen et al. 2021, arXiv:2102.11535")

    norm: Norm = "example"

    def __call__(self, probe: Probe) -> float:
        """The condition number. Raises DeadNetworkError if there are no gradients, ScoreError if it is infinite."""
        eigenvalues = torch.linalg.eigvalsh(tangent_kernel(probe, norm=self.norm))
        least, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        if least <= _ROUNDING * largest:
            raise ScoreError("Some examples' gradients are linear in those of others: the condition is infinite.")
        return finite(largest / least)


def tangent_kernel(probe: Probe, *, norm: Norm) -> Tensor:
    """Products of the examples' gradients at the weights [examples, examples], in double precision.

    Raises DeadNetworkError if none reaches the input, or any weight.
    """
    if probe.examples == "independent":
        if norm == "example":
            return _each_alone(probe)
        if norm == "running" and (found := EvalPass(probe.copy(), probe.batch.inputs)).separable:
            return _layer_by_layer(found)
    return _from_rows(probe, probe.copy().train(norm != "running"))


@dataclass(frozen=True)
class _Summed:
    """The batch with the sum of an example's outputs in the place of its loss."""

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def losses(self, logits: Tensor) -> Tensor:
        """[examples]."""
        return logits.flatten(1).sum(1)


def _each_alone(probe: Probe) -> Tensor:
    examples = len(probe.batch.inputs[0])
    total, waiting = torch.zeros(examples, examples, dtype=torch.float64), dict[str, list[Tensor]]()

    def consume(name: str, gradients: Tensor) -> None:
        held = waiting.setdefault(name, [])
        held.append(gradients.flatten(1))
        if sum(map(len, held)) == examples:  # all of this layer's are in
            rows = torch.cat(waiting.pop(name)).to(torch.float64)
            total.add_((rows @ rows.T).cpu())

    per_example_gradients(probe.model, _Summed(probe.batch.inputs, probe.batch.targets), consume)
    if not total.any():
        raise DeadNetworkError("No gradient reaches any weight: nothing flows through the network.")
    return total


def _layer_by_layer(found: EvalPass) -> Tensor:
    kernel = _Kernel(found)
    if not found.backward(torch.ones_like(found.logits), kernel.visit):
        raise DeadNetworkError("The output does not depend on the input: nothing flows through the network.")
    return kernel.finish()


class _Kernel:
    """Adds up one parameter's products after another, so that the gradients of all are never held."""

    def __init__(self, found: EvalPass) -> None:
        examples = len(found.logits)
        self._total = torch.zeros(examples, examples, dtype=torch.float64)
        self._waiting = Counter(id(use.part.weight) for use in found.uses)
        self._sums: dict[int, Tensor] = {}

    def visit(self, use: Use, gradient: Tensor) -> None:
        """Take in one use of a part; parameters used several times are multiplied when the last use is in."""
        if use.part.weight is None:
            return
        key = id(use.part.weight)
        found = _gradients(use, gradient).flatten(1)
        self._sums[key] = self._sums[key] + found if key in self._sums else found
        self._waiting[key] -= 1
        if not self._waiting[key]:
            self._multiply(key)

    def finish(self) -> Tensor:
        """The kernel, with what waited for uses that no gradient reached."""
        for key in list(self._sums):
            self._multiply(key)
        return self._total

    def _multiply(self, key: int) -> None:
        gradients = self._sums.pop(key).to(torch.float64)
        self._total += (gradients @ gradients.T).cpu()


def _gradients(use: Use, gradient: Tensor) -> Tensor:
    """The gradients of the examples at a part's weight, [examples, *weight]."""
    if not isinstance(use.part, Scaled):
        return weight_gradients(use.part, use.x, gradient)
    product = normalised(use.part, use.x) * gradient
    if isinstance(use.part, nn.LayerNorm):
        return product.reshape(len(product), -1, *use.part.normalized_shape).sum(1)
    return product.reshape(*product.shape[:2], -1).sum(2)


def _from_rows(probe: Probe, net: nn.Module) -> Tensor:
    found = logits(net, probe.batch.inputs)
    weights = [p for name, p in net.named_parameters() if "weight" in name]
    if not weights:
        raise ScoreError("The network has no weights.")
    outputs = found.sum(1)[counted_rows(probe, found)]
    jacobian = torch.stack([torch.cat([g.flatten() for g in gs]) for gs in row_by_row(outputs, weights)])
    jacobian = jacobian.to(torch.float64)
    if not jacobian.any():
        raise DeadNetworkError("No gradient reaches any weight: nothing flows through the network.")
    return (jacobian @ jacobian.T).cpu()
