"""Attention heads as groups: most of a trained network's can go (Michel et al. 2019, arXiv:1905.10650)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from predictors.passes import evaluating, forward
from search_spaces.attention import keep_heads
from search_spaces.errors import SpaceError
from search_spaces.groups import Groups, Heads, Part
from search_spaces.head_layout import Layout, attention_modules, layout, torch_like

_Call = tuple[Sequence[Any], Mapping[str, Any]]


def heads(model: nn.Module, example: tuple[Tensor, ...]) -> Groups:
    """One axis a module, one group a head: its rows of queries, keys and values, and the columns that read it.

    With all of that at zero the head adds nothing. torch's attention has heads, and so has a user's own if it is made
    in one of the usual ways and computes the same without a head as with a silent one; the others are left out. Raises
    ScoreError if the model can't be run on the example, which is only needed for modules of a user's own.
    """
    found = attention_modules(model)
    called = _calls(model, {n: m for n, m in found.items() if not torch_like(m)}, example)
    layouts, left_out = {}, {}
    for name, module in found.items():
        try:
            layouts[name] = _removable(model, module, called.get(name, []))
        except SpaceError as error:
            left_out[name] = str(error)
    axis: list[int] = []
    parts, entries = [], []
    for number, (name, where) in enumerate(layouts.items()):
        start = len(axis)
        axis += [number] * where.heads
        entries.append(Heads(name, torch.arange(start, len(axis))))
        for share in where.shares:
            tensor = f"{name}.{share.tensor}" if name else share.tensor
            shape = [1] * found[name].get_parameter(share.tensor).dim()
            shape[share.dim] = -1
            parts.append(Part(tensor, (share.heads + start).view(shape)))
    return Groups(
        torch.tensor(axis, dtype=torch.int64), tuple(layouts), tuple(parts), heads=tuple(entries), left_out=left_out
    )


def _removable(model: nn.Module, module: nn.Module, calls: Sequence[_Call]) -> Layout:
    """Where the module's heads lie. Raises SpaceError, saying why, if they can't be removed one by one."""
    where = layout(module)
    if where.heads < 2:
        raise SpaceError("It has one head, which has to stay.")
    own = {id(p) for p in module.parameters()}
    inside = set(module.modules())
    if any(id(p) in own for m in model.modules() if m not in inside for p in m.parameters(recurse=False)):
        raise SpaceError("It shares parameters with another module.")
    if torch_like(module):
        if module is model:
            raise SpaceError("It is the whole network; wrap it in another module.")
    elif not calls:
        raise SpaceError("It is not reached when the network runs.")
    elif not all(_survives(module, where, call) for call in calls):
        raise SpaceError("Without its first head it computes something else than with that head silent.")
    return where


def _calls(
    model: nn.Module, modules: Mapping[str, nn.Module], example: tuple[Tensor, ...]
) -> Mapping[str, list[_Call]]:
    """What each of these modules is called with when the model runs on the example."""
    called: dict[str, list[_Call]] = {name: [] for name in modules}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            called[name].append((args, named))

        return hook

    hooks = [m.register_forward_pre_hook(note(name), with_kwargs=True) for name, m in modules.items()]
    try:
        if modules:
            with torch.no_grad(), evaluating(model):
                forward(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _survives(module: nn.Module, where: Layout, call: _Call) -> bool:
    """Whether the module computes the same with its first head removed as with it silent, whatever its parameters are.

    That the rows of queries, keys and values lie as thought shows only if none of them are zero, as biases often are.
    """
    silent = copy.deepcopy(module).eval()
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in silent.parameters():
            drawn = torch.randn(parameter.shape, generator=numbers)
            parameter.copy_(drawn / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() else drawn)
        fewer = copy.deepcopy(silent)
        for share in where.shares:
            first = (share.heads == 0).nonzero().flatten()
            parameter = silent.get_parameter(share.tensor)
            parameter.index_fill_(share.dim, first.to(parameter.device), 0)
        keep_heads(fewer, "", range(1, where.heads))
        wanted = _first(_run(silent, call))
        result = _first(_run(fewer, call))
    return result.shape == wanted.shape and torch.allclose(result, wanted, rtol=1e-3, atol=1e-4)


def _run(module: nn.Module, call: _Call) -> Any:
    """What a foreign module returns. Whatever it may raise, as it may raise anything, becomes a SpaceError."""
    for_itself, named = copy.deepcopy(call)
    try:
        return module(*for_itself, **named)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SpaceError(f"It does not run without one of its heads ({reason[:160].rstrip('.')}).") from error


def _first(value: Any) -> Tensor:
    """The first tensor of what a module returns."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    if not isinstance(value, Tensor):
        raise SpaceError(f"It returns a {type(value).__name__}, no tensor.")
    return value
