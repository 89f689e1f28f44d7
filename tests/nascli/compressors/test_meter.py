import pytest
import torch

from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.patterns import weights
from nascli.compressors.groups.removal import keep
from nascli.compressors.meter import Meter
from nascli.compressors.protocol import Level, Unit
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from predictors.cost import count
from predictors.latency import Roofline
from tests.toy_compression import task
from tests.toy_prunable import toy


def meter(of: Unit, of_task: Task | None = None) -> Meter:
    net, example = toy("residual")
    return Meter(net, channels(net, example, kind="filters"), example, Level(0.5, of), of_task or task())


def test_the_share_is_that_of_the_smaller_network() -> None:
    net, example = toy("residual")
    groups = channels(net, example, kind="filters")
    alive = torch.ones(len(groups), dtype=torch.bool)
    alive[[0, 7]] = False
    smaller = count(keep(groups, alive, net).apply(toy("residual")[0]), example)
    whole = count(net, example)
    assert meter("macs")(alive) == pytest.approx(smaller.macs / whole.macs)
    assert meter("params")(alive) == pytest.approx(smaller.params / whole.params)
    assert meter("bytes")(alive) == pytest.approx(smaller.size_bytes / whole.size_bytes)
    assert meter("groups")(alive) == pytest.approx(1 - 2 / len(groups))


def test_prices_are_what_one_group_saves_relative_to_the_mean() -> None:
    net, example = toy("residual")
    groups = channels(net, example, kind="filters")
    measure = meter("macs")
    prices = measure.prices()
    assert float(prices.mean()) == pytest.approx(1)
    saved = []
    for axis in range(len(groups.names)):
        alive = torch.ones(len(groups), dtype=torch.bool)
        alive[int((groups.axis == axis).nonzero()[-1])] = False
        saved.append(1 - measure(alive))
    by_axis = [float(prices[groups.axis == axis][0]) for axis in range(len(groups.names))]
    assert [p / by_axis[0] for p in by_axis] == pytest.approx([s / saved[0] for s in saved])
    assert (meter("groups").prices() == 1).all()


def test_latency_is_that_of_the_latency_model() -> None:
    from dataclasses import replace

    with pytest.raises(UnsupportedError, match="--latency"):
        meter("latency")
    measure = meter("latency", replace(task(), latency=Roofline(gflops=1.0, gbytes_per_s=1.0)))
    alive = torch.ones(11, dtype=torch.bool)
    alive[:3] = False
    assert 0 < measure(alive) < 1


def test_zeros_can_be_counted_but_do_not_make_a_network_faster() -> None:
    net, example = toy("residual")
    groups = weights(net)
    alive = torch.ones(len(groups), dtype=torch.bool)
    alive[:100] = False
    total = sum(p.numel() for p in net.parameters())
    assert Meter(net, groups, example, Level(0.5, "params"), task())(alive) == pytest.approx(1 - 100 / total)
    with pytest.raises(UnsupportedError, match="no share of macs"):
        Meter(net, groups, example, Level(0.5, "macs"), task())
