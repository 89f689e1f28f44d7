import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.gaussian import he_weights, noise
from predictors.probe import Probe
from predictors.vkdnw import Vkdnw, VkdnwDim, VkdnwSingle, spectrum
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, dead, images, made, state
from tests.predictors.test_ntk import Normed


def published(probe: Probe, inputs: tuple[Tensor, ...], picks: list[int], smoothing: float) -> np.ndarray:
    """The spectrum by its definition: whole Jacobians, the covariance of the classes, the information matrix."""
    net = copy.deepcopy(probe.model)
    he_weights(net, generator=probe.generator("vkdnw"))
    logits = net.eval()(*inputs)
    total = torch.zeros(())
    for row in logits:
        whole = [torch.autograd.grad(z, list(net.parameters()), retain_graph=True, materialize_grads=True) for z in row]
        jacobian = torch.stack(
            [torch.stack([g.flatten()[picks[k]] for k, g in enumerate(gs)]) for gs in whole]
        ).double()
        p = (row.softmax(0) * (1 - smoothing) + smoothing / len(row)).double().detach()
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return np.linalg.eigvalsh((total / len(logits)).numpy())


@pytest.mark.parametrize("make", [convolutional, Normed, Shared])
def test_the_spectrum_is_that_of_the_information_matrix(make: Callable[[], nn.Module]) -> None:
    probe = Probe(made(make), images(9), seed=3)
    count = len(list(probe.model.parameters()))
    found = spectrum(probe, Vkdnw(examples=7, smoothing=0.1))
    expected = published(probe, (probe.batch.inputs[0][:7],), [0] * count, 0.1)
    np.testing.assert_allclose(np.sort(found), expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_networks_that_are_not_separable_take_the_long_way() -> None:
    tokens = Batch((torch.arange(20).view(4, 5) % 11,), torch.zeros(4).long())
    probe = Probe(made(Sentences), tokens)
    expected = published(probe, tokens.inputs, [0] * len(list(probe.model.parameters())), 0.05)
    np.testing.assert_allclose(np.sort(spectrum(probe, Vkdnw())), expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_only_nodes_that_count_do() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])

    def score(x: Tensor, *mask: bool) -> float:
        batch = Batch((x, edges), torch.zeros(6).long(), torch.tensor(mask))
        return Vkdnw(elements=3, examples=2)(Probe(made(Messages), batch, examples="coupled"))

    # Node 5 has no neighbours.
    other = torch.cat([x[:5], -x[5:]])
    assert score(x, *[True] * 5, False) == score(other, *[True] * 5, False)
    assert score(x, *[True] * 6) != score(other, *[True] * 6)


def test_evenly_spaced_numbers() -> None:
    """Four of nine are 0, 2, 4 and 6; all of a parameter with fewer."""
    probe = Probe(made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 3))), images(5, size=1, classes=3))
    net = copy.deepcopy(probe.model)
    he_weights(net, generator=probe.generator("vkdnw"))
    x, total = probe.batch.inputs[0].flatten(1).double(), torch.zeros(7, 7).double()
    for row in x:
        p = net[1](row.float()).detach().double().softmax(0)  # type: ignore[index]
        # Logit c depends on weights 3 c + i by x_i, and on the bias c.
        jacobian = torch.zeros(3, 7).double()
        for k, place in enumerate((0, 2, 4, 6)):
            jacobian[place // 3, k] = row[place % 3]
        jacobian[:, 4:] = torch.eye(3)
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    found = spectrum(probe, Vkdnw(elements=4, smoothing=0.0))
    np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh((total / 5).numpy()), rtol=1e-4, atol=1e-7)


def test_the_first_tensors_alone() -> None:
    assert len(spectrum(Probe(made(convolutional), images(5)), Vkdnw(tensors=3, elements=2))) == 6


def test_the_score_is_the_entropy_of_the_deciles() -> None:
    probe = Probe(made(convolutional), images(9))
    deciles = np.quantile(spectrum(probe, Vkdnw()), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    p = deciles / deciles.sum()
    expected = -sum(v * math.log(v) for v in p if v > 0)
    assert Vkdnw()(probe) == pytest.approx(expected)
    assert 0 < expected < math.log(9)
    dim = len(list(probe.model.parameters()))
    assert VkdnwDim()(probe) == dim
    assert VkdnwSingle()(probe) == pytest.approx(dim + expected)


def test_noise_takes_the_place_of_data() -> None:
    probe = Probe(made(convolutional), images(4))
    net = copy.deepcopy(probe.model)
    generator = probe.generator("vkdnw")
    he_weights(net, generator=generator)
    (x,) = noise(probe, 12, generator=generator)
    as_data = Probe(probe.model, Batch((x,), torch.zeros(12).long()))
    assert Vkdnw(inputs="noise", examples=12)(probe) == pytest.approx(Vkdnw()(as_data))


def test_dead_networks_are_called_dead() -> None:
    for kind in ("input", "output"):
        with pytest.raises(DeadNetworkError, match="nothing flows"):
            Vkdnw()(Probe(dead(kind), images()))


def test_a_spectrum_of_few_numbers_is_called_dead() -> None:
    """Of one number in each of 62 parameters only the last two matter: fewer than one in ten."""

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.ModuleList(nn.Linear(3, 3) for _ in range(30))
            self.last = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(x.flatten(1))
            return out

    with pytest.raises(DeadNetworkError, match="Hardly a weight"):
        Vkdnw()(Probe(made(Idle), images(5, size=1)))


def test_what_has_no_parameters_has_no_dimension() -> None:
    with pytest.raises(ScoreError, match="no parameters"):
        VkdnwDim()(Probe(nn.Flatten(), images()))


@pytest.mark.parametrize("settings", [{"elements": 0}, {"tensors": 0}, {"examples": 0}, {"smoothing": 1.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(settings)))):
        Vkdnw(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [convolutional, Shared])
def test_the_network_and_the_generators_are_left_alone(make: Callable[[], nn.Module]) -> None:
    model = made(make).eval()
    before, random = state(model), torch.get_rng_state()
    assert VkdnwSingle()(Probe(model, images())) == VkdnwSingle()(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
