"""Examples that a network tells apart have unlike gradients at the input: scores of how these are correlated.

The gradients are those of the summed outputs, with BatchNorm in training mode; the correlations are taken in double
precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe, finite
from predictors.protocol import About

OFFSET = 1e-5
"""Keeps logarithms and inverses finite, as in both papers' code."""

MANY_CLASSES = 100
"""From more classes than this on, EPE-NAS compares classes instead of summing over them."""


@dataclass(frozen=True)
class Jacov:
    """How little the gradients of different examples are correlated (Mellor et al. 2020, arXiv:2006.04647, version 1).

    The Kullback-Leibler divergence of uncorrelated gradients from these, up to sign and constants. Values of
    batches of different sizes do not compare.
    """

    about: ClassVar[About] = About(
        "max", 1, "data", ("input_gradients",), "Mellor et al. 2020, arXiv:2006.04647, version 1"
    )

    def __call__(self, probe: Probe) -> float:
        """- sum over the eigenvalues v of the correlation matrix of log(v + 1e-5) + 1 / (v + 1e-5).

        Raises DeadNetworkError if an example's gradients are all alike.
        """
        # Of a symmetric positive matrix: what lies below 0 does so by rounding.
        v = torch.linalg.eigvalsh(correlations(probe.input_gradients)).clamp(min=0) + OFFSET
        return finite(-(v.log() + 1 / v).sum())


@dataclass(frozen=True)
class EpeNas:
    """How the gradients of examples of the same class are correlated (Lopes et al. 2021, arXiv:2102.08099).

    Up to 100 outputs, the sum over classes; beyond, the mean difference between classes.
    """

    about: ClassVar[About] = About("max", 1, "labels", ("input_gradients",), "Lopes et al. 2021, arXiv:2102.08099")

    def __call__(self, probe: Probe) -> float:
        """With s_c the sum of log(|correlation| + 1e-5) within class c: sum of |s_c|, or of |s_c - s_d| over classes.

        Raises ScoreError if too few classes have two examples, and DeadNetworkError if an example's gradients are all
        alike.
        """
        targets, counted = _classes(probe)
        logs = (correlations(probe.input_gradients[counted]).abs() + OFFSET).log()
        members = [(targets == c).nonzero().squeeze(1) for c in sorted(set(targets.tolist()))]
        several = [m for m in members if len(m) > 1]
        many = probe.trace.logits.shape[-1] > MANY_CLASSES
        if len(several) < 1 + many:
            raise ScoreError("Too few examples of the batch share a class; give larger batches.")
        if not many:
            return finite(torch.stack([logs[m][:, m].sum().abs() for m in members]).sum())
        # As published: each sum by its class's size, and classes of one example left out.
        sums = torch.stack([logs[m][:, m].sum() / len(m) for m in several])
        return finite((sums[:, None] - sums[None]).abs().sum() / len(sums))


def correlations(gradients: Tensor) -> Tensor:
    """Pearson's correlations of the rows of [examples, numbers], [examples, examples], in double precision.

    Raises DeadNetworkError for a row whose numbers are all alike, and ScoreError for fewer than two rows or columns.
    """
    if min(gradients.shape) < 2:
        raise ScoreError(f"Correlations need two examples and two numbers in each, but there are {gradients.shape}.")
    if not bool(gradients.isfinite().all()):
        raise ScoreError("The gradients at the input are not finite.")
    rows = gradients.double()
    centred = rows - rows.mean(1, keepdim=True)
    lengths = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    # Numbers that differ by rounding alone are alike.
    rounding = torch.finfo(gradients.dtype).eps * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if bool((lengths <= rounding).any()):
        raise DeadNetworkError("The outputs for some example do not depend on its input: nothing flows for it.")
    directions = centred / lengths
    found: Tensor = (directions @ directions.T).clamp(-1, 1)
    return found


def _classes(probe: Probe) -> tuple[Tensor, Tensor]:
    """The classes of the examples that count, [those], and which count, [examples]."""
    targets, examples = probe.batch.targets, len(probe.input_gradients)
    if targets.shape != (examples,):
        raise ScoreError(f"One class an example is needed, but the targets are {tuple(targets.shape)}.")
    # Masked nodes of a graph may be the test set's: only losses know, and those that count move with their logits.
    logits = probe.trace.logits.detach().requires_grad_()
    (moved,) = torch.autograd.grad(probe.batch.losses(logits).sum(), logits)
    counted = moved.flatten(1).any(1)
    return targets[counted], counted
