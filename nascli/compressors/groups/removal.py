"""Taking dead groups out: as an edit that makes the network smaller, proven to compute what zeros in its place do.

What no proof is found for is not removed. So that zeros hide nothing, the proof is led on a copy with stirred tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nascli.compressors.groups.circuit import TRACE_ERRORS
from predictors.passes import evaluating
from search_spaces.groups import Cut, Groups
from search_spaces.keep import Keep

TOLERANCE = 1e-4
"""The largest difference of two networks' outputs, relative to the largest output, that rounding explains."""


def keep(groups: Groups, alive: Tensor, model: nn.Module) -> Keep:
    """What is left of the model when only these groups live, bool [groups]."""
    lives = torch.cat([alive.cpu(), torch.ones(1, dtype=torch.bool)])

    def kept(owners: Tensor) -> tuple[int, ...]:
        return tuple(lives[owners % len(lives)].nonzero().flatten().tolist())

    cuts: dict[str, dict[int, tuple[int, ...]]] = {}
    for cut in groups.cuts:
        if len(stays := kept(cut.owners)) < len(cut.owners):
            cuts.setdefault(cut.tensor, {})[cut.dim] = stays
    borders = {
        b.module: {"inputs": kept(b.inputs), "outputs": kept(b.outputs), "of": (len(b.inputs),)}
        for b in groups.borders
        if not lives[torch.cat([b.inputs, b.outputs]) % len(lives)].all()
    }
    heads = {h.module: kept(h.owners) for h in groups.heads if len(kept(h.owners)) < len(h.owners)}
    return Keep(cuts, borders, heads, tuple(b.modules for b in groups.branches if not lives[b.owner]))


def silence_(model: nn.Module, groups: Groups, alive: Tensor) -> None:
    """Nothing; afterwards all that dead groups have is zero, so that they have no influence. Alive is bool [groups]."""
    tensors = _tensors(model)
    groups.scale_(tensors, alive.to(torch.float32))
    for cut in groups.cuts:
        # A normalisation without a scale of its own would make a constant of a zero.
        if cut.tensor.endswith("running_mean"):
            mean = tensors[cut.tensor]
            mean[_dead(cut, alive).to(mean.device)] = 0


