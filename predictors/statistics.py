"""One number a layer and statistic: the node-wise zero-cost statistics that ParZC reads (Dong et al. 2025,
arXiv:2402.02105, section 3.1).

They keep their natural magnitudes; scaling them within a network, as published, is left to the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from predictors import ScoreError
from predictors.probe import Probe
from predictors.saliency import channel_products, norm, product

Statistic = Literal["fisher", "grad_norm", "grasp", "l2_norm", "plain", "snip", "synflow"]

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
"""All there are, in the order of the published files."""


@dataclass(frozen=True)
class NodeStatistics:
    """What is known of each layer: `values` [layers, statistics], in the order of `names` and `statistics`."""

    names: tuple[str, ...]
    """The convolutions and linear layers, in the order of `modules()`."""
    statistics: tuple[Statistic, ...]
    values: np.ndarray


def node_statistics(probe: Probe, statistics: Sequence[Statistic] = STATISTICS) -> NodeStatistics:
    """The mean of each statistic over each layer's weights, and of fisher over its channels; norms are whole.

    A layer that no gradient reaches has zeros. Only the passes that the statistics need are run: without grasp there is
    no double backward pass. Raises DeadNetworkError if a pass finds that nothing flows, and ScoreError for numbers that
    are not finite.
    """
    unknown = sorted(set(statistics) - set(STATISTICS))
    if unknown or not statistics:
        raise ScoreError(f"Layers have no statistics {unknown}; there are {', '.join(STATISTICS)}.")
    columns = [torch.stack(_COLUMNS[name](probe)) for name in statistics]
    values = torch.stack(columns, dim=1).cpu().numpy()
    broken = [name for name, column in zip(statistics, values.T, strict=True) if not np.isfinite(column).all()]
    if broken:
        raise ScoreError(f"Layers have {' and '.join(broken)} that are no finite numbers.")
    return NodeStatistics(tuple(name for name, _ in probe.layers), tuple(statistics), values)


def _fisher(probe: Probe) -> list[Tensor]:
    products = channel_products(probe)
    zero = probe.layers[0][1].weight.new_zeros((), dtype=torch.float64)
    return [sum((use.values.mean(dtype=torch.float64) for use in products[name]), zero) for name, _ in probe.layers]


def _mean(values: Tensor) -> Tensor:
    return values.mean(dtype=torch.float64)


_COLUMNS: Mapping[Statistic, Callable[[Probe], list[Tensor]]] = {
    "fisher": _fisher,
    "grad_norm": lambda probe: [norm(layer.gradient) for layer in probe.labelled],
    "grasp": lambda probe: [-_mean(product(layer)) for layer in probe.curvature],
    "l2_norm": lambda probe: [norm(layer.weight.detach()) for _, layer in probe.layers],
    "plain": lambda probe: [_mean(product(layer)) for layer in probe.labelled],
    "snip": lambda probe: [_mean(product(layer).abs()) for layer in probe.labelled],
    "synflow": lambda probe: [_mean(product(layer).abs()) for layer in probe.data_free],
}
