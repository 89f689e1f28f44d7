"""The families of mobile networks, and the channel counts that follow from their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from search_spaces.layout import rounded
from search_spaces.units import Activation


@dataclass(frozen=True)
class Layout:
    """A family of mobile networks; tuples of stages first, then options in ascending order."""

    stem: int
    """Channels of the first convolution, 3x3."""
    stem_stride: int
    widths: tuple[int, ...]
    """Output channels of each stage at multiplier 1."""
    strides: tuple[int, ...]
    excite: tuple[bool, ...]
    """Whether the blocks of each stage squeeze and excite."""
    acts: tuple[Activation, ...]
    depths: tuple[tuple[int, ...], ...]
    """The numbers of blocks that each stage may have."""
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    """Hidden channels of a block relative to those it reads."""
    multipliers: tuple[float, ...]
    resolutions: tuple[float, ...]
    """Image heights: up to 1 in parts of the given one, above in pixels."""
    head: int
    """Channels of the convolution before the pool."""
    features: int = 0
    """Features between pool and classifier; 0: none."""
    entry: Literal["none", "separable"] = "none"
    """A fixed block after the stem, or none."""
    divisor: int = 1
    """All elastic channel counts are multiples of this."""

    @cached_property
    def outs(self) -> tuple[tuple[int, ...], ...]:
        """Output channels [stage][multiplier]."""
        return tuple(tuple(rounded(w * m, self.divisor) for m in self.multipliers) for w in self.widths)

    def reads(self, stage: int, block: int) -> tuple[int, ...]:
        """Input channels of a block by the multiplier of the stage that it reads from, both counted from 0."""
        if block:
            return self.outs[stage]
        return self.outs[stage - 1] if stage else (self.stem,)

    def hidden(self, stage: int, block: int) -> tuple[tuple[int, ...], ...]:
        """Hidden channels of a block [multiplier of what it reads][expansion]."""
        return tuple(tuple(rounded(n * e, self.divisor) for e in self.expansions) for n in self.reads(stage, block))

    def squeezed(self, stage: int, block: int) -> tuple[tuple[int, ...], ...]:
        """Channels between squeeze and excitation, a quarter of the hidden ones."""
        return tuple(tuple(rounded(n / 4, self.divisor) for n in row) for row in self.hidden(stage, block))


_SMALL = Layout(
    stem=8,
    stem_stride=2,
    widths=(16, 32, 64),
    strides=(1, 2, 2),
    excite=(False, False, True),
    acts=("relu", "hswish", "hswish"),
    depths=((1, 2, 3),) * 3,
    kernels=(3, 5, 7),
    expansions=(1, 2, 3),
    multipliers=(0.25, 0.5, 1),
    resolutions=(0.5, 0.75, 1),
    head=128,
)

PRESETS: Mapping[str, Layout] = {
    "digits": Layout(
        stem=8,
        stem_stride=1,
        widths=(8, 16),
        strides=(1, 2),
        excite=(False, True),
        acts=("relu", "hswish"),
        depths=((1, 2),) * 2,
        kernels=(3, 5),
        expansions=(1, 2, 4),
        multipliers=(0.25, 0.5, 1),
        resolutions=(0.75, 1),
        head=48,
    ),
    "28": _SMALL,
    "32": _SMALL,
    "imagenet": Layout(
        stem=16,
        stem_stride=2,
        widths=(24, 40, 80, 112, 160),
        strides=(2, 2, 2, 1, 2),
        excite=(False, True, False, True, True),
        acts=("relu", "relu", "hswish", "hswish", "hswish"),
        depths=((2, 3, 4),) * 5,
        kernels=(3, 5, 7),
        expansions=(3, 4, 6),
        multipliers=(1, 1.2),
        resolutions=(4 / 7, 5 / 7, 6 / 7, 1),
        head=960,
        features=1280,
        entry="separable",
        divisor=8,
    ),
}
