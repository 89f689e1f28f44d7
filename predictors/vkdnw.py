"""VKDNW: a network whose Fisher information has an even spectrum knows all its weights about equally well.

Tybl & Neumann 2025, arXiv:2502.04975. The information is that of a few weights, one of each parameter tensor, about the
classes that the network predicts; its spectrum is summed up by its deciles, and those by their entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.eval_pass import EvalPass, counted_rows, logits, row_by_row
from predictors.gaussian import he_weights, noise
from predictors.probe import Probe, finite
from predictors.protocol import About
from predictors.responses import Element, Responses

PAPER = "Tybl & Neumann 2025, arXiv:2502.04975"
_ROUNDING = 1e-14
"""Eigenvalues as far below the largest come from derivatives in single precision that should be 0."""

_DEAD = "No output depends on the input: nothing flows through the network."


@dataclass(frozen=True)
class VkdnwDim:
    """The number of parameter tensors, the part of VKDNW that measures size (Tybl & Neumann 2025, arXiv:2502.04975)."""

    about: ClassVar[About] = About("max", 0.0, "nothing", (), PAPER)

    def __call__(self, probe: Probe) -> float:
        """The number. Raises ScoreError if there is none."""
        if not (found := len(list(probe.model.parameters()))):
            raise ScoreError("The network has no parameters.")
        return float(found)


@dataclass(frozen=True)
class Vkdnw:
    """Entropy of the deciles of the Fisher information's spectrum (Tybl & Neumann 2025, arXiv:2502.04975).

    Of `elements` evenly spaced numbers of each of the first `tensors` parameter tensors, with He's initialisation and
    BatchNorm in evaluation mode. Predicted probabilities are mixed with `smoothing` of the uniform ones. It takes as
    many backward passes as there are classes, less one.
    """

    about: ClassVar[About] = About("max", 2.0, "data", ("fisher spectrum",), PAPER)

    elements: int = 1
    tensors: int = 128
    examples: int = 32
    smoothing: float = 0.05
    inputs: Literal["data", "noise"] = "data"

    def __post_init__(self) -> None:
        if min(self.elements, self.tensors, self.examples) < 1 or not 0 <= self.smoothing < 1:
            raise ValueError(
                f"elements={self.elements!r}, tensors={self.tensors!r} and examples={self.examples!r} must be at least "
                f"1, and smoothing={self.smoothing!r} at least 0 and below 1"
            )

    def __call__(self, probe: Probe) -> float:
        """The entropy, at most log 9. Raises DeadNetworkError if nine deciles in ten of the spectrum are 0."""
        found = probe.once(f"{self} spectrum", lambda: spectrum(probe, self))
        deciles = np.quantile(found, np.arange(1, 10) / 10)
        if deciles[-1] <= _ROUNDING * found.max():
            raise DeadNetworkError("Hardly a weight has any influence on the output.")
        return finite(float(stats.entropy(deciles)))


@dataclass(frozen=True)
class VkdnwSingle:
    """Number of parameter tensors plus entropy: ranks by the one, then by the other (arXiv:2502.04975)."""

    about: ClassVar[About] = Vkdnw.about

    entropy: Vkdnw = Vkdnw()

    def __call__(self, probe: Probe) -> float:
        """The sum. Raises what its parts do."""
        return VkdnwDim()(probe) + self.entropy(probe)


def spectrum(probe: Probe, settings: Vkdnw) -> np.ndarray:
    """The eigenvalues of the Fisher information [elements], one for each weight that is looked at."""
    generator = probe.generator("vkdnw")
    net = probe.copy()
    he_weights(net, generator=generator)
    if settings.inputs == "noise":
        inputs = noise(probe, settings.examples, generator=generator)
    else:
        free = probe.examples == "independent"
        inputs = tuple(x[: settings.examples] if free else x for x in probe.batch.inputs)
    chosen = _chosen(net, settings)
    factor = _factor(probe, net, inputs, chosen, settings.smoothing)
    if not factor.any():
        raise DeadNetworkError(_DEAD)
    found = np.zeros(len(chosen))
    values = torch.linalg.svdvals(factor.flatten(0, 1)).square() / len(factor)
    found[: len(values)] = values.numpy()
    return found


def _chosen(net: nn.Module, settings: Vkdnw) -> list[Element]:
    found = []
    for parameter in list(net.parameters())[: settings.tensors]:
        places = np.linspace(0, parameter.numel(), min(settings.elements, parameter.numel()), endpoint=False)
        found += [Element(parameter, tuple(map(int, np.unravel_index(int(p), parameter.shape)))) for p in places]
    return found


def _factor(
    probe: Probe, net: nn.Module, inputs: tuple[Tensor, ...], chosen: Sequence[Element], smoothing: float
) -> Tensor:
    """A [examples, classes, elements] with the information as the mean over examples of A^T A, in double precision.

    With probabilities p and the logits' Jacobian J, row c of A is sqrt(p_c) (e_c - p) J, as the covariance of a draw of
    the class is diag(p) - p p^T.
    """
    found = EvalPass(net, inputs)
    rows = counted_rows(probe, found.logits)
    p = found.logits.detach().softmax(1) * (1 - smoothing) + smoothing / found.logits.shape[1]
    if found.separable and probe.examples == "independent":
        return _from_uses(found, p, chosen)
    return _from_rows(logits(net, inputs)[rows], p[rows], chosen)


def _cotangents(p: Tensor) -> Tensor:
    """Rows sqrt(p_c) (e_c - p) for each class [classes, examples, classes]."""
    return (torch.eye(p.shape[1], device=p.device)[:, None] - p) * p.T.sqrt()[..., None]


def _from_uses(found: EvalPass, p: Tensor, chosen: Sequence[Element]) -> Tensor:
    responses = Responses(found, chosen)
    made, alive = [], False
    for cotangent in _cotangents(p)[:-1]:
        alive = found.backward(cotangent, responses.visit) or alive
        made.append(responses.take())
    if not alive:
        raise DeadNetworkError(_DEAD)
    # The rows weighted by sqrt(p) add up to nothing, which spares a pass.
    before = torch.stack(made, 1)
    root = p.to("cpu", torch.float64).sqrt()
    last = -(root[:, :-1, None] * before).sum(1, keepdim=True) / root[:, -1:, None]
    return torch.cat([before, last], 1)


def _from_rows(outputs: Tensor, p: Tensor, chosen: Sequence[Element]) -> Tensor:
    parameters = list({id(e.parameter): e.parameter for e in chosen}.values())
    at = {id(parameter): k for k, parameter in enumerate(parameters)}
    weighted = (_cotangents(p) * outputs).sum(2).T.flatten()
    found = [
        torch.stack([gradients[at[id(e.parameter)]][e.index] for e in chosen])
        for gradients in row_by_row(weighted, parameters)
    ]
    return torch.stack(found).to("cpu", torch.float64).reshape(*outputs.shape, len(chosen))
