"""Torch-Pruning's importances, each on the groups that its own graph couples, handed to our groups (arXiv:2301.12900).

What other people's pruning would do: the same numbers that its pruners rank channels by, in our selection and training.
Every importance has the library's defaults, so it is the mean over the coupled layers, and in most of them divided by
what is usual among the channels of these layers.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Conv

from nascli.compressors.criteria import derivatives, lacking
from nascli.compressors.groups.circuit import TRACE_ERRORS
from nascli.compressors.groups.shortcuts import replaced, shortcuts
from nascli.errors import SettingsError, UnsupportedError, did_you_mean
from search_spaces.groups import Groups
from search_spaces.space import Batch

log = logging.getLogger(__name__)

IMPORTANCES: Mapping[str, Any] = {
    "magnitude": tp.importance.GroupMagnitudeImportance,
    "taylor": tp.importance.GroupTaylorImportance,
    "hessian": tp.importance.GroupHessianImportance,
    "bn_scale": tp.importance.BNScaleImportance,
    "lamp": tp.importance.LAMPImportance,
    "fpgm": tp.importance.FPGMImportance,
    "random": tp.importance.RandomImportance,
}


def scores(
    model: nn.Module,
    groups: Groups,
    example: tuple[Tensor, ...],
    batches: Iterable[Batch],
    *,
    importance: str,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """Torch-Pruning's importance of each group [groups], float64, on the model's device; the model is left as it was.

    A group that several channels belong to, as heads are, or channels on both sides of a shortcut that the library does
    not see through, has their mean. Where all of a layer's channels are of no importance, they have zero. Of the
    importances, "taylor" and "hessian" read the batches, and "random" draws from `rng`, which it needs. Raises
    SettingsError if there is no such importance, DataError if it needs batches and there are none, UnsupportedError if
    the network can't be traced or a group has no importance.
    """
    if importance not in IMPORTANCES:
        raise SettingsError(f"Torch-Pruning has no importance {importance!r}.{did_you_mean(importance, IMPORTANCES)}")
    scorer = IMPORTANCES[importance]()
    total = torch.zeros(len(groups) + 1, dtype=torch.float64, device=example[0].device)
    counts = total.clone()
    found = _coupled(model, example, groups, _gradients(model, batches, importance))
    with _drawn_from(rng, importance):
        for coupled in found:
            if (scored := _scored(scorer, coupled)) is None:
                continue
            for owners in coupled.owners:
                places = owners.to(total.device) % len(total)
                total.index_add_(0, places, scored[coupled.roots].to(total))
                counts.index_add_(0, places, torch.ones_like(places, dtype=counts.dtype))
    result = total[:-1] / counts[:-1]
    if bare := lacking(groups, torch.isfinite(result)):
        raise UnsupportedError(
            f"Torch-Pruning's {importance!r} has no number for the channels of {bare}; "
            "use another importance, or leave these layers out."
        )
    return result


@dataclass(frozen=True, eq=False)
class _Coupled:
    """Layers that the library couples, and what we call the channels of the first of them that makes some of ours."""

    group: tp.Group
    channels: int
    """How many channels the library tells apart."""
    owners: tuple[Tensor, ...]
    """The group of each channel, or NOBODY, for each kind of groups that the layer is divided into [k]."""
    roots: list[int]
    """Which of the library's channels each of them is [k]."""


def _coupled(
    model: nn.Module, example: tuple[Tensor, ...], groups: Groups, gradients: Mapping[str, Tensor]
) -> list[_Coupled]:
    """All coupled layers that make channels of groups, in a copy of the model with these gradients."""
    clone = copy.deepcopy(model).eval()
    try:
        # What stands in for a shortcut is drawn at random; it takes part in the graph only.
        with torch.random.fork_rng(devices=[]):
            opaque = shortcuts(clone, example)
            replaced(clone, opaque)
        graph = _graph(clone, example)
    except TRACE_ERRORS as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(
            f"Torch-Pruning can't trace the network ({said[:160].rstrip('.')}); prune by magnitude or taylor."
        ) from error
    for name, gradient in gradients.items():
        clone.get_parameter(name).grad = gradient
    names = {module: name for name, module in clone.named_modules()}
    hidden = {clone.get_submodule(s.module) for s in opaque}
    found = (_ours(graph, group, groups, names, hidden) for group in graph.get_all_groups())
    return [coupled for coupled in found if coupled is not None]


