"""GradSign: examples whose gradients agree in sign train together (Zhang & Jia 2022, arXiv:2110.08616).

The published score is the sum over all weights of |sum over the examples of sign(gradient)|, each example's gradient
taken by itself. Chance alone gives sqrt(2 n / pi) a weight, so the sum is nearly a count of weights: what is left of it
beyond chance is a score of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from predictors.probe import Probe, finite
from predictors.protocol import About

PAPER = "Zhang & Jia 2022, arXiv:2110.08616"


@dataclass(frozen=True)
class GradSign:
    """The score of Algorithm 1: summed over the weights of convolutions and linear layers (arXiv:2110.08616)."""

    about: ClassVar[About] = About("max", 1.5, "labels", ("per_example",), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Sum of |sum of signs|; at most examples times weights."""
        return finite(sum(layer.total for layer in probe.per_example))


@dataclass(frozen=True)
class GradSignMean:
    """The same a weight, over weights that any gradient reaches: comparable between sizes (after arXiv:2110.08616)."""

    about: ClassVar[About] = About("max", 1.5, "labels", ("per_example",), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Mean of |sum of signs|, from 0 to the number of examples."""
        layers = probe.per_example
        return finite(sum(layer.total for layer in layers) / sum(layer.live for layer in layers))


@dataclass(frozen=True)
class GradSignExcess:
    """What the sum has beyond that of random signs, of weights that gradients reach (after arXiv:2110.08616)."""

    about: ClassVar[About] = About("max", 1.5, "labels", ("per_example",), f"after {PAPER}")

    def __call__(self, probe: Probe) -> float:
        """Sum of (|sum of signs| less what random signs give on average)."""
        return finite(sum(layer.total - layer.live * chance(layer.examples) for layer in probe.per_example))


def chance(examples: int) -> float:
    """The expected |sum| of so many independent random signs, exactly: n * C(n - 1, floor((n - 1) / 2)) / 2^(n - 1)."""
    # Logarithms of factorials: the binomial coefficient itself overflows from about a thousand examples on.
    n, half = examples, (examples - 1) // 2
    log = math.lgamma(n) - math.lgamma(half + 1) - math.lgamma(n - half) - (n - 1) * math.log(2)
    return n * math.exp(log)
