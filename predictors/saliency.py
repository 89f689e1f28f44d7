"""How much the weights matter, summed over a network: what pruning at initialisation ranks weights by.

Abdelfattah et al. 2021, arXiv:2101.08134, turned the sums into scores of whole networks. The weights are those of
convolutions and linear layers; a weight that two layers share counts in each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from predictors import DeadNetworkError, ScoreError
from predictors.probe import LayerGradient, Probe, finite
from predictors.protocol import About
from predictors.tracing import ChannelProduct

PAPER = "Abdelfattah et al. 2021, arXiv:2101.08134"


@dataclass(frozen=True)
class L2Norm:
    """The Euclidean norms of the layers' weights: a count of weights in disguise (Abdelfattah et al. 2021,
    arXiv:2101.08134).

    It says how the weights were drawn and nothing of whether anything flows through the network.
    """

    about: ClassVar[About] = About("max", 0, "nothing", (), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Sum over the layers of |w|."""
        return _total([norm(layer.weight.detach()) for _, layer in probe.layers])


@dataclass(frozen=True)
class GradNorm:
    """The Euclidean norms of the layers' gradients (Abdelfattah et al. 2021, arXiv:2101.08134)."""

    about: ClassVar[About] = About("max", 1, "labels", ("labelled",), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Sum over the layers of |g|."""
        return _total([norm(layer.gradient) for layer in probe.labelled])


@dataclass(frozen=True)
class Plain:
    """How fast the loss would change if all weights grew in proportion (Abdelfattah et al. 2021, arXiv:2101.08134).

    More is better as published, but on NAS-Bench-201 the rank correlation with accuracy is negative (-.37), and that of
    two draws of the same networks' weights is about .2: mostly chance. A layer in front of a BatchNorm adds nothing, as
    the loss does not depend on the scale of its weights.
    """

    about: ClassVar[About] = About("max", 1, "labels", ("labelled",), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Sum of w g, signed."""
        return _total([product(layer).sum(dtype=torch.float64) for layer in probe.labelled])


@dataclass(frozen=True)
class Snip:
    """How much the loss changes, to first order, for each weight taken away (Lee et al. 2019, arXiv:1810.02340)."""

    about: ClassVar[About] = About("max", 1, "labels", ("labelled",), "Lee et al. 2019, arXiv:1810.02340")

    def __call__(self, probe: Probe) -> float:
        """Sum of |w g|."""
        return _total([product(layer).abs().sum(dtype=torch.float64) for layer in probe.labelled])


@dataclass(frozen=True)
class Grasp:
    """How much the flow of gradients owes to the weights (Wang et al. 2020, arXiv:2002.07376).

    The sign is that of Abdelfattah et al. 2021, the opposite of the pruning paper's: it was chosen to go with accuracy.
    """

    about: ClassVar[About] = About("max", 3.5, "labels", ("curvature",), "Wang et al. 2020, arXiv:2002.07376")

    def __call__(self, probe: Probe) -> float:
        """Sum of -w H g."""
        return _total([-product(layer).sum(dtype=torch.float64) for layer in probe.curvature])


@dataclass(frozen=True)
class Fisher:
    """How much the loss would change for each channel taken away (Turner et al. 2020, arXiv:1906.04113, eq. 2).

    As Abdelfattah et al. 2021 sum it, each channel counts once for every input that it reads: its value is laid on
    all weights of the channel.
    """

    about: ClassVar[About] = About("max", 1, "labels", ("labelled",), "Turner et al. 2020, arXiv:1906.04113")

    def __call__(self, probe: Probe) -> float:
        """Sum over layers and channels of fan-in times half the mean squared product of activation and gradient."""
        uses = [use for layer in channel_products(probe).values() for use in layer]
        return _total([use.fan_in * use.values.sum(dtype=torch.float64) for use in uses])


@dataclass(frozen=True)
class SynFlow:
    """How much flows through the weights when no data do (Tanaka et al. 2020, arXiv:2006.05467).

    The natural logarithm of the published sum, which reaches 1e60 in deep networks; the order is the same.
    """

    about: ClassVar[About] = About("max", 0.1, "nothing", ("data_free",), "Tanaka et al. 2020, arXiv:2006.05467")

    def __call__(self, probe: Probe) -> float:
        """Natural logarithm of the sum of |w dR/dw|. Raises DeadNetworkError if that is 0."""
        total = _total([product(layer).abs().sum(dtype=torch.float64) for layer in probe.data_free])
        if not total:
            raise DeadNetworkError("The weights are all zero: nothing flows through the network.")
        return math.log(total)


# -- what each is made of --------------------------------------------------------------------------------------------


def norm(tensor: Tensor) -> Tensor:
    """The Euclidean norm of all numbers in a tensor, in double precision."""
    length: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.float64)
    return length


def product(layer: LayerGradient) -> Tensor:
    """Each weight times its gradient, in the weight's shape."""
    return layer.weight * layer.gradient


def channel_products(probe: Probe) -> Mapping[str, Sequence[ChannelProduct]]:
    """Layer -> what its channels do to the loss, one entry a use; none where no gradient arrived.

    Raises ScoreError for layers whose output was changed in place, as what they returned is gone.
    """
    # Reading `labelled` runs the backward pass that fills the products.
    found = {layer.name: probe.trace.products.get(layer.name, []) for layer in probe.labelled}
    lost = sorted(set(probe.trace.in_place))
    if lost:
        named = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
        raise ScoreError(f"The output of {named} is changed in place after it is returned; write x = x + y for x += y.")
    return found


def _total(values: list[Tensor]) -> float:
    return finite(torch.stack(values).sum())
