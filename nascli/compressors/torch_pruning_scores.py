"""Torch-Pruning's importances, each on the groups that its own graph couples, handed to our groups (arXiv:2301.12900).

What other people's pruning would do: the same numbers that its pruners rank channels by, in our selection and training.
Every importance has the library's defaults, so it is the mean over the coupled layers, divided by the group's own mean.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from nascli.compressors.criteria import derivatives, lacking
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

    A group that several channels belong to, as heads are, has their mean. Of the importances, "taylor" and "hessian"
    read the batches, and "random" draws from `rng`, which it needs. Raises SettingsError if there is no such
    importance, DataError if it needs batches and there are none, UnsupportedError if a group has no importance.
    """
    if importance not in IMPORTANCES:
        raise SettingsError(f"Torch-Pruning has no importance {importance!r}.{did_you_mean(importance, IMPORTANCES)}")
    graph = _graph(model, example)
    for name, gradient in _gradients(model, batches, importance).items():
        graph.model.get_parameter(name).grad = gradient
    total = torch.zeros(len(groups) + 1, dtype=torch.float64, device=example[0].device)
    counts = total.clone()
    scorer = IMPORTANCES[importance]()
    with _drawn_from(rng, importance):
        for coupled in graph.get_all_groups():
            root = coupled[0].dep.target.module
            produced = _produced(groups, graph._module2name[root], root)
            found = _scored(scorer, coupled) if produced else None
            if found is None:
                continue
            for owners in produced:
                places = owners.to(total.device) % len(total)
                total.index_add_(0, places, found.to(total))
                counts.index_add_(0, places, counts.new_ones(len(places)))
    result = total[:-1] / counts[:-1]
    # No channel of a group was scored, or all of a layer's scores are zero and were divided by their mean.
    if bare := lacking(groups, torch.isfinite(result)):
        raise UnsupportedError(
            f"Torch-Pruning's {importance!r} has no number for the channels of {bare}; "
            "use another importance, or leave these layers out."
        )
    return result


def _scored(scorer: Any, coupled: tp.Group) -> Tensor | None:
    """The importance of the channels of a coupled group's first layer [channels]; None where the library has none.

    It adds up layers of the sizes that the first of them has, and fails where channels were split in between.
    """
    try:
        found: Tensor | None = scorer(coupled)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError) as error:
        log.debug("no importance of %s: %s", coupled[0].dep.target.name, error)
        return None
    return found if found is None or len(found) == len(coupled[0].idxs) else None


def _produced(groups: Groups, layer: str, module: nn.Module) -> list[Tensor]:
    """The group of each output channel of a layer, or NOBODY, for each kind of groups that it is divided into."""
    weight = f"{layer}.weight"
    dim = 1 if isinstance(module, _ConvTransposeNd) else 0
    rows = [p.owners for p in groups.parts if p.tensor == weight and p.owners.numel() == p.owners.shape[dim]]
    return [o.flatten() for o in rows] + [c.owners for c in groups.cuts if (c.tensor, c.dim) == (weight, dim)]


def _gradients(model: nn.Module, batches: Iterable[Batch], importance: str) -> dict[str, Tensor]:
    """What an importance expects to find as gradients; "hessian": the means of examples' squared gradients.

    The library's own accumulator looks up by name what it keeps by parameter, so that it holds the last example only.
    """
    if importance not in ("taylor", "hessian"):
        return {}
    squared = importance == "hessian"
    parameters = dict(model.named_parameters())
    each = (
        derivatives(model, parameters, _single(batches), of="examples")
        if squared
        else derivatives(model, parameters, batches)
    )
    total: dict[str, Tensor] = {}
    seen = 0
    for gradients in each:
        for name, gradient in gradients.items():
            term = gradient.square() if squared else gradient
            total[name] = total[name] + term if seen else term
        seen += 1
    return {name: gradient / seen for name, gradient in total.items()}


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


def _graph(model: nn.Module, example: tuple[Tensor, ...]) -> tp.DependencyGraph:
    """The library's graph of a copy of the model; frozen parameters, which it does not see, are not frozen there."""
    clone = copy.deepcopy(model).eval().requires_grad_(True)
    with torch.enable_grad():
        return tp.DependencyGraph().build_dependency(clone, example, verbose=False)
