"""What is added to the validation loss to keep the architecture weights in hand.

Beta-decay: beta-DARTS (Ye et al. 2022, arXiv:2203.01665). Anchor: the distance of DrNAS' Dirichlet distributions from
the uniform one (Chen et al. 2021, arXiv:2006.10355, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nascli.strategies.gradient.relaxation import concentration


def beta_decay(logits: Tensor, valid: Tensor) -> Tensor:
    """The mean over the rows of the logarithm of the summed exponentials of their logits []."""
    return logits.masked_fill(~valid, float("-inf")).logsumexp(-1).mean()


def anchor(logits: Tensor, valid: Tensor) -> Tensor:
    """The sum over the rows of KL(Dirichlet(elu(x) + 1) || Dirichlet(1)) [], 0 where all logits are 0.

    KL = lnG(sum b) - sum lnG(b) - lnG(n) + sum (b - 1) (psi(b) - psi(sum b)), with G the gamma function.
    """
    beta = concentration(logits).masked_fill(~valid, 1.0)  # 1 adds nothing to the sums over options
    total = (beta * valid).sum(-1)
    count = valid.sum(-1).to(beta.dtype)
    spread = ((beta - 1) * (beta.digamma() - total.digamma()[:, None])).sum(-1)
    divergence = total.lgamma() - beta.lgamma().sum(-1) - torch.lgamma(count) + spread
    return divergence.sum()
