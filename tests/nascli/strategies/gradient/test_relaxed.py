from __future__ import annotations

import tomllib
from typing import Any

import pytest
import torch

from nascli import settings
from nascli.engine.protocol import Search, Step
from nascli.errors import SettingsError, UnsupportedError
from nascli.strategies.gradient.bilevel.bo_rep import BoRep
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.bilevel.problem import Optimisers
from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.greedy import Greedy
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.relaxed import Relaxed
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.schedule import Stage
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import Cells, cells_task, finish, saved, steps_of, through_file
from tests.toy_images import SIGNATURE

NB201 = Nb201Space(SIGNATURE, channels=4, cells=1)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch": 0}, "batch=0 must be more than 0"),
        ({"lr": 0.0}, "lr=0.0 must be more than 0"),
        ({"partial_channels": 0}, "partial_channels=0"),
        ({"report_steps": 0}, "report_steps=0"),
        ({"max_macs": 0.0, "bilevel": {"name": "lv-hba"}}, "max_macs=0.0"),
        ({"epochs": -1.0}, "epochs=-1.0 must not be negative"),
        ({"epochs": float("nan")}, "epochs=nan"),
        ({"warm_up": -1.0}, "warm_up=-1.0"),
        ({"anchor": -1.0, "relaxation": "dirichlet"}, "anchor=-1.0"),
        ({"temperature": (10.0, 0.0)}, "temperature="),
        ({"perturbation": 0.3, "relaxation": "gumbel"}, "needs relaxation='softmax'"),
        ({"perturbation": 0.3, "bilevel": {"name": "unrolled"}}, "bilevel.name='alternating'"),
        ({"anchor": 1.0}, "give relaxation='dirichlet'"),
        ({"max_macs": 1e6}, "give bilevel.name='lv-hba'"),
        ({"early_stop": "sometimes"}, "early_stop='sometimes'"),
        ({"bilevel": {"name": "newton"}}, "newton"),
        ({"optimisers": {"alpha_lr": "fast"}}, "optimisers.alpha_lr='fast'"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
    ],
)
@pytest.mark.parametrize("cls", [Darts, DartsPT])
def test_settings_that_make_no_sense_are_refused(cls: type[Relaxed], values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings.build(cls, values, where="strategy")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "plugin",
    [
        Darts(),
        Darts(
            epochs=3,
            relaxation="dirichlet",
            anchor=0.5,
            temperature=(5.0, 0.5),
            bilevel=Bilevel(name="bo-rep", bo_rep=BoRep()),
            optimisers=Optimisers(alpha_betas=(0.1, 0.2), clip=float("inf")),
            decisions="greedy",
            greedy=Greedy(first=3, criterion=2),
        ),
        Darts(max_macs=1e6, bilevel=Bilevel(name="lv-hba")),
        DartsPT(alpha="fixed", criterion="zero-cost", order="global-op-once", proxy="swap", proposals=3),
        DartsPT(decisions="greedy", renormalise="yes", examples=100, early_stop="never"),
    ],
)
def test_settings_survive_toml(plugin: Relaxed) -> None:
    values = tomllib.loads(settings.to_toml(settings.plain(plugin)))
    assert settings.build(type(plugin), values, where="strategy") == plugin


# -- schedules -------------------------------------------------------------------------------------------------------


def test_rates_temperatures_and_radii_follow_what_is_spent() -> None:
    found = Darts(lr=0.1, lr_min=0.02, temperature=(10.0, 2.0), perturbation=0.3)
    stage = Stage(10, total=10)
    assert [found.rate(stage, s) for s in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.06, 0.02])
    assert [found.heat(s) for s in (0.0, 0.5, 1.0)] == [10.0, 6.0, 2.0]
    # 0.03 + (0.3 - 0.03) * epoch / epochs in the authors' code.
    assert [found.radius(s) for s in (0.0, 0.5, 1.0)] == pytest.approx([0.03, 0.165, 0.3])
    assert Darts().radius(0.7) == 0.0
    assert Darts(epochs=7).all_epochs(Rows.of(Cells())) == 7 and Darts(epochs=0).all_epochs(Rows.of(Cells())) > 0


# -- the search ------------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"epochs": 2.0, "batch": 16}


