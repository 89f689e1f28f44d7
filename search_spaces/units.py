"""What image networks are made of, once plain and once elastic: a convolution, its normalisation, its activation.

The tensors of both have the same names, so that the one inherits from the other by name and shape.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.elastic import ElasticBatchNorm2d, ElasticConv2d
from search_spaces.gated import Pick, Width

Activation = Literal["none", "relu", "hswish"]

_LAYERS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "hswish": nn.Hardswish}
_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu_,  # in place: the normalisation before it needs its input for the gradient, not its output
    "hswish": F.hardswish,
}


def unit(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: Activation = "relu"
) -> nn.Sequential:
    """A plain unit of standard layers: conv, bn, and act unless that is "none".

    Before a strided 1x1 convolution there is a layer that picks the pixels: see `ElasticConv2d`.
    """
    layers = OrderedDict[str, nn.Module]()
    if kernel == 1 and stride > 1:
        layers["pick"] = nn.AvgPool2d(1, stride)
        stride = 1
    layers["conv"] = conv(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
    layers["bn"] = nn.BatchNorm2d(outputs)
    if act != "none":
        layers["act"] = _LAYERS[act]()
    return nn.Sequential(layers)


def conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, bias: bool) -> nn.Conv2d:
    """A plain convolution with "same" padding and He's initialisation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A plain linear layer, initialised like the elastic one."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def channels_last(x: Tensor) -> Tensor:
    """`x` [n, c, h, w] with its channels innermost in memory; the layers that follow keep it so.

    On CPUs the gradients of depth-wise convolutions are then four times as fast. A clone, as `contiguous` would leave
    images of one channel as they are.
    """
    return x.clone(memory_format=torch.channels_last)


class ElasticUnit(nn.Module):
    """The elastic twin of `unit`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernels: Sequence[int] = (1,),
        *,
        stride: int = 1,
        groups: int = 1,
        act: Activation = "relu",
    ) -> None:
        super().__init__()
        self.conv = ElasticConv2d(inputs, outputs, kernels, stride=stride, groups=groups)
        self.bn = ElasticBatchNorm2d(outputs)
        self._act = act

    def forward(self, x: Tensor, width: Width, kernel: Pick = -1) -> Tensor:
        """As many channels as `width` says, [n, channels, h, w].

        Weights of channels come last: after the normalisation, which would undo them.
        """
        return width.weigh(_FUNCTIONS[self._act](self.bn(self.conv(x, width.channels, kernel))))

    def permute_outputs(self, order: Tensor) -> None:
        """Put the output channels in this order, [outputs]."""
        self.conv.permute_outputs(order)
        self.bn.permute(order)