def difference(a: nn.Module, b: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The largest difference of two networks' outputs in evaluation mode, relative to the largest output or to 1.

    On these inputs and on two random batches like them; inf if the outputs differ in shape or are no numbers.
    """
    draw = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.no_grad(), evaluating(a), evaluating(b):
        for batch in (inputs, _like(inputs, draw), _like(inputs, draw)):
            ours, theirs = (_outputs(m(*batch)) for m in (a, b))
            if [t.shape for t in ours] != [t.shape for t in theirs]:
                return float("inf")
            for x, y in zip(ours, theirs, strict=True):
                largest = max(1.0, float(x.abs().max())) if x.numel() else 1.0
                off = float((x - y).abs().max()) / largest if x.numel() else 0.0
                worst = max(worst, off) if off == off else float("inf")
    return worst


def verified(groups: Groups, model: nn.Module, example: tuple[Tensor, ...]) -> Groups:
    """The axes whose groups can be removed without changing what the network computes; the others are left out."""
    proof = _Proof(groups, model, _few(example))
    good = proof.good(list(range(len(groups.names))))
    left_out = {groups.names[a]: r for a, r in proof.reasons.items() if a not in good}
    return groups if len(good) == len(groups.names) else groups.only(good, left_out)


def remove(
    model: nn.Module, groups: Groups, alive: Tensor, example: tuple[Tensor, ...]
) -> tuple[nn.Module, Keep | None, str]:
    """The network without its dead groups and the edit that makes it so; where that fails, the network with zeros in
    their place, None, and the reason.
    """
    silenced = copy.deepcopy(model)
    silence_(silenced, groups, alive)
    if not groups.removable:
        return silenced, None, "groups of this kind can only be zero"
    edit = keep(groups, alive, model)
    try:
        smaller = edit.apply(copy.deepcopy(silenced))
        off = difference(silenced, smaller, _few(example))
    except TRACE_ERRORS as error:
        return silenced, None, f"taking them out fails: {_said(error)}"
    if off > TOLERANCE:
        return silenced, None, f"taking them out changes what the network computes, by {off:.1e}"
    return smaller, edit, ""


class _Proof:
    """Tries to remove some groups of some axes, of all at once if possible."""

    def __init__(self, groups: Groups, model: nn.Module, example: tuple[Tensor, ...]) -> None:
        self._groups, self._model, self._example = groups, model, example
        self.reasons: dict[int, str] = {}
        draw = torch.Generator().manual_seed(0)
        self._stirred = copy.deepcopy(model)
        for name, tensor in _tensors(self._stirred).items():
            _stir(name, tensor, draw)
        # Some of each axis, at random places and never all; twice, as one pattern might suit by chance.
        self._dead = [_some(groups, draw), _some(groups, draw)]

    def good(self, axes: list[int]) -> list[int]:
        """Those of the axes that can be removed, together."""
        if not axes or not (reason := self._wrong(axes)):
            return axes
        if len(axes) == 1:
            self.reasons[axes[0]] = reason
            return []
        half = len(axes) // 2
        first, second = self.good(axes[:half]), self.good(axes[half:])
        if not first or not second or not self._wrong(first + second):
            return first + second
        for axis in second:
            if reason := self._wrong([*first, axis]):
                self.reasons[axis] = reason
            else:
                first.append(axis)
        return first

    def _wrong(self, axes: Sequence[int]) -> str:
        """What goes wrong when groups of these axes are removed, "" if nothing does."""
        among = torch.isin(self._groups.axis, torch.tensor(axes))
        for dead in self._dead:
            alive = ~(dead & among)
            silenced = copy.deepcopy(self._stirred)
            silence_(silenced, self._groups, alive)
            try:
                smaller = keep(self._groups, alive, self._model).apply(copy.deepcopy(silenced))
                off = difference(silenced, smaller, self._example)
            except TRACE_ERRORS as error:
                return f"taking its channels out fails: {_said(error)}"
            if off > TOLERANCE:
                return f"taking its channels out changes what the network computes, by {off:.1e}"
        return ""


def _some(groups: Groups, draw: torch.Generator) -> Tensor:
    """Up to half of the groups of each axis, at least one and never all, bool [groups]."""
    chosen = torch.zeros(len(groups), dtype=torch.bool)
    for axis, size in enumerate(groups.sizes().tolist()):
        mine = (groups.axis == axis).nonzero().flatten()
        count = int(torch.randint(1, max(2, size // 2 + 1), (), generator=draw))
        chosen[mine[torch.randperm(size, generator=draw)[: min(count, size - 1)]]] = True
    return chosen


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _dead(cut: Cut, alive: Tensor) -> Tensor:
    lives = torch.cat([alive.cpu(), torch.ones(1, dtype=torch.bool)])
    return ~lives[cut.owners % len(lives)]


def _stir(name: str, tensor: Tensor, draw: torch.Generator) -> None:
    """Move a tensor's numbers, so that none is zero by chance and none stands out."""
    if not tensor.is_floating_point() or not tensor.numel():
        return
    noise = torch.randn(tensor.shape, generator=draw).to(tensor)
    with torch.no_grad():
        if name.endswith("running_var"):
            tensor.add_(0.1 * noise.abs())
        else:
            tensor.add_(noise * (0.1 if tensor.dim() < 2 else 0.3 * (tensor.numel() / len(tensor)) ** -0.5))


def _few(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Two of the examples, if it is clear which dimension counts them."""
    return tuple(x[:2] for x in example) if len({len(x) for x in example}) == 1 else example


def _like(inputs: tuple[Tensor, ...], draw: torch.Generator) -> tuple[Tensor, ...]:
    """Random inputs of the same shapes: normal numbers, or whole ones of the same range."""
    return tuple(
        torch.randn(x.shape, generator=draw).to(x)
        if x.is_floating_point()
        else x.flatten()[torch.randint(max(1, x.numel()), x.shape, generator=draw).to(x.device)]
        for x in inputs
    )


def _outputs(out: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def _said(error: BaseException) -> str:
    lines: Mapping[int, str] = dict(enumerate(str(error).strip().splitlines()))
    return f"{type(error).__name__}: {lines.get(0, '')[:120]}"
