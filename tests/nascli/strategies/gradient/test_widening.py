from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nascli.engine.task import Task
from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.widening import Widening, keep_strongest, widened
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import finish, mixture_of, steps_of
from tests.toy_images import SIGNATURE, corners, same

SPACE = Nb201Space(SIGNATURE, channels=12, cells=1)
DRNAS = Darts(epochs=2, batch=32, partial_channels=6, relaxation="dirichlet", widening=Widening(parts=(3,), keep=(2,)))


def task(seed: int = 0) -> Task:
    return Task(SPACE, corners(), seed=seed, calibration=32, batch_size=40)


def test_a_convolution_of_repeated_inputs_computes_repeated_outputs() -> None:
    rng = torch.Generator().manual_seed(0)
    narrow, x = torch.randn(3, 2, 3, 3, generator=rng), torch.randn(4, 2, 5, 5, generator=rng)
    wide = widened({"weight": narrow}, {"weight": torch.empty(7, 5, 3, 3)})["weight"]
    found = F.conv2d(x[:, torch.arange(5) % 2], wide)
    torch.testing.assert_close(found, F.conv2d(x, narrow)[:, torch.arange(7) % 3])


def test_depthwise_weights_vectors_and_equal_shapes_are_copied() -> None:
    tensors = {"dw": torch.randn(2, 1, 3, 3), "norm": torch.randn(2), "same": torch.randn(3, 3)}
    found = widened(tensors, {"dw": torch.empty(4, 1, 3, 3), "norm": torch.empty(4), "same": torch.empty(3, 3)})
    assert torch.equal(found["dw"], tensors["dw"][[0, 1, 0, 1]]) and torch.equal(
        found["norm"], tensors["norm"].repeat(2)
    )
    assert torch.equal(found["same"], tensors["same"]) and found["same"].data_ptr() != tensors["same"].data_ptr()


def test_the_weakest_options_leave_but_one_to_settle_on_stays() -> None:
    mixture = mixture_of()  # options none, skip_connect, noise, linear; none may not be settled on
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([3.0, 1.0, 2.0, 0.0]).expand_as(mixture.logits))
    keep_strongest(mixture, 2)
    assert mixture.removed.tolist() == [[False, True, False, True]] * len(mixture.rows.names)
    keep_strongest(mixture, 1)
    assert mixture.removed.tolist() == [[True, True, False, True]] * len(mixture.rows.names)
    assert mixture.weights()[0].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_parts_are_equally_long_and_share_one_schedule() -> None:
    stages = Widening(parts=(4, 2), keep=(5, 3)).stages(30.0)
    assert [(s.first, s.epochs, s.total, s.decides, s.searched) for s in stages] == [
        (0.0, 10.0, 30.0, True, False),
        (10.0, 10.0, 30.0, True, False),
        (20.0, 10.0, 30.0, False, True),
    ]
    (only,) = Widening().stages(30.0)
    assert (only.epochs, only.decides, only.searched) == (30.0, False, True)


@pytest.mark.parametrize(("parts", "keep"), [((3,), ()), ((0,), (1,)), ((3,), (0,))])
def test_what_makes_no_sense_is_refused(parts: tuple[int, ...], keep: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Widening(parts=parts, keep=keep)


def test_it_goes_with_neither_greedy_decisions_nor_early_stopping() -> None:
    for more in ({"decisions": "greedy"}, {"early_stop": "skips"}):
        with pytest.raises(ValueError, match="widening goes by its own schedule"):
            Darts(widening=Widening(parts=(1,), keep=(2,)), **more)  # type: ignore[arg-type]


def test_a_search_becomes_wider_and_settles_on_what_was_kept() -> None:
    steps = finish(DRNAS, task())
    state = steps[-1].state() if steps[-1].state else {}
    assert state["parts"] == 3 and state["mixture"]["removed"].sum(-1).tolist() == [3] * 6
    kept = ~state["mixture"]["removed"]
    (network,) = steps[-1].candidates
    for row, option in enumerate(SPACE.table.indices(network.arch)):
        assert kept[row, option]
    assert network.tensors is None, "nothing is lent by a supernet of partial channels"


def test_it_goes_on_from_either_part() -> None:
    whole = finish(DRNAS, task())
    for k, step in enumerate(steps_of(DRNAS, task())):
        if step.state is None:
            continue
        rest = finish(DRNAS, task(), step.state())
        assert rest[-1].candidates[0].key == whole[-1].candidates[0].key, k
        assert rest[-1].state and whole[-1].state
        assert same(rest[-1].state()["mixture"], whole[-1].state()["mixture"]), k
