from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from nascli.data import Data, Split
from nascli.engine.protocol import Step
from nascli.errors import DataError, NascliError, UnsupportedError
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.bilevel.problem import Optimisers
from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.relaxed import Relaxed
from nascli.strategies.gradient.schedule import Stage
from search_spaces.space import Batch
from tests.toy_cells import Cells, Planted, cells_task, finish
from tests.toy_images import same

QUICK: dict[str, Any] = {"epochs": 3.0, "batch": 16, "report_steps": 1, "optimisers": Optimisers(alpha_lr=0.05)}
METHODS = ["alternating", "unrolled", "implicit", "lv-hba", "bo-rep"]
SETTINGS: dict[str, Relaxed] = {
    **{m: Darts(bilevel=Bilevel(name=m), **QUICK) for m in METHODS},
    "gumbel": Darts(relaxation="gumbel", **QUICK),
    "implicit-dirichlet": Darts(relaxation="dirichlet", anchor=0.1, bilevel=Bilevel(name="implicit"), **QUICK),
    "perturbed": Darts(perturbation=0.3, **QUICK),
    "edges": Darts(edge_weights="learnt", beta_decay=5.0, early_stop="eigenvalue", **QUICK),
    "max-macs": Darts(bilevel=Bilevel(name="lv-hba"), max_macs=350.0, **QUICK),
}


def trained(settings: Relaxed, *, seed: int = 0, state: Mapping[str, Any] | None = None) -> tuple[Loop, list[dict]]:
    """The loop after its first stage, and the states that it offered on the way."""
    loop = Loop(settings, cells_task(seed=seed), state)
    stage = settings.stages(loop.mixture.rows)[0]
    return loop, [stored(step) for step in loop.train(stage)]


def stored(step: Step) -> dict:
    """The step's state through a file, without the time."""
    assert step.state is not None
    file = io.BytesIO()
    torch.save(step.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def timeless(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k != "elapsed_s"}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_seed_decides_everything_and_any_state_can_be_gone_on_from(name: str) -> None:
    settings = SETTINGS[name]
    loop, states = trained(settings)
    end = timeless(loop.state())
    assert same(timeless(trained(settings)[0].state()), end)
    other = trained(settings, seed=1)[0].state()
    assert not same(other["mixture"]["logits"], end["mixture"]["logits"])
    assert len(states) >= 3
    for number, state in enumerate(states, 1):
        before = copy.deepcopy(state)
        resumed, rest = trained(settings, state=state)
        assert same(timeless(resumed.state()), end)
        assert len(rest) == len(states) - number
        assert same(before, state), "a state is not changed by what goes on from it"


def test_the_architecture_weights_and_all_network_weights_move() -> None:
    loop = Loop(Darts(**QUICK), cells_task())
    before = loop.state()
    list(loop.train(Stage(2, total=2)))
    after = loop.state()
    assert not same(before["mixture"]["logits"], after["mixture"]["logits"])
    assert all(not torch.equal(v, after["model"][k]) for k, v in before["model"].items())


def test_fixed_architecture_weights_are_and_stay_exactly_zero() -> None:
    settings = DartsPT(alpha="fixed", edge_weights="learnt", **QUICK)
    loop, _ = trained(settings)
    assert all((a == 0).all() for a in loop.alpha)
    assert torch.equal(loop.mixture.weights(), torch.full((5, 4), 0.25))


def test_warm_up_leaves_the_architecture_alone_and_then_it_moves() -> None:
    settings = Darts(warm_up=1.0, **QUICK)
    start = Loop(settings, cells_task()).mixture.logits.detach().clone()
    _, states = trained(settings)
    moved = [not torch.equal(s["mixture"]["logits"], start) for s in states]
    assert moved == [False] * 3 + [True] * 6


def test_reports_tell_loss_rate_and_progress() -> None:
    loop = Loop(Darts(**QUICK), cells_task())
    told = [dict(step.metrics) for step in loop.train(Stage(3, total=3, searched=True))]
    assert [t["epoch"] for t in told] == pytest.approx([k / 3 for k in range(1, 10)])
    assert told[0]["lr"] == 0.025 and told[0]["lr"] > told[4]["lr"] > told[8]["lr"] > 0.001
    assert all(0 < t["progress"] < 1 for t in told) and told[-1]["progress"] > 0.9
    assert all({"loss", "val_loss", "entropy", "skips", "decided", "seconds"} <= t.keys() for t in told)


def test_the_functional_path_is_the_direct_path() -> None:
    loop = Loop(Darts(**QUICK), cells_task())
    loss = loop.lower()
    copies = [w.detach().clone().requires_grad_() for w in loop.weights]
    with torch.random.fork_rng(devices=[]):
        direct, functional = loss(loop.alpha, loop.weights), loss(loop.alpha, copies)
        assert torch.equal(direct, functional)
        expected = torch.autograd.grad(direct, [*loop.alpha, *loop.weights], allow_unused=True)
        found = torch.autograd.grad(functional, [*loop.alpha, *copies], allow_unused=True)
        # Elsewhere, the loss is another one.
        shifted = [w + 0.1 for w in copies]
        assert not torch.equal(loss(loop.alpha, shifted), direct)
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_a_loss_is_the_same_whenever_it_is_asked_for_and_the_next_one_is_another() -> None:
    loop = Loop(Darts(relaxation="gumbel", **QUICK), cells_task())
    with torch.random.fork_rng(devices=[]):
        first, second = loop.lower(), loop.lower()
        values = [loss(loop.alpha, loop.weights).item() for loss in (first, second, first, second)]
    assert values[:2] == values[2:] and values[0] != values[1]


# -- data ------------------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """A split that counts how many shuffled batches were taken from it."""

    split: Split
    taken: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, size: int, *, device: str = "cpu", rng: np.random.Generator | None = None) -> Iterator[Batch]:
        for batch in self.split.batches(size, device=device, rng=rng):
            if rng is not None:
                self.taken.append(len(batch.targets))
            yield batch

    def head(self, count: int) -> Split:
        return self.split.head(count)


