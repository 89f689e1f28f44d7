"""Zen-score: how much the features before the pooling move when the input does, BatchNorm's rescaling undone.

Lin et al. 2021, arXiv:2102.01063, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from predictors import DeadNetworkError, ScoreError
from predictors.gaussian import noise, normal_weights
from predictors.passes import forward
from predictors.probe import Probe, finite
from predictors.protocol import About

_POOLS = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d


@dataclass(frozen=True)
class Zen:
    """log E|f(x) - f(x + eps e)| plus, for each BatchNorm, log of its deviation (Lin et al. 2021, arXiv:2102.01063).

    x and e from N(0, 1), all weights too, averaged over `repeats` draws. f is what goes into the last global pooling
    that no convolution follows; without one, into the last linear layer. The deviation is that of the running variance
    in training mode, as in the published code, which makes the first draws count for less.
    """

    about: ClassVar[About] = About("max", 6.0, "nothing", ("normal weights",), "Lin et al. 2021, arXiv:2102.01063")

    examples: int = 16
    repeats: int = 32
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if self.examples < 2 or self.repeats < 1 or self.epsilon <= 0:
            raise ValueError(
                f"examples={self.examples!r} must be at least 2, repeats={self.repeats!r} at least 1 and "
                f"epsilon={self.epsilon!r} above 0"
            )

    def __call__(self, probe: Probe) -> float:
        """The mean. Raises ScoreError without running variances, DeadNetworkError if the features do not move."""
        net, generator = probe.copy(), probe.generator("zen")
        norms = _norms(net)
        features = _Features(net)
        found = []
        for _ in range(self.repeats):
            normal_weights(net, generator=generator)
            first = noise(probe, self.examples, generator=generator)
            second = noise(probe, self.examples, generator=generator)
            moved = tuple(
                x + self.epsilon * e if x.is_floating_point() else x for x, e in zip(first, second, strict=True)
            )
            found.append(_log_change(features(first), features(moved)) + _log_deviations(norms))
        return finite(sum(found) / len(found))


def _norms(net: nn.Module) -> list[_BatchNorm]:
    """The network's BatchNorms, with the running statistics of a fresh one."""
    norms = [part for part in net.modules() if isinstance(part, _BatchNorm)]
    if not norms or any(norm.running_var is None for norm in norms):
        raise ScoreError("The Zen-score needs BatchNorms with running statistics, and some or all are missing.")
    for norm in norms:
        norm.reset_running_stats()
    return norms


def _log_change(before: Tensor, after: Tensor) -> float:
    change = float((before - after).abs().flatten(1).sum(1, dtype=torch.float64).mean())
    if change == 0:
        raise DeadNetworkError("The features do not depend on the input: nothing flows through the network.")
    return math.log(change)


def _log_deviations(norms: list[_BatchNorm]) -> float:
    variances = [norm.running_var.mean(dtype=torch.float64) for norm in norms if norm.running_var is not None]
    return float(torch.stack(variances).log().sum() / 2)


class _Features:
    """The features of a network before they are pooled, [examples, ...]."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._pooled: Tensor | None = None
        self._read: Tensor | None = None
        for part in net.modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                part.register_forward_pre_hook(self._convolution)
            elif isinstance(part, nn.Linear):
                part.register_forward_pre_hook(self._linear)
            elif isinstance(part, _POOLS) and part.output_size in (1, (1,), (1, 1)):
                part.register_forward_pre_hook(self._pool)

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        self._pooled = self._read = None
        with torch.no_grad():
            forward(self._net, inputs)
        found = self._read if self._pooled is None else self._pooled
        if found is None:
            raise ScoreError("The network has neither a global pooling nor a linear layer to tell features by.")
        return found

    def _convolution(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        # What was pooled before belongs to the block, as squeezing and exciting does.
        self._pooled = None

    def _linear(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._read = inputs[0].detach()

    def _pool(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._pooled = inputs[0].detach()
