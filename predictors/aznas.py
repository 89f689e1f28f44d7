"""AZ-NAS: what a network's blocks do to Gaussian noise on the way forwards, and to random signs on the way back.

Lee & Ham 2024, arXiv:2403.19232. Its three scores and the number of multiply-adds are the four columns that
`aggregate.log_rank` makes one ranking of.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.blocks import Feature, channels_last, features
from predictors.gaussian import he_weights, noise
from predictors.probe import Probe, finite
from predictors.protocol import About

PAPER = "Lee & Ham 2024, arXiv:2403.19232"
_PASSES = ("features of noise",)


@dataclass(frozen=True)
class AzExpressivity:
    """Sum over the blocks of the entropy of their features' principal components (Lee & Ham 2024, arXiv:2403.19232)."""

    about: ClassVar[About] = About("max", 0.5, "nothing", _PASSES, PAPER)

    examples: int = 64

    def __post_init__(self) -> None:
        _check(self.examples)

    def __call__(self, probe: Probe) -> float:
        """The sum; each at most the logarithm of the channels. Raises DeadNetworkError if a block's are constant."""
        return finite(sum(_entropies(probe, self.examples)))


@dataclass(frozen=True)
class AzProgressivity:
    """The least gain of that entropy from one block to the next (Lee & Ham 2024, arXiv:2403.19232)."""

    about: ClassVar[About] = About("max", 0.5, "nothing", _PASSES, PAPER)

    examples: int = 64

    def __post_init__(self) -> None:
        _check(self.examples)

    def __call__(self, probe: Probe) -> float:
        """The gain, negative for a loss. Raises DeadNetworkError if a block's features are constant."""
        return finite(min(after - before for before, after in pairwise(_entropies(probe, self.examples))))


@dataclass(frozen=True)
class AzTrainability:
    """Mean over the blocks of 2 - s - 1 / s: s is 1 where gradients keep their size (Lee & Ham 2024, arXiv:2403.19232).

    s is the largest singular value of the correlation between random signs behind a block and the gradient that they
    make before it. Blocks whose gradients do not lie on the same grid, or on a whole multiple of it, are left out.
    """

    about: ClassVar[About] = About("max", 1.3, "nothing", _PASSES, PAPER)

    examples: int = 64

    def __post_init__(self) -> None:
        _check(self.examples)

    def __call__(self, probe: Probe) -> float:
        """The mean, at most 0. Raises DeadNetworkError if no gradient passes, ScoreError if a block does nothing."""
        found = _features(probe, self.examples)
        generator = probe.generator("aznas signs")
        spreads = [_spread(before, after, generator) for before, after in pairwise(found)]
        scores = [2 - s - 1 / (s + 1e-6) for s in spreads if s is not None]
        if not scores:
            raise ScoreError("No two blocks in sequence have features on the same grid.")
        return finite(sum(scores) / len(scores))


def _check(examples: int) -> None:
    if examples < 2:
        raise ValueError(f"examples={examples!r} must be at least 2")


def _features(probe: Probe, examples: int) -> list[Feature]:
    """The features of noise under He's initialisation, in training mode; at least two."""

    def make() -> list[Feature]:
        generator, net = probe.generator("aznas"), probe.copy()
        he_weights(net, generator=generator)
        return features(net, noise(probe, examples, generator=generator))

    found = probe.once(f"features of noise {examples}", make)
    if len(found) < 2:
        raise ScoreError(f"AZ-NAS compares blocks in sequence, and the network has {len(found)}.")
    return found


def _entropies(probe: Probe, examples: int) -> list[float]:
    return probe.once(f"entropies of noise {examples}", lambda: [entropy(f) for f in _features(probe, examples)])


def entropy(feature: Feature) -> float:
    """Entropy of the normalised eigenvalues of the channels' covariance over examples and positions."""
    rows = channels_last(feature, feature.output.detach()).flatten(0, -2)
    rows = rows - rows.mean(0)
    eigenvalues = torch.linalg.eigvalsh((rows.T @ rows).to("cpu", torch.float64)).clamp(min=0)
    if not eigenvalues.any():
        raise DeadNetworkError(f"What block {feature.name!r} returns is constant: nothing flows through it.")
    p = eigenvalues / eigenvalues.sum()
    return float(-(p * (p + 1e-8).log()).sum())


def _spread(before: Feature, after: Feature, generator: Generator) -> float | None:
    """The largest singular value, None where there is nothing to compare."""
    if not after.output.requires_grad:
        raise DeadNetworkError(f"What block {after.name!r} returns depends on nothing: nothing flows through it.")
    signs = torch.randint(2, after.output.shape, generator=generator).to(after.output) * 2 - 1
    (gradient,) = torch.autograd.grad(after.output, before.output, signs, retain_graph=True, allow_unused=True)
    if gradient is None:  # blocks side by side
        return None
    if not gradient.any():
        raise DeadNetworkError(f"No gradient passes block {after.name!r}.")
    if gradient.shape == signs.shape and torch.equal(gradient, signs):
        raise ScoreError(f"Block {after.name!r} hands its input on as it is: its trainability is minus infinity.")
    return spread(channels_last(before, gradient), channels_last(after, signs))


def spread(gradient: Tensor, signs: Tensor) -> float | None:
    """Largest singular value of the mean of gradient times signs, each [examples, positions..., channels].

    The mean is over examples and positions. A gradient on a finer grid has each window's positions taken as channels.
    None if the grids do not fit.
    """
    fine, coarse = gradient.shape[1:-1], signs.shape[1:-1]
    if len(gradient) != len(signs) or len(fine) != len(coarse):
        return None
    strides = [-(-a // b) for a, b in zip(fine, coarse, strict=True)]
    missing = [b * s - a for a, b, s in zip(fine, coarse, strides, strict=True)]
    if any(m >= s for m, s in zip(missing, strides, strict=True)):
        return None
    # Zeros beyond an edge that the windows overlap; `pad` wants the last dimension first, and the channels have none.
    gradient = F.pad(gradient, (0, 0, *(n for m in reversed(missing) for n in (0, m))))
    for i, (b, s) in enumerate(zip(coarse, strides, strict=True)):
        shape = (*gradient.shape[: 1 + i], b, s, *gradient.shape[2 + i :])
        gradient = gradient.reshape(shape).movedim(2 + i, -2).flatten(-2)
    rows, columns = gradient.flatten(0, -2), signs.flatten(0, -2)
    return float(torch.linalg.matrix_norm(rows.T @ columns / len(rows), 2))
