"""What gates come to on the edges of a cell: the options to compute, each with its weight.

A weight of 1 is no weight at all, and weights that need no gradient are numbers, so that no more is multiplied than has
to be. Where an operation ends with a normalisation, this does the multiplying.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.gated import KnownGates, pick
from search_spaces.space import Gates

Weight = Tensor | float | None
"""A weight []; None is 1."""

_ROUNDING = 1e-6
"""How far from 1 a sum of single-precision weights may be that is meant to be 1."""


def weighed(gates: Gates, name: str, times: Weight = None) -> list[tuple[int, Weight]]:
    """The options that the gate of this choice lets through, by their position, with their weights times `times`.

    Unlike `pick`, the weight of a single option counts too: an edge that lost an option has not the weight of one that
    was decided. Raises SpaceError as `pick` does.
    """
    picked = pick(gates, name)
    options = [picked] if isinstance(picked, int) else [option for option, _ in picked]
    gate = gates[name]
    # On a GPU, gates that say what is computed are not read: that would wait.
    hosted = gate.device.type == "cpu" or not isinstance(gates, KnownGates)
    if gate.requires_grad or isinstance(times, Tensor) or not hosted:
        weights = (gate if times is None else gate * times).unbind()
        return [(option, weights[option]) for option in options]
    numbers = gate.tolist()
    return [(option, _number(numbers[option] * (1.0 if times is None else times))) for option in options]


def total(weights: Sequence[Weight]) -> Weight:
    """The sum of weights, of at least one."""
    if len(weights) == 1:
        return weights[0]
    first, *rest = (1.0 if weight is None else weight for weight in weights)
    found = sum(rest, start=first)
    return found if isinstance(found, Tensor) else _number(found)


def weighted(operation: nn.Module | None, x: Tensor, weight: Weight) -> Tensor:
    """What the operation makes of `x`, times the weight; None is the identity."""
    if operation is None:
        return x if weight is None else weight * x
    if weight is None:
        result: Tensor = operation(x)
        return result
    if not isinstance(operation, nn.Sequential) or not isinstance(operation[-1], ElasticBatchNorm2d):
        unweighted: Tensor = operation(x)
        return weight * unweighted
    *layers, norm = operation
    for layer in layers:
        x = layer(x)
    normalised: Tensor = norm(x, weight)
    return normalised


def _number(weight: float) -> float | None:
    return None if abs(weight - 1) < _ROUNDING else weight
