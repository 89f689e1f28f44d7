"""The blocks of residual networks: `relu(body(x) + shortcut(x))`, once plain and once elastic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.gated import Width
from search_spaces.units import Activation, ElasticUnit, unit

Block = Literal["basic", "bottleneck"]

_KERNELS: Mapping[str, tuple[int, ...]] = {"basic": (3, 3), "bottleneck": (1, 3, 1)}
"""The convolutions of a body; the first 3x3 takes the stride."""


class Residual(nn.Module):
    """A plain block. `stride` is that of a stage's first block, whose shortcut is a projection; None for the others."""

    def __init__(self, block: Block, inputs: int, middle: int, outputs: int, *, stride: int | None) -> None:
        super().__init__()
        rows = _body(block, inputs, middle, outputs, stride)
        self.body = nn.Sequential(*(unit(a, b, k, stride=s, act=act) for a, b, k, s, act in rows))
        self.shortcut = nn.Identity() if stride is None else unit(inputs, outputs, stride=stride, act="none")
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, outputs, h, w]."""
        result: Tensor = self.act(self.body(x) + self.shortcut(x))
        return result


class ElasticResidual(nn.Module):
    """The elastic twin of `Residual`, made with the largest widths."""

    def __init__(self, block: Block, inputs: int, middle: int, outputs: int, *, stride: int | None) -> None:
        super().__init__()
        rows = _body(block, inputs, middle, outputs, stride)
        self.body = nn.ModuleList(ElasticUnit(a, b, (k,), stride=s, act=act) for a, b, k, s, act in rows)
        self.shortcut = None if stride is None else ElasticUnit(inputs, outputs, stride=stride, act="none")

    def forward(self, x: Tensor, middle: Width, outputs: Width) -> Tensor:
        """[n, outputs, h, w]."""
        y = x
        last = len(self.body) - 1
        for i, layer in enumerate(self.body):
            y = layer(y, outputs if i == last else middle)
        return F.relu_(y + (x if self.shortcut is None else self.shortcut(x, outputs)))

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Put the middle channels in order of importance to the convolution that reads them, the greatest first."""
        for writer, reader in pairwise(self._units()):
            order = reader.conv.importance().argsort(descending=True, stable=True)
            writer.permute_outputs(order)
            reader.conv.permute_inputs(order)

    def _units(self) -> Iterator[ElasticUnit]:
        return (layer for layer in self.body if isinstance(layer, ElasticUnit))


def _body(
    block: Block, inputs: int, middle: int, outputs: int, stride: int | None
) -> Iterator[tuple[int, int, int, int, Activation]]:
    """One row a convolution: inputs, outputs, kernel, stride, activation."""
    kernels = _KERNELS[block]
    widths = [inputs, *[middle] * (len(kernels) - 1), outputs]
    strided, last = kernels.index(3), len(kernels) - 1
    for i, (a, b) in enumerate(pairwise(widths)):
        yield a, b, kernels[i], (stride or 1) if i == strided else 1, "none" if i == last else "relu"
