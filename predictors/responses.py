"""How single numbers of the parameters act on what a layer or a normalisation returns.

A weight's derivative is the sum over positions of the gradient at one output channel times the input that the weight
multiplies: to know a few weights' derivatives, whole weight gradients need not be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors.eval_pass import EvalPass, Scaled, Use, normalised


@dataclass(frozen=True, eq=False)
class Element:
    """One number of a parameter."""

    parameter: nn.Parameter
    index: tuple[int, ...]


@dataclass(frozen=True)
class _Response:
    """What the part's output moves by when one of its numbers does: only in one channel, and there by `values`."""

    column: int
    channel: tuple[Any, ...]
    values: Tensor | None
    """[examples, positions...] or 1 everywhere."""


class Responses:
    """The derivatives of examples' outputs at chosen numbers of the parameters, gathered in backward passes."""

    def __init__(self, found: EvalPass, chosen: Sequence[Element]) -> None:
        self._shape = (len(found.logits), len(chosen))
        self._held = {id(use): _responses(use, chosen) for use in found.uses}
        self._gathered = torch.zeros(self._shape, dtype=torch.float64)

    def visit(self, use: Use, gradient: Tensor) -> None:
        """Take in the gradient at what a use returned."""
        for response in self._held[id(use)]:
            moved = gradient[response.channel]
            if response.values is not None:
                moved = moved * response.values
            self._gathered[:, response.column] += moved.reshape(len(moved), -1).sum(1).to("cpu", torch.float64)

    def take(self) -> Tensor:
        """What was gathered since the last time, [examples, elements]."""
        found, self._gathered = self._gathered, torch.zeros(self._shape, dtype=torch.float64)
        return found


def _responses(use: Use, chosen: Sequence[Element]) -> list[_Response]:
    found = []
    for column, element in enumerate(chosen):
        if element.parameter is use.part.weight:
            found.append(_Response(column, _channel(use, element.index), _read(use, element.index)))
        elif element.parameter is use.part.bias:
            found.append(_Response(column, _channel(use, element.index), None))
    return found


def _channel(use: Use, index: tuple[int, ...]) -> tuple[Any, ...]:
    """Where in an output the channel lies that a number of the weight or the bias acts on."""
    if isinstance(use.part, nn.LayerNorm):
        return (..., *index)
    if isinstance(use.part, nn.Linear):
        return (..., index[0])
    return (slice(None), index[0])


def _read(use: Use, index: tuple[int, ...]) -> Tensor:
    """What a number of the weight multiplies, [examples, positions...]."""
    part, x = use.part, use.x
    if isinstance(part, Scaled):
        return normalised(part, x)[_channel(use, index)]
    if isinstance(part, nn.Linear):
        return x[..., index[1]]
    return _window(part, x, index)


def _window(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, index: tuple[int, ...]) -> Tensor:
    """The input of a convolution at the places that one number of its kernel meets, [examples, positions...]."""
    output, channel, *offset = index
    group = output // (layer.out_channels // layer.groups)
    x = x[:, group * (layer.in_channels // layer.groups) + channel][:, None]
    one = torch.zeros(1, 1, *layer.kernel_size, dtype=x.dtype, device=x.device)
    one[(0, 0, *offset)] = 1
    if layer.padding_mode != "zeros":
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding: str | tuple[int, ...] = (0,) * len(layer.kernel_size)
    else:
        padding = layer.padding
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    return convolve(x, one, None, layer.stride, padding, layer.dilation)[:, 0]
