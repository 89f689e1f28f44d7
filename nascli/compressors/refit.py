"""Weights fitted anew to what is left, in closed form, so that each layer puts out what it did in the dense network.

Reconstruction by least squares as in He et al. 2017 (arXiv:1707.06168): layer after layer in the order in which they
run, each on the inputs that the smaller layers before it give by now, so that their errors are made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.criteria import normalises
from nascli.compressors.features import channels_of, kept_channels
from predictors.passes import evaluating
from search_spaces.keep import Keep
from search_spaces.space import Batch

ROWS = 16384
"""Equations for each weight, at most: places in a layer's outputs, drawn evenly from all examples."""
RIDGE = 1e-2
"""How strongly weights are held to what they were, relative to the mean square of their inputs."""
TOGETHER = 8
"""Layers whose targets are read in one pass of the teacher."""

Layers = Mapping[str, nn.Module]
Fitted = nn.Conv2d | nn.Linear


def refit(model: nn.Module, teacher: nn.Module, edit: Keep, batches: Sequence[Batch]) -> int:
    """How many layers were fitted, in place: convolutions of images and linear layers that run once a pass.

    The model is what `edit` leaves of the teacher. Its normalisation layers become the teacher's again first, as that
    is what is fitted to.
    """
    mine, theirs = dict(model.named_modules()), dict(teacher.named_modules())
    with torch.no_grad(), evaluating(model), evaluating(teacher):
        _renormalise(mine, theirs, edit)
        order = [name for name in _order(model, batches[0]) if type(theirs.get(name)) is type(mine[name])]
        for start in range(0, len(order), TOGETHER):
            names = order[start : start + TOGETHER]
            targets = _targets(teacher, {name: theirs[name] for name in names}, edit, batches)
            for name in names:
                layer = mine[name]
                if isinstance(layer, Fitted):
                    _fit(model, layer, targets[name], batches)
    return len(order)


def _renormalise(mine: Layers, theirs: Layers, edit: Keep) -> None:
    """Give the model's normalisation layers what the teacher's have."""
    for name, module in mine.items():
        other = theirs.get(name)
        if other is None or type(other) is not type(module) or [*module.children()] or not normalises(module):
            continue
        values = other.state_dict()
        for key, tensor in module.state_dict().items():
            if tensor.dim() == values[key].dim():
                tensor.copy_(channels_of(values[key], kept_channels(name, edit), 0) if tensor.dim() else values[key])


class _EnoughError(Exception):
    """The layer that a pass was made for has run."""


def _order(model: nn.Module, batch: Batch) -> list[str]:
    """The layers that can be fitted, as they run; without those that run more than once."""
    ran: list[str] = []

    def note(name: str, output: Tensor) -> None:
        ran.append(name)

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and _plain(module)):
                hooks.callback(module.register_forward_hook(_telling(note, name)).remove)
        model(*(x[:2] for x in batch.inputs))
    return [name for name in ran if ran.count(name) == 1]