def _graph(clone: nn.Module, example: tuple[Tensor, ...]) -> tp.DependencyGraph:
    """The library's graph; it does not see parameters that are frozen, so that they are not frozen afterwards."""
    for parameter in clone.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of parameters outside of layers, which no importance reads
        return tp.DependencyGraph().build_dependency(clone, example, forward_fn=lambda m, x: m(*x), verbose=False)


def _ours(
    graph: tp.DependencyGraph, group: tp.Group, groups: Groups, names: Mapping[nn.Module, str], hidden: set[nn.Module]
) -> _Coupled | None:
    """The group without the layers that stand in for others; None if none of the rest makes channels of our groups."""
    channels = len(group[0].idxs)
    group.items[:] = [item for item in group.items if item.dep.target.module not in hidden]
    for item in group.items:
        layer = item.dep.target.module
        if isinstance(layer, Conv | nn.Linear) and graph.is_out_channel_pruning_fn(item.dep.handler):
            pairs = [(i, root) for i, root in zip(item.idxs, item.root_idxs, strict=True) if root is not None]
            indices, roots = [i for i, _ in pairs], [root for _, root in pairs]
            if owners := _produced(groups, names[layer], layer):
                return _Coupled(group, channels, tuple(o[indices] for o in owners), roots)
    return None


def _produced(groups: Groups, layer: str, module: nn.Module) -> list[Tensor]:
    """The group of each output channel of a layer, or NOBODY, for each kind of groups that it is divided into."""
    weight = f"{layer}.weight"
    dim = 1 if isinstance(module, Conv) and module.transposed else 0
    rows = [p.owners for p in groups.parts if p.tensor == weight and p.owners.numel() == p.owners.shape[dim]]
    return [o.flatten() for o in rows] + [c.owners for c in groups.cuts if (c.tensor, c.dim) == (weight, dim)]


def _scored(scorer: Any, coupled: _Coupled) -> Tensor | None:
    """The importance of the library's channels [channels or more]; None where it has none.

    It adds up layers in a tensor as long as the first of them. That has zeros at the end where the first one is a
    linear layer behind a picture, and is too short where it has been split off.
    """
    try:
        found: Tensor | None = scorer(coupled.group)
        if found is not None and found.isnan().any():
            # Channels that all score zero, as those of a dead layer, are not divided by their mean.
            plain = copy.copy(scorer)
            plain.normalizer = None
            found = raw if not (raw := plain(coupled.group)).any() else found
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError) as error:
        log.debug("no importance of %s: %s", coupled.group[0].dep.target.name, error)
        return None
    return None if found is None or len(found) < coupled.channels else found


def _gradients(model: nn.Module, batches: Iterable[Batch], importance: str) -> dict[str, Tensor]:
    """What an importance expects to find as gradients, up to a factor, which it divides out.

    For "taylor" that is the sum of the batches' gradients, for "hessian" the sum of the examples' squared ones. The
    library's own accumulator of these looks up by name what it keeps by parameter, so that the last example remains.
    """
    if importance not in ("taylor", "hessian"):
        return {}
    parameters = dict(model.named_parameters())
    if importance == "taylor":
        terms: Iterable[dict[str, Tensor]] = derivatives(model, parameters, batches)
    else:
        each = derivatives(model, parameters, _single(batches), of="examples")
        terms = ({name: gradient.square() for name, gradient in example.items()} for example in each)
    total: dict[str, Tensor] = {}
    for term in terms:
        total = {name: total[name] + value if total else value for name, value in term.items()}
    return total


def _single(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches of one example, so that its gradient costs no pass through others; graphs stay whole."""
    for batch in batches:
        if len(batch.inputs) > 1 or batch.mask is not None:
            yield batch
        else:
            (inputs,) = batch.inputs
            yield from (Batch((inputs[i : i + 1],), batch.targets[i : i + 1]) for i in range(len(inputs)))


@contextmanager
def _drawn_from(rng: np.random.Generator | None, importance: str) -> Iterator[None]:
    """Inside, torch's generator is seeded from `rng`; afterwards it is as it was."""
    if importance != "random":
        yield
        return
    if rng is None:
        raise ValueError("importance='random' draws numbers; give the generator rng")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield
