"""A space whose networks are numbers, objectives that read them, and a task: the engine without any training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nascli.engine.objectives import Objective
from nascli.engine.task import Task
from search_spaces import Architecture, Choice, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.space import SearchSpace, Signature

TABLE = ChoiceTable(
    "toy",
    (
        Choice("net.depth", ("1", "2", "3")),
        *(
            Choice(
                f"block{b}.{name}", options, (("net.depth", frozenset(str(d) for d in range(b, 4))),) if b > 1 else ()
            )
            for b in (1, 2, 3)
            for name, options in (("width", ("1", "2", "4", "8")), ("kind", ("plain", "wide")))
        ),
    ),
)


@dataclass(frozen=True)
class ToySpace(SearchSpace):
    """Linear networks whose widths the table chooses."""

    signature: Signature = Signature("image", (1, 2, 2), 3)

    @property
    def table(self) -> ChoiceTable:
        return TABLE

    def build(self, arch: Architecture) -> nn.Module:
        values = TABLE.values(arch)
        layers: list[nn.Module] = [nn.Flatten()]
        width = 4
        for b in range(1, int(values["net.depth"]) + 1):
            out = int(values[f"block{b}.width"]) * (2 if values[f"block{b}.kind"] == "wide" else 1)
            layers += [nn.Linear(width, out), nn.ReLU()]
            width = out
        return nn.Sequential(*layers, nn.Linear(width, 3))

    def supernet(self) -> nn.Module:
        raise SpaceError("the toy space has no supernet")

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, torch.Tensor]:
        raise SpaceError("the toy space has no supernet")


def size(subject: object, task: Task) -> float:
    values = TABLE.values(subject.network.arch)  # type: ignore[attr-defined]
    return float(sum(int(v) for k, v in values.items() if k.endswith("width")))


def error(subject: object, task: Task) -> float:
    values = TABLE.values(subject.network.arch)  # type: ignore[attr-defined]
    wide = sum(v == "wide" for v in values.values())
    return 100.0 / (1.0 + size(subject, task) + 3 * wide)


def broken(subject: object, task: Task) -> float:
    raise ValueError("this network is broken")


SIZE = Objective("size", "min", "units", 0, size)
ERROR = Objective("error", "min", "%", 2, error)
BROKEN = Objective("broken", "min", "", 1, broken)


def toy_task(*objectives: Objective, seed: int = 0) -> Task:
    return Task(ToySpace(), objectives=objectives or (ERROR, SIZE), seed=seed)
