"""What a run is about: the space, the data, what counts, and where randomness comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator

if TYPE_CHECKING:
    from nascli.data import Data
    from nascli.engine.objectives import Objective
    from predictors.latency import LatencyModel
    from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Probing:
    """How networks are probed: on how many examples a batch, and how many fresh initialisations are averaged."""

    examples: int = 64
    repeats: int = 1
    precision: Literal["single", "double"] = "single"
    """Of the pass over single examples, whose signs depend on rounding where gradients are nearly 0."""

    def __post_init__(self) -> None:
        for name in ("examples", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Task:
    """Everything that a strategy and an evaluation may depend on; can be sent to a worker process."""

    space: SearchSpace
    data: Data | None = None
    objectives: tuple[Objective, ...] = ()
    recorded: tuple[Objective, ...] = ()
    """Measured and journalled too, but of no account: no costs, no limits, no front."""
    device: str = "cpu"
    seed: int = 0
    supernet: Path | None = None
    """A checkpoint whose weights sub-networks inherit; None: each network starts from fresh weights."""
    latency: LatencyModel | None = None
    calibration: int = 2000
    """Training examples from which BatchNorm statistics are re-estimated after inheriting."""
    batch_size: int = 256
    """Examples a forward pass when measuring."""
    probing: Probing = Probing()
    proxies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of proxies by their name; a proxy that is not here has its defaults."""
    compressors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of compressors by their name, likewise."""

    def rng(self, stream: str) -> Generator:
        """An independent generator for a named purpose: adding a draw in one place moves no other."""
        return np.random.default_rng(self.entropy(stream))

    def entropy(self, stream: str) -> int:
        """The 63-bit seed of a named stream; for torch generators and libraries that want a number."""
        digest = hashlib.blake2b(f"{self.seed}/{stream}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1
