"""A conversation with a strategy about a space of numbers: no engine, no networks, a journal of what was said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nascli.engine.network import Network
from nascli.engine.objectives import Objective
from nascli.engine.protocol import Strategy, Trial
from nascli.engine.task import Task
from search_spaces import Architecture, Choice, ChoiceTable

TABLE = ChoiceTable(
    "toy",
    (
        Choice("net.input", ("16", "24", "32")),
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
"""1,752 architectures of eight choices, four of them conditional, some numbers and some words."""
FOUR = ChoiceTable("four", (Choice("net.width", ("1", "2")), Choice("net.kind", ("plain", "wide"))))
FLAT = ChoiceTable("flat", tuple(Choice(f"net.c{i}", ("0", "1", "2", "3")) for i in range(12)))
"""16 million architectures of numbers; see `weighed`."""
INFINITE = float("inf")


@dataclass(frozen=True)
class Space:
    """As much of a space as strategies may look at."""

    table: ChoiceTable

    def parse(self, text: str) -> Architecture:
        return self.table.parse(text)

    def equivalent(self, arch: Architecture) -> Architecture:
        """All that are as wide compute the same, say."""
        return self.table.canonical([*arch.options[:-1], self.table.choices[-1].options[0]])


def never(subject: object, task: Task) -> float:
    raise RuntimeError("strategies don't measure")


def task(count: int = 2, *, table: ChoiceTable = TABLE, seed: int = 0, limit: float | None = None) -> Task:
    """A task with so many objectives, cost0, cost1 and so on; the limit is on the last."""
    objectives = [Objective(f"cost{i}", "min", "", 0, never) for i in range(count)]
    objectives[-1] = replace(objectives[-1], limit=limit)
    return Task(Space(table), objectives=tuple(objectives), seed=seed)  # type: ignore[arg-type]


def costs(arch: Architecture, count: int = 2) -> tuple[float, ...]:
    """Conflicting costs of an architecture of TABLE: error, size, latency, distance from a size, words."""
    values = TABLE.values(arch)
    width = sum(int(v) for k, v in values.items() if k.endswith("width"))
    wide = sum(v == "wide" for v in values.values())
    depth, pixels = int(values["net.depth"]), int(values["net.input"])
    return (3200 / pixels / (1 + width + 3 * wide), width * (1 + wide), depth * pixels, abs(width - 7), wide - depth)[
        :count
    ]


Measure = Callable[[Network, Task], Trial]


def measured(network: Network, about: Task) -> Trial:
    """The trial of a network; breaks the limit where there is one and it is exceeded."""
    count = len(about.objectives)
    found = costs(network.arch, count)
    values = {o.name: c for o, c in zip(about.objectives, found, strict=True)}
    if excess := about.objectives[-1].violation(found[-1]):
        # The engine stops at a broken limit: dearer objectives were not measured.
        return Trial(0, network.key, network, {"cost0": values["cost0"]}, error="over the limit", violation=excess)
    return Trial(0, network.key, network, values, costs=tuple(float(c) for c in found))


def weighed(network: Network, about: Task) -> Trial:
    """The trial of a network of FLAT: its numbers add up to cost1 (18 on average, up to 8 in one of a hundred)."""
    total = float(sum(map(int, network.arch.options)))
    values = {"cost0": 100 - total, "cost1": total}
    if excess := about.objectives[-1].violation(total):
        return Trial(0, network.key, network, values, error="over the limit", violation=excess)
    return Trial(0, network.key, network, values, costs=tuple(values.values()))


def failed(network: Network, about: Task) -> Trial:
    """The trial of a network that could not be measured."""
    return Trial(0, network.key, network, {}, error="out of memory", violation=INFINITE)


@dataclass
class Talk:
    """What a strategy asked, step by step, and which keys had to be measured (the others were remembered)."""

    steps: list[list[str]] = field(default_factory=list)
    memo: dict[str, Trial] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def keys(self) -> list[str]:
        return list(itertools.chain.from_iterable(self.steps))


def talk(
    strategy: Strategy,
    about: Task,
    measure: Measure = measured,
    *,
    trials: int = 60,
    memo: dict[str, Trial] | None = None,
) -> Talk:
    """The conversation until the strategy ends or so many candidates were answered; known ones come from the memo."""
    said = Talk(memo=dict(memo or {}))
    search = strategy.search(about)
    try:
        step = next(search)
        while True:
            said.steps.append([n.key for n in step.candidates])
            for network in step.candidates:
                if network.key not in said.memo:
                    said.memo[network.key] = measure(network, about)
                    said.fresh.append(network.key)
            if len(said.keys) >= trials:
                break
            step = search.send([said.memo[n.key] for n in step.candidates])
    except StopIteration:
        said.ended = True
    finally:
        search.close()
    return said