def test_it_ends_with_one_network_that_has_the_supernets_weights() -> None:
    task = cells_task(NB201)
    steps = finish(Darts(**QUICK), task)
    assert [len(s.candidates) for s in steps] == [*[0] * (len(steps) - 1), 1]
    (network,) = steps[-1].candidates
    assert network.tag == "searched" and network.tensors is not None
    state = steps[-1].state
    assert state is not None
    held = state()["model"]
    for name, tensor in network.tensors.items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(tensor, held[name]), name
    assert network.build(task.space).eval()(torch.zeros(2, 1, 4, 4)).isfinite().all()
    assert steps[-1].metrics["progress"] == 1.0


@pytest.mark.parametrize("values", [{"partial_channels": 2}, {"epochs": 0.0}])
def test_no_weights_are_lent_by_partial_or_untrained_supernets(values: dict[str, Any]) -> None:
    (network,) = finish(Darts(**{**QUICK, **values}), cells_task(NB201))[-1].candidates
    assert network.tensors is None and network.tag == ""


def test_the_searched_supernet_is_kept_as_it_was_before_the_decisions() -> None:
    states = [s.state() for s in steps_of(DartsPT(tune_epochs=1.0, **QUICK), cells_task()) if s.state is not None]
    first = next(s for s in states if "searched" in s["notes"])
    kept = states[-1]["notes"]["searched"]
    assert set(kept) == {"tensors", "alpha", "parts"} and set(kept["tensors"]) == set(first["model"])
    assert all(torch.equal(kept["tensors"][k], first["model"][k]) for k in first["model"])
    assert any(not torch.equal(kept["tensors"][k], states[-1]["model"][k]) for k in first["model"])
    assert kept["alpha"]["normal.node2.from0"] == first["mixture"]["logits"][0].tolist()


def test_progress_never_falls() -> None:
    for strategy in (Darts(**QUICK), DartsPT(tune_epochs=1.0, **QUICK)):
        told = [s.metrics["progress"] for s in finish(strategy, cells_task()) if "progress" in s.metrics]
        assert told == sorted(told) and told[-1] == 1.0 and told.count(1.0) == 1


def test_taken_up_from_its_end_it_proposes_the_network_again_and_tells_nothing_twice() -> None:
    for strategy in (Darts(**QUICK), DartsPT(tune_epochs=0.0, **QUICK)):
        steps = finish(strategy, cells_task())
        assert steps[-1].state is not None
        (again,) = finish(strategy, cells_task(), steps[-1].state())
        assert again.candidates[0].key == steps[-1].candidates[0].key and not again.metrics


def test_decisions_on_the_way_need_a_search(tmp_path: Any) -> None:
    task = cells_task(supernet=saved(tmp_path, cells_task(), None))
    for cls in (Darts, DartsPT):
        with pytest.raises(UnsupportedError, match="leave --supernet out"):
            finish(cls(decisions="greedy"), task)


class Listening(Darts):
    """Notes after how many minibatches it was told that an epoch is over."""

    def remember(self, loop: Loop) -> None:
        loop.notes.setdefault("heard", []).append(loop.state()["used"])


def test_every_epoch_is_remembered_once() -> None:
    steps = finish(Listening(report_steps=1, **{**QUICK, "epochs": 2.5}), cells_task())
    assert steps[-1].state is not None
    # Three minibatches an epoch; the last half of an epoch counts as one.
    assert steps[-1].state()["notes"]["heard"] == [3, 6, 8]


class Deciding(Darts):
    """Says when it is asked to do what."""

    def stages(self, rows: Rows) -> list[Stage]:
        return [Stage(1, total=2, decides=True), Stage(1, first=1, total=2, searched=True), Stage(0, decides=True)]

    def turn(self, loop: Loop) -> Search:
        loop.notes.setdefault("turns", []).append(loop.stage)
        yield Step(metrics={"turn": float(loop.stage)}, state=loop.state)


def test_stages_are_trained_then_decided_and_survive_interruptions() -> None:
    strategy = Deciding(report_steps=1, **QUICK)
    saved_at = [(step, through_file(step)) for step in steps_of(strategy, cells_task())]
    whole = [step for step, _ in saved_at]
    turns = [s.metrics["turn"] for s in whole if "turn" in s.metrics]
    assert turns == [0.0, 2.0]
    order = ["turn" if "turn" in s.metrics else "train" if "loss" in s.metrics else "" for s in whole]
    assert order == [*["train"] * 3, "turn", "", *["train"] * 3, "", "turn", "", "", ""]
    for number, (step, state) in enumerate(saved_at[:-1], 1):
        rest = finish(strategy, cells_task(), state)
        assert rest[-1].candidates[0].key == whole[-1].candidates[0].key
        if "turn" not in step.metrics:
            assert len(rest) == len(whole) - number
