"""Counting as a score: larger networks tend to be better, and a proxy that does not beat this has found nothing new.

These are the baselines of Ning et al. 2021, arXiv:2008.03064, and Krishnakumar et al. 2022, arXiv:2210.03230.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from predictors.cost import count
from predictors.probe import Probe, finite
from predictors.protocol import About

PAPER = "Ning et al. 2021, arXiv:2008.03064; Krishnakumar et al. 2022, arXiv:2210.03230"


@dataclass(frozen=True)
class Params:
    """The number of parameters; held against proxies by Ning et al. 2021 (arXiv:2008.03064)."""

    about: ClassVar[About] = About("max", 0, "nothing", (), PAPER)

    def __call__(self, probe: Probe) -> float:
        """Numbers in parameters, biases and normalisation included; shared ones once."""
        return finite(sum(p.numel() for p in probe.model.parameters()))


@dataclass(frozen=True)
class Macs:
    """The multiply-adds of one example; held against proxies by Ning et al. 2021 (arXiv:2008.03064)."""

    about: ClassVar[About] = About("max", 0, "nothing", (), PAPER)

    def __call__(self, probe: Probe) -> float:
        """MACs as `cost.count` counts them, of all nodes of a graph; raises ScoreError if the network fails."""
        inputs = probe.batch.inputs
        one = inputs if probe.examples == "coupled" else tuple(x[:1] for x in inputs)
        return finite(count(probe.model, one).macs)
