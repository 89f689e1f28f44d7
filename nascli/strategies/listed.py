"""No search at all: the architectures that one names, for scoring them or measuring them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import DataError, SettingsError
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture


@dataclass(frozen=True)
class Listed:
    """The given architectures, then those of a file, then a random sample: each once, in this order."""

    archs: tuple[str, ...] = ()
    """Architecture strings."""
    sample: int = 0
    """How many more to draw uniformly among those not listed."""
    file: str = ""
    """A text file with an architecture a line; empty lines and lines that begin with # are passed over."""
    equivalents: Literal["apart", "once"] = "apart"
    """Whether architectures that compute the same function are all measured, or one of them that stands for all."""
    batch: int = 20
    """Architectures a step."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, but got {self.batch!r}")
        if self.sample < 0:
            raise ValueError(f"sample must not be negative, but got {self.sample!r}")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """Batches of the list; raises SettingsError if it is empty, DataError for the file, ArchitectureError."""
        # Read whole before the first network is measured: a slip in the last line must not cost a night.
        archs = list(dict.fromkeys(self.measured(arch, task) for arch in self.asked(task)))
        for start in range(0, len(archs), self.batch):
            yield Step([Network(arch) for arch in archs[start : start + self.batch]])

    def asked(self, task: Task) -> list[Architecture]:
        """All architectures of the list, each once; raises SettingsError, DataError, ArchitectureError as `search`."""
        if not (self.archs or self.file or self.sample):
            raise SettingsError("The strategy 'listed' has nothing to list; give it archs, file or sample.")
        unseen = Unseen(task.space.table, task.rng("listed"))
        given = (task.space.parse(text) for text in (*self.archs, *self._lines()))
        return [arch for arch in given if unseen.take(arch)] + unseen.batch(self.sample)

    def measured(self, arch: Architecture, task: Task) -> Architecture:
        """The architecture that is measured where this one is asked for."""
        return task.space.equivalent(arch) if self.equivalents == "once" else arch

    def _lines(self) -> list[str]:
        if not self.file:
            return []
        try:
            text = Path(self.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise DataError(f"Can't read the list of architectures {self.file!r}: {reason}.") from None
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
