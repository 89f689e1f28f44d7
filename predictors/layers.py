"""The layers whose weights proxies score: convolutions and linear maps; and copies of networks to look into."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from predictors import ScoreError

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""What counts as a layer with weights."""


def weighted(model: nn.Module) -> list[tuple[str, Weighted]]:
    """The layers with weights by name, in the order of `modules()`; a layer that stands in two places comes once."""
    return [(name, part) for name, part in model.named_modules() if isinstance(part, Weighted)]


def uncounted(model: nn.Module) -> tuple[str, ...]:
    """The names of matrices and kernels that are no weight of such a layer: embeddings, attention's own, one's own."""
    counted = {id(layer.weight) for _, layer in weighted(model)}
    return tuple(name for name, p in model.named_parameters() if p.dim() >= 2 and id(p) not in counted)


def fan_in(layer: Weighted) -> int:
    """How many inputs one output number of the layer sums up."""
    return math.prod(layer.weight.shape[1:])


def isolated(model: nn.Module, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy to look into, in training mode, that works on nothing in place and drops nothing out.

    The model itself stays untouched. Raises ScoreError if the model holds tensors that cannot be copied.
    """
    try:
        made = copy.deepcopy(model)
    except RuntimeError as error:
        problem = f"{type(model).__name__} can't be copied ({error})"
        raise ScoreError(f"{problem}; keep no tensors with a history in it.") from error
    for part in made.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]
        # Dropout would draw from the global generator, and scores would be those of a random part of the network.
        if isinstance(part, _DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0
    for parameter in made.parameters():
        parameter.grad = None
        parameter.requires_grad_(parameter.is_floating_point())
    # Channels last: twice as fast on a CPU, pooling most of all; only the layout in memory differs.
    return made.to(dtype).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload, no-any-return]


def replace_norms(model: nn.Module, make: Callable[[_BatchNorm], nn.Module]) -> None:
    """Put `make(norm)` in the place of every BatchNorm, in place; one that stands in two places is replaced once."""
    made: dict[int, nn.Module] = {}
    for parent, name, norm in list(_norms(model)):
        if id(norm) not in made:
            made[id(norm)] = make(norm)
        setattr(parent, name, made[id(norm)])


def reset(model: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Draw all weights of layers anew with `draw` (in place); biases 0, BatchNorm scales 1 and shifts 0."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Weighted):
                draw(part.weight)
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, _BatchNorm) and part.affine:
                part.weight.fill_(1.0)
                part.bias.zero_()


def _norms(model: nn.Module) -> Iterator[tuple[nn.Module, str, _BatchNorm]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                yield parent, name, child
