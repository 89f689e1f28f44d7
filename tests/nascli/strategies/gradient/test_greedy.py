from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.greedy import HISTORY, Greedy, decisions
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.relaxed import Relaxed
from nascli.strategies.gradient.rows import Rows
from search_spaces.darts import DartsSpace
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import Cells, cells_task, steps_of

SHORT = Greedy(first=2, every=1, more=4)


def test_the_published_schedule_of_darts_cells() -> None:
    rows = Rows.of(DartsSpace())
    assert decisions(rows) == 8
    stages = Greedy().stages(rows)
    assert [s.epochs for s in stages] == [10, 5, 5, 5, 5, 5, 5, 5, 5]
    assert [s.first for s in stages] == [0, 10, 15, 20, 25, 30, 35, 40, 45]
    assert [s.decides for s in stages] == [True] * 8 + [False]
    assert all(s.total == 50 for s in stages) and stages[-1].searched and not stages[0].searched


def test_nb201_decides_all_its_edges_and_the_toy_four() -> None:
    assert decisions(Rows.of(Nb201Space())) == 6
    assert decisions(Rows.of(Cells(("normal", "reduce")))) == 4
    assert len(Greedy().stages(Rows.of(Nb201Space()))) == 7


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="every=-1"):
        Greedy(every=-1)


@pytest.mark.parametrize("strategy", [Darts, DartsPT])
def test_batches_grow_and_decisions_are_made_one_by_one_in_every_lane(strategy: type[Relaxed]) -> None:
    settings = strategy(decisions="greedy", greedy=SHORT, batch=16, report_steps=1)  # type: ignore[call-arg]
    states = [s.state() for s in steps_of(settings, cells_task(Cells(("normal", "reduce")))) if s.state is not None]
    sizes = list(dict.fromkeys(s["streams"][0]["size"] for s in states))
    assert sizes == [16, 20, 24, 28, 32]
    assert all(s["streams"][0]["size"] == s["streams"][1]["size"] for s in states)
    by_stage = {s["stage"]: s["mixture"] for s in reversed(states)}
    for stage in range(1, 5):
        decided = by_stage[stage]["decided"]
        for kind in ("normal", "reduce"):
            rows = [n for n in decided if n.startswith(kind) and "from" in n]
            assert len(rows) == stage
    assert len([n for n in by_stage[4]["decided"] if "inputs" in n]) == 2
    counts = [len(s["mixture"]["decided"]) for s in states]
    assert all(a <= b for a, b in pairwise(counts))


def test_the_surest_edge_by_hand() -> None:
    loop = Loop(Darts(decisions="greedy", greedy=SHORT), cells_task())
    with torch.no_grad():
        loop.mixture.logits.zero_()
        loop.mixture.logits[3, 1] = 3.0
        loop.mixture.logits[1, 2] = 2.0
        loop.mixture.logits[2, 0] = 9.0
    names = list(loop.mixture.rows.names)
    assert Greedy().surest(loop, names) == names[3]
    assert Greedy().surest(loop, names[:3]) == names[1]
    with torch.no_grad():
        loop.mixture.logits.zero_()
    assert Greedy().surest(loop, names[2:]) == names[2], "the first among equals"


def test_the_second_criterion_looks_back_at_the_last_epochs_without_the_present_one() -> None:
    greedy = Greedy(first=6, every=1, criterion=2)
    settings = Darts(decisions="greedy", greedy=greedy, batch=16)
    loop = Loop(settings, cells_task())
    list(loop.train(settings.stages(loop.mixture.rows)[0]))
    kept = loop.notes["distributions"]
    assert len(kept) == HISTORY + 1
    names = list(loop.mixture.rows.names)
    # One row has moved much a while ago: it is not the surest, although it would be by the first criterion.
    with torch.no_grad():
        loop.mixture.logits.zero_()
        loop.mixture.logits[0, 3], loop.mixture.logits[1, 3] = 3.0, 2.0
    greedy.remember(loop)
    still = loop.notes["distributions"][-1]
    moved = still.clone()
    moved[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    loop.notes["distributions"] = [moved, still]
    assert greedy.surest(loop, names) == names[1]
    assert Greedy(criterion=1).surest(loop, names) == names[0]
    # Of the present alone nothing can be said.
    loop.notes["distributions"] = [moved]
    assert greedy.surest(loop, names) == names[0]
