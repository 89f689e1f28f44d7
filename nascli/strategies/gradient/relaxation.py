"""From architecture weights to mixtures: every row of logits becomes the weights of its options.

Softmax: DARTS (Liu et al. 2019, arXiv:1806.09055). One hard sample: GDAS (Dong & Yang 2019, arXiv:1910.04465).
Dirichlet sample: DrNAS (Chen et al. 2021, arXiv:2006.10355). Random perturbation: SDARTS-RS (Chen & Hsieh 2020,
arXiv:2002.05283). Whatever is drawn comes from torch's default generator. Rows are padded: `valid` says which entries
are options.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax(logits: Tensor, valid: Tensor) -> Tensor:
    """Weights [rows, options] that sum to 1; exactly 0 and without gradient at padding."""
    return logits.masked_fill(~valid, float("-inf")).softmax(-1)


def gumbel(logits: Tensor, valid: Tensor, *, temperature: float) -> Tensor:
    """One option a row, drawn with the softmax's odds: weight 1, all others exactly 0 [rows, options].

    The gradient is that of the tempered softmax of the drawn option (straight through): options that were not drawn
    are not computed, and only their share in the normaliser moves them.
    """
    uniform = torch.rand_like(logits).clamp_(min=torch.finfo(logits.dtype).tiny)
    noisy = F.log_softmax(logits.masked_fill(~valid, float("-inf")), -1) - (-uniform.log()).log()
    soft = (noisy / temperature).softmax(-1)
    drawn = F.one_hot(noisy.argmax(-1), logits.shape[1]).to(logits.dtype)
    return drawn * (1 + (soft - soft.detach()))  # in this order: exactly 1


def concentration(logits: Tensor) -> Tensor:
    """The Dirichlet parameters of logits, elu(x) + 1, which are 1 at 0; kept off 0, where no sample is finite."""
    return (F.elu(logits) + 1).clamp(min=1e-3)


def dirichlet(logits: Tensor, valid: Tensor) -> Tensor:
    """A draw of weights [rows, options] from each row's Dirichlet distribution, differentiable (pathwise)."""
    beta = concentration(logits)
    rows = []
    for row, options in zip(beta.unbind(), valid.unbind(), strict=True):
        drawn = torch.distributions.Dirichlet(row[options]).rsample()
        rows.append(torch.zeros_like(row).masked_scatter(options, drawn))
    return torch.stack(rows)


def expected(logits: Tensor, valid: Tensor) -> Tensor:
    """The mean of `dirichlet` [rows, options]: what DrNAS evaluates and selects by."""
    beta = concentration(logits) * valid
    return beta / beta.sum(-1, keepdim=True)


def perturbed(weights: Tensor, valid: Tensor, *, radius: float) -> Tensor:
    """The weights [rows, options] plus uniform noise of at most `radius`, cut to [0, 1] and made to sum to 1 again.

    A row of which nothing is left has its largest option alone. A constant: no gradient passes.
    """
    weights = weights.detach()
    noisy = ((weights + torch.empty_like(weights).uniform_(-radius, radius)) * valid).clamp_(0, 1)
    total = noisy.sum(-1, keepdim=True)
    alone = F.one_hot(weights.argmax(-1), weights.shape[1]).to(weights.dtype)
    return torch.where(total > 0, noisy / total.clamp(min=1e-12), alone)


def entropy(weights: Tensor, valid: Tensor) -> Tensor:
    """Entropies of the rows relative to their largest possible [rows]: 1 undecided, 0 decided; 0 for single options."""
    logs = weights.clamp(min=1e-12).log()
    most = valid.sum(-1).clamp(min=2).to(weights.dtype).log()
    return -(weights * logs * valid).sum(-1) / most
