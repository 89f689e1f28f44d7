"""Residual branches as groups: networks with shortcuts are not changed much by any one of their blocks, so some can go
(Veit et al. 2016, arXiv:1605.06431).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from nascli.compressors.groups.tracing import Call, Trace, trace
from predictors import ScoreError
from predictors.passes import forward
from search_spaces.branches import put_instead, skip
from search_spaces.errors import SpaceError
from search_spaces.groups import Branch, Groups, Part

AXIS = "blocks"
"""The name of the axis on which all blocks of a network lie."""

_OPAQUE = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@dataclass(frozen=True)
class _Found:
    modules: tuple[str, ...]
    """In the order in which they run."""
    parameters: tuple[str, ...]


def blocks(model: nn.Module, example: tuple[Tensor, ...]) -> Groups:
    """One group a residual branch, all on one axis: its parameters, without which it adds nothing.

    A branch is what stands between a value and the sum of that value and the branch's result; its values must be used
    nowhere else. Each is tried on the example: with its parameters at zero and with its modules gone, the network must
    compute the same. Of branches within branches the inner ones are taken. Those that fail are left out, and so is all
    that torch.fx can't look into.
    """
    trial = copy.deepcopy(model).eval()
    try:
        traced = trace(trial)
    except SpaceError as error:
        return Groups(torch.zeros(0, dtype=torch.int64), (), (), left_out={"blocks": str(error)})
    _perturb(trial)
    left_out = {name: "torch.fx does not look into this layer of torch's." for name in _opaque(model)}
    found = []
    for name, nodes in _candidates(traced, model, left_out):
        try:
            branch = _branch(traced, model, nodes)
            _try(trial, branch, example)
            found.append(branch)
        except SpaceError as error:
            left_out[name] = str(error)
    return _groups(_inner(found, left_out), left_out, model)


def _groups(found: Sequence[_Found], left_out: Mapping[str, str], model: nn.Module) -> Groups:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    parts = [
        Part(name, torch.full([1] * parameters[name].dim(), owner))
        for owner, branch in enumerate(found)
        for name in branch.parameters
    ]
    branches = tuple(Branch(branch.modules, owner) for owner, branch in enumerate(found))
    axis = torch.zeros(len(found), dtype=torch.int64)
    return Groups(axis, (AXIS,) if found else (), tuple(parts), branches=branches, left_out=left_out)


def _candidates(traced: Trace, model: nn.Module, left_out: dict[str, str]) -> Iterator[tuple[str, frozenset[fx.Node]]]:
    """What may be a branch: the name of its last layer with parameters, and its operations."""
    for total, one, other in traced.additions():
        for last, first in ((one, other), (other, one)):
            nodes = traced.between(_unchanged(first, model), last)
            layers = [n for n in traced.nodes if nodes and n in nodes and _has_parameters(n, model)]
            if nodes is None or not layers:
                continue
            name = str(layers[-1].target)
            outside = [n for n in nodes if any(u not in nodes and not (n is last and u is total) for u in n.users)]
            if outside:
                left_out[name] = "What this branch computes is used elsewhere, too."
            else:
                yield name, nodes
            break
        else:
            made = [name for name in (_layer_behind(one, model), _layer_behind(other, model)) if name]
            if made and "get_attr" not in (one.op, other.op):
                left_out[made[0]] = "What it computes is added to something else than its own input."


def _branch(traced: Trace, model: nn.Module, nodes: frozenset[fx.Node]) -> _Found:
    """The branch with the fewest modules that hold all of its layers. Raises SpaceError, saying why there is none."""
    calls: dict[str, list[Call]] = {}
    for call in traced.calls:
        calls.setdefault(call.module, []).append(call)
    # A module that is called several times goes with all that it computes, or not at all.
    whole = {
        name: frozenset(n for c in made for n in c.nodes)
        for name, made in calls.items()
        if name and all(c.nodes and c.nodes <= nodes and c.plain for c in made)
    }
    chosen: dict[str, frozenset[fx.Node]] = {}
    # Of modules that compute the same, the outer one is called last.
    for name in sorted(reversed(whole), key=lambda n: -len(whole[n])):
        if not any(whole[name] <= other for other in chosen.values()):
            chosen[name] = whole[name]
    covered = frozenset().union(*chosen.values())
    names: list[str] = []
    for node in (n for n in traced.nodes if n in nodes and _has_parameters(n, model)):
        if node.op == "get_attr":
            if node not in covered and model.get_parameter(str(node.target)).dim() > 1:
                raise SpaceError(f"{node.target!r} is used outside of a module that could be left out.")
            names.append(str(node.target))
            continue
        if node not in covered:
            raise SpaceError(f"{node.target!r} is used elsewhere, too, or has more than one input or output.")
        names += [f"{node.target}.{name}" for name, _ in model.get_submodule(str(node.target)).named_parameters()]
    order = {node: i for i, node in enumerate(traced.nodes)}
    if not chosen:
        raise SpaceError("None of its modules could be left out.")
    modules = sorted(chosen, key=lambda name: max(order[n] for n in chosen[name]))
    return _Found(tuple(modules), tuple(dict.fromkeys(names)))


def _try(trial: nn.Module, branch: _Found, example: tuple[Tensor, ...]) -> None:
    """Raises SpaceError unless the network computes the same with the branch's parameters at zero and without it."""
    parameters = dict(trial.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        before = {name: parameters[name].clone() for name in branch.parameters}
        for name in before:
            parameters[name].zero_()
        silent = _output(trial, example)
        for name, value in before.items():
            parameters[name].copy_(value)
        with _skipped(trial, branch.modules):
            without = _output(trial, example)
    scale = float(silent.abs().max())
    if silent.shape != without.shape or not torch.allclose(silent, without, rtol=1e-4, atol=1e-5 * max(1.0, scale)):
        raise SpaceError("With its parameters at zero this branch still adds something.")


def _output(model: nn.Module, example: tuple[Tensor, ...]) -> Tensor:
    try:
        result = forward(model, example)
    except ScoreError as error:
        raise SpaceError(f"Without this branch the network does not run: {error}") from error
    while isinstance(result, tuple | list) and result:
        result = result[0]
    if not isinstance(result, Tensor):
        raise SpaceError(f"The network returns a {type(result).__name__}, no tensor.")
    return result


@contextmanager
def _skipped(model: nn.Module, modules: Sequence[str]) -> Iterator[None]:
    """The model without a branch for a while."""
    before = [(name, model.get_submodule(name)) for name in modules]
    skip(model, modules)
    try:
        yield
    finally:
        for name, module in before:
            put_instead(model, model.get_submodule(name), module)


def _inner(found: Sequence[_Found], left_out: dict[str, str]) -> list[_Found]:
    """Those branches that share no parameters: of any two that do, the smaller one."""
    taken: list[_Found] = []
    for branch in sorted(found, key=lambda f: len(f.parameters)):
        if any(set(branch.parameters) & set(other.parameters) for other in taken):
            left_out[branch.modules[-1]] = "There are smaller branches within this one."
        else:
            taken.append(branch)
    return [branch for branch in found if branch in taken]


def _perturb(model: nn.Module) -> None:
    """Give normalisations the statistics of a trained network: those of a new one would hide what they add."""
    numbers = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, BatchNorm) and module.running_mean is not None:
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=numbers))


def _has_parameters(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "get_attr":
        return str(node.target) in dict(model.named_parameters(remove_duplicate=False))
    return node.op == "call_module" and any(True for _ in model.get_submodule(str(node.target)).parameters())


def _unchanged(node: fx.Node, model: nn.Module) -> fx.Node:
    """The same value before it went through identities, as shortcuts do that are modules."""
    while node.op == "call_module" and type(model.get_submodule(str(node.target))) is nn.Identity:
        (node,) = node.all_input_nodes
    return node


def _layer_behind(node: fx.Node, model: nn.Module) -> str:
    """The layer with parameters that a value comes from, but for steps without any; "" if that is none."""
    while node.op != "call_module" or not _has_parameters(node, model):
        if len(node.all_input_nodes) != 1:
            return ""
        (node,) = node.all_input_nodes
    return str(node.target)


def _opaque(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _OPAQUE)]
