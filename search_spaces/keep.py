"""Keep: a network without some of its channels, heads or branches, as an edit that can be written down.

What is removed was zero (or had nothing but zeros to add) and coupled layer by layer, so the network computes what it
did: structured pruning as in Li et al. 2017, arXiv:1608.08710.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase as Norm
from torch.nn.modules.conv import _ConvNd as Conv

from search_spaces.attention import keep_heads
from search_spaces.branches import put_instead, skip, submodule
from search_spaces.errors import SpaceError
from search_spaces.rewired import Rewired


@dataclass(frozen=True)
class Keep:
    """What stays of a network; everything is by name, and applying it needs torch alone."""

    cuts: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict, hash=False)
    """Tensor -> dimension -> the indices that stay."""
    borders: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict, hash=False)
    """Module without parameters -> "inputs" and "outputs" -> the channels that stay, and "of": how many there were."""
    heads: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    """Attention module -> the heads that stay."""
    branches: tuple[tuple[str, ...], ...] = ()
    """Residual branches that are gone: their modules in order."""

    @property
    def name(self) -> str:
        """The plugin's name."""
        return "keep"

    def apply(self, model: nn.Module) -> nn.Module:
        """The smaller network; `model` may be taken apart. Raises SpaceError if it has nothing of a name."""
        self._shorten(model)
        for name, channels in self.borders.items():
            _rewire(model, name, channels)
        for name, heads in self.heads.items():
            keep_heads(model, name, heads)
        for branch in self.branches:
            skip(model, branch)
        return model

    def _shorten(self, model: nn.Module) -> None:
        """Make the tensors shorter, wherever they are shared, and let their modules know."""
        wholes = {name: _tensor(model, name) for name in self.cuts}
        places = _places(model)
        groups = {module: _groups(module) for whole in wholes.values() for module, _ in places[id(whole)]}
        for whole in {id(whole): whole for whole in wholes.values()}.values():
            value = whole.detach()
            for name, dims in self.cuts.items():
                for dim, kept in dims.items() if wholes[name] is whole else ():
                    value = _shortened(name, value, dim, kept, before=whole.shape)
            if isinstance(whole, nn.Parameter):
                value = nn.Parameter(value, requires_grad=whole.requires_grad)
            for module, attribute in places[id(whole)]:
                setattr(module, attribute, value)
        for module, before in groups.items():
            _count(module, before)


def _tensor(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    found = getattr(submodule(model, owner), attribute, None)
    if not isinstance(found, Tensor):
        raise SpaceError(f"{type(model).__name__} has no tensor {name!r}; is this the network it was in?")
    return found


def _places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where each tensor lies, which may be several places."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                places.setdefault(id(tensor), []).append((module, name))
    return places


def _shortened(name: str, value: Tensor, dim: int, kept: Sequence[int], *, before: Sequence[int]) -> Tensor:
    """The value with these indices of one dimension; those of a tensor that two names share are cut once."""
    if dim >= len(before) or max(kept, default=0) >= before[dim]:
        shape = "x".join(map(str, before))
        raise SpaceError(f"{name!r} is {shape}, so it has no index {max(kept, default=0)} along dimension {dim}.")
    if len(kept) == value.shape[dim] < before[dim]:
        return value
    return value.index_select(dim, torch.tensor(kept, dtype=torch.int64, device=value.device))


def _groups(module: nn.Module) -> tuple[int, int]:
    """How many inputs and outputs each group of a convolution has; (0, 0) of other modules."""
    if not isinstance(module, Conv):
        return 0, 0
    return module.in_channels // module.groups, module.out_channels // module.groups


def _count(module: nn.Module, groups: tuple[int, int]) -> None:
    """Let a module know how many channels its tensors have now."""
    match module:
        case Conv():
            _count_convolution(module, *groups)
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case Norm():
            module.num_features = _length(module)
        case nn.GroupNorm():
            each = module.num_groups == module.num_channels
            module.num_channels = _length(module)
            module.num_groups = module.num_channels if each else module.num_groups
        case nn.LayerNorm() | nn.RMSNorm():
            module.normalized_shape = tuple(module.weight.shape)
        case nn.PReLU():
            module.num_parameters = len(module.weight)
        case nn.Embedding():
            module.num_embeddings, module.embedding_dim = module.weight.shape


def _count_convolution(conv: Conv, inputs: int, outputs: int) -> None:
    """Where groups had but one input or one output each, whole groups went; elsewhere each lost the same places."""
    first, second = conv.weight.shape[:2]
    each = inputs if conv.transposed else outputs
    if conv.groups > 1 and 1 in (inputs, outputs):
        if first % each:
            raise SpaceError(f"{first} channels are left of a convolution whose groups have {each}; keep whole groups.")
        conv.groups = first // each
    elif first % conv.groups:
        raise SpaceError(f"{first} channels are left of a convolution of {conv.groups} groups; keep as many of each.")
    conv.in_channels = first if conv.transposed else second * conv.groups
    conv.out_channels = second * conv.groups if conv.transposed else first


def _length(module: nn.Module) -> int:
    return next(len(t) for t in (*module.parameters(), *module.buffers()) if t.dim() == 1)


def _rewire(model: nn.Module, name: str, kept: Mapping[str, Sequence[int]]) -> None:
    """Put a module between the channels that are left."""
    module = submodule(model, name)
    inputs, outputs, of = kept["inputs"], kept["outputs"], kept["of"][0]
    match module:
        case Rewired():
            now = [module.inputs[i] for i in inputs], [module.outputs[k] for k in outputs], module.of
            put_instead(model, module, Rewired(module.inner, *now).to(_device(model)))
        case Norm() if not module.state_dict():
            module.num_features = len(inputs)
        case nn.GroupNorm() if not module.state_dict():
            module.num_groups = module.num_channels = len(inputs)
        case _:
            put_instead(model, module, Rewired(module, inputs, outputs, of).to(_device(model)))


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
