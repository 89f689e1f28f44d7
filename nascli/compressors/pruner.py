"""What all ways of pruning share: find the groups, choose which live, take the others out, and train what is left.

The dense network teaches the smaller one (Hinton et al. 2015, arXiv:1503.02531), so that what it learnt from more data
than are at hand is not forgotten: by its outputs, and by its features in the channels that are left.
"""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nascli import training
from nascli.compressors.groups.finding import KINDS, Asked, find
from nascli.compressors.groups.removal import remove, silence_
from nascli.compressors.meter import Meter
from nascli.compressors.protocol import Compression, Level
from nascli.compressors.selection import Rules, select, select_in_blocks, whole
from nascli.compressors.taught import Taught
from nascli.engine.evaluate import Subject, assemble
from nascli.engine.network import Network
from nascli.engine.protocol import Step, Trial
from nascli.engine.task import Task
from nascli.errors import did_you_mean
from nascli.recipes.session import After, Losses, Moment, Session, at_rest
from search_spaces.groups import Groups
from search_spaces.keep import Keep
from search_spaces.space import Batch

log = logging.getLogger(__name__)

Choice = Generator[Step, Sequence[Trial], Tensor]
"""A conversation that ends with the groups that live, bool [groups]."""


class Job:
    """One network on its way to one level: its model, its groups, its teacher."""

    def __init__(self, settings: Pruner, network: Network, level: Level, task: Task) -> None:
        self.network, self.level, self.task = network, level, task
        self.model = assemble(network, task).eval()
        self.example = Subject(network, task).example
        self.groups, self.blocks = find(self.model, self.example, settings.asked)
        self._rules = settings.rules
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.teacher.to(memory_format=training.memory_format(self.teacher))  # type: ignore[call-overload]

    def examples(self, count: int, size: int) -> Iterator[Batch]:
        """So many training examples, unaltered, in batches of a size; none without data."""
        if self.task.data is not None:
            yield from self.task.data.train.head(count).batches(size, device=self.task.device)

    @cached_property
    def _meter(self) -> Meter:
        return Meter(self.model, self.groups, self.example, self.level, self.task)

    def share(self, alive: Tensor) -> float:
        """How much of the network is left, in its level's unit, if only these groups live, bool [groups]."""
        return float(alive.double().mean()) if self.blocks is not None else self._meter(alive)

    def prices(self) -> Tensor:
        """What each group costs of the level's unit [groups], relative to the mean."""
        return torch.ones(len(self.groups), dtype=torch.float64) if self.blocks is not None else self._meter.prices()

    def select(self, scores: Tensor, part: float = 1.0) -> Tensor:
        """The groups that the level leaves room for, bool [groups]; or a level that is only a part of the way there.

        Equal parts remove equal shares of what is left. Blocks go the whole way at once. Raises InfeasibleError.
        """
        if self.blocks is not None:
            return select_in_blocks(scores, self.blocks, whole(self.level.kept, self.blocks.shape[1]))
        return select(scores, self.groups, self._rules, self._meter, self.level.kept**part)


@dataclass(frozen=True, kw_only=True)
class Pruner(Taught, ABC):
    """What all ways of pruning have in common; what they differ in is which groups live."""

    epochs: float = 20.0
    """Passes over the training examples for each level, all phases together; `steps` or `time_limit_s` overrule it."""
    lr: float = 0.01
    smoothing: float = 0.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov's momentum, or AdamW, which transformers need."""
    groups: tuple[str, ...] = ("filters", "neurons", "heads")
    """What lives and dies as one: filters, channels, neurons, heads, blocks; filter-shapes, weights, tiles, n-of-m."""
    layers: tuple[str, ...] = ("*",)
    """Globs of the layers that may lose groups."""
    ignore: tuple[str, ...] = ()
    """Globs of the layers that may not."""
    tiles: str = ""
    """For groups of tiles: a JSON file of their sizes, by globs of weights' names."""
    block: int = 4
    """For groups of n-of-m: the weights of a block, of which the level says how many stay."""
    scope: Literal["global", "axis"] = "global"
    """Whether all groups compete with each other, or each layer keeps the same share of its own."""
    floor: float = 0.1
    """The share of each layer's groups that always stays."""
    least: int = 1
    """The groups of each layer that always stay."""
    round_to: int = 1
    """Layers keep a multiple of so many groups, where they have them: 8 or 16 suits many kernels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups:
            raise ValueError("groups=() names none; give at least one kind")
        for kind in self.groups:
            if kind not in KINDS:
                raise ValueError(f"there are no groups called {kind!r}.{did_you_mean(kind, KINDS)}")
        if ("tiles" in self.groups) != bool(self.tiles):
            raise ValueError("groups of tiles and a file of tiles need each other; give both")
        _ = self.rules

    @property
    def asked(self) -> Asked:
        """Which groups are meant."""
        return Asked(self.groups, self.layers, self.ignore, self.tiles, self.block)

    @property
    def rules(self) -> Rules:
        """What no selection may do."""
        return Rules(floor=self.floor, least=self.least, round_to=self.round_to, scope=self.scope)

    def optimiser(self, model: nn.Module) -> Optimizer:
        """See `Schedule.optimiser`."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return super().optimiser(model)

    @abstractmethod
    def choose(self, job: Job, session: Session, losses: Losses) -> Choice:
        """A conversation that ends with the groups that live; it may train the session's model until healing starts."""

    def compress(
        self, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None
    ) -> Compression:
        """See `Compressor.compress`. Raises UnsupportedError, InfeasibleError, DivergedError."""
        job = Job(self, network, level, task)
        found = None if state is None else state["notes"].get("alive")
        start, edits, living = job.model, network.edits, found
        if living is not None:
            start, edits = self._without(job, start, living)
        session = Session(self, task, model=copy.deepcopy(start), state=state)
        if living is None:
            living = yield from self.choose(job, session, self.losses(session.model, job.teacher))
            rest, edits = self._without(job, session.model, living)
            session.exchange(rest)
            session.notes["alive"] = living
        smaller = edits != network.edits
        features = self.watched(session.model, job.teacher, edits[-1] if smaller else Keep())
        after = None if smaller else _silencing(session, job.groups, living)
        yield from session.run(self.losses(session.model, job.teacher, features), after=after)
        return replace(network, edits=edits, tensors=at_rest(session.model.state_dict()))

    def _without(self, job: Job, model: nn.Module, living: Tensor) -> tuple[nn.Module, tuple[Any, ...]]:
        """The model without its dead groups, and its edits; of full size, with zeros, where it can't be smaller."""
        if not job.groups.removable:
            silenced = copy.deepcopy(model)
            silence_(silenced, job.groups, living)
            return silenced, job.network.edits
        smaller, edit, reason = remove(model, job.groups, living, job.example)
        if edit is None:
            log.warning("the network keeps its size, with zeros in it: %s", reason)
            return smaller, job.network.edits
        return smaller, (*job.network.edits, edit)


def _silencing(session: Session, groups: Groups, living: Tensor) -> After:
    """What keeps dead groups zero while the rest is trained."""

    def after(at: Moment) -> None:
        silence_(session.model, groups, living)

    return after
