"""Training one network by itself: which one, and the weights that it starts from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nascli.engine.checkpoints import read_for
from nascli.engine.files import read_json
from nascli.engine.network import Network, restore
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from nascli.recipes.schedule import Recipe
from search_spaces import Architecture


@dataclass(frozen=True, kw_only=True)
class OneNetwork(Recipe):
    """What all ways of training one network have in common: its architecture, and where its weights come from."""

    arch: str = ""
    """The architecture, as printed by a search; empty: the largest (a model's own space has no other)."""
    weights: str = "fresh"
    """Where training starts: fresh weights by seed, those to inherit from the supernet, or a checkpoint's: its path."""

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`.

        Raises ArchitectureError, UnsupportedError if there is no supernet to inherit from, DataError for a checkpoint
        that is none of this network.
        """
        if self.weights == "inherit" and task.supernet is None:
            raise UnsupportedError(
                "weights='inherit' needs a trained supernet; give --supernet RUN, or weights='fresh'."
            )
        arch = task.space.parse(self.arch) if self.arch else task.space.table.largest
        start = task if self.weights == "inherit" else replace(task, supernet=None)
        network = Network(arch) if self.weights in ("fresh", "inherit") else self._read(arch, task)
        network = yield from self.fit(replace(network, tag="trained"), start, state)
        yield Step(candidates=[network])

    @abstractmethod
    def fit(
        self, network: Network, task: Task, state: Mapping[str, Any] | None = None
    ) -> Generator[Step, Sequence[Trial], Network]:
        """A conversation that trains any network and returns it with its new tensors, on the CPU, tagged by steps.

        It starts from the network's own tensors, else from the task's supernet, else from fresh weights.
        """

    def _read(self, arch: Architecture, task: Task) -> Network:
        """The architecture with the checkpoint's tensors, once it is known that they are its own.

        A member of a run has a description beside its tensors; one that was made smaller is as small again.
        """
        path = Path(self.weights)
        beside = path.with_suffix(".json")
        found = read_json(beside) if path.suffix == ".safetensors" and beside.is_file() else {}
        edits = found.get("edits", []) if isinstance(found, dict) else []
        network = restore({"arch": str(arch), "edits": edits}, task.space)
        with torch.random.fork_rng(devices=[]):
            model = network.build(task.space)
        return replace(network, tensors=read_for(path, model))
