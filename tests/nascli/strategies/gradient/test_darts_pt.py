from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from nascli.engine.protocol import Step
from nascli.engine.task import Probing, Task
from nascli.strategies.gradient import darts_pt
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.bilevel.problem import Optimisers
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.greedy import Greedy
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.orders import Order
from nascli.strategies.gradient.rows import Rows
from search_spaces.darts import DartsSpace
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Gates, SearchSpace
from tests.toy_cells import ANSWER, Cells, Planted, cells_task, finish, mixture_of, saved, steps_of, through_file
from tests.toy_images import SIGNATURE, same

TWO = Cells(("normal", "reduce"))
NB201 = Nb201Space(SIGNATURE, channels=4, cells=1)
QUICK: dict[str, Any] = {"epochs": 1.0, "batch": 16, "tune_epochs": 0.34, "optimisers": Optimisers(alpha_lr=0.02)}
SHORT = Greedy(first=1, every=0.34)
ADVERTISED: dict[str, dict[str, Any]] = {
    "darts-pt": {},
    "blank": {"alpha": "fixed"},
    "loss": {"criterion": "loss", "renormalise": "yes"},
    "pt-mag": {"criterion": "magnitude"},
    "zero-cost": {"criterion": "zero-cost", "proxy": "grad_norm", "proposals": 2},
    "zero-cost-fixed": {"criterion": "zero-cost", "proxy": "grad_norm", "alpha": "fixed", "order": "forward"},
    "sdarts-rs": {"perturbation": 0.3},
    "sgas": {"decisions": "greedy", "greedy": SHORT},
    "sgas-2": {"decisions": "greedy", "greedy": replace(SHORT, criterion=2)},
    "sgas-magnitude": {"decisions": "greedy", "greedy": SHORT, "criterion": "magnitude"},
    "sgas-loss": {"decisions": "greedy", "greedy": SHORT, "criterion": "loss"},
    "gdas": {"relaxation": "gumbel"},
    "drnas": {"relaxation": "dirichlet", "anchor": 0.1},
    "pc": {"edge_weights": "learnt"},
    "second-order": {"bilevel": Bilevel(name="unrolled")},
    "lv-hba": {"bilevel": Bilevel(name="lv-hba")},
    "few": {"examples": 12, "beta_decay": 5.0},
    "robust": {"early_stop": "eigenvalue"},
    **{f"order-{order}": {"order": order, "criterion": "loss"} for order in get_args(Order)},
}


def quick(name: str, **more: Any) -> DartsPT:
    return DartsPT(**{**QUICK, **ADVERTISED[name], **more})


@pytest.mark.parametrize("name", ADVERTISED)
def test_every_variation_ends_with_one_member_without_none(name: str) -> None:
    steps = finish(quick(name), cells_task(TWO))
    proposed = [n for s in steps if not s.proxy for n in s.candidates]
    assert len(proposed) == 1 and len(steps[-1].candidates) == 1
    chosen = TWO.table.values(TWO.table.parse(str(proposed[0].arch)))
    assert len([n for n in chosen if "from" in n]) == 8
    assert "none" not in chosen.values()


@pytest.mark.parametrize("name", ["darts-pt", "blank", "loss", "zero-cost", "sgas", "order-global-op-iter"])
def test_nb201_too(name: str) -> None:
    task = replace(cells_task(NB201, train=16), probing=Probing(examples=8))
    found = finish(quick(name, examples=8), task)[-1].candidates[0]
    assert len(found.arch.options) == 6


def test_settings_that_make_no_sense_are_refused() -> None:
    for values, said in (
        ({"alpha": "fixed", "criterion": "magnitude"}, "no magnitude"),
        ({"criterion": "zero-cost", "decisions": "greedy"}, "trains nothing"),
        ({"decisions": "greedy", "early_stop": "skips"}, "does not go with decisions='greedy'"),
        ({"tune_epochs": -1.0}, "tune_epochs=-1.0"),
        ({"examples": -1}, "examples=-1"),
        ({"tune_lr": 0.0}, "tune_lr=0.0"),
        ({"proposals": 0}, "proposals=0"),
    ):
        with pytest.raises(ValueError, match=said):
            DartsPT(**values)  # type: ignore[arg-type]


# -- schedule --------------------------------------------------------------------------------------------------------


