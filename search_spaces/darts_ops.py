"""The operations on the edges of DARTS' cells, and what else its networks are made of (Liu et al. 2019,
arXiv:1806.09055).

Each begins with its activation and ends with its normalisation. Sides are halved rounding up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
"""Channels -> their normalisation."""


class Halved(nn.Module):
    """Half the image without losing a pixel: half of the channels are made of the even ones, half of the odd ones."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, outputs, ceil(h / 2), ceil(w / 2)]; beyond the image there are zeros."""
        # Pixels are picked before the convolution and not by its stride: see `ElasticConv2d`. An odd side has one odd
        # pixel too few; a tracer knows no sides, and padding to as many as there are even ones is right for all.
        height, width = x.shape[2], x.shape[3]
        if not all(isinstance(side, int) and side % 2 == 0 for side in (height, width)):
            x = F.pad(x, (0, width % 2, 0, height % 2))
        return torch.cat((self.even(x[:, :, ::2, ::2]), self.odd(x[:, :, 1::2, 1::2])), 1)


class Noise(nn.Module):
    """Standard normal numbers, whatever the input; they have no gradient. RobustDARTS' S4 (arXiv:1909.09656)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, ceil(h / stride), ceil(w / stride)]."""
        return torch.randn_like(strided(x, self.stride))


def strided(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th pixel of `x` [n, c, h, w] in both directions, from the first on; a view."""
    return x if stride == 1 else x[:, :, ::stride, ::stride]


def projection(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    """Other channels: activation, 1x1 convolution, normalisation."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


def factorized_reduce(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    """Half the image, and other channels: activation, both halves, normalisation."""
    return nn.Sequential(nn.ReLU(), Halved(inputs, outputs), norm(outputs))


def new_operation(name: str, channels: int, stride: int, norm: Norm, *, pool_norm: bool = True) -> nn.Module | None:
    """The module of an operation; None for nothing (`none`) and for the identity (`skip_connect` at stride 1)."""
    if name == "none" or (name == "skip_connect" and stride == 1):
        return None
    if name in _POOLS:
        pool = _POOLS[name](stride)
        return nn.Sequential(pool, norm(channels)) if pool_norm else pool
    return _MAKERS[name](channels, stride, norm)


_POOLS: Mapping[str, Callable[[int], nn.Module]] = {
    "max_pool_3x3": lambda stride: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda stride: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
}

_MAKERS: Mapping[str, Callable[[int, int, Norm], nn.Module]] = {
    "noise": lambda channels, stride, norm: Noise(stride),
    "skip_connect": lambda channels, stride, norm: factorized_reduce(channels, channels, norm),
    "dil_conv_3x3": lambda channels, stride, norm: nn.Sequential(*_factors(channels, 3, stride, norm, dilation=2)),
    "dil_conv_5x5": lambda channels, stride, norm: nn.Sequential(*_factors(channels, 5, stride, norm, dilation=2)),
    "sep_conv_3x3": lambda channels, stride, norm: _separable(channels, 3, stride, norm),
    "sep_conv_5x5": lambda channels, stride, norm: _separable(channels, 5, stride, norm),
}


def _factors(channels: int, kernel: int, stride: int, norm: Norm, *, dilation: int = 1) -> list[nn.Module]:
    """Activation, a convolution of each channel by itself, one of each pixel by itself, normalisation."""
    reach = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, reach, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ]


def _separable(channels: int, kernel: int, stride: int, norm: Norm) -> nn.Sequential:
    """The same twice; the first reduces."""
    return nn.Sequential(*_factors(channels, kernel, stride, norm), *_factors(channels, kernel, 1, norm))


# -- drop path ---------------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """In training the input, or with probability `rate` zero for an example; what is kept is scaled by 1 / (1 - rate).

    FractalNet's (Larsson et al. 2017, arXiv:1605.07648). At first the rate is 0, and nothing is drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """[n, ...] as `x`."""
        if not self.training or not self.rate:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


def set_drop_path(model: nn.Module, rate: float) -> int:
    """How many places in the model drop paths, all of which now do so at this rate, in [0, 1); 0: it has none.

    Raises ValueError for another rate.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a drop path rate must be at least 0 and below 1, but got {rate!r}")
    places = [module for module in model.modules() if isinstance(module, DropPath)]
    for place in places:
        place.rate = rate
    return len(places)
