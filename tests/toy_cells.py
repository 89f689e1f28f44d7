"""Cells of two nodes on the corners: the smallest spaces with mixtures on edges and a choice among edges.

The table is that of DARTS' cells in small: node 2 reads both inputs, node 3 two of three earlier nodes. In `Cells` all
options learn or draw; in `Planted` one option on each edge that matters carries the signal, which one differs.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascli.engine.checkpoints import write_tensors
from nascli.engine.protocol import Step, Strategy, Trial
from nascli.engine.task import Probing, Task
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.start import described
from search_spaces import Architecture, Choice, ChoiceTable
from search_spaces.elastic import copied
from search_spaces.gated import one_hot
from search_spaces.mixtures import total, weighed
from search_spaces.space import Gates, SearchSpace, Signature
from tests.toy_images import SIGNATURE, corners
from tests.toys import ToySpace

OPTIONS = ("none", "skip_connect", "noise", "linear")
PAIRS = ("0+1", "0+2", "1+2")
EDGES = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
WIDTH = 6


def edge(kind: str, source: int, node: int) -> str:
    return f"{kind}.node{node}.from{source}"


def _choices(kind: str, options: tuple[str, ...]) -> Iterator[Choice]:
    yield Choice(edge(kind, 0, 2), options)
    yield Choice(edge(kind, 1, 2), options)
    yield Choice(f"{kind}.node3.inputs", PAIRS)
    for source in range(3):
        reading = frozenset(pair for pair in PAIRS if str(source) in pair)
        yield Choice(edge(kind, source, 3), options, ((f"{kind}.node3.inputs", reading),))


def table(kinds: tuple[str, ...], options: tuple[str, ...] = OPTIONS) -> ChoiceTable:
    return ChoiceTable("toycells", tuple(c for kind in kinds for c in _choices(kind, options)))


class Norm(nn.Module):
    """Batch normalisation that keeps statistics, as some supernets do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(x)
        return result


