from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from predictors.mixer import BayesianLinear, Mixer, MixerSizes, Mixing, divergence, drawing


def small(mixing: Mixing) -> Mixer:
    torch.default_generator.manual_seed(0)
    return Mixer(5, 2, sizes=MixerSizes(projected=12, segments=3, dim=8, depth=2, mixing=mixing)).eval()


@pytest.fixture(autouse=True)
def own_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        yield


def test_published_sizes_have_the_published_parameters() -> None:
    mixer = Mixer(294, 512, sizes=MixerSizes())
    block = 2 * 2 * 512 + (512 * 2048 + 2048 + 2048 * 512 + 512) + (512 * 256 + 256 + 256 * 512 + 512)
    ends = (294 * 256 + 256) + 2 * (16 * 512) + 2 * 512 + 2 * (512 * 512)  # means and rhos; no biases
    assert sum(p.numel() for p in mixer.parameters()) == 4 * block + ends


def test_weights_are_means_in_evaluation_and_drawn_otherwise() -> None:
    layer, x = BayesianLinear(3, 2), torch.ones(1, 3)
    layer.eval()
    assert torch.equal(layer(x), x @ layer.mean.T)
    with drawing(layer):
        assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_draws_have_the_mean_and_deviation_that_they_should() -> None:
    layer = BayesianLinear(1, 1, rho=math.log(math.e**0.3 - 1)).eval()  # log(1 + e^rho) = .3
    assert layer.deviation.item() == pytest.approx(0.3, abs=1e-6)
    with drawing(layer), torch.no_grad():
        drawn = torch.cat([layer(torch.ones(1, 1)) for _ in range(4000)])
    assert float(drawn.mean()) == pytest.approx(layer.mean.item(), abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.3, abs=0.02)


def test_the_published_deviation_is_small() -> None:
    assert BayesianLinear(1, 1).deviation.item() == pytest.approx(0.006715, abs=1e-6)


def test_divergence_is_that_between_normal_distributions() -> None:
    layer = BayesianLinear(2, 1)
    ours = torch.distributions.Normal(layer.mean, layer.deviation)
    prior = torch.distributions.Normal(torch.zeros(1, 2), 0.5 * torch.ones(1, 2))
    expected = torch.distributions.kl_divergence(ours, prior).sum()
    assert layer.divergence(prior=0.5).item() == pytest.approx(expected.item(), rel=1e-5)
    assert divergence(nn.Sequential(layer, layer, nn.Linear(2, 2))).item() == pytest.approx(layer.divergence().item())
    assert float(divergence(nn.Linear(2, 2))) == 0


def swapped(mixer: Mixer, numbers: Tensor) -> Tensor:
    """The output with the first two segments of the projection exchanged."""
    first, second, rest = mixer.project(numbers).unflatten(1, (3, 4)).unbind(1)
    segments = mixer.embed(torch.stack((second, first, rest), 1))
    out: Tensor = mixer.head(mixer.norm(mixer.blocks(segments)).mean(1))
    return out


def test_only_tokens_mix_segments() -> None:
    numbers = torch.randn(4, 5)
    published, mixing = small("channels"), small("tokens")
    assert torch.allclose(published(numbers), swapped(published, numbers), atol=1e-6)
    assert not torch.allclose(mixing(numbers), swapped(mixing, numbers), atol=1e-4)


def test_a_published_segment_is_worked_on_by_itself() -> None:
    segments = torch.randn(1, 3, 8, requires_grad=True)
    small("channels").blocks(segments)[0, 0].sum().backward()
    assert segments.grad is not None
    assert segments.grad[0, 0].any() and not segments.grad[0, 1:].any()
    segments.grad = None
    small("tokens").blocks(segments)[0, 0].sum().backward()
    assert segments.grad[0, 1:].any()


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="projected=10 can't be cut into 3 equal segments"):
        MixerSizes(projected=10, segments=3)
    with pytest.raises(ValueError, match="at least 1"):
        MixerSizes(dim=0)
