from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nascli.engine.protocol import Step
from nascli.engine.task import Probing
from nascli.errors import SettingsError
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.perturbation import (
    accuracy,
    described,
    gates_without,
    likelihood,
    qualities,
    zero_cost,
)
from search_spaces.darts import DartsSpace
from search_spaces.nb201 import Nb201Space
from search_spaces.space import SearchSpace
from tests.toy_cells import Cells, cells_task
from tests.toy_images import SIGNATURE, same

SPACES: dict[str, SearchSpace] = {
    "cells": Cells(),
    "nb201": Nb201Space(SIGNATURE, channels=2, cells=1),
    "s4": DartsSpace(SIGNATURE, preset="s4", channels=2, cells=3),
}


def loop_on(space: SearchSpace | None = None, **settings: Any) -> Loop:
    """A loop with clearly uneven weights, half trained."""
    loop = Loop(DartsPT(epochs=2, batch=16, **{"alpha_noise": 1.0, **settings}), cells_task(space))
    stage = loop.settings.stages(loop.mixture.rows)[0]
    list(loop.train(stage))
    return loop


def result(asking: Generator[Step, Any, list[float]]) -> tuple[list[float], list[Step]]:
    """What a part of a conversation returns, and its steps."""
    steps = []
    while True:
        try:
            steps.append(next(asking))
        except StopIteration as stop:
            return stop.value, steps


def surroundings(loop: Loop) -> tuple[dict, list, torch.Tensor]:
    return loop.state(), [m.training for m in loop.model.modules()], torch.get_rng_state()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("kind", ["accuracy", "likelihood", "grad_norm"])
def test_measuring_is_repeatable_and_leaves_everything_as_it_was(name: str, kind: str) -> None:
    loop = loop_on(SPACES[name])
    loop.model.train()
    list(loop.model.modules())[-1].eval()
    meters = {"accuracy": accuracy(loop, examples=0), "likelihood": likelihood(loop, examples=0)}
    meter = meters[kind] if kind in meters else zero_cost(loop, proxy=kind)
    before = surroundings(loop)
    row = loop.mixture.rows.names[1]
    gates = [gates_without(loop, (row, option)) for option in loop.mixture.rows.candidates(row)]
    first, again = [meter(g) for g in gates], [meter(g) for g in reversed(gates)]
    assert first == again[::-1]
    after = surroundings(loop)
    assert same(before[0], after[0]) and before[1] == after[1] and torch.equal(before[2], after[2])
    assert all(w.grad is None for w in loop.weights)
    torch.rand(7)
    assert meter(gates[0]) == first[0]


def test_accuracy_and_loss_are_those_of_the_batch_normalised_supernet() -> None:
    # The images are told apart without noise, so that the reference draws nothing.
    loop = loop_on(SPACES["nb201"])
    gates = gates_without(loop, ("edge.0-1", 4))
    batch = next(loop.validation.batches(40))
    with torch.no_grad():
        logits = loop.model.train()(*batch.inputs, gates=gates)
    right = (logits.argmax(1) == batch.targets).double().mean().item()
    assert accuracy(loop, examples=0)(gates) == pytest.approx(100 * right)
    assert likelihood(loop, examples=0)(gates) == pytest.approx(-F.cross_entropy(logits, batch.targets).item())


def test_so_many_examples_are_the_first_ones() -> None:
    loop = loop_on(SPACES["nb201"])
    gates = gates_without(loop, ("edge.0-1", 4))
    batch = next(loop.validation.batches(12))
    with torch.no_grad():
        logits = loop.model.train()(*batch.inputs, gates=gates)
    expected = -F.cross_entropy(logits, batch.targets).item()
    assert likelihood(loop, examples=12)(gates) == pytest.approx(expected)


def test_without_none_the_supernet_is_what_it_was() -> None:
    loop = loop_on()
    meter = likelihood(loop, examples=0)
    whole = meter(loop.mixture.gates(loop.mixture.weights().detach()))
    for name in loop.mixture.rows.names:
        assert meter(gates_without(loop, (name, 0))) == whole
        assert meter(gates_without(loop, (name, 3))) != whole