def _plain(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _telling(told: Callable[[str, Tensor], None], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A hook that tells a layer's name and output."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        told(name, output)

    return hook


def _targets(teacher: nn.Module, layers: Layers, edit: Keep, batches: Sequence[Batch]) -> dict[str, list[Tensor]]:
    """What each layer puts out at the places that are looked at, a batch each: [rows, channels that are left]."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def read(name: str, output: Tensor) -> None:
        rows = _rows(output if isinstance(layers[name], nn.Linear) else output.movedim(1, -1), batches)
        found[name].append(channels_of(rows, kept_channels(name, edit), 1))

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(_telling(read, name)).remove)
        for batch in batches:
            teacher(*batch.inputs)
    return found


def _rows(values: Tensor, batches: Sequence[Batch]) -> Tensor:
    """The values [examples, ..., channels] at the places that are looked at: [rows, channels]."""
    flat = values.reshape(len(values), -1, values.shape[-1])
    return flat[:, _places(flat.shape[1], batches).to(flat.device)].flatten(0, 1)


def _places(count: int, batches: Sequence[Batch]) -> Tensor:
    """Which of so many places of each example are looked at; the same ones whenever it is asked."""
    wanted = max(1, ROWS // sum(len(batch.inputs[0]) for batch in batches))
    return torch.randperm(count, generator=torch.Generator().manual_seed(count))[:wanted]


def _fit(model: nn.Module, layer: Fitted, targets: Sequence[Tensor], batches: Sequence[Batch]) -> None:
    """Give the layer the weights that lead from its present inputs to the targets with the least squares."""
    sums = _Sums(layer, batches)
    hook = layer.register_forward_pre_hook(sums.read)
    try:
        for batch, target in zip(batches, targets, strict=True):
            sums.target = target
            with suppress(_EnoughError):
                model(*batch.inputs)
    finally:
        hook.remove()
    sums.solve()


class _Sums:
    """The normal equations of one layer, added up over batches; the groups of a convolution have one system each."""

    def __init__(self, layer: Fitted, batches: Sequence[Batch]) -> None:
        self._layer, self._batches = layer, batches
        self._groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        self.target = torch.empty(0)
        self._gram: Tensor | float = 0.0
        self._cross: Tensor | float = 0.0

    def read(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add what the layer gets to the sums, and end the pass."""
        given = self._given(inputs[0])
        if self._layer.bias is not None:
            given = torch.cat([given, given.new_ones(*given.shape[:-1], 1)], -1)
        wanted = self.target.reshape(len(self.target), self._groups, -1).movedim(1, 0)
        self._gram = self._gram + (given.mT @ given).double()
        self._cross = self._cross + (given.mT @ wanted).double()
        raise _EnoughError

    def solve(self) -> None:
        """Write the solution into the layer; weights are held to what they were, as far as inputs are alike."""
        gram, cross = self._gram, self._cross
        if not isinstance(gram, Tensor) or not isinstance(cross, Tensor):
            return
        layer, groups = self._layer, self._groups
        before = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1).mT.double()
        if layer.bias is not None:
            before = torch.cat([before, layer.bias.reshape(groups, 1, -1).double()], 1)
        diagonal = gram.diagonal(dim1=1, dim2=2)
        hold = (RIDGE * diagonal.mean(1)).clamp(min=1e-12)[:, None, None]
        system = gram + hold * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        found = torch.linalg.solve(system, cross + hold * before).mT
        if layer.bias is not None:
            layer.bias.copy_(found[..., -1].flatten())
            found = found[..., :-1]
        layer.weight.copy_(found.reshape(layer.weight.shape))

    def _given(self, inputs: Tensor) -> Tensor:
        """What each output that is looked at is a linear function of: [groups, rows, inputs of a group]."""
        layer = self._layer
        if isinstance(layer, nn.Linear):
            return _rows(inputs, self._batches)[None]
        return _patches(layer, inputs, self._batches)


def _patches(conv: nn.Conv2d, images: Tensor, batches: Sequence[Batch]) -> Tensor:
    """What a convolution's kernel sees at the places that are looked at: [groups, rows, channels x kernel]."""
    (high, wide), (kernel, across) = conv.stride, conv.kernel_size
    (down, right), (top, left) = conv.dilation, (int(p) for p in conv.padding)
    padded = F.pad(images, (left, left, top, top))
    rows = (padded.shape[2] - down * (kernel - 1) - 1) // high + 1
    columns = (padded.shape[3] - right * (across - 1) - 1) // wide + 1
    place = _places(rows * columns, batches).to(images.device)
    y = (place // columns * high)[:, None, None] + down * torch.arange(kernel, device=images.device)[:, None]
    x = (place % columns * wide)[:, None, None] + right * torch.arange(across, device=images.device)
    seen = padded[:, :, y, x].movedim(2, 1)  # [examples, places, channels, kernel, across]
    return seen.reshape(len(images) * len(place), conv.groups, -1).movedim(1, 0)
