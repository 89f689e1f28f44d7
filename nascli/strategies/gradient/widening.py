"""Searching in parts, each on more channels and fewer options than the one before (DrNAS, Chen et al. 2021,
arXiv:2006.10355, section 3.3: progressive learning).

A supernet of partial channels is cheap and coarse. When it has told the options that are not worth it from the others,
the search goes on with those that are left in a wider one, which starts from the narrow one's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.schedule import Stage
from nascli.strategies.gradient.start import new_supernet


@dataclass(frozen=True, kw_only=True)
class Widening:
    """What changes after each part of the search; no parts: nothing. DrNAS: partial_channels=6, parts=[3], keep=[4]."""

    parts: tuple[int, ...] = ()
    """The partial channels of each further part of the search; all parts are equally long."""
    keep: tuple[int, ...] = ()
    """How many options each choice keeps, in each further part."""

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.keep):
            raise ValueError(f"parts={list(self.parts)} and keep={list(self.keep)} must be equally many")
        if self.parts and min(*self.parts, *self.keep) < 1:
            raise ValueError(f"parts={list(self.parts)} and keep={list(self.keep)} must be at least 1")

    def stages(self, epochs: float) -> list[Stage]:
        """The equal parts of the search."""
        count = len(self.parts) + 1
        each = epochs / count
        parts = [Stage(each, each * i, epochs, decides=True) for i in range(count - 1)]
        return [*parts, Stage(each, each * (count - 1), epochs, searched=True)]

    def apply(self, loop: Loop) -> None:
        """Go on to the next part: weak options leave for good, and the supernet becomes wider."""
        keep_strongest(loop.mixture, self.keep[loop.stage])
        wider = new_supernet(self.parts[loop.stage], loop.task)
        wider.load_state_dict(widened(loop.model.state_dict(), wider.state_dict()))
        loop.adopt(wider, self.parts[loop.stage])


def keep_strongest(mixture: Mixture, count: int) -> None:
    """Take all options but so many out of every open choice, the weakest first; one that can be settled on stays."""
    weights = mixture.weights().detach()
    for name in mixture.undecided:
        row = mixture.rows.row(name)
        left = [o for o in range(mixture.rows.counts[row]) if not mixture.removed[row, o]]
        strong = sorted(left, key=lambda o: -float(weights[row, o]))
        kept = set(strong[:count])
        if not kept & set(mixture.rows.candidates(name)):
            best = next(o for o in strong if o in mixture.rows.candidates(name))
            kept = {*strong[: count - 1], best}
        mixture.removed[row, [o for o in left if o not in kept]] = True


def widened(narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The narrow supernet's tensors in the shapes of the wide one's: channels are repeated in turn.

    A convolution whose inputs are repeated has its weights divided by how often, so that it computes the same of
    repeated inputs (Net2Net, Chen et al. 2016, arXiv:1511.05641).
    """
    return {key: _repeated(narrow[key], tensor.shape) for key, tensor in wide.items()}


def _repeated(tensor: Tensor, shape: torch.Size) -> Tensor:
    for dim, (old, new) in enumerate(zip(tensor.shape, shape, strict=True)):
        if old == new:
            continue
        which = torch.arange(new, device=tensor.device) % old
        tensor = tensor.index_select(dim, which)
        if dim == 1:
            times = torch.bincount(which, minlength=old)[which].to(tensor.dtype)
            tensor = tensor / times.view(1, -1, *(1 for _ in shape[2:]))
    return tensor.clone()
