"""What a run is about: the space, the data, what counts, and where randomness comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

if TYPE_CHECKING:
    from nascli.data import Data
    from nascli.engine.objectives import Objective
    from predictors.latency import LatencyModel
    from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Task:
    """Everything that a strategy and an evaluation may depend on; can be sent to a worker process."""

    space: SearchSpace
    data: Data | None = None
    objectives: tuple[Objective, ...] = ()
    device: str = "cpu"
    seed: int = 0
    supernet: Path | None = None
    """A checkpoint whose weights sub-networks inherit; None: each network starts from fresh weights."""
    latency: LatencyModel | None = None
    calibration: int = 2000
    """Training examples from which BatchNorm statistics are re-estimated after inheriting."""
    batch_size: int = 256
    """Examples a forward pass when measuring."""

    def rng(self, stream: str) -> Generator:
        """An independent generator for a named purpose: adding a draw in one place moves no other."""
        return np.random.default_rng(self.entropy(stream))

    def entropy(self, stream: str) -> int:
        """The 63-bit seed of a named stream; for torch generators and libraries that want a number."""
        digest = hashlib.blake2b(f"{self.seed}/{stream}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1
