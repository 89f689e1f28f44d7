"""The blocks of mobile networks: inverted residuals with squeeze-and-excitation, once plain and once elastic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.elastic import ElasticConv2d
from search_spaces.gated import Pick, Width
from search_spaces.units import Activation, ElasticUnit, conv, unit


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole image holds (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = conv(channels, squeezed, bias=True)
        self.act = nn.ReLU()
        self.expand = conv(squeezed, channels, bias=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w]."""
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * scale


class ElasticSqueezeExcite(nn.Module):
    """The elastic twin of `SqueezeExcite`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = ElasticConv2d(channels, squeezed, bias=True)
        self.expand = ElasticConv2d(squeezed, channels, bias=True)

    def forward(self, x: Tensor, squeezed: Width) -> Tensor:
        """[n, channels, h, w]."""
        seen = F.relu(self.reduce(x.mean((2, 3), keepdim=True), squeezed.channels))
        scale = F.hardsigmoid(self.expand(squeezed.weigh(seen), x.shape[1]))
        return x * scale


class Separable(nn.Module):
    """A plain block of fixed width: filter each channel, mix them, add the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = unit(channels, channels, 3, groups=channels)
        self.project = unit(channels, channels, act="none")

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w]."""
        y: Tensor = self.project(self.depthwise(x))
        return x + y


class ElasticSeparable(nn.Module):
    """The twin of `Separable` for supernets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = Width(channels)
        self.depthwise = ElasticUnit(channels, channels, (3,), groups=channels)
        self.project = ElasticUnit(channels, channels, act="none")

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w]."""
        y: Tensor = self.project(self.depthwise(x, self.width), self.width)
        return x + y


class InvertedResidual(nn.Module):
    """A plain block: expand, filter each channel, squeeze and excite if `squeezed`, project.

    `stride` is that of a stage's first block, which has no shortcut; None for the others.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        kernel: int,
        stride: int | None,
        squeezed: int | None,
        act: Activation,
    ) -> None:
        super().__init__()
        self.expand = unit(inputs, hidden, act=act)
        self.depthwise = unit(hidden, hidden, kernel, stride=stride or 1, groups=hidden, act=act)
        self.excite = nn.Identity() if squeezed is None else SqueezeExcite(hidden, squeezed)
        self.project = unit(hidden, outputs, act="none")
        self.shortcut = stride is None

    def forward(self, x: Tensor) -> Tensor:
        """[n, outputs, h, w]."""
        y: Tensor = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.shortcut else y


class ElasticInvertedResidual(nn.Module):
    """The elastic twin of `InvertedResidual`, made with the largest widths."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        kernels: Sequence[int],
        stride: int | None,
        squeezed: int | None,
        act: Activation,
    ) -> None:
        super().__init__()
        self.expand = ElasticUnit(inputs, hidden, act=act)
        self.depthwise = ElasticUnit(hidden, hidden, kernels, stride=stride or 1, groups=hidden, act=act)
        self.excite = None if squeezed is None else ElasticSqueezeExcite(hidden, squeezed)
        self.project = ElasticUnit(hidden, outputs, act="none")
        self.shortcut = stride is None

    def forward(self, x: Tensor, hidden: Width, squeezed: Width, outputs: Width, kernel: Pick) -> Tensor:
        """[n, outputs, h, w]."""
        y: Tensor = self.depthwise(self.expand(x, hidden), hidden, kernel)
        if self.excite is not None:
            y = self.excite(y, squeezed)
        y = self.project(y, outputs)
        return x + y if self.shortcut else y

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Put the hidden channels in order of importance to the projection, the greatest first."""
        order = self.project.conv.importance().argsort(descending=True, stable=True)
        self.expand.permute_outputs(order)
        self.depthwise.permute_outputs(order)
        if self.excite is not None:
            self.excite.reduce.permute_inputs(order)
            self.excite.expand.permute_outputs(order)
        self.project.conv.permute_inputs(order)
