"""Batches of a split without end, in an order that a name decides: a stream can be taken up wherever it stood."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nascli.engine.task import Task
from nascli.errors import DataError
from search_spaces.space import Batch

if TYPE_CHECKING:
    from nascli.data import Split


class Stream:
    """Epoch after epoch of shuffled batches; what is left over at the end of an epoch is left out.

    Raises DataError for a split without examples, which would never give a batch.
    """

    def __init__(self, split: Split, size: int, task: Task, *, name: str) -> None:
        if not len(split):
            raise DataError(f"There are no examples for {name!r} to draw from; every split needs at least one.")
        self._split, self._task, self._name = split, task, name
        self._epoch, self._used = 0, 0
        self._size = size
        self._batches = self._from_here()

    @property
    def size(self) -> int:
        """Examples a batch."""
        return self._size

    @property
    def steps_an_epoch(self) -> int:
        """Batches of the present size in an epoch, at least 1."""
        return max(1, len(self._split) // self._size)

    def next(self) -> Batch:
        """The next batch, altered as training data are."""
        return next(self._batches)

    def seek(self, batch: int) -> None:
        """Go to where so many batches have been given."""
        self._epoch, self._used = divmod(batch, self.steps_an_epoch)
        self._batches = self._from_here()

    def resize(self, size: int) -> None:
        """Give batches of another size, from the next epoch's first on."""
        if size != self._size:
            self._size, self._epoch, self._used = size, self._epoch + 1, 0
            self._batches = self._from_here()

    def state(self) -> dict[str, int]:
        """Where it stands."""
        return {"epoch": self._epoch, "used": self._used, "size": self._size}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._epoch, self._used, self._size = int(state["epoch"]), int(state["used"]), int(state["size"])
        self._batches = self._from_here()

    def _from_here(self) -> Iterator[Batch]:
        for epoch in itertools.count(self._epoch):
            rng = self._task.rng(f"{self._name}/epoch{epoch}")
            batches = self._split.batches(self._size, device=self._task.device, rng=rng)
            for batch in itertools.islice(batches, self._used, self.steps_an_epoch):
                self._used += 1
                yield batch
            self._epoch, self._used = epoch + 1, 0
