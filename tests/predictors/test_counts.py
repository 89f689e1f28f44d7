import pytest
import torch
from torch import nn

from predictors import ScoreError
from predictors.counts import Macs, Params
from predictors.probe import Probe
from search_spaces.space import Batch
from tests.predictors.probes import Messages, images, made, state


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 7 * 7, 5))


@pytest.mark.parametrize("count", [2, 7])
def test_by_hand_whatever_the_batch(count: int) -> None:
    probe = Probe(small(), images(count))
    assert Params()(probe) == (4 * 27 + 4) + 8 + (5 * 196 + 5)
    assert Macs()(probe) == 49 * 4 * 27 + 5 * 196


def test_a_graph_is_counted_whole() -> None:
    batch = Batch((torch.zeros(4, 5), torch.tensor([[0, 1], [1, 2]])), torch.zeros(4, dtype=torch.long))
    assert Macs()(Probe(made(Messages), batch, examples="coupled")) == 4 * (5 * 7 + 7 * 3)


def test_a_weight_in_two_places_counts_once_and_works_twice() -> None:
    layer = nn.Linear(3, 3, bias=False)
    probe = Probe(nn.Sequential(layer, layer), Batch((torch.zeros(2, 3),), torch.zeros(2, dtype=torch.long)))
    assert (Params()(probe), Macs()(probe)) == (9, 18)


def test_the_network_is_left_alone() -> None:
    model = made(small)
    before, random = state(model), torch.get_rng_state()
    Params()(Probe(model, images()))
    Macs()(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())


def test_networks_that_fail_have_no_macs() -> None:
    with pytest.raises(ScoreError, match="1x3x9x9"):
        Macs()(Probe(nn.Conv2d(2, 4, 3), images()))
