"""Gaussian inputs and Gaussian weights, drawn from a generator that is handed in and never from the global one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from predictors.layers import reset
from predictors.probe import Probe


def normal(shape: Sequence[int], *, generator: Generator, like: Tensor) -> Tensor:
    """Standard normal numbers of this shape, the same on every device: drawn on the CPU, moved to where `like` is."""
    return torch.randn(*shape, generator=generator).to(like.device)


def noise(probe: Probe, examples: int, *, generator: Generator) -> tuple[Tensor, ...]:
    """Inputs of the batch's shape [examples, ...] with standard normal numbers in the place of the batch's own.

    Whole numbers (tokens, edges) stay as they are, and with them the batch's number of examples; so do the nodes of a
    graph, which belong together.
    """
    given = probe.batch.inputs
    free = probe.examples == "independent" and all(x.is_floating_point() for x in given)
    shapes = [(examples, *x.shape[1:]) if free else x.shape for x in given]
    return tuple(
        normal(shape, generator=generator, like=x) if x.is_floating_point() else x
        for x, shape in zip(given, shapes, strict=True)
    )


def normal_weights(net: nn.Module, *, generator: Generator) -> None:
    """Draw the weights of layers from N(0, 1), in place; biases 0, BatchNorm scales 1 and shifts 0."""
    reset(net, lambda weight: weight.copy_(normal(weight.shape, generator=generator, like=weight)))


def he_weights(net: nn.Module, *, generator: Generator) -> None:
    """The same from N(0, 2 / fan-in) (He et al. 2015, arXiv:1502.01852, eq. 10)."""

    def draw(weight: Tensor) -> None:
        spread = math.sqrt(2 / math.prod(weight.shape[1:]))
        weight.copy_(spread * normal(weight.shape, generator=generator, like=weight))

    reset(net, draw)