class Noise(nn.Module):
    """Numbers of the input's shape, drawn from torch's own generator, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 * torch.randn_like(x)


def operation(option: str) -> nn.Module | None:
    if option == "linear":
        return nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False), Norm())
    return {"none": None, "skip_connect": nn.Identity(), "noise": Noise()}[option]


class Net(nn.Module):
    """A stem, the cells one after another, a classifier; operations by "edge=option", dots replaced."""

    def __init__(self, listed: Mapping[str, tuple[str, ...]], kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.kinds = kinds
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(16, WIDTH), Norm())
        made = {module_name(n, o): operation(o) for n, options in listed.items() for o in options}
        self.operations = nn.ModuleDict({name: module for name, module in made.items() if module is not None})
        self.classifier = nn.Linear(2 * WIDTH * len(kinds), 4)

    def run(self, x: Tensor, mixture: Mapping[str, list[tuple[str, Tensor | float | None]]]) -> Tensor:
        older = newer = self.stem(x)
        made: list[Tensor] = []
        for kind in self.kinds:
            nodes = {0: older, 1: newer, 2: torch.zeros_like(newer), 3: torch.zeros_like(newer)}
            for source, node in EDGES:
                name = edge(kind, source, node)
                for option, weight in mixture.get(name, []):
                    if option != "none":
                        y = self.operations[module_name(name, option)](nodes[source])
                        nodes[node] = nodes[node] + (y if weight is None else weight * y)
            made += [nodes[2], nodes[3]]
            older, newer = newer, nodes[3]
        logits: Tensor = self.classifier(torch.cat(made, 1))
        return logits


def module_name(name: str, option: str) -> str:
    return f"{name}={option}".replace(".", "_")


class Supernet(nn.Module):
    def __init__(self, space: Cells) -> None:
        super().__init__()
        self.space = space
        self.net = Net({c.name: c.options for c in space.table.choices if "from" in c.name}, space.kinds)

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        return self.net.run(x, mixed(self.space.kinds, OPTIONS, gates))


def mixed(kinds: tuple[str, ...], options: tuple[str, ...], gates: Gates) -> dict[str, list]:
    """The options that the gates let through on every edge, with their weights times those of the edge."""
    found = {}
    for kind, source in itertools.product(kinds, range(2)):
        name = edge(kind, source, 2)
        found[name] = [(options[i], w) for i, w in weighed(gates, name)]
    for kind in kinds:
        held: dict[int, list] = {}
        for pair, weight in weighed(gates, f"{kind}.node3.inputs"):
            for source in map(int, PAIRS[pair].split("+")):
                held.setdefault(source, []).append(weight)
        for source, weights in held.items():
            name = edge(kind, source, 3)
            found[name] = [(options[i], w) for i, w in weighed(gates, name, total(weights))]
    return found


class Plain(nn.Module):
    def __init__(self, space: Cells, arch: Architecture) -> None:
        super().__init__()
        chosen = {n: o for n, o in space.table.values(arch).items() if "from" in n}
        self.mixture = {name: [(option, None)] for name, option in chosen.items()}
        self.net = Net({name: (option,) for name, option in chosen.items()}, space.kinds)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.run(x, self.mixture)


@dataclass(frozen=True)
class Cells(SearchSpace):
    """One cell of each kind, one after another, on vectors of six numbers."""

    kinds: tuple[str, ...] = ("normal",)

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @property
    def table(self) -> ChoiceTable:
        return table(self.kinds)

    @property
    def topology(self) -> Mapping[str, tuple[frozenset[str], ...]]:
        return {
            f"{kind}.node3.inputs": tuple(frozenset(edge(kind, int(s), 3) for s in pair.split("+")) for pair in PAIRS)
            for kind in self.kinds
        }

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        return {
            f"{kind}.node{node}": tuple(edge(kind, source, node) for source in range(node))
            for kind in self.kinds
            for node in (2, 3)
        }

    @property
    def mixed_only(self) -> frozenset[str]:
        return frozenset({"none"})

    def build(self, arch: Architecture) -> nn.Module:
        return Plain(self, arch)

    def supernet(self) -> nn.Module:
        return Supernet(self)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        return copied(supernet, self.build(arch))


# -- the planted answer ----------------------------------------------------------------------------------------------

CARRIERS = ("none", "noise", "left", "right")
PLANTED = {(0, 2): ("right", (0,)), (1, 2): ("left", (1,)), (0, 3): ("left", (2, 3)), (2, 3): ("right", (0, 1))}
"""Edge -> the option that carries a signal there, and the classes for which it does; the edge 1-3 carries nothing."""
ANSWER = "toycells:right,left/0+2,left,-,right"


class PlantedNet(nn.Module):
    """Evidence for four classes [n, 4]: only what planted options let through comes to the end."""

    def __init__(self, gates: Gates | None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.fixed = gates

    def forward(self, x: Tensor, *, gates: Gates | None = None) -> Tensor:
        given = self.fixed if gates is None else gates
        if given is None:
            raise ValueError("a supernet needs gates")
        bright = nn.functional.avg_pool2d(x, 2).flatten(1)
        evidence = (bright - 0.5).clamp(min=0.0) + 0.01
        nodes = {0: evidence, 1: evidence, 2: torch.zeros_like(evidence), 3: torch.zeros_like(evidence)}
        for name, options in mixed(("normal",), CARRIERS, given).items():
            source, node = int(name[-1]), int(name[len("normal.node")])
            carrier, classes = PLANTED.get((source, node), ("", ()))
            mask = torch.tensor([float(c in classes) for c in range(4)])
            for option, weight in options:
                y = {"noise": 0.002 * torch.randn_like(evidence), carrier: nodes[source] * mask}.get(option)
                if y is not None:
                    nodes[node] = nodes[node] + (y if weight is None else weight * y)
        return 4 * self.gain * nodes[3]


@dataclass(frozen=True)
class Planted(SearchSpace):
    """Without its planted option an edge lets one or two classes go unseen."""

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @property
    def table(self) -> ChoiceTable:
        return table(("normal",), CARRIERS)

    topology = Cells.topology
    nodes = Cells.nodes
    mixed_only = Cells.mixed_only

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("normal",)

    def build(self, arch: Architecture) -> nn.Module:
        return PlantedNet(one_hot(self.table, arch))

    def supernet(self) -> nn.Module:
        return PlantedNet(None)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        return copied(supernet, self.build(arch))


@dataclass(frozen=True)
class Uneven(ToySpace):
    """Choices of one, two and three options, and no networks."""

    @property
    def table(self) -> ChoiceTable:
        three = ("skip_connect", "noise", "linear")
        choices = (Choice("a.one", ("only",)), Choice("a.two", ("none", "skip_connect")), Choice("b.three", three))
        return ChoiceTable("uneven", choices)


# -- what tests do with them -----------------------------------------------------------------------------------------


def cells_task(
    space: SearchSpace | None = None, *, seed: int = 0, supernet: Path | None = None, train: int = 48
) -> Task:
    """A task on the corners whose search takes 3 steps an epoch with batches of 16."""
    about = Cells() if space is None else space
    return Task(about, corners(train), seed=seed, calibration=32, batch_size=40, supernet=supernet, probing=Probing(8))


def mixture_of(space: SearchSpace | None = None, *, seed: int | None = 0, scale: float = 1.0, **given) -> Mixture:
    """A mixture of a space with random logits; even ones without a seed."""
    rows = Rows.of(Cells() if space is None else space)
    shape = rows.valid.shape
    drawn = torch.zeros(shape) if seed is None else torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Mixture(rows, scale * drawn * rows.valid, **given)


def finish(strategy: Strategy, task: Task, state=None) -> list[Step]:
    """All steps of a search, its network answered as an engine would."""
    return list(steps_of(strategy, task, state))


def steps_of(strategy: Strategy, task: Task, state=None) -> Iterator[Step]:
    """The steps one by one; scores that are asked for are the lengths of the architectures' texts."""
    search = strategy.search(task, state)
    reply: list[Trial] | None = None
    try:
        while True:
            step = next(search) if reply is None else search.send(reply)
            yield step
            reply = [Trial(i, n.key, n, {}, costs=(float(len(n.key)),)) for i, n in enumerate(step.candidates)]
    except StopIteration:
        return


def saved(folder: Path, task: Task, mixture: Mixture | None, *, seed: int = 3) -> Path:
    """A folder with a supernet of the task's space as runs leave one, with architecture weights if there are any."""
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = task.space.supernet().state_dict()
    path = folder / "supernet.safetensors"
    write_tensors(path, tensors, {} if mixture is None else described(mixture))
    return folder


def through_file(step: Step) -> Mapping[str, Any] | None:
    """The step's state, if it has one, as a file keeps it; asked for at once, as it is that of the moment."""
    if step.state is None:
        return None
    file = io.BytesIO()
    torch.save(dict(step.state()), file)
    file.seek(0)
    found: Mapping[str, Any] = torch.load(file, weights_only=True)
    return found
