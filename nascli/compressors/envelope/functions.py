"""The weighted group sparse envelope: the best convex stand-in for "at most k groups, of small norm", and its prox.

    S(x) = min over u of 1/2 sum of d_j |x_j|^2 / u_j,   0 <= u_j <= 1,   sum of c_j u_j <= K

over disjoint groups with weights d, costs c and a budget K (WGSEF, arXiv:2212.12921; without weights and groups, half
the square of the k-support norm of Argyriou, Foygel & Srebro 2012, arXiv:1204.5043). With costs of 1 and a whole
budget, S is the biconjugate of 1/2 sum d_j |x_j|^2 on at most K nonzero groups: no convex function that stays below it
is greater. With other costs it is a convex lower bound: u may hold a part of the last group that does not fit.

Where the budget holds all nonzero groups, S is plain weight decay, 1/2 sum d_j |x_j|^2. "debiased" takes that off, so
that what is left is 0 there, and its prox leaves alone the groups that stay.

Everything depends on the groups' norms alone, and each operation is one way to fill ramps up to the budget.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nascli.compressors.envelope.newton import by_newton
from nascli.compressors.envelope.root import Ramps, by_sorting, heights, total

Operator = Literal["published", "debiased"]
Search = Literal["newton", "sorting"]

FAR = 1e200
"""Beyond all levels: where the ramps of groups without a norm begin."""
_HARD = 1e-9
"""Offsets that are so near 1 count as 1: their ramps are too steep for double precision."""


def value(
    norms: Tensor, budget: float | Tensor, *, weights: Tensor | None = None, costs: Tensor | None = None
) -> Tensor:
    """S [...] at groups of these norms [..., groups], float64; infinite for a budget of 0 and a norm that is not.

    Budgets are one for all or one a row [...]; weights and costs, 1 by default, broadcast against the norms. Raises
    ValueError for norms that are negative, infinite or NaN, for weights or costs that are not positive, and for a
    budget that is NaN.
    """
    chosen = selection(norms, budget, weights=weights, costs=costs)
    return variational(norms, chosen, weights=weights)


def selection(
    norms: Tensor, budget: float | Tensor, *, weights: Tensor | None = None, costs: Tensor | None = None
) -> Tensor:
    """The u at which the minimum in S is taken [..., groups], float64: how much of each group the envelope counts.

    It is 1 for the greatest norms, and proportional to the norms from there on. Raises ValueError as `value` does.
    """
    rows = _rows(norms, budget, weights=weights, costs=costs)
    hi = ((rows.costs / rows.weights).sqrt() / rows.norms).clamp_(max=FAR)
    return torch.where(rows.norms > 0, _filled(rows, torch.zeros_like(hi), hi), 0.0)


def variational(norms: Tensor, selection: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """1/2 sum of d_j n_j^2 / u_j [...] for norms n and a selection u [..., groups]; 0 / 0 is 0, and a / 0 infinite."""
    rows = _rows(norms, torch.inf, weights=weights)
    square = (rows.norms * rows.scale).square().mul_(rows.weights)
    return torch.where(square > 0, square / selection, 0.0).sum(-1) / 2


def conjugate(
    norms: Tensor, budget: float | Tensor, *, weights: Tensor | None = None, costs: Tensor | None = None
) -> Tensor:
    """S* [...], the convex conjugate of S, at groups of these norms [..., groups], float64.

    That is the greatest 1/2 sum of u_j n_j^2 / d_j within the budget: half the sum of the K greatest n_j^2 / d_j if
    costs are 1, and else the optimum of a knapsack whose last item may be cut. Raises ValueError as `value` does.
    """
    rows = _rows(norms, budget, weights=weights, costs=costs)
    place = ((rows.costs * rows.weights).sqrt() / rows.norms).clamp_(max=FAR)
    chosen = _filled(rows, place, place)
    return (chosen * (rows.norms * rows.scale).square() / rows.weights).sum(-1) / 2


def shrink(
    norms: Tensor,
    budget: float | Tensor,
    step: float,
    *,
    weights: Tensor | None = None,
    costs: Tensor | None = None,
    metric: Tensor | None = None,
    operator: Operator = "published",
    search: Search = "newton",
) -> Tensor:
    """The factors of the proximal operator [..., groups], float64: group j of the result is factor_j times group j.

    The operator is argmin over x of step * S(x) + 1/2 sum of h_j |x_j - v_j|^2, where v has these norms and the metric
    h is 1 by default; "debiased" has S(x) - 1/2 sum of d_j |x_j|^2 in place of S. A step of 0 changes nothing, and a
    budget of 0 leaves nothing. The published operator multiplies all that stays by 1 / (1 + step * d_j / h_j) at most;
    the debiased one by 1. Neither leaves fewer than K groups, and both may leave more; equal norms get equal factors.

    The debiased function is as concave as the metric is convex from step * d_j / h_j = 1 on. There the operator is its
    limit, the hard choice of the K groups with the greatest h_j |v_j|^2 / c_j: they keep all, the others nothing, and
    those that are equal at the threshold share what is left of the budget.

    One row is searched in linear time by "newton"; several rows, and one with "sorting", are sorted. Raises ValueError
    as `value` does, and for a step that is negative or not finite.
    """
    if not 0 <= step < torch.inf:
        raise ValueError(f"the step {step!r} of the proximal operator must be a number that is at least 0")
    rows = _rows(norms, budget, weights=weights, costs=costs, metric=metric)
    if step == 0:
        return torch.ones_like(rows.norms)
    offset = (step * rows.weights / rows.metric).clamp_min_(1 / FAR**0.5)
    if operator == "published":
        rise: Tensor | float = 1.0
    else:
        offset = torch.where(offset > 1 - _HARD, 1.0, offset)
        rise = 1.0 - offset
    # Levels are in units of 1 / b_j, b_j being the slope of u_j: u_j = (mu b_j - e_j) / rise.
    unit = ((rows.costs / (rows.metric * offset)).sqrt() / rows.norms).clamp_(max=FAR)
    chosen = _filled(rows, offset * unit, unit if operator == "debiased" else (offset + rise) * unit, search)
    if operator == "published":
        return chosen / (chosen + offset)
    return chosen / (offset * (1.0 - chosen)).add_(chosen)


class _Rows(NamedTuple):
    """What was given, checked, in double precision."""

    norms: Tensor
    """Divided by the greatest of their row, so that nothing overflows [..., groups]."""
    scale: Tensor
    """The greatest norm of each row [..., 1], 1 if all are 0."""
    budget: Tensor
    """[...]."""
    weights: Tensor
    costs: Tensor
    metric: Tensor


def _rows(norms: Tensor, budget: float | Tensor, **positive: Tensor | None) -> _Rows:
    if norms.dim() == 0:
        raise ValueError("norms need a dimension of groups, but a single number was given")
    given = norms.detach().to(torch.float64)
    if given.numel():
        least, most = (float(bound) for bound in torch.aminmax(given))
        if not 0 <= least <= most < torch.inf:
            raise ValueError(f"the norms of groups must be finite and at least 0, but they go from {least} to {most}")
    scale = given.amax(-1, keepdim=True) if given.shape[-1] else given.new_ones(*given.shape[:-1], 1)
    scale = torch.where(scale > 0, scale, 1.0)
    limits = torch.as_tensor(budget, dtype=torch.float64, device=given.device).detach()
    if bool(limits.isnan().any()):
        raise ValueError(f"the budget {budget!r} of the envelope is not a number")
    factors = {name: _positive(name, positive.get(name), given) for name in ("weights", "costs", "metric")}
    return _Rows(given / scale, scale, limits.expand(given.shape[:-1]), **factors)


def _positive(name: str, given: Tensor | None, norms: Tensor) -> Tensor:
    """A factor for each group, or one for all []."""
    if given is None:
        return norms.new_ones(())
    factor = given.detach().to(norms)
    if not bool(((factor > 0) & (factor < torch.inf)).all()):
        raise ValueError(f"{name} must be finite and more than 0 for every group, but one is {_worst(factor)}")
    return factor if factor.dim() == 0 else factor.expand_as(norms)


def _worst(factor: Tensor) -> float:
    return float(factor[~((factor > 0) & (factor < torch.inf))][0])


def _filled(rows: _Rows, lo: Tensor, hi: Tensor, search: Search = "newton") -> Tensor:
    """How full ramps are that cost the budget [..., groups]; all of the groups with a norm, if that costs no more."""
    alive = rows.norms > 0
    need = total(rows.costs, alive)
    bound = (rows.budget > 0) & (rows.budget < need)
    if lo.dim() == 1 and search == "newton" and bool(bound):
        ramps = Ramps(lo, hi, rows.costs)
        return heights(ramps, by_newton(ramps, float(rows.budget)))
    filled = (alive & (rows.budget > 0)[..., None]).to(lo.dtype)
    if not bool(bound.any()):
        return filled
    ramps = Ramps(lo[bound], hi[bound], rows.costs[bound] if rows.costs.dim() else rows.costs)
    filled[bound] = heights(ramps, by_sorting(ramps, rows.budget[bound]))
    return filled
