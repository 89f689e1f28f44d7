"""Criteria: one score for each group of a network, computed once; pruning by one keeps the groups that score highest.

Magnitude looks at the weights (Li et al. 2017, arXiv:1608.08710), the scales of BatchNorm at what training made of them
(Liu et al. 2017, arXiv:1708.06519), Taylor importance at what the loss would lose (Molchanov et al. 2019,
arXiv:1906.10771). All read a group whole, with all layers that are coupled in it, where the papers score one filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from nascli.errors import DataError, UnsupportedError
from predictors.passes import evaluating
from search_spaces.groups import Groups
from search_spaces.space import Batch


def magnitude(model: nn.Module, groups: Groups, *, power: Literal[1, 2] = 2) -> Tensor:
    """The L1 norm (power 1) or L2 norm (power 2) of each group's numbers [groups], float64, on the model's device."""
    state = model.state_dict()
    tensors = {p.tensor: state[p.tensor].detach().to(torch.float64) for p in groups.parts}
    if power == 1:
        return groups.sums({name: tensor.abs() for name, tensor in tensors.items()})
    return groups.squares(tensors).sqrt()


def taylor(model: nn.Module, groups: Groups, batches: Iterable[Batch]) -> Tensor:
    """What the loss would change by without each group, to first order, squared [groups], float64.

    This is the paper's joint importance of a set of parameters, (sum of gradient x weight over the set)^2, and not the
    sum of each parameter's own (gradient x weight)^2. The gradient is that of a batch's mean loss in evaluation mode,
    and the importance is averaged over batches, each counting alike. The model is left as it was. Raises DataError if
    there are no batches, UnsupportedError if the loss is no number on one.
    """
    names = {p.tensor for p in groups.parts}
    parameters = {name: p.detach() for name, p in model.named_parameters(remove_duplicate=False) if name in names}
    total, seen = torch.zeros(len(groups), dtype=torch.float64), 0
    for gradients in derivatives(model, parameters, batches):
        products = {name: g.to(torch.float64) * parameters[name] for name, g in gradients.items()}
        share = groups.sums(products).square()
        total, seen = total.to(share.device) + share, seen + 1
    return total / seen


def fisher(model: nn.Module, groups: Groups, batches: Iterable[Batch]) -> Tensor:
    """What the loss would rise by without each group, to second order and but for a factor [groups], float64.

    The mean over examples of (gradient of the example's loss x output of the group)^2, a diagonal Fisher estimate
    (Theis et al. 2018, arXiv:1801.05787). A group's outputs scale with the parameters of its normalisation layers, so
    these are read where it has any, and else its weights and biases. Raises as `taylor` does.
    """
    norms = {name for name, m in model.named_modules() if not list(m.children()) and normalises(m)}
    state = model.state_dict()
    behind = replace(groups, parts=tuple(p for p in groups.parts if p.tensor.rpartition(".")[0] in norms))
    bare = behind.counts(state) == 0
    total, seen = torch.zeros(len(groups), dtype=torch.float64), 0
    names = {p.tensor for p in groups.parts}
    parameters = {name: p.detach() for name, p in model.named_parameters(remove_duplicate=False) if name in names}
    for gradients in derivatives(model, parameters, batches, of="examples"):
        products = {name: g.to(torch.float64) * parameters[name] for name, g in gradients.items()}
        along = torch.where(bare, groups.sums(products), behind.sums(products))
        total, seen = total.to(along.device) + along.square(), seen + 1
    return total / seen


def normalises(module: nn.Module) -> bool:
    """Whether it is a normalisation layer, by its parameters: a vector for each channel and no other."""
    return "norm" in type(module).__name__.lower() and all(p.dim() <= 1 for p in module.parameters())


def bn_scale(model: nn.Module, groups: Groups) -> Tensor:
    """The absolute scale |gamma| of BatchNorm, averaged over the layers in each group [groups], float64.

    Raises UnsupportedError if a group has no BatchNorm layer with a scale in it.
    """
    scales = {f"{name}.weight": m.weight for name, m in model.named_modules() if isinstance(m, BatchNorm) and m.affine}
    scaled = replace(groups, parts=tuple(p for p in groups.parts if p.tensor in scales))
    counts = scaled.counts(scales)
    if bare := lacking(groups, counts > 0):
        raise UnsupportedError(
            f"The groups of {bare} have no BatchNorm layer with a scale to be judged by; use magnitude or taylor."
        )
    return scaled.sums({name: scale.detach().abs() for name, scale in scales.items()}) / counts


def random(groups: Groups, rng: np.random.Generator) -> Tensor:
    """Uniform numbers between 0 and 1 [groups], float64, on the CPU: what every criterion has to beat."""
    return torch.from_numpy(rng.random(len(groups)))


def normalised(scores: Tensor, groups: Groups, by: Literal["none", "mean", "max", "rms"]) -> Tensor:
    """Scores, none negative, divided by the mean, the largest or the root mean square of their axis [groups], float64.

    Layers differ in what their groups usually score; divided so, groups of different axes can be compared. An axis on
    which all scores are zero stays so.
    """
    scores = scores.to(torch.float64)
    if by == "none":
        return scores
    axis = groups.axis.to(scores.device)
    zeros = scores.new_zeros(len(groups.names))
    if by == "max":
        scale = zeros.scatter_reduce(0, axis, scores, "amax")
    else:
        values = scores if by == "mean" else scores.square()
        scale = zeros.index_add(0, axis, values) / groups.sizes().to(scores.device)
        scale = scale if by == "mean" else scale.sqrt()
    return scores / torch.where(scale > 0, scale, 1.0)[axis]


def derivatives(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    batches: Iterable[Batch],
    *,
    of: Literal["batches", "examples"] = "batches",
) -> Iterator[dict[str, Tensor]]:
    """The gradients in the parameters of these names, of each batch's mean loss or of each example's, one by one.

    The model runs in evaluation mode on copies, so that its parameters, gradients and buffers stay as they are, and
    frozen parameters have gradients too. Raises DataError if there are no batches, UnsupportedError if a loss is no
    number.
    """
    # One leaf for a parameter of several names, as tied weights are.
    found = dict(model.named_parameters(remove_duplicate=False))
    leaves = {id(found[name]): found[name].detach().clone().requires_grad_() for name in parameters}
    named = {name: leaves[id(found[name])] for name in parameters}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    seen = 0
    for batch in batches:
        with evaluating(model), torch.enable_grad():
            losses = batch.losses(torch.func.functional_call(model, {**named, **buffers}, batch.inputs))
            each = (losses.mean(),) if of == "batches" else losses.unbind()
        if not torch.isfinite(losses).all():
            raise UnsupportedError("The loss is no number on the batches, so it has no gradient; rank by magnitude.")
        for loss in each:
            gradients = torch.autograd.grad(
                loss, list(named.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            yield dict(zip(named, gradients, strict=True))
            seen += 1
    if not seen:
        raise DataError("There are no examples to take gradients from; give at least one batch.")


def lacking(groups: Groups, scored: Tensor) -> str:
    """The names of the axes with a group that has no score, for a message; "" if all have one. `scored` is [groups]."""
    axes = sorted(set(groups.axis[~scored.cpu()].tolist()))
    shown = ", ".join(repr(groups.names[a]) for a in axes[:3])
    return f"{shown} and {len(axes) - 3} more" if len(axes) > 3 else shown
