import pytest
import torch
from torch import Tensor

from nascli.compressors.formula import Counted, Formula
from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.removal import keep
from predictors.cost import count
from tests.toy_prunable import toy


@pytest.mark.parametrize("of", ["macs", "params", "bytes"])
@pytest.mark.parametrize("name", ["residual", "padded", "grouped", "inverted"])
def test_the_formula_says_what_is_counted_on_the_smaller_network(name: str, of: Counted) -> None:
    net, example = toy(name)
    groups = channels(net, example, kind="filters")
    formula = Formula(net, groups, example, of)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        alive = torch.rand(len(groups), generator=generator) < 0.6
        alive[[int((groups.axis == a).nonzero()[0]) for a in range(len(groups.names))]] = True
        smaller = keep(groups, alive, net).apply(toy(name)[0])
        cost = count(smaller, example)
        counted = {"macs": cost.macs, "params": cost.params, "bytes": cost.size_bytes}[of]
        assert formula(alive) == pytest.approx(counted, rel=1e-12)


def test_a_formula_that_does_not_fit_is_found_out() -> None:
    net, example = toy("residual")
    groups = channels(net, example, kind="filters")
    formula = Formula(net, groups, example, "macs")
    everything = torch.ones(len(groups), dtype=torch.bool)
    assert formula.agrees(formula)

    def more(alive: Tensor) -> float:
        return formula(alive) * (1.0 if alive.all() else 1.001)

    assert formula(everything) == more(everything)
    assert not formula.agrees(more)


def test_modes_are_left_as_they_were() -> None:
    net, example = toy("residual")
    groups = channels(net, example, kind="filters")
    net.train()
    net.bn.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    Formula(net, groups, example, "macs")
    assert net.training and not net.bn.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
