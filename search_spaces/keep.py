"""Keep: a network without some of its channels, heads or branches, as an edit that can be written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Keep:
    """What stays of a network; everything is by name, and applying it needs torch alone."""

    cuts: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    """Tensor -> dimension -> the indices that stay."""
    borders: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    """Module without parameters -> "inputs" and "outputs" -> the channels that stay, and "of": how many there were."""
    heads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Attention module -> the heads that stay."""
    branches: tuple[tuple[str, ...], ...] = ()
    """Residual branches that are gone: their modules in order."""

    def apply(self, model: nn.Module) -> nn.Module:
        """The smaller network; `model` may be taken apart."""
        raise NotImplementedError  # to be written