def test_the_published_schedules() -> None:
    stages = DartsPT().stages(Rows.of(DartsSpace()))
    # 14 operations and three nodes: one decision after the search, 16 after five epochs each, one epoch at the end.
    assert [s.epochs for s in stages] == [50, *[5] * 16, 1]
    assert [s.decides for s in stages] == [*[True] * 17, False]
    assert [s.searched for s in stages] == [True, *[False] * 17]
    assert stages[0].total == 50 and all(s.total is None for s in stages[1:])
    assert [s.first for s in stages[:3]] == [0, 50, 55] and stages[-1].first == 50 + 80
    assert [s.epochs for s in DartsPT(epochs=100).stages(Rows.of(Nb201Space()))] == [100, *[5] * 5, 1]
    assert DartsPT(criterion="zero-cost").all_epochs(Rows.of(Nb201Space())) < 1e-6


def test_the_supernet_is_tuned_between_decisions() -> None:
    settings = DartsPT(epochs=1, tune_epochs=2, last_epochs=1, tune_lr=0.004, batch=16)
    told, decided, weights = [], [], []
    for step in steps_of(settings, cells_task(TWO)):
        if "loss" in step.metrics:
            told.append((round(step.metrics["epoch"], 2), step.metrics["lr"]))
            decided.append(step.metrics["decided"])
        if step.state is not None:
            weights.append(step.state()["model"]["net.classifier.weight"])
    # Five operations and one node in each of the two cells: six decisions, two epochs between two of them.
    assert told[0][0] == 1.0 and told[0][1] <= 0.025
    assert [epoch for epoch, _ in told[1:]] == [*range(2, 12), 12]
    assert all(lr == 0.004 for _, lr in told[1:])
    assert decided == [0, *[d for d in (2, 4, 6, 8, 10) for _ in range(2)], 12]
    assert sum(not torch.equal(a, b) for a, b in zip(weights, weights[1:], strict=False)) >= 11


def test_architecture_weights_of_open_rows_are_tuned_too_unless_fixed() -> None:
    for alpha, moves in (("learnt", True), ("fixed", False)):
        settings = DartsPT(**{**QUICK, "alpha": alpha, "tune_epochs": 1.0})
        logits = [
            s.state()["mixture"]["logits"]
            for s in steps_of(settings, cells_task())
            if s.state is not None and s.metrics.get("epoch", 0) > 1 and s.metrics["decided"] < 4
        ]
        assert any(not torch.equal(a, b) for a, b in zip(logits, logits[1:], strict=False)) == moves


def test_both_kinds_of_cells_decide_in_lock_step() -> None:
    counts = []
    for step in steps_of(quick("darts-pt"), cells_task(TWO)):
        assert step.state is not None
        state = step.state()
        if state["stage"] == len(counts) + 1:
            decided = state["mixture"]["decided"]
            counts.append([sum(n.startswith(kind) for n in decided) for kind in ("normal", "reduce")])
    assert counts[:6] == [[n, n] for n in (1, 2, 3, 4, 5, 6)]


def test_operations_come_before_edges() -> None:
    decided: dict[str, int] = {}
    for step in steps_of(quick("darts-pt"), cells_task()):
        assert step.state is not None
        for name in step.state()["mixture"]["decided"]:
            decided.setdefault(name, len(decided))
    assert decided["normal.node3.inputs"] == 5 and len(decided) == 6


# -- what is decided -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["accuracy", "loss"])
@pytest.mark.parametrize("order", get_args(Order))
def test_the_planted_answer_is_recovered_from_a_supernet_without_architecture_weights(
    tmp_path: Path, criterion: Any, order: Any
) -> None:
    space = Planted()
    folder = saved(tmp_path, cells_task(space), mixture_of(space, seed=None))
    settings = DartsPT(alpha="fixed", criterion=criterion, order=order, tune_epochs=0.34, batch=16)
    steps = finish(settings, cells_task(space, supernet=folder))
    assert str(steps[-1].candidates[0].arch) == ANSWER
    measured = Counter(k for s in steps for k in s.metrics if k.startswith("without"))
    assert all("=none" not in label for label in measured)
    assert not any(s.metrics.get("epoch", 99) < settings.epochs for s in steps), "the search itself is over"


def test_the_criterion_decides(tmp_path: Path) -> None:
    # The architecture weights point to noise. Perturbation is not misled, magnitude is.
    space, mixture = Planted(), mixture_of(Planted(), seed=None)
    with torch.no_grad():
        mixture.logits[:, 1] = 0.5
    task = cells_task(space, supernet=saved(tmp_path, cells_task(space), mixture))
    for criterion, answer in (("accuracy", ANSWER), ("magnitude", "toycells:noise,noise/0+1,noise,noise,-")):
        settings = DartsPT(**{**QUICK, "criterion": criterion, "optimisers": Optimisers(alpha_lr=1e-6)})
        assert str(finish(settings, task)[-1].candidates[0].arch) == answer


