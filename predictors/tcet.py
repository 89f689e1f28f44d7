"""T-CET: layers that tell examples apart, weighted by how evenly their weights matter (Xiang et al. 2023, AutoML
Conference, "Exploiting network compressibility and topology in zero-cost NAS", openreview.net/forum?id=y7rbX884LZrX).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.layers import weighted
from predictors.passes import forward
from predictors.probe import LayerGradient, Probe, finite
from predictors.protocol import About
from predictors.saliency import product


@dataclass(frozen=True)
class TCet:
    """Layer by layer, expressivity times the ratio of saliency to its deviation (Xiang et al. 2023, AutoML Conference).

    The expressivity is that of Mellor et al. 2020 (arXiv:2006.04647) of a layer's own outputs, in evaluation mode.
    """

    saliency: Literal["synflow", "snip"] = "synflow"
    """How much a weight matters: without data, or of the labelled batch in training mode."""
    form: Literal["none", "log", "log1p", "norm"] = "none"
    """What is done to the ratios: nothing, their logarithm, that of one more, or division by their deviation."""
    about: ClassVar[About] = About(
        "max", 0.8, "data", ("data_free",), "Xiang et al. 2023, AutoML Conference, openreview.net/forum?id=y7rbX884LZrX"
    )

    def __call__(self, probe: Probe) -> float:
        """Sum over the layers of log det K times the saliencies' ratio; a layer with a singular K adds nothing.

        Raises ScoreError if no layer tells all the examples apart.
        """
        logs = probe.once("layer_expressivity", partial(layer_expressivity, probe))
        if not any(logs.values()):
            raise ScoreError("No layer tells all examples apart; give a smaller batch of examples that differ.")
        layers = probe.data_free if self.saliency == "synflow" else probe.labelled
        ratios = self._formed([_ratio(layer) for layer in layers])
        return finite(sum(logs.get(layer.name, 0.0) * r for layer, r in zip(layers, ratios, strict=True)))

    def _formed(self, ratios: list[float]) -> list[float]:
        if self.form == "log":
            return [math.log(r) if r > 0 else 0.0 for r in ratios]
        if self.form == "log1p":
            return [math.log1p(r) for r in ratios]
        if self.form == "norm":
            deviation = float(np.std(ratios))
            return [r / deviation if deviation else r for r in ratios]
        return ratios


def layer_expressivity(probe: Probe) -> Mapping[str, float]:
    """Layer -> log det of its kernel K, 0 for singular ones; layers that the network does not use are left out.

    K, [examples, examples], counts the units whose outputs have the same sign for two examples (Mellor et al. 2020,
    arXiv:2006.04647); a layer that is used several times has the units of all its uses.
    """
    net, kernels = probe.copy().eval(), dict[str, Tensor]()
    examples = len(probe.batch.targets)

    def listen(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if len(output) != examples:
            raise ScoreError(f"{name} returns {len(output)} rows for {examples} examples, which can't be told apart.")
        kernels[name] = kernels.get(name, 0) + agreement(output.flatten(1))

    for name, layer in weighted(net):
        layer.register_forward_hook(partial(listen, name))
    with torch.no_grad():
        forward(net, probe.batch.inputs)
    return {name: log_determinant(kernel) for name, kernel in kernels.items()}


def agreement(outputs: Tensor) -> Tensor:
    """Of [examples, units], how many units are on or off alike, [examples, examples], in double precision."""
    signs = torch.where(outputs > 0, 1.0, -1.0)
    # Of signs, agreements less disagreements; whole numbers below 2^24 are exact in single precision.
    return (outputs.shape[1] + (signs @ signs.T).double()) / 2


def log_determinant(kernel: Tensor) -> float:
    """The logarithm of the determinant of a symmetric positive matrix; 0 if it is singular, up to rounding."""
    values = torch.linalg.eigvalsh(kernel)
    rounding = len(kernel) * torch.finfo(values.dtype).eps * values[-1]
    return 0.0 if bool(values[0] <= rounding) else float(values.log().sum())


def _ratio(layer: LayerGradient) -> float:
    """The saliencies' sum by their deviation; the sum itself where they do not deviate."""
    saliency = product(layer).abs().double().flatten()
    total, deviation = float(saliency.sum()), float(saliency.std(correction=1)) if len(saliency) > 1 else 0.0
    return total / deviation if deviation else total
