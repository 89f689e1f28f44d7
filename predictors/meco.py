"""MeCo: feature maps whose channels are not linear in one another train fast and generalise well.

Jiang et al. 2023, "MeCo: zero-shot NAS with one data and single forward pass via minimum eigenvalue of correlation",
NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.gaussian import normal
from predictors.passes import forward
from predictors.probe import Probe, finite
from predictors.protocol import About


@dataclass(frozen=True)
class Meco:
    """Sum over all parts of the least eigenvalue of their channels' correlations (Jiang et al. 2023, NeurIPS).

    Of one Gaussian image, in training mode. As published, parts within parts count each, so that what a container hands
    on from its last part counts twice. Feature maps of fewer positions than channels give 0: `side` is that of the
    image in pixels, whatever the data's; 0 takes the data's own.
    """

    about: ClassVar[About] = About("max", 0.1, "nothing", ("one image",), "Jiang et al. 2023, NeurIPS")

    side: int = 64

    def __post_init__(self) -> None:
        if self.side < 0:
            raise ValueError(f"side={self.side!r} must not be below 0")

    def __call__(self, probe: Probe) -> float:
        """The sum. Raises DeadNetworkError if the output does not depend on the image, ScoreError without any maps."""
        net = probe.copy()
        least = _Least(net)
        inputs = self._inputs(probe)
        outputs = forward(net, inputs)
        wanted = [x for x in inputs if x.requires_grad]
        if wanted and not (outputs.requires_grad and _any(torch.autograd.grad(outputs.sum(), wanted))):
            raise DeadNetworkError("The output does not depend on the input: nothing flows through the network.")
        if not least.maps:
            raise ScoreError("No part of the network returns feature maps, whose positions tell channels apart.")
        return finite(least.total)

    def _inputs(self, probe: Probe) -> tuple[Tensor, ...]:
        if probe.examples == "coupled":
            raise ScoreError("MeCo reads the feature maps of one example, and the nodes of a graph have none.")
        generator = probe.generator("meco")
        found = []
        for x in probe.batch.inputs:
            if x.is_floating_point():
                sides = (self.side, self.side) if self.side and x.dim() == 4 else x.shape[2:]
                shape = (1, *x.shape[1:2], *sides)
                found.append(normal(shape, generator=generator, like=x).requires_grad_())
            else:
                found.append(x[:1])
        return tuple(found)


class _Least:
    """Sums up the least eigenvalues of what the parts of a network return."""

    def __init__(self, net: nn.Module) -> None:
        self.total, self.maps = 0.0, 0
        self._last: Tensor | None = None
        self._value = 0.0
        for part in net.modules():
            part.register_forward_hook(self._listen)

    def _listen(self, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
            return
        if output is not self._last:  # what a container hands on needs no second decomposition
            self._last, self._value = output, least_eigenvalue(output[0].detach())
        self.total += self._value
        self.maps += output[0].numel() > len(output[0])


_ROUNDING = 1e-12
"""What is left of a constant row when its mean is taken off, relative to the row."""


def least_eigenvalue(features: Tensor) -> float:
    """The least eigenvalue of the correlations between rows [channels, ...]; those with a constant row count as 0."""
    rows = features.reshape(len(features), -1).to(torch.float64)
    if rows.shape[1] <= len(rows):
        # Less its mean, a row has one dimension fewer than positions: more rows than that are linear in one another.
        return 0.0
    size = rows.norm(dim=1, keepdim=True)
    rows = rows - rows.mean(1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    rows = torch.where(norms > _ROUNDING * size, rows / norms, 0.0)
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0])


def _any(tensors: tuple[Tensor, ...]) -> bool:
    return any(bool(t.any()) for t in tensors)