def test_a_search_from_the_start_recovers_the_planted_answer_too() -> None:
    settings = DartsPT(alpha="fixed", criterion="loss", epochs=1, tune_epochs=0.34, batch=16)
    assert str(finish(settings, cells_task(Planted()))[-1].candidates[0].arch) == ANSWER


def test_with_greedy_decisions_the_surest_edge_is_next_whatever_the_criterion() -> None:
    for name in ("sgas", "sgas-magnitude"):
        loop = Loop(quick(name), cells_task())
        with torch.no_grad():
            loop.mixture.logits.zero_()
            loop.mixture.logits[3, 1] = 3.0
        list(quick(name).turn(loop))
        assert list(loop.mixture.decided) == ["normal.node3.from1"]


# -- without training ------------------------------------------------------------------------------------------------


def test_zero_cost_trains_nothing_and_asks_for_the_best_of_its_proposals() -> None:
    settings = DartsPT(criterion="zero-cost", proxy="grad_norm", proposals=4)
    task = cells_task(TWO, seed=5)
    steps = finish(settings, task)
    assert not any("loss" in s.metrics for s in steps)
    (asking,) = [s for s in steps if s.proxy]
    keys = [n.key for n in asking.candidates]
    assert asking.proxy == "grad_norm" and 1 <= len(keys) == len(set(keys)) <= 4
    # Their costs are the lengths of their texts here, and the least is the best.
    assert steps[-1].candidates[0].key == min(keys, key=len)
    assert steps[-1].candidates[0].tensors is None and steps[-1].candidates[0].tag == ""
    fresh = task.space.supernet().state_dict().keys()
    state = through_file(steps[-1])
    assert state["model"].keys() == fresh and "searched" not in state["notes"]
    single = finish(replace(settings, order="forward"), task)
    assert [len(s.candidates) for s in single if s.proxy] == [1]


def test_zero_cost_on_a_trained_supernet_lends_its_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path, cells_task(), mixture_of())
    settings = DartsPT(criterion="zero-cost", proxy="grad_norm", order="forward")
    (found,) = finish(settings, cells_task(supernet=folder))[-1].candidates
    assert found.tag == "searched" and found.tensors is not None


# -- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "space"),
    [("darts-pt", TWO), ("order-global-edge-once", Cells()), ("zero-cost", Cells()), ("sgas-2", TWO)],
)
def test_interrupted_anywhere_it_goes_on_and_measures_nothing_twice(
    name: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = 0
    original = darts_pt.DartsPT._meter

    def counting(self: DartsPT, loop: Loop) -> Any:
        meter = original(self, loop)

        def counted(gates: Gates) -> float:
            nonlocal measured
            measured += 1
            return meter(gates)

        return counted

    monkeypatch.setattr(darts_pt.DartsPT, "_meter", counting)
    settings, task = quick(name), cells_task(space)
    whole: list[tuple[Step, Mapping[str, Any] | None, int]] = []
    for step in steps_of(settings, task):
        whole.append((step, through_file(step), measured))
    end, total = whole[-1], measured
    for number, (_, state, so_far) in enumerate(whole[:-1], 1):
        if state is None or number % 3:
            continue
        measured = 0
        rest = finish(settings, task, state)
        assert measured == total - so_far
        assert len(rest) == len(whole) - number
        assert [timeless(s.metrics) for s in rest] == [timeless(s.metrics) for s, _, _ in whole[number:]]
        found, expected = rest[-1].candidates[0], end[0].candidates[0]
        assert found.key == expected.key and same(found.tensors, expected.tensors)


def timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k != "seconds"}


def test_it_draws_from_no_global_generator_with_noise_in_the_network_found() -> None:
    space = DartsSpace(SIGNATURE, preset="s4", channels=2, cells=3)
    task = Task(space, cells_task().data, seed=1, calibration=32, batch_size=40)
    settings = DartsPT(criterion="magnitude", epochs=0.3, tune_epochs=0.0, last_epochs=0.0, batch=16)
    found = []
    for _ in range(2):
        before = torch.get_rng_state()
        found.append(finish(settings, task)[-1].candidates[0])
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(3)
    assert "noise" in str(found[0].arch)
    assert same(found[0].tensors, found[1].tensors)