def test_an_edge_taken_out_is_a_row_of_zeros() -> None:
    loop = loop_on()
    name, meter = "normal.node3.from1", likelihood(loop, examples=0)
    zeros = loop.mixture.gates(loop.mixture.weights().detach(), without=[(name, o) for o in (1, 2, 3)])
    assert meter(gates_without(loop, (name, None))) == pytest.approx(meter(zeros), abs=1e-3)


def test_renormalised_gates_share_what_was_lost() -> None:
    loop = loop_on()
    name = "normal.node2.from0"
    weights = loop.mixture.weights().detach()[0]
    lost = gates_without(loop, (name, 3))[name]
    shared = gates_without(loop, (name, 3), renormalise=True)[name]
    assert lost.sum().item() == pytest.approx(1 - weights[3].item())
    torch.testing.assert_close(shared, torch.tensor([*(weights[:3] / weights[:3].sum()).tolist(), 0.0]))


def test_gates_without_keep_the_edges_own_weights() -> None:
    loop = loop_on(edge_weights="learnt")
    importance = loop.mixture.importance()
    assert importance is not None
    expected = loop.mixture.weights().detach()[0] * importance[0].detach()
    expected[1] = 0
    torch.testing.assert_close(gates_without(loop, ("normal.node2.from0", 1))["normal.node2.from0"], expected)


def test_qualities_tell_each_case_once_and_remember() -> None:
    loop = loop_on()
    asked = []

    def meter(gates: object) -> float:
        asked.append(gates)
        return float(len(asked))

    cases = [("normal.node2.from0", 1), ("normal.node2.from0", 3), ("normal.node3.from2", None)]
    labels = ["normal.node2.from0=skip_connect", "normal.node2.from0=linear", "normal.node3.from2"]
    assert [described(loop, case) for case in cases] == labels
    found, steps = result(qualities(loop, meter, cases))
    assert found == [1, 2, 3]
    assert [s.metrics[f"without {label}"] for s, label in zip(steps, labels, strict=True)] == [1, 2, 3]
    again, steps = result(qualities(loop, meter, [*cases, ("normal.node2.from1", 1)]))
    assert again == [1, 2, 3, 4] and len(steps) == 1
    state = steps[0].state
    assert state is not None
    resumed = Loop(loop.settings, loop.task, state())
    found, steps = result(qualities(resumed, meter, cases))
    assert found == [1, 2, 3] and not steps and len(asked) == 4


def test_a_proxy_of_which_less_is_better_is_turned_round() -> None:
    loop = loop_on(SPACES["nb201"])
    gates = gates_without(loop, ("edge.0-1", 4))
    assert zero_cost(loop, proxy="nwot")(gates) > 0
    assert zero_cost(loop, proxy="tests.nascli.engine.test_scores:First")(gates) == pytest.approx(
        -next(iter(loop.model.parameters())).flatten()[0].item()
    )


def test_a_proxys_settings_are_those_of_the_task() -> None:
    loop = loop_on(SPACES["nb201"])
    gates = gates_without(loop, ("edge.0-1", 4))
    name = "tests.nascli.engine.test_scores:First"
    once = zero_cost(loop, proxy=name)(gates)
    loop.task = replace(loop.task, proxies={name: {"factor": 3.0}}, probing=Probing(examples=8))
    assert zero_cost(loop, proxy=name)(gates) == pytest.approx(3 * once)


def test_a_proxy_that_cannot_score_supernets_is_refused_in_one_sentence() -> None:
    loop = loop_on(SPACES["nb201"])
    with pytest.raises(
        SettingsError, match=r"'zen' can't score this supernet \(.*missing\); give another one"
    ) as error:
        zero_cost(loop, proxy="zen")(gates_without(loop, ("edge.0-1", 4)))
    assert str(error.value).count(". ") == 0
    with pytest.raises(SettingsError, match="nwto"):
        zero_cost(loop, proxy="nwto")
