"""Layers whose smaller versions are the beginnings of the larger: first channels, centres of kernels.

Kernels shrink as in Once-for-All (Cai et al. 2020, arXiv:1908.09791): the centre of the larger kernel, times a learnt
matrix that all channels share. Only what is asked for is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.errors import SpaceError
from search_spaces.gated import Pick


class Elastic(nn.Module, ABC):
    """A layer that holds all its smaller versions."""

    @abstractmethod
    def cut(self, key: str, shape: Sequence[int]) -> Tensor:
        """The tensor that the plain layer of these dimensions calls `key`."""


class ElasticConv2d(Elastic):
    """A convolution of the first channels with one of several odd kernel sizes, `kernels` ascending; "same" padding.

    `groups` is 1, or the number of channels (depth-wise).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernels: Sequence[int] = (1,),
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if groups not in (1, outputs) or inputs % groups:
            raise ValueError(f"groups={groups} must be 1 or the number of channels, {outputs}")
        self.kernels, self.stride, self.depthwise = tuple(kernels), stride, groups > 1
        size = self.kernels[-1]
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, size, size))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.transforms = nn.ParameterDict({str(k): torch.eye(k * k) for k in self.kernels[:-1]})

    def forward(self, x: Tensor, outputs: int, kernel: Pick = -1) -> Tensor:
        """The first `outputs` channels [n, outputs, h, w] from as many input channels as `x` has."""
        inputs = x.shape[1]
        if isinstance(kernel, int):
            size = self.kernels[kernel]
            weight = self.kernel(size, outputs, inputs)
        else:
            # Convolution is linear in its kernel: the weighted sum of the kernels gives that of the results.
            size = max(self.kernels[i] for i, _ in kernel)
            parts = [w * self._padded(self.kernels[i], size, outputs, inputs) for i, w in kernel]
            weight = sum(parts[1:], start=parts[0])
        bias = None if self.bias is None else self.bias[:outputs]
        stride = self.stride
        if size == 1 and stride > 1:
            # The same pixels, picked before: oneDNN's own way writes beyond its memory where channels are few (its
            # issue 6035, in training with channels last).
            x, stride = x[:, :, ::stride, ::stride], 1
        return F.conv2d(x, weight, bias, stride, size // 2, 1, inputs if self.depthwise else 1)

    def kernel(self, size: int, outputs: int, inputs: int) -> Tensor:
        """The kernels [outputs, inputs, size, size] (one input if depth-wise), from larger to smaller in turn."""
        weight = self.weight[:outputs, :inputs]
        for larger, smaller in pairwise(self.kernels[::-1]):
            if size >= larger:
                break
            edge = (larger - smaller) // 2
            centre = weight[:, :, edge:-edge, edge:-edge]
            weight = F.linear(centre.flatten(2), self.transforms[str(smaller)]).view(centre.shape)
        return weight

    def cut(self, key: str, shape: Sequence[int]) -> Tensor:
        """See `Elastic.cut`; kernel transforms are baked in."""
        if key == "weight":
            outputs, inputs, size, _ = shape
            return self.kernel(size, outputs, inputs)
        return _first(self.get_parameter(key), shape)

    @torch.no_grad()
    def permute_outputs(self, order: Tensor) -> None:
        """Put the output channels in this order, [outputs]."""
        self.weight.copy_(self.weight[order])
        if self.bias is not None:
            self.bias.copy_(self.bias[order])

    @torch.no_grad()
    def permute_inputs(self, order: Tensor) -> None:
        """Put the input channels in this order, [inputs]; not for depth-wise convolutions."""
        self.weight.copy_(self.weight[:, order])

    @torch.no_grad()
    def importance(self) -> Tensor:
        """How much the layer listens to each input channel: the L1 norm of its weights, [inputs]."""
        return self.weight.abs().sum((0, 2, 3))

    def _padded(self, size: int, to: int, outputs: int, inputs: int) -> Tensor:
        return F.pad(self.kernel(size, outputs, inputs), [(to - size) // 2] * 4)


class ElasticLinear(Elastic):
    """A linear layer of the first features."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """All outputs [n, outputs] from as many input features as `x` has."""
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)

    def cut(self, key: str, shape: Sequence[int]) -> Tensor:
        """See `Elastic.cut`."""
        return _first(self.get_parameter(key), shape)


class ElasticBatchNorm2d(Elastic):
    """Batch normalisation of the first channels.

    Training uses the batch's own statistics and keeps none: an average over networks of all sizes would fit none of
    them. A network cut from the supernet has its statistics estimated anew.

    If not `affine`, scales and shifts are not learnt, but are there to be inherited: ones and zeros.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", torch.ones(channels)), ("bias", torch.zeros(channels))):
            if affine:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, times: Tensor | float | None = None) -> Tensor:
        """`x` [n, channels, h, w] normalised by channel, and multiplied by `times` [], which here costs nothing."""
        c = x.shape[1]
        weight, bias = self.weight[:c], self.bias[:c]
        if times is not None:
            weight, bias = weight * times, bias * times
        if self.training:
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)
        return F.batch_norm(x, self.running_mean[:c], self.running_var[:c], weight, bias, False, 0.0, self.eps)

    def cut(self, key: str, shape: Sequence[int]) -> Tensor:
        """See `Elastic.cut`."""
        return _first(getattr(self, key), shape)

    @torch.no_grad()
    def permute(self, order: Tensor) -> None:
        """Put the channels in this order, [channels]."""
        for tensor in (self.weight, self.bias, self.running_mean, self.running_var):
            tensor.copy_(tensor[order])


def inherited(supernet: nn.Module, plain: nn.Module) -> dict[str, Tensor]:
    """The state dict for `plain` (on any device), copied from the elastic layers of the same names in the supernet.

    Raises SpaceError if the supernet has no such layer.
    """
    layers = dict(supernet.named_modules())
    state = {}
    for key, tensor in plain.state_dict().items():
        name, _, leaf = key.rpartition(".")
        source = layers.get(name)
        if not isinstance(source, Elastic):
            raise SpaceError(f"The supernet is not one of this space: it holds nothing for {key!r}.")
        state[key] = source.cut(leaf, tensor.shape).detach().clone()
    return state


def copied(supernet: nn.Module, plain: nn.Module) -> dict[str, Tensor]:
    """The state dict for `plain` (on any device), copied from the tensors of the same names and shapes in the supernet.

    Raises SpaceError if the supernet has no such tensor.
    """
    held = supernet.state_dict()
    wanted = plain.state_dict()
    for key, tensor in wanted.items():
        if key not in held or held[key].shape != tensor.shape:
            raise SpaceError(f"The supernet is not one of this space: it holds nothing for {key!r}.")
    return {key: held[key].detach().clone() for key in wanted}


def _first(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor[tuple(slice(length) for length in shape)]
