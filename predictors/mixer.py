"""A mixer with Bayesian ends over a vector of numbers: ParZC's MABN (Dong et al. 2025, arXiv:2402.02105).

The vector is projected and cut into segments; blocks of feed-forwards work on them, and their mean comes out. The
published blocks work on channels alone, so segments meet in that mean only; as an MLP-Mixer does it (Tolstikhin et al.
2021, arXiv:2105.01601), half of the feed-forwards work across the segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

Mixing = Literal["channels", "tokens"]
"""Both feed-forwards of a block on channels, as published, or the second one across the segments."""


@dataclass(frozen=True)
class MixerSizes:
    """How large a mixer is; the defaults are the published ones."""

    projected: int = 256
    """Numbers that the input is projected to; cut into segments."""
    segments: int = 16
    dim: int = 512
    """Channels of a segment."""
    depth: int = 4
    """Blocks."""
    dropout: float = 0.1
    mixing: Mixing = "channels"

    def __post_init__(self) -> None:
        if min(self.projected, self.segments, self.dim) < 1 or self.depth < 0 or not 0 <= self.dropout < 1:
            raise ValueError("a mixer's sizes must be at least 1, its depth at least 0, its dropout in [0, 1)")
        if self.projected % self.segments:
            raise ValueError(f"projected={self.projected} can't be cut into {self.segments} equal segments")


class BayesianLinear(nn.Module):
    """A linear map without bias whose weights are normal variables: drawn anew at every pass in training.

    In evaluation the weights are their means, unless `drawing` asks for draws. The published one draws always.
    """

    def __init__(self, inputs: int, outputs: int, *, rho: float = -5.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.empty(outputs, inputs))
        self.rho = nn.Parameter(torch.full((outputs, inputs), rho))
        nn.init.kaiming_uniform_(self.mean, a=math.sqrt(5))
        self.drawing = False

    @property
    def deviation(self) -> Tensor:
        """The weights' standard deviations log(1 + exp(rho)) [outputs, inputs]."""
        return softplus(self.rho)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        if not (self.training or self.drawing):
            return linear(x, self.mean)
        return linear(x, self.mean + self.deviation * torch.randn_like(self.mean))

    def divergence(self, *, prior: float = 1.0) -> Tensor:
        """The KL divergence of the weights from independent normal ones with deviation `prior`, summed."""
        variance = (self.deviation / prior).square()
        return (variance + (self.mean / prior).square() - 1 - variance.log()).sum() / 2


@contextmanager
def drawing(model: nn.Module) -> Iterator[None]:
    """Let all Bayesian layers draw their weights, in evaluation too."""
    layers = [part for part in model.modules() if isinstance(part, BayesianLinear)]
    before = [layer.drawing for layer in layers]
    for layer in layers:
        layer.drawing = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.drawing = was


def divergence(model: nn.Module) -> Tensor:
    """The KL divergences of all Bayesian layers from the standard normal prior, summed; 0 if there are none."""
    found = [part.divergence() for part in model.modules() if isinstance(part, BayesianLinear)]
    return torch.stack(found).sum() if found else torch.zeros(())


class Mixer(nn.Module):
    """Numbers [networks, inputs] -> [networks, outputs]."""

    def __init__(self, inputs: int, outputs: int, *, sizes: MixerSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.project = nn.Linear(inputs, sizes.projected)
        self.embed = BayesianLinear(sizes.projected // sizes.segments, sizes.dim)
        self.blocks = nn.Sequential(*(_block(sizes) for _ in range(sizes.depth)))
        self.norm = nn.LayerNorm(sizes.dim)
        self.head = BayesianLinear(sizes.dim, outputs)

    def forward(self, numbers: Tensor) -> Tensor:
        """One vector a network [networks, outputs]."""
        segments = self.embed(self.project(numbers).unflatten(1, (self.sizes.segments, -1)))
        out: Tensor = self.head(self.norm(self.blocks(segments)).mean(1))
        return out


def _block(sizes: MixerSizes) -> nn.Module:
    wide = _FeedForward(sizes.dim, 4 * sizes.dim, sizes.dropout)
    if sizes.mixing == "channels":
        return nn.Sequential(
            _Residual(sizes.dim, wide), _Residual(sizes.dim, _FeedForward(sizes.dim, sizes.dim // 2, sizes.dropout))
        )
    across = _FeedForward(sizes.segments, 4 * sizes.segments, sizes.dropout)
    return nn.Sequential(_Residual(sizes.dim, _Across(across)), _Residual(sizes.dim, wide))


class _FeedForward(nn.Sequential):
    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, size), nn.Dropout(dropout)
        )


class _Across(nn.Module):
    """A map of segments [..., segments, channels] that works on the segments' axis."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, segments: Tensor) -> Tensor:
        out: Tensor = self.inner(segments.transpose(-1, -2))
        return out.transpose(-1, -2)


class _Residual(nn.Module):
    """What comes in, and a map of it normalised."""

    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = inner

    def forward(self, segments: Tensor) -> Tensor:
        out: Tensor = segments + self.inner(self.norm(segments))
        return out
