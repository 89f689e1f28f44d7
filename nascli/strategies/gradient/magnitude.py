"""Choosing by architecture weights: the largest is taken (DARTS, Liu et al. 2019, arXiv:1806.09055, section 2.3), all
at the end or, edge by edge, the surest first (SGAS, Li et al. 2020, arXiv:1912.00195, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nascli.errors import UnsupportedError
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.relaxation import entropy

NOTHING = "none"


def best_option(mixture: Mixture, name: str) -> int:
    """The selectable option of a row with the largest weight, the first among equals."""
    row = mixture.rows.row(name)
    allowed = mixture.rows.selectable[row] & mixture.valid[row]
    return int(mixture.weights()[row].detach().masked_fill(~allowed, -1.0).argmax())


def edge_strengths(mixture: Mixture) -> dict[str, float]:
    """Row -> the largest weight among its selectable options, times the edge's own weight where edges have any."""
    weights = mixture.settled(mixture.weights()).detach()
    if (importance := mixture.importance()) is not None:
        weights = weights * importance.detach()[:, None]
    best = weights.masked_fill(~mixture.rows.selectable, -1.0).max(-1).values
    return dict(zip(mixture.rows.names, best.tolist(), strict=True))


def best_edges(mixture: Mixture, node: str) -> int:
    """The option of a topology choice whose edges are the strongest in sum, the first among equals."""
    strengths = edge_strengths(mixture)
    sums = [sum(strengths[e] for e in sorted(option)) for option in mixture.rows.topology[node]]
    return max(range(len(sums)), key=sums.__getitem__)


def settle(mixture: Mixture) -> None:
    """Decide all that is open: options by their weights, then the edges of each node by the best options' weights.

    Raises UnsupportedError if nothing was learnt to decide by.
    """
    if mixture.undecided and not mixture.logits.any():
        raise UnsupportedError(
            "All architecture weights are equal, so none is the largest: this supernet was trained without them. "
            "Select from it by perturbation: --select perturbation."
        )
    strong = {node: best_edges(mixture, node) for node in mixture.rows.topology if node not in mixture.decided}
    for name in mixture.undecided:
        mixture.decide(name, best_option(mixture, name))
    for node, option in strong.items():
        mixture.decide(node, option)


def certainty(mixture: Mixture, names: Sequence[str], *, history: Sequence[Tensor] = ()) -> list[float]:
    """SGAS' scores of open rows: how much is left for real operations, times how sure the choice among them is.

    Both are scaled to [0, 1] over the rows. With `history`, weights [rows, options] of the last epochs, also times how
    much the distributions have kept to what they were (criterion 2).
    """
    rows = [mixture.rows.row(n) for n in names]
    real = _real(mixture)
    among = distributions(mixture)
    importance = (mixture.weights().detach() * real).sum(-1)
    score = _scaled(importance[rows]) * _scaled(1 - entropy(among, real)[rows])
    if history:
        kept = torch.stack([torch.minimum(among, past).sum(-1) for past in history]).mean(0)
        score = score * _scaled(kept[rows])
    return [float(s) for s in score]


def distributions(mixture: Mixture) -> Tensor:
    """What `certainty` wants as history: the weights of real operations, each row's summing to 1 [rows, options]."""
    weights = mixture.weights().detach() * _real(mixture)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)


def _real(mixture: Mixture) -> Tensor:
    """bool [rows, options]: all options but `none`."""
    real = mixture.valid.clone()
    for i, name in enumerate(mixture.rows.names):
        real[i, : mixture.rows.counts[i]] &= torch.tensor([o != NOTHING for o in mixture.rows.options(name)])
    return real


def settle_full_nodes(mixture: Mixture) -> None:
    """Decide the topology choices of which one option's edges are all decided: other edges are given up."""
    for node, options in mixture.rows.topology.items():
        if node not in mixture.decided:
            full = [i for i, option in enumerate(options) if option <= set(mixture.decided) - mixture.dropped]
            if full:
                mixture.decide(node, full[0])


def _scaled(values: Tensor) -> Tensor:
    """The values moved and stretched to [0, 1]; all 1 if they are equal, as then they have no say."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else torch.ones_like(values)
