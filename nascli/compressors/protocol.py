"""What a compressor is: a network comes in, and a smaller one of the same function goes out, so compressors compose."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nascli.engine.network import Network
from nascli.engine.protocol import Step, Trial
from nascli.engine.task import Task

Unit = Literal["macs", "params", "bytes", "latency", "groups"]
Compression = Generator[Step, Sequence[Trial], Network]
"""A conversation like a search's; what it returns is the compressed network, with its tensors on the CPU."""


@dataclass(frozen=True)
class Level:
    """How much of a network is kept, as a share of what it has of something."""

    kept: float
    of: Unit = "macs"

    def __post_init__(self) -> None:
        if not 0 < self.kept < 1:
            raise ValueError(f"the level {self.kept!r} must lie between 0 and 1: it is the share that is kept")

    def __str__(self) -> str:
        return f"{self.of}{self.kept:g}"


class Compressor(Protocol):
    """A frozen dataclass of settings. As a strategy, it must not print, write files or touch global random state."""

    def compress(
        self, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None
    ) -> Compression:
        """The network, which has tensors of its own, at the level; from the start or from a state that a step gave."""
        ...
