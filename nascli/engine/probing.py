"""Networks under the probe: the same batches for all networks of a run, and the architecture as predictors read it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from nascli.errors import DataError
from predictors.probe import Cell, Probe
from search_spaces import Architecture
from search_spaces.space import Batch, CellSpace

if TYPE_CHECKING:
    from nascli.data import Split
    from nascli.engine.task import Task


def probe(arch: Architecture, model: nn.Module, task: Task) -> Probe:
    """A probe of a fresh model; raises DataError if there are too few training examples for a batch."""
    first, second = batches(task)
    graph = task.space.graph(arch) if isinstance(task.space, CellSpace) else None
    return Probe(
        model,
        first,
        second=second,
        examples="coupled" if task.space.signature.kind == "graph" else "independent",
        seed=task.entropy(f"probe/{arch}"),
        precision=task.probing.precision,
        code=task.space.table.encode(arch),
        cell=None if graph is None else Cell(graph.adjacency, graph.operations),
    )


def batches(task: Task) -> tuple[Batch, Batch | None]:
    """Two batches of training examples, altered as in training; the same ones for every network of the run.

    Without data there is one batch of noise, for proxies that look at shapes only. Raises DataError.
    """
    if task.data is None:
        shape = (task.probing.examples, *task.space.signature.shape)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        targets = torch.zeros(len(noise), dtype=torch.long)
        return Batch((noise,), targets).to(task.device), None
    return _drawn(_Identity(task.data.train), task.probing.examples, task.entropy("probe/batches"), task.device)


class _Identity:
    """A split as a dictionary key: splits need not be hashable, and two are never compared by value."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.split is self.split

    def __hash__(self) -> int:
        return id(self.split)


@lru_cache(maxsize=1)
def _drawn(train: _Identity, examples: int, seed: int, device: str) -> tuple[Batch, Batch | None]:
    import numpy as np

    stream = train.split.batches(examples, device=device, rng=np.random.default_rng(seed))
    first, second = next(stream), next(stream, None)
    if len(first.inputs[0]) < 2:
        raise DataError(f"A probe needs at least 2 training examples, but there are {len(train.split)}.")
    return first, second
