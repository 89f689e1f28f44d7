from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from nascli.engine.protocol import Step
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.orders import cases_of, next_decision, next_edges
from search_spaces.darts import DartsSpace
from search_spaces.space import Gates, SearchSpace
from tests.toy_cells import Cells, cells_task
from tests.toy_images import SIGNATURE

A, B = "normal.node2.from0", "normal.node2.from1"
C, D, E = (f"normal.node3.from{s}" for s in range(3))
LEFT = {
    A: [9.0, 5.0, 6.0, 7.0],
    B: [9.0, 4.0, 9.0, 9.0],
    C: [0.0, 8.0, 8.0, 8.0],
    D: [9.0, 6.0, 5.5, 5.5],
    E: [9.0, 7.0, 7.0, 6.5],
}
"""What is left without each option. `none`, first, is no candidate. The least of all is B's skip connection; the mean
over the candidates is least for D."""


def loop_on(space: SearchSpace | None = None, *, seed: int = 0) -> Loop:
    return Loop(DartsPT(alpha="fixed"), cells_task(space, seed=seed))


class Meter:
    """Reads off gates what they lack, and looks its value up."""

    def __init__(
        self, loop: Loop, value: Callable[[str, int], float] = lambda name, option: LEFT[name][option]
    ) -> None:
        self._mixture, self._value = loop.mixture, value
        self.asked: list[tuple[str, int]] = []

    def __call__(self, gates: Gates) -> float:
        lacking = [
            (name, option)
            for name in self._mixture.undecided
            for option, weight in enumerate(gates[name].tolist())
            if weight == 0
        ]
        (case,) = lacking
        self.asked.append(case)
        return self._value(*case)


def result(asking: Generator[Step, Any, Any]) -> Any:
    while True:
        try:
            next(asking)
        except StopIteration as stop:
            return stop.value


def sequence(order: Any, *, seed: int = 0, lane: str = "0") -> tuple[list[tuple[str, int]], Meter]:
    """All decisions about the options of one lane, in their order."""
    loop = loop_on(seed=seed)
    meter, decided = Meter(loop), []
    while names := list(loop.mixture.undecided):
        stream = f"0/{len(decided)}/{lane}"
        chosen = result(next_decision(loop, meter, names, order, stream=stream, renormalise=False))
        loop.mixture.decide(*chosen)
        loop.notes["measured"] = {}
        decided.append(chosen)
    return decided, meter


BEST = {A: 1, B: 1, C: 1, D: 2, E: 3}


def test_candidates_are_the_selectable_options() -> None:
    assert cases_of(loop_on(), A) == [(A, 1), (A, 2), (A, 3)]


@pytest.mark.parametrize(
    ("order", "edges"),
    [
        ("forward", [A, B, C, D, E]),
        ("reverse", [E, D, C, B, A]),
        ("global-op-iter", [B, A, D, E, C]),
        ("global-op-once", [B, A, D, E, C]),
        ("global-edge-iter", [D, A, E, B, C]),
        ("global-edge-once", [D, A, E, B, C]),
    ],
)
def test_each_order_decides_what_it_should(order: str, edges: list[str]) -> None:
    decided, meter = sequence(order)
    assert decided == [(edge, BEST[edge]) for edge in edges]
    counts = Counter(meter.asked)
    if order.endswith("iter"):
        # All open edges again before each decision: the first is measured once, the last five times.
        assert [counts[edge, 1] for edge in edges] == [1, 2, 3, 4, 5]
    elif order.endswith("once"):
        # All once for the order, and each edge again when its turn comes; the first one's turn is at once.
        assert [counts[edge, 1] for edge in edges] == [1, 2, 2, 2, 2]
    else:
        assert set(counts.values()) == {1} and len(counts) == 15
    assert not any(option == 0 for _, option in counts)


def test_random_order_follows_the_seed() -> None:
    orders = {seed: [name for name, _ in sequence("random", seed=seed)[0]] for seed in range(8)}
    assert orders[3] == [name for name, _ in sequence("random", seed=3)[0]]
    assert len({tuple(o) for o in orders.values()}) > 3
    assert len({o[0] for o in orders.values()}) > 1
    assert all(dict(sequence("random", seed=seed)[0]) == BEST for seed in range(3))
    assert orders[0] != [name for name, _ in sequence("random", lane="1")[0]]


