"""What a layer has of a channel: which rows of which tensors, and what ties its channels to each other.

A layer has two sides, where channels enter and where they leave; layers that treat each channel by itself have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase as Norm
from torch.nn.modules.conv import _ConvNd as Conv

Side = Literal["in", "out", "both"]


@dataclass(frozen=True)
class Member:
    """One tensor of a layer, and where the channels of a side lie in it."""

    tensor: str
    rank: int
    """How many dimensions the tensor has."""
    dim: int
    size: int
    """How many of the side's channels the dimension counts: all of them, or those of one group of a convolution."""
    role: Literal["makes", "reads", "follows"]
    """Whether channels are made there, are read there, or merely counted."""


def two_sided(layer: nn.Module | Tensor) -> bool:
    """Whether the channels that enter a layer are others than those that leave it."""
    return isinstance(layer, Conv | nn.Linear)


def produces(layer: nn.Module | Tensor) -> bool:
    """Whether a layer makes channels of its own: depthwise convolutions only pass on what they read."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, Conv) and not whole_groups(layer))


def width(layer: nn.Module | Tensor, side: Side) -> int | None:
    """How many channels a layer has on a side; None if it takes any number."""
    match layer:
        case Conv():
            return layer.in_channels if side == "in" else layer.out_channels
        case nn.Linear():
            return layer.in_features if side == "in" else layer.out_features
        case Norm():
            return layer.num_features
        case nn.GroupNorm():
            return layer.num_channels
        case nn.LayerNorm():
            return int(layer.normalized_shape[-1])
        case nn.PReLU():
            return layer.num_parameters if layer.num_parameters > 1 else None
        case nn.Embedding():
            return layer.embedding_dim
        case nn.MultiheadAttention():
            return int(layer.embed_dim)
        case Tensor():
            return int(layer.shape[last_dim(layer)])
    return None


def last_dim(tensor: Tensor) -> int:
    """The dimension that the channels of a parameter by itself lie on: the last one that is not of size 1."""
    return max((d for d, size in enumerate(tensor.shape) if size > 1), default=0)


def whole_groups(conv: Conv) -> bool:
    """Whether a convolution's groups have but one input or one output each, as depthwise ones do."""
    return conv.groups > 1 and conv.groups in (conv.in_channels, conv.out_channels)


def ties(layer: nn.Module | Tensor) -> Iterator[tuple[tuple[Side, int], tuple[Side, int]]]:
    """Pairs of a layer's channels that can only go together.

    A convolution of several groups stays one if each loses the channels of the same places, or if whole groups go.
    """
    if not isinstance(layer, Conv) or layer.groups == 1:
        return
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for group in range(layer.groups):
        if whole_groups(layer):
            first = group * inputs
            yield from ((("in", first), ("in", first + i)) for i in range(1, inputs))
            yield from ((("in", first), ("out", group * outputs + k)) for k in range(outputs))
        elif group:
            yield from ((("in", i), ("in", group * inputs + i)) for i in range(inputs))
            yield from ((("out", k), ("out", group * outputs + k)) for k in range(outputs))


def mixes(layer: nn.Module | Tensor) -> str:
    """Why no channel of a layer can be taken out without changing the others, "" if it can."""
    match layer:
        case nn.LayerNorm() | nn.RMSNorm():
            return "its channels are normalised together"
        case nn.GroupNorm() if layer.num_groups != layer.num_channels:
            return "its channels are normalised in groups"
        case nn.MultiheadAttention():
            return "its channels go through attention, whose heads are groups of their own"
        case nn.RNNBase() | nn.RNNCellBase():
            return "its channels go through a recurrent layer"
    return ""


def members(layer: nn.Module | Tensor, side: Side) -> Sequence[Member]:
    """The tensors of a layer that have a share in the channels of a side, named within it; "" is itself."""
    match layer:
        case Tensor():
            dim = last_dim(layer)
            return (Member("", layer.dim(), dim, layer.shape[dim], "makes"),)
        case Conv():
            return [m for m in _convolution(layer, side) if getattr(layer, m.tensor) is not None]
        case nn.Linear() if side == "in":
            return (Member("weight", 2, 1, layer.in_features, "reads"),)
        case nn.Linear():
            rows = layer.out_features
            bias = () if layer.bias is None else (Member("bias", 1, 0, rows, "makes"),)
            return (Member("weight", 2, 0, rows, "makes"), *bias)
        case nn.Embedding():
            return (Member("weight", 2, 1, layer.embedding_dim, "makes"),)
        case nn.PReLU() if layer.num_parameters > 1:
            return (Member("weight", 1, 0, layer.num_parameters, "follows"),)
        case Norm() | nn.GroupNorm():
            size = width(layer, "both") or 0
            names: Mapping[str, Literal["makes", "follows"]] = {
                "weight": "makes",
                "bias": "makes",
                "running_mean": "follows",
                "running_var": "follows",
            }
            return [Member(n, 1, 0, size, r) for n, r in names.items() if getattr(layer, n, None) is not None]
    return ()


def bare(layer: nn.Module | Tensor) -> bool:
    """Whether a normalisation counts its channels but has no tensor that does."""
    return isinstance(layer, Norm | nn.GroupNorm) and not mixes(layer) and not members(layer, "both")


def _convolution(conv: Conv, side: Side) -> Iterator[Member]:
    rows, columns = (1, 0) if conv.transposed else (0, 1)
    rank = conv.weight.dim()
    if whole_groups(conv):
        # The weight's first dimension counts all channels: those that leave, or those that enter a transposed one.
        if (side == "in") == conv.transposed:
            yield Member("weight", rank, 0, conv.weight.shape[0], "makes")
    elif side == "in":
        yield Member("weight", rank, columns, conv.weight.shape[columns], "reads")
    else:
        yield Member("weight", rank, rows, conv.weight.shape[rows], "makes")
    if side == "out":
        yield Member("bias", 1, 0, conv.out_channels, "makes")
