"""Kendall's tau made smooth, to train predictors to rank: signs of differences become hyperbolic tangents.

ParZC's form is a product of two sigmoids (Dong et al. 2025, arXiv:2402.02105), the original one sigmoid of the product
(Zheng et al. 2023, DiffKendall, arXiv:2307.15317). All losses take scores and labels [networks] and are minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, softplus

Loss = Callable[[Tensor, Tensor], Tensor]
"""Scores and labels [networks] -> a number to be minimised."""


def product_kendall(scores: Tensor, labels: Tensor, *, alpha: float = 0.5) -> Tensor:
    """ParZC's loss, from -2 to 2: the ordered pairs' products of sigmoids, over the number of unordered pairs.

    With s the sigmoid, s(a d) - s(-a d) = tanh(a d / 2) of the scores' difference d, and the same of the labels'. Every
    pair counts twice and is divided by once, as published; pairs of nearly equal labels count for little.
    """
    ordered = torch.tanh(alpha * differences(scores) / 2) * torch.tanh(alpha * differences(labels) / 2)
    return -2 * ordered.mean()


def joint_kendall(scores: Tensor, labels: Tensor, *, beta: float = 1.0) -> Tensor:
    """The original loss, from -1 to 1: the mean over unordered pairs of 2 s(b d e) - 1, d and e the differences."""
    return -torch.tanh(beta * differences(scores) * differences(labels) / 2).mean()


def sign_kendall(scores: Tensor, labels: Tensor, *, alpha: float = 2.0) -> Tensor:
    """The mean over unordered pairs of -tanh(a d / 2) sign(e): ties count nothing, near-ties as much as all others.

    Scores are brought to unit deviation first, so that growing them is no way to a smaller loss.
    """
    unit = scores / scores.std(correction=0).clamp_min(1e-8)
    return -(torch.tanh(alpha * differences(unit) / 2) * differences(labels).sign()).mean()


def pairwise_logistic(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over pairs of different labels of log(1 + exp(-d sign(e))), as RankNet has it; 0 if there are none."""
    order = differences(labels).sign()
    lost = softplus(-differences(scores) * order) * order.abs()
    return lost.sum() / order.abs().sum().clamp_min(1)


def preference(scores: Tensor, labels: Tensor, *, beta: float = 2.0) -> Tensor:
    """The mean over unordered pairs of the cross-entropy between the preferences s(b e) and s(b d).

    It is least where scores differ as labels do, so near-ties ask for near-ties, and noise among them costs little; the
    logistic loss above would have them as far apart as all others (after Bradley & Terry 1952).
    """
    wanted = torch.sigmoid(beta * differences(labels))
    return binary_cross_entropy_with_logits(beta * differences(scores), wanted)


def squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean squared difference between scores and labels."""
    return mse_loss(scores, labels)


def differences(values: Tensor) -> Tensor:
    """Later less earlier, for all unordered pairs [pairs]."""
    first, second = torch.triu_indices(len(values), len(values), offset=1, device=values.device)
    return values[second] - values[first]


LOSSES: Mapping[str, Loss] = {
    "mse": squared_error,
    "parzc": product_kendall,
    "diffkendall": joint_kendall,
    "kendall": sign_kendall,
    "logistic": pairwise_logistic,
    "preference": preference,
}
"""The names by which settings call them; a sum is written with a plus, "mse+kendall"."""


def loss_by_name(names: str) -> Loss:
    """The loss of that name, or the sum of several. Raises ValueError for an unknown one."""
    chosen = []
    for name in names.split("+"):
        if name not in LOSSES:
            raise ValueError(f"loss={name!r} is not known; the losses are {', '.join(LOSSES)}, and sums as 'mse+parzc'")
        chosen.append(LOSSES[name])
    return lambda scores, labels: torch.stack([loss(scores, labels) for loss in chosen]).sum()
