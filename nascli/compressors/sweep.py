"""Every network at every level: a search whose candidates are made smaller, not drawn.

Each compressor is a conversation of its own, and this one holds them one after another. Where it stands is its state:
which network and level, which compressor of a sequence, what came out of the one before, and that one's own state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nascli.compressors.protocol import Compression, Compressor, Level, Unit
from nascli.engine.checkpoints import read_for
from nascli.engine.compressing import made
from nascli.engine.network import Network, restore
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.errors import RunError, SettingsError

DENSE = "dense"
"""The tag of a network as it came."""

State = Callable[[], Mapping[str, Any]]
Job = tuple[int, float]
"""The number of a network and a level."""


@dataclass(frozen=True)
class Sweep:
    """Networks as they came, then each at each level, by one compressor or by several in a row."""

    checkpoint: str = ""
    """A file with the weights of the space's largest network."""
    run: str = ""
    """Instead of it: a run whose networks are compressed."""
    members: tuple[int, ...] = ()
    """Their numbers; empty: all members of the front that have weights."""
    compressors: tuple[str, ...] = ("wgsef",)
    """Names; each works on what the one before has left, and keeps the level's share of that."""
    levels: tuple[float, ...] = (0.5,)
    """Shares that are kept."""
    of: Unit = "macs"
    """What they are shares of."""

    def __post_init__(self) -> None:
        if self.checkpoint and self.run:
            raise ValueError(f"checkpoint={self.checkpoint!r} and run={self.run!r} exclude each other; give one")
        for name in ("compressors", "levels"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; give at least one")
        for level in self.levels:
            Level(level, self.of)
        for name in ("levels", "members"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values!r} names one twice; give each once")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`. Raises what `sources` and the compressors do."""
        sources = self.sources(task)
        chain = _Chain(self, [made(name, task) for name in self.compressors], task)
        # One a step, so that what was measured is the journal's and all of a step's state is true.
        for source in sources:
            yield Step([source])
        done: list[Job] = [] if state is None else [(int(i), float(level)) for i, level in state["done"]]
        begun = None if state is None else state["begun"]
        jobs = [(i, level) for i in range(len(sources)) for level in self.levels]
        todo = [job for job in jobs if job not in done]
        if begun is not None:
            # More levels may have been given meanwhile: what was begun is finished first.
            todo.sort(key=lambda job: job != (begun["network"], begun["level"]))
        for job in todo:
            place = _Place(job, before=len(jobs) - len(todo) + todo.index(job), total=len(jobs), done=tuple(done))
            ours = begun if begun is not None and job == (begun["network"], begun["level"]) else None
            result = yield from chain.compressed(sources[job[0]], place, ours)
            done.append(job)
            finished = replace(place, done=tuple(done))
            yield Step([result], metrics=finished.told({}, 1.0), state=finished.state)

    def sources(self, task: Task) -> list[Network]:
        """The networks as they came, in order, with their weights.

        Raises SettingsError if none is given, DataError for a checkpoint that is none of the network, RunError for a
        run or member that has no weights.
        """
        if self.run:
            run = Run.open(Path(self.run))
            named = zip(self.stored(), self.prefixes(), strict=True)
            return [replace(run.network(n, task.space), tag=prefix + DENSE) for n, prefix in named]
        if not self.checkpoint:
            raise SettingsError("There is nothing to compress; give a checkpoint or a run.")
        arch = task.space.table.largest
        with torch.random.fork_rng(devices=[]):
            model = task.space.build(arch)
        return [Network(arch, tensors=read_for(Path(self.checkpoint), model), tag=DENSE)]

    def stored(self) -> tuple[int, ...]:
        """The numbers of the run's networks that are compressed; raises RunError if they have no weights."""
        run = Run.open(Path(self.run))
        front = [m["n"] for m in run.front["members"]] if (run.path / "front.json").exists() else []
        found = tuple(n for n in front if run.has_network(n))
        if not found:
            raise RunError(
                f"{self.run} has no front member with weights of its own; train one with nascli train --from {self.run}"
            )
        for n in self.members:
            if n not in front:
                raise RunError(f"{self.run} has no front member {n}; it has {', '.join(map(str, sorted(front)))}.")
            if n not in found:
                how = f"nascli train --from {self.run} --member {n}"
                raise RunError(f"Member {n} of {self.run} has no weights of its own; train it: {how}")
        return self.members or found

    def prefixes(self) -> list[str]:
        """What the tags of each network and of its smaller versions begin with: "17-" where there are several."""
        numbers = self.members or (self.stored() if self.run else ())
        return [f"{n}-" for n in numbers] if len(numbers) > 1 else [""]


@dataclass(frozen=True)
class _Place:
    """Where a sweep stands: at which job, and at which compressor of it."""

    job: Job
    before: int
    """Jobs that were done before this one."""
    total: int
    done: tuple[Job, ...] = ()
    stage: int = 0
    current: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the compressors before this one have come to: description and tensors."""

    def told(self, metrics: Mapping[str, float], progress: float) -> dict[str, float]:
        """The metrics with the place; `progress` is that of the job."""
        place = {"network": float(self.job[0]), "level": self.job[1]}
        return {**place, **metrics, "progress": (self.before + min(1.0, progress)) / self.total}

    def state(self) -> dict[str, Any]:
        """The state between two jobs."""
        return {"done": [list(job) for job in self.done], "begun": None}

    def within(self, inner: State | None) -> dict[str, Any]:
        """The state within a job."""
        begun = {"network": self.job[0], "level": self.job[1], "stage": self.stage, "current": self.current}
        return {**self.state(), "begun": {**begun, "inner": None if inner is None else dict(inner())}}


class _Chain:
    """Compressors in a row."""

    def __init__(self, sweep: Sweep, compressors: Sequence[Compressor], task: Task) -> None:
        self._sweep, self._compressors, self._task = sweep, compressors, task

    def compressed(self, source: Network, place: _Place, begun: Mapping[str, Any] | None) -> Compression:
        """A conversation that ends with the network after all compressors."""
        level, count = Level(place.job[1], self._sweep.of), len(self._compressors)
        network, inner = source, None
        if begun is not None:
            inner, place = begun["inner"], replace(place, stage=begun["stage"], current=begun["current"])
            if place.current is not None:
                network = restore(place.current["network"], self._task.space, place.current["tensors"])
        while place.stage < count:
            number = place.stage
            conversation = self._compressors[number].compress(network, level, self._task, inner)
            found = yield from self._relayed(conversation, place)
            network, inner = self._tagged(found, source, number, level), None
            place = replace(place, stage=number + 1, current=_at_rest(network))
            if place.stage < count:
                yield Step(metrics=place.told({}, place.stage / count), state=partial(place.within, None))
        return network

    def _relayed(self, conversation: Compression, place: _Place) -> Generator[Step, Sequence[Trial], Network]:
        """The compressor's conversation, with the place added to what it tells and to its state."""
        reply: Sequence[Trial] | None = None
        count = len(self._compressors)
        with closing(conversation):
            while True:
                try:
                    step = next(conversation) if reply is None else conversation.send(reply)
                except StopIteration as ended:
                    found: Network = ended.value
                    return found
                progress = (place.stage + step.metrics.get("progress", 0.0)) / count
                # Without metrics, nothing is written of a step; without a state, there is none to go on from.
                metrics = place.told(step.metrics, progress) if step.metrics else {}
                state = None if step.state is None else partial(place.within, step.state)
                reply = yield replace(step, metrics=metrics, state=state)

    def _tagged(self, found: Network, source: Network, number: int, level: Level) -> Network:
        """What came out, called by what was done to it."""
        name = self._sweep.compressors[number]
        if not isinstance(found, Network) or found.tensors is None:
            raise SettingsError(f"The compressor {name!r} returned no network with tensors; it must.")
        done = [f"{n.rpartition(':')[2]}-{level}" for n in self._sweep.compressors[: number + 1]]
        return replace(found, tag=source.tag.removesuffix(DENSE) + "+".join(done))


def _at_rest(network: Network) -> dict[str, Any]:
    """The network as a state holds it: as JSON would, and tensors."""
    described = json.loads(json.dumps(network.describe()))
    return {"network": described, "tensors": dict(network.tensors or {})}
