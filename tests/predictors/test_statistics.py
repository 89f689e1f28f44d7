import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe
from predictors.saliency import Fisher, GradNorm, Grasp, L2Norm, Plain, Snip, SynFlow
from predictors.statistics import STATISTICS, node_statistics
from search_spaces.space import Batch
from tests.predictors.probes import convolutional, dead, images, made, state


def test_one_layer_by_hand() -> None:
    """The example of the proxies over whole networks, by the four weights and the two channels of its layer."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        model.bias.copy_(torch.tensor([0.0, 2.0]))
    found = node_statistics(Probe(model, Batch((torch.tensor([[1.0, 2.0]]),), torch.tensor([0]))))
    assert found.statistics == ("fisher", "grad_norm", "grasp", "l2_norm", "plain", "snip", "synflow")
    expected = [1.5**2 / 2, math.sqrt(2.5), 2.5 / 4, math.sqrt(3), -1 / 4, 2 / 4, 3 / 4]
    assert found.values.tolist() == [pytest.approx(expected)]


class Idle(nn.Module):
    """A network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.body = nn.Linear(3, 3), convolutional()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


@pytest.mark.parametrize("model", [made(convolutional), made(Idle)], ids=["convolutional", "idle"])
def test_times_their_sizes_they_are_the_proxies(model: nn.Module) -> None:
    found, probe = node_statistics(Probe(model, images())), Probe(model, images())
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert found.names == tuple(name for name, _ in layers)
    assert found.values.shape == (len(layers), 7) and found.values.dtype == np.float64
    sizes = np.array([m.weight.numel() for _, m in layers])
    totals = dict(zip(found.statistics, (found.values * sizes[:, None]).sum(0), strict=True))
    norms = dict(zip(found.statistics, found.values.sum(0), strict=True))
    assert totals["fisher"] == pytest.approx(Fisher()(probe), rel=1e-5)
    assert totals["grasp"] == pytest.approx(Grasp()(probe), rel=1e-5, abs=1e-7)
    assert totals["plain"] == pytest.approx(Plain()(probe), rel=1e-5, abs=1e-7)
    assert totals["snip"] == pytest.approx(Snip()(probe), rel=1e-5)
    assert math.log(totals["synflow"]) == pytest.approx(SynFlow()(probe))
    assert norms["grad_norm"] == pytest.approx(GradNorm()(probe))
    assert norms["l2_norm"] == pytest.approx(L2Norm()(probe))


def test_a_layer_that_no_gradient_reaches_has_zeros() -> None:
    found = node_statistics(Probe(made(Idle), images()))
    assert found.names[0] == "idle"
    assert [found.statistics[i] for i in np.flatnonzero(found.values[0])] == ["l2_norm"]
    assert (found.values[1:] != 0).all()


def test_a_few_statistics_are_columns_of_all_and_spare_passes() -> None:
    every, probe = node_statistics(Probe(made(convolutional), images())), Probe(made(convolutional), images())
    few = node_statistics(probe, ("synflow", "l2_norm"))
    assert few.statistics == ("synflow", "l2_norm")
    assert np.array_equal(few.values, every.values[:, [STATISTICS.index("synflow"), STATISTICS.index("l2_norm")]])
    assert not {"curvature", "trace", "labelled"} & set(probe.__dict__)
    node_statistics(probe, ("snip", "fisher", "grad_norm", "plain"))
    assert "curvature" not in probe.__dict__


def test_statistics_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ScoreError, match="'entropy'.*fisher, grad_norm"):
        node_statistics(Probe(made(convolutional), images()), ("snip", "entropy"))  # type: ignore[arg-type]
    with pytest.raises(ScoreError, match="fisher, grad_norm"):
        node_statistics(Probe(made(convolutional), images()), ())


@pytest.mark.parametrize("statistic", [s for s in STATISTICS if s != "l2_norm"])
def test_a_dead_network_is_called_dead(statistic: str) -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        node_statistics(Probe(dead("output"), images()), (statistic,))  # type: ignore[arg-type]


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = made(convolutional)
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf  # type: ignore[index, union-attr, operator]
    with pytest.raises(ScoreError, match="l2_norm that are no finite numbers"):
        node_statistics(Probe(model, images()), ("l2_norm",))


def test_the_network_and_the_generators_are_left_alone_and_numbers_repeat() -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    first, second = (node_statistics(Probe(model, images())) for _ in range(2))
    assert np.array_equal(first.values, second.values)
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
