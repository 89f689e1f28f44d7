"""Training a supernet: in which order, and how many at a time, the networks in it get to learn.

Each recipe is one small function from a batch to losses, a network each; the rest is `session`. Single path: Guo et
al. 2020 (arXiv:1904.00420). Sandwich rule: Yu et al. 2020 (BigNAS, arXiv:2003.11142). Progressive shrinking: Cai et al.
2020 (Once-for-All, arXiv:1908.09791).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn

from nascli import training
from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from nascli.recipes.schedule import Recipe, Span
from nascli.recipes.session import Moment, Session
from search_spaces import Architecture, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.gated import one_hot
from search_spaces.space import Batch, ChannelSorting


@dataclass(frozen=True, kw_only=True)
class SinglePath(Recipe):
    """The largest network first, then one network a step, drawn uniformly (after Guo et al. 2020, arXiv:1904.00420)."""

    warm_share: float = 0.3
    """The share of the budget for the largest network alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warm_share <= 1:
            raise ValueError(f"warm_share={self.warm_share!r} must be from 0 to 1")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`."""
        table = task.space.table
        session = Session(self, task, model=_supernet(task), state=state)
        largest = one_hot(table, table.largest)

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            warm = at.spent < self.warm_share
            gates = largest if warm else one_hot(table, table.sample(task.rng(f"train/arch/{at.step}")))
            yield batch.losses(session.model(*batch.inputs, gates=gates), smoothing=self.smoothing).mean()

        yield from session.run(losses)
        yield Step(candidates=extremes(session, task))


@dataclass(frozen=True, kw_only=True)
class Sandwich(Recipe):
    """Largest, random and smallest networks each step; all learn from the largest (BigNAS, arXiv:2003.11142)."""

    nets: int = 4
    """Networks a step, the largest and the smallest among them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nets < 2:
            raise ValueError(f"nets={self.nets} must be at least 2: the largest and the smallest network")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`."""
        table = task.space.table
        session = Session(self, task, model=_supernet(task), state=state)

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            logits = session.model(*batch.inputs, gates=one_hot(table, table.largest))
            yield batch.losses(logits, smoothing=self.smoothing).mean()
            teacher = logits.detach()
            rng = task.rng(f"train/arch/{at.step}")
            for arch in (*(table.sample(rng) for _ in range(self.nets - 2)), table.smallest):
                logits = session.model(*batch.inputs, gates=one_hot(table, arch))
                yield training.distilled(batch, logits, teacher).mean()

        yield from session.run(losses)
        yield Step(candidates=extremes(session, task))


@dataclass(frozen=True)
class Phase:
    """A stretch of progressive shrinking: which choices are drawn, how many networks a step, and when."""

    name: str
    unlocked: frozenset[str]
    """Names of the choices that are drawn; all others rest on their last option."""
    nets: int
    span: Span


@dataclass(frozen=True, kw_only=True)
class Progressive(Recipe):
    """The largest network, then smaller kernels, depths and widths in turn (Once-for-All, Cai et al. 2020).

    From the second phase on, the networks learn from the labels and from the trained largest network. Channels are put
    in order of importance before widths shrink. Phases that the space has no choices for are passed over.
    """

    shares: tuple[float, float, float, float] = (0.3, 0.2, 0.25, 0.25)
    """Shares of the budget: largest network, kernel, depth, width and all else."""
    nets: tuple[int, int, int] = (1, 2, 4)
    """Networks a step while kernels, depths and widths shrink."""
    later_lr: float = 0.3
    """The highest learning rate after the first phase, relative to `lr`."""
    distillation: float = 1.0
    """The weight of the teacher's answer beside the labels'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.shares) <= 0 or min(self.nets) < 1:
            raise ValueError(f"shares={self.shares} must be more than 0 and nets={self.nets} at least 1")
        if self.later_lr <= 0 or self.distillation < 0:
            raise ValueError(
                f"later_lr={self.later_lr} must be more than 0, distillation={self.distillation} at least 0"
            )

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`."""
        session = Session(self, task, model=_supernet(task), state=state)
        phases = self.phases(task.space.table)
        for number in range(session.notes.setdefault("phase", 0), len(phases)):
            if number > session.notes["phase"]:
                _begin(session, task, phases[number])
                session.notes["phase"] = number
            yield from self._run(session, task, phases[number])
        yield Step(candidates=extremes(session, task))

    def phases(self, table: ChoiceTable) -> tuple[Phase, ...]:
        """What this recipe does with the space's choices, by the last part of their names."""
        names: dict[str, set[str]] = {"kernel": set(), "depth": set(), "width": set()}
        for choice in table.choices:
            if len(choice.options) > 1:
                names.get(choice.name.rpartition(".")[2], names["width"]).add(choice.name)
        present = [("largest", 1, self.shares[0])]
        present += [p for p in zip(names, self.nets, self.shares[1:], strict=True) if names[p[0]]]
        total = sum(share for *_, share in present)
        ends = [*(end / total for end in accumulate(share for *_, share in present[:-1])), 1.0]
        phases: list[Phase] = []
        unlocked: frozenset[str] = frozenset()
        for (name, nets, _), start, end in zip(present, [0.0, *ends], ends, strict=False):
            unlocked |= names.get(name, set())
            phases.append(Phase(name, unlocked, nets, Span(start, end, self.later_lr if phases else 1.0)))
        return tuple(phases)

    def _run(self, session: Session, task: Task, phase: Phase) -> Search:
        table, teacher = task.space.table, _teacher(session, task)

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            rng = task.rng(f"train/arch/{at.step}")
            with torch.no_grad():
                answer = None if teacher is None else teacher(*batch.inputs)
            for _ in range(phase.nets):
                logits = session.model(*batch.inputs, gates=one_hot(table, _drawn(table, rng, phase.unlocked)))
                loss = batch.losses(logits, smoothing=self.smoothing)
                if answer is not None:
                    loss = loss + self.distillation * training.distilled(batch, logits, answer)
                yield loss.mean()

        return session.run(losses, phase.span)


def _begin(session: Session, task: Task, phase: Phase) -> None:
    """From the largest network's phase into a later one, or from one of those into the next."""
    if "teacher" not in session.notes:
        session.notes["teacher"] = cut(session.model, task.space.table.largest, task)
    if phase.name == "width" and isinstance(task.space, ChannelSorting):
        task.space.sort_channels(session.model)
    session.restart()


def _teacher(session: Session, task: Task) -> nn.Module | None:
    if "teacher" not in session.notes:
        return None
    return _built(Network(task.space.table.largest, tensors=session.notes["teacher"]), task).eval()


def _drawn(table: ChoiceTable, rng: Generator, unlocked: frozenset[str]) -> Architecture:
    """A random network among those that differ from the largest in unlocked choices only."""
    draws = rng.integers([len(c.options) for c in table.choices])
    return table.from_indices(
        [d if c.name in unlocked else len(c.options) - 1 for c, d in zip(table.choices, draws, strict=True)]
    )


def extremes(session: Session, task: Task) -> list[Network]:
    """The largest and the smallest network with tensors of their own: what the training has come to."""
    ends = dict.fromkeys((task.space.table.largest, task.space.table.smallest))
    return [Network(arch, tensors=cut(session.model, arch, task), tag=session.tag) for arch in ends]


def cut(supernet: nn.Module, arch: Architecture, task: Task) -> dict[str, Tensor]:
    """The tensors of one network in the supernet, on the CPU, its BatchNorm statistics estimated from training data."""
    model = _built(Network(arch, tensors=task.space.inherit(supernet, arch)), task)
    if task.data is not None:
        head = task.data.train.head(task.calibration)
        training.calibrate(model, head.batches(task.batch_size, device=task.device))
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _built(network: Network, task: Task) -> nn.Module:
    # Its first weights are drawn, although others take their place at once.
    with torch.random.fork_rng(devices=[]):
        return network.build(task.space).to(task.device)


def _supernet(task: Task) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(task.entropy("init"))
            return task.space.supernet()
    except SpaceError as error:
        raise UnsupportedError(
            f"There is no supernet to train ({error}); train single networks with recipe plain."
        ) from None