@pytest.mark.parametrize(("alpha", "expected"), [("learnt", [16] * 6), ("fixed", [])])
def test_the_network_learns_from_training_the_architecture_from_validation_examples(alpha: Any, expected: list) -> None:
    task = cells_task()
    assert task.data is not None
    train, val = Counted(task.data.train), Counted(task.data.val)
    task = replace(task, data=Data(task.data.signature, train, val, task.data.test))
    loop = Loop(DartsPT(alpha=alpha, **QUICK), task)
    list(loop.train(Stage(2, total=3)))
    assert train.taken == [16] * 6 and val.taken == expected
    assert loop.validation is val


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for settings in (Darts(relaxation="dirichlet", **QUICK), DartsPT(tune_epochs=1, **QUICK)):
        finish(settings, cells_task())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_examples_there_is_no_search() -> None:
    task = cells_task()
    with pytest.raises(UnsupportedError, match="--data"):
        finish(Darts(**QUICK), replace(task, data=None))
    data = task.data
    assert data is not None
    for empty in (replace(data, train=data.train.head(0)), replace(data, val=data.val.head(0))):
        with pytest.raises(DataError, match="no examples"):
            finish(Darts(**QUICK), replace(task, data=empty))


def test_a_loss_that_is_no_number_ends_the_search_in_one_sentence() -> None:
    with pytest.raises(NascliError, match="diverged"):
        finish(Darts(early_stop="eigenvalue", **{**QUICK, "lr": 1e30}), cells_task(Planted()))


# -- the limit -------------------------------------------------------------------------------------------------------


def test_the_excess_is_that_of_the_expected_multiply_adds() -> None:
    settings = SETTINGS["max-macs"]
    loop = Loop(settings, cells_task(Cells()))
    # By hand: 144 for stem and classifier; a quarter of 36 on each of five edges, with even weights.
    excess = loop.excess([torch.zeros(5, 4)])
    assert excess is not None
    assert excess.item() == pytest.approx((144 + 5 * 9) / 350 - 1)
    loop.mixture.decide("normal.node2.from0", 3)
    loop.mixture.decide("normal.node3.inputs", 0)
    excess = loop.excess([torch.zeros(5, 4)])
    assert excess is not None and excess.item() == pytest.approx((144 + 36 + 3 * 9) / 350 - 1)
    assert Loop(Darts(**QUICK), cells_task()).excess([torch.zeros(5, 4)]) is None
