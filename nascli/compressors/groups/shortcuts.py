"""Modules without parameters that change what channels there are: padding shortcuts, shuffles, selections.

No trace sees through them, so they are probed: one input channel at a time is changed, and where the output changes is
where it goes. The shortcut that pads is option A of He et al. 2016, arXiv:1512.03385.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascli.compressors.groups.circuit import TRACE_ERRORS
from search_spaces.rewired import Rewired

CHUNK = 64
"""Input channels that are probed at once."""
_MOVES = (nn.ChannelShuffle,)
"""Torch's own modules that leave the number of channels as it is, but not their order."""


@dataclass(frozen=True, eq=False)
class Shortcut:
    """A module without parameters, and where its channels go."""

    module: str
    reached: Tensor
    """Whether an output channel depends on an input channel, bool [inputs, outputs]."""
    constant: tuple[int, ...]
    """Output channels that are not zero when all inputs are."""
    shape: tuple[int, ...]
    """Of its output on the example."""

    @property
    def inputs(self) -> int:
        """How many channels enter."""
        return self.reached.shape[0]

    @property
    def outputs(self) -> int:
        """How many channels leave."""
        return self.reached.shape[1]

    def pairs(self) -> list[tuple[int, int]]:
        """Each input channel with each output channel that it reaches."""
        return [(i, k) for i, k in self.reached.nonzero().tolist()]


def shortcuts(model: nn.Module, example: tuple[Tensor, ...]) -> list[Shortcut]:
    """The innermost modules without parameters that a trace does not see through, of a model in evaluation mode.

    Those that are called more than once are none. Raises what the model raises on the example.
    """
    seen = _seen(model, example)
    found: list[Shortcut] = []
    # Without convolutions over sequences, the second of three dimensions counts tokens.
    ranks = {2, 3, 4, 5} if any(isinstance(m, nn.Conv1d | nn.ConvTranspose1d) for m in model.modules()) else {2, 4, 5}
    for name, module in reversed(list(model.named_modules())):
        calls = seen.get(name, [])
        inside = any(s.module.startswith(f"{name}.") for s in found) and not isinstance(module, Rewired)
        if len(calls) != 1 or inside or calls[0][0].dim() not in ranks:
            continue
        before, after = calls[0]
        if (shortcut := _probed(name, module, before, after)) is not None:
            found = [s for s in found if not s.module.startswith(f"{name}.")] + [shortcut]
    return found


def replaced(model: nn.Module, found: Iterable[Shortcut]) -> nn.Module:
    """The model with a layer of its own in the place of each shortcut, which a trace stops at; in place."""
    for shortcut in found:
        parent, _, name = shortcut.module.rpartition(".")
        setattr(model.get_submodule(parent), name, _Stand(shortcut))
    return model


class _Stand(nn.Conv1d):
    """A layer that reads and makes as many channels as a shortcut; what it computes means nothing."""

    def __init__(self, shortcut: Shortcut) -> None:
        super().__init__(shortcut.inputs, shortcut.outputs, 1, bias=False, device="meta")  # draws nothing
        self.weight = nn.Parameter(torch.ones(self.weight.shape))
        self._shape = shortcut.shape

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of the shortcut's shape that depends on `x`."""
        return (x.mean() * self.weight.mean().to(x)).expand(self._shape).clone()


def _seen(model: nn.Module, example: tuple[Tensor, ...]) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """The tensors before and after each module without parameters that has one of each, for every call."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def hook(name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
            if kwargs or len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(out, Tensor):
                seen.setdefault(name, []).extend([(torch.empty(0), torch.empty(0))] * 2)
            else:
                seen.setdefault(name, []).append((inputs[0], out))

        return record

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name and not any(True for _ in module.parameters())
    ]
    try:
        with torch.no_grad():
            model(*example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _probed(name: str, module: nn.Module, before: Tensor, after: Tensor) -> Shortcut | None:
    """The module as a shortcut; None if a trace sees through it, or nothing can be said of its channels."""
    same = before.shape[1:2] == after.shape[1:2]
    ordinary = getattr(nn, type(module).__name__, None) is type(module) and not isinstance(module, _MOVES)
    if before.dim() != after.dim() or not before.is_floating_point() or (same and ordinary):
        return None
    try:
        if same and not isinstance(module, Rewired) and _separate(module, before[:1]) and _shrinks(module, before[:1]):
            return None
        return Shortcut(name, *_reached(module, before[:1]), tuple(after.shape))
    except TRACE_ERRORS:
        return None


def _separate(module: nn.Module, like: Tensor) -> bool:
    """Whether each output channel depends on the input channel of the same index alone.

    Any two channels differ in a digit of their binary numbers. So it is enough to change, for each digit, all channels
    that have it and then all that have not, and to look at the others.
    """
    count = like.shape[1]
    number = torch.arange(count)
    digits = [number >> d & 1 == bit for d in range(max(1, (count - 1).bit_length())) for bit in (0, 1)]
    return not any(bool(c[~d].any()) for c, d in zip(_changes(module, like, digits), digits, strict=True))


def _changes(module: nn.Module, like: Tensor, changed: Sequence[Tensor]) -> Iterator[Tensor]:
    """Which output channels change with some input channels, bool [outputs], for each selection of them [inputs]."""
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(like.shape, generator=draw).to(like)
    other = torch.randn(like.shape, generator=draw).to(like)
    with torch.no_grad():
        still = module(base)
        for start in range(0, len(changed), CHUNK):
            some = torch.stack(list(changed[start : start + CHUNK])).to(like.device)
            rows = torch.where(some.view(*some.shape, *[1] * (like.dim() - 2)), other, base)
            yield from _active(module(rows) - still, still).cpu()


def _active(values: Tensor, like: Tensor) -> Tensor:
    """Which channels are not zero anywhere, bool [rows, channels], as far as rounding of numbers like these goes."""
    largest = max(1.0, float(like.abs().max())) if like.numel() else 1.0
    return values.abs().flatten(2).amax(2) > 1e-6 * largest if values.dim() > 2 else values.abs() > 1e-6 * largest


def _reached(module: nn.Module, like: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Which outputs depend on which inputs, bool [inputs, outputs], and which outputs are not zero of zeros."""
    reached = torch.stack(list(_changes(module, like, list(torch.eye(like.shape[1], dtype=torch.bool)))))
    with torch.no_grad():
        silent = module(torch.zeros_like(like))
    return reached, tuple(_active(silent, silent)[0].nonzero().flatten().tolist())


def _shrinks(module: nn.Module, like: Tensor) -> bool:
    """Whether the module does with fewer channels what it does with all."""
    x = torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).to(like)
    some = torch.arange(1, like.shape[1], 2, device=like.device)
    try:
        with torch.no_grad():
            few, all_ = module(x.index_select(1, some)), module(x).index_select(1, some)
    except TRACE_ERRORS:
        return False
    return bool(few.shape == all_.shape and torch.allclose(few, all_, atol=1e-6))
