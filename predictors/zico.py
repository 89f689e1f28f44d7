"""ZiCo: gradients that are large and alike from batch to batch make training fast and steady (Li et al. 2023,
arXiv:2301.11300).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from predictors import ScoreError
from predictors.probe import Probe, finite
from predictors.protocol import About


@dataclass(frozen=True)
class Zico:
    """The inverse coefficient of variation of the weights' gradients (Li et al. 2023, arXiv:2301.11300).

    Of two batches, and with the deviation of the gradients themselves, as the authors compute it: that of two numbers
    is half their difference, so the score varies a lot from batch to batch.
    """

    about: ClassVar[About] = About("max", 2, "labels", ("labelled", "second"), "Li et al. 2023, arXiv:2301.11300")

    def __call__(self, probe: Probe) -> float:
        """Sum over layers of log(sum over weights of mean |g| / deviation of g); weights that do not vary left out.

        Layers of which no weight varies are left out too. Raises ScoreError if that leaves none, or without a second
        batch.
        """
        logs = []
        for one, two in zip(probe.labelled, probe.second, strict=True):
            first, second = one.gradient.double(), two.gradient.double()
            mean, deviation = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
            varying = deviation > 0
            ratio = float(torch.where(varying, mean / deviation, 0.0).sum())
            if ratio:
                logs.append(math.log(ratio))
        if not logs:
            raise ScoreError("The gradients of both batches are the same; give two different batches.")
        return finite(sum(logs))
