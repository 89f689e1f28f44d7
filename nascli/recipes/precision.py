"""In what precision networks are run while they are trained; weights, gradients and optimisers stay in single."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["single", "bfloat16"]


def run_in(precision: Precision, device: str, losses: Callable[[], Iterable[Tensor]]) -> Iterator[Tensor]:
    """The losses, whose passes run in the precision; what is done with each before the next is asked for does not.

    bfloat16 is mixed precision (Micikevicius et al. 2018, arXiv:1710.03740): convolutions and products in bfloat16,
    whose range is that of single, so that losses need no scaling; losses in single.
    """

    def cast() -> torch.autocast:
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")

    with cast():
        found = iter(losses())
    while True:
        with cast():
            loss = next(found, None)
        if loss is None:
            return
        yield loss
