"""Scores that read which rectifiers an example switches on: examples that switch on different ones are told apart.

NASWOT (Mellor et al. 2021, arXiv:2006.04647) compares the codes of examples, TE-NAS (Chen et al. 2021,
arXiv:2102.11535) counts the different ones, and SWAP (Peng et al. 2024, arXiv:2403.04161) turns the table round and
counts the different responses of units to the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.gaussian import normal_weights
from predictors.passes import forward
from predictors.probe import Probe, finite
from predictors.protocol import About
from predictors.tracing import Call, Rectifier


@dataclass(frozen=True)
class Nwot:
    """log |det K|, where K counts the rectifiers on which two examples agree (Mellor et al. 2021, arXiv:2006.04647).

    The published code leaves out rectifiers that no gradient passes; NAS-Bench-Suite-Zero's does not, nor does this.
    More rectifiers give more by themselves.
    """

    about: ClassVar[About] = About("max", 0.6, "data", ("trace",), "Mellor et al. 2021, arXiv:2006.04647")

    def __call__(self, probe: Probe) -> float:
        """The logarithm. Raises DeadNetworkError if all codes are equal, ScoreError if those of two examples are."""
        agreements, units = _agreements(probe)
        if int((agreements == units).sum()) > len(agreements):
            raise ScoreError("Two examples switch on the same rectifiers, so that det K is 0; are two of them equal?")
        return finite(torch.linalg.slogdet(agreements).logabsdet)


@dataclass(frozen=True)
class LinearRegions:
    """How many linear regions the batch falls into (Chen et al. 2021, arXiv:2102.11535).

    Networks with more units than a few tell all examples of a batch apart, and all get the same score: the paper takes
    3,000 crops of 3x3 grey pixels and networks with a single channel.
    """

    about: ClassVar[About] = About("max", 0.6, "data", ("trace",), "Chen et al. 2021, arXiv:2102.11535")

    def __call__(self, probe: Probe) -> float:
        """The number of different codes. Raises DeadNetworkError if all are equal."""
        agreements, units = _agreements(probe)
        # Of k equal examples each counts 1 / k.
        return finite(((agreements == units).sum(1, dtype=torch.float64) ** -1).sum())


@dataclass(frozen=True)
class Swap:
    """How many different patterns a batch draws from the units (Peng et al. 2024, arXiv:2403.04161).

    Under weights from N(0, 1), averaged over `repeats` draws. With `sigma` above 0 the score is multiplied by
    exp(-(parameters - mu)^2 / sigma), parameters in thousands: it then prefers a size of about `mu`.
    """

    about: ClassVar[About] = About("max", 6.0, "data", ("normal weights",), "Peng et al. 2024, arXiv:2403.04161")

    examples: int = 16
    """As many examples of the batch, or all if there are fewer."""
    repeats: int = 32
    mu: float = 0.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.examples <= _MOST:
            raise ValueError(f"examples={self.examples!r} must lie between 2 and {_MOST}")
        if self.repeats < 1 or self.sigma < 0:
            raise ValueError(f"repeats={self.repeats!r} must be at least 1, and sigma={self.sigma!r} not below 0")

    def __call__(self, probe: Probe) -> float:
        """The mean number of patterns. Raises DeadNetworkError if no unit tells any two examples apart."""
        inputs, generator = _first(probe, self.examples), probe.generator("swap")
        net = probe.copy()
        patterns = _Patterns(net, len(inputs[0]))
        counts = []
        for _ in range(self.repeats):
            normal_weights(net, generator=generator)
            counts.append(patterns.count(inputs))
        return finite(sum(counts) / len(counts) * self._regularisation(probe.model))

    def _regularisation(self, model: nn.Module) -> float:
        if not self.sigma:
            return 1.0
        thousands = sum(p.numel() for p in model.parameters()) / 1000
        return math.exp(-((thousands - self.mu) ** 2) / self.sigma)


_MOST = 53
"""As many examples fit into the whole numbers that double precision holds exactly."""


class _Patterns:
    """Counts the different responses [examples] of a network's units; each response is a number whose bits they are."""

    def __init__(self, net: nn.Module, examples: int) -> None:
        self._net = net
        self._bits = 2.0 ** torch.arange(examples, dtype=torch.float64)
        self._seen: list[Tensor] = []
        for part in net.modules():
            if isinstance(part, Rectifier):
                part.register_forward_hook(self._listen)

    def _listen(self, part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Single precision holds numbers of 24 bits exactly.
        kind = torch.float32 if len(self._bits) <= _TABLE else torch.float64
        codes = self._bits.to(output.device, kind) @ _code(output, len(self._bits)).to(kind)
        self._seen.append(_different(codes.long(), len(self._bits)))

    def count(self, inputs: tuple[Tensor, ...]) -> int:
        """How many there are in one pass of the inputs."""
        self._seen.clear()
        with torch.no_grad():
            forward(self._net, inputs)
        if not self._seen:
            raise ScoreError(_NONE)
        found = _different(torch.cat(self._seen), len(self._bits))
        if not bool(((found > 0) & (found < int(self._bits.sum()))).any()):
            raise DeadNetworkError("No unit tells any two examples apart: nothing flows through the network.")
        return len(found)


_TABLE = 20
"""Up to as many bits, a table of all numbers there are takes less time than sorting those at hand."""


def _different(codes: Tensor, bits: int) -> Tensor:
    """The different ones of the numbers, in ascending order."""
    if bits > _TABLE:
        return torch.unique(codes)  # type: ignore[no-any-return]
    return torch.bincount(codes, minlength=2**bits).nonzero().flatten()


_NONE = "The network has no rectifier that is a module (nn.ReLU and the like); functions in `forward` are not seen."


def _agreements(probe: Probe) -> tuple[Tensor, int]:
    """On how many rectified units two examples agree [examples, examples], in double precision, and of how many."""
    return probe.once("agreements", lambda: _counted(probe.trace.rectified, len(probe.batch.inputs[0])))


def _counted(calls: Sequence[Call], examples: int) -> tuple[Tensor, int]:
    if not calls:
        raise ScoreError(_NONE)
    total, units = torch.zeros(examples, examples, dtype=torch.float64), 0
    for call in calls:
        if not call.intact:
            raise ScoreError(f"What {call.name!r} returns is changed in place afterwards; let that make a new tensor.")
        code = _code(call.output, examples).to(torch.float32)  # exact up to 2^24 units
        units += code.shape[1]
        total += (code @ code.T).to("cpu", torch.float64)
    # Off in both are all but those that are on in either: X X^T + (1 - X)(1 - X)^T from the first term alone.
    on = total.diagonal()
    agreements = 2 * total - on - on[:, None] + units
    if bool((agreements == units).all()):
        raise DeadNetworkError("All examples switch on the same rectifiers: nothing flows through the network.")
    return agreements, units


def _code(output: Tensor, examples: int) -> Tensor:
    """Which units are on, bool [examples, units]."""
    if output.dim() < 2 or len(output) != examples:
        shape = "x".join(map(str, output.shape))
        raise ScoreError(f"A rectifier returns {shape} for {examples} examples; they must come first, one a row.")
    return output.flatten(1) > 0


def _first(probe: Probe, examples: int) -> tuple[Tensor, ...]:
    if probe.examples == "coupled":
        raise ScoreError("SWAP takes a few examples of many, but the nodes of a graph belong together.")
    return tuple(x[:examples] for x in probe.batch.inputs)