def test_once_fixes_the_order_of_edges_and_not_what_is_decided_on_them() -> None:
    found = {}
    for order in ("global-op-once", "global-op-iter"):
        loop = loop_on()

        def value(name: str, option: int, loop: Loop = loop) -> float:
            # As soon as something is decided, all other options are missed the other way round.
            return LEFT[name][option] if not loop.mixture.decided else -LEFT[name][option]

        meter = Meter(loop, value)
        for stage in range(2):
            names = list(loop.mixture.undecided)
            chosen = result(next_decision(loop, meter, names, order, stream=f"0/{stage}/0", renormalise=False))  # type: ignore[arg-type]
            loop.mixture.decide(*chosen)
            loop.notes["measured"] = {}
        found[order] = chosen
    assert found == {"global-op-once": (A, 3), "global-op-iter": (C, 1)}


def test_lanes_are_measured_apart() -> None:
    loop = loop_on(Cells(("normal", "reduce")))
    meter = Meter(loop, lambda name, option: LEFT[name.replace("reduce", "normal")][option])
    for number, lane in enumerate(loop.mixture.rows.lanes):
        chosen = result(next_decision(loop, meter, lane, "global-op-once", stream=f"0/0/{number}", renormalise=False))
        assert chosen == (lane[1], 1)
        loop.mixture.decide(*chosen)
    assert len(meter.asked) == 30


# -- edges -----------------------------------------------------------------------------------------------------------


def test_the_edge_without_which_most_is_left_is_given_up() -> None:
    loop = loop_on()
    values = {"0.5,0.5,0.5": 0.0, "0.0,0.0,1.0": 5.0, "0.0,1.0,0.0": 9.0, "1.0,0.0,0.0": 9.0}

    def meter(gates: Gates) -> float:
        return values[",".join(map(str, gates["normal.node3.inputs"].tolist()))]

    result(next_edges(loop, meter, "normal.node3.inputs"))
    # Without edge 1 (pair 0+2) as much is left as without edge 2 (pair 0+1): the first is given up.
    assert loop.mixture.decided == {"normal.node3.inputs": 1} and loop.mixture.dropped == {D}


def test_edges_given_up_stay_out_while_the_others_are_measured() -> None:
    loop = loop_on(DartsSpace(SIGNATURE, preset="s2", channels=2, cells=3))
    node = "normal.node4.inputs"
    pairs = loop.mixture.rows.topology[node]
    # Alone, the edges 0 and 1 can be spared best. They do the same: without 0, it is 2 that can be spared.
    left = {
        frozenset(): 100.0, frozenset({0}): 90.0, frozenset({1}): 80.0, frozenset({2}): 70.0, frozenset({3}): 10.0,
        frozenset({0, 1}): 20.0, frozenset({0, 2}): 60.0, frozenset({0, 3}): 5.0,
    }  # fmt: skip
    asked = []

    def meter(gates: Gates) -> float:
        weights = gates[node].tolist()
        there = {
            source
            for source in range(4)
            if sum(w for w, p in zip(weights, pairs, strict=True) if f"normal.node4.from{source}" in p)
        }
        asked.append(frozenset(range(4)) - there)
        return left[asked[-1]]

    result(next_edges(loop, meter, node))
    assert [sorted(case) for case in asked] == [[0], [1], [2], [3], [0, 1], [0, 2], [0, 3]]
    assert loop.mixture.dropped == {"normal.node4.from0", "normal.node4.from2"}
    independent = sorted((0, 1, 2, 3), key=lambda e: left[frozenset({e})])[-2:]
    assert independent == [1, 0], "each edge by itself would have named another pair"


def test_an_interrupted_round_goes_on_where_it_was() -> None:
    loop = loop_on()
    asked = []

    def meter(gates: Gates) -> float:
        asked.append(gates["normal.node3.inputs"].tolist())
        return float(len(asked))

    steps = next_edges(loop, meter, "normal.node3.inputs")
    next(steps)
    step = next(steps)
    assert step.state is not None
    resumed = Loop(loop.settings, loop.task, step.state())
    result(next_edges(resumed, meter, "normal.node3.inputs"))
    assert len(asked) == 3 and resumed.mixture.dropped == {E}
