"""Parameters, multiply-adds and bytes of a network, counted while it makes one forward pass.

One multiply-add is one MAC; `predictors.operations` says what is counted and what is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from predictors.operations import operations, tensor_bytes


@dataclass(frozen=True)
class Cost:
    """What a network costs before anything is measured."""

    params: int
    """Numbers in parameters, frozen ones too; shared ones once."""
    macs: int
    size_bytes: int
    """Bytes of the tensors in the state dict, parameters and buffers; shared ones once."""
    uncounted: tuple[str, ...]
    """The operations that multiply but could not be counted, by name; their MACs are missing from `macs`."""


def count(model: nn.Module, inputs: tuple[Tensor, ...]) -> Cost:
    """The cost of `model(*inputs)`; MACs are those of all examples in `inputs`, so give one.

    The model is left as it was. Raises ScoreError if the forward pass fails.
    """
    found = operations(model, inputs)
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        macs=sum(o.macs for o in found),
        size_bytes=_size_bytes(model),
        uncounted=tuple(sorted({o.name for o in found if not o.counted})),
    )


def _size_bytes(model: nn.Module) -> int:
    sizes: dict[tuple[object, ...], int] = {}
    for tensor in model.state_dict(keep_vars=True).values():
        if isinstance(tensor, Tensor):
            # Tied weights lie at one address; tensors without an address (meta) are told apart as objects.
            place = tensor.data_ptr() if tensor.layout == torch.strided and tensor.device.type != "meta" else 0
            key = (tensor.device, place, tensor.shape, tensor.stride(), tensor.dtype) if place else (id(tensor),)
            sizes[key] = tensor_bytes(tensor)
    return sum(sizes.values())
