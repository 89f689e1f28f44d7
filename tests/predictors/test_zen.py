import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe
from predictors.zen import Zen, _Features
from search_spaces.space import Batch
from tests.predictors.probes import Messages, convolutional, images, made, state


class Small(nn.Module):
    """Convolution, BatchNorm, rectifier, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5, momentum=0.2)
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(F.relu(self.norm(self.conv(x)))).flatten(1))
        return out


def published(seed: int, *, repeats: int, examples: int, epsilon: float, momentum: float) -> float:
    """The score of `Small`, step by step: weights, then both inputs, from one generator."""
    probe = Probe(made(Small), images(), seed=seed)
    rng, scores, running = probe.generator("zen"), [], torch.ones(5)
    for _ in range(repeats):
        weight = torch.randn(5, 3, 3, 3, generator=rng)
        torch.randn(4, 5, generator=rng)  # the classifier's, which nothing depends on
        x, e = (torch.randn(examples, 3, 9, 9, generator=rng) for _ in range(2))
        before, after = F.conv2d(x, weight, padding=1), F.conv2d(x + epsilon * e, weight, padding=1)
        outputs = []
        for y in (before, after):
            mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=True)
            running = (1 - momentum) * running + momentum * var
            biased = y.var((0, 2, 3), unbiased=False)
            normed = (y - mean[:, None, None]) / (biased[:, None, None] + 1e-5).sqrt()
            outputs.append(normed.clamp(min=0))
        change = (outputs[0] - outputs[1]).abs().sum((1, 2, 3)).mean()
        scores.append(math.log(change) + math.log(math.sqrt(running.mean())))
    return sum(scores) / len(scores)


def test_the_published_score() -> None:
    found = Zen(examples=7, repeats=3, epsilon=0.05)(Probe(made(Small), images(), seed=2))
    assert found == pytest.approx(published(2, repeats=3, examples=7, epsilon=0.05, momentum=0.2), rel=1e-4)


def test_statistics_of_training_make_no_difference() -> None:
    trained = made(Small)
    trained.norm.running_var.fill_(9.0)  # type: ignore[operator, union-attr]
    assert Zen(repeats=2)(Probe(trained, images())) == Zen(repeats=2)(Probe(made(Small), images()))


class Excited(nn.Module):
    """A block that pools on its way, then a convolution, and a pooling that is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.gate = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 3)
        self.conv, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.gate(self.squeeze(x).flatten(1))[:, :, None, None]
        out: Tensor = self.last(self.norm(self.conv(x)).mean((2, 3)))
        return out


def test_where_features_are_taken() -> None:
    assert _Features(made(convolutional))(images(5).inputs).shape == (5, 6, 4, 4)
    assert _Features(made(Excited))(images(5).inputs).shape == (5, 6)
    with pytest.raises(ScoreError, match="neither a global pooling nor a linear layer"):
        _Features(nn.Conv2d(3, 4, 3))(images(5).inputs)


def test_nodes_can_be_moved_too() -> None:
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    batch = Batch((torch.zeros(4, 5), edges), torch.zeros(4).long())
    assert math.isfinite(Zen(repeats=2)(Probe(made(Messages), batch, examples="coupled")))


def test_networks_without_running_statistics_are_refused() -> None:
    for norm in (nn.Identity(), nn.BatchNorm2d(5, track_running_stats=False)):
        model = made(Small)
        model.norm = norm
        with pytest.raises(ScoreError, match="running statistics"):
            Zen()(Probe(model, images()))


def test_dead_networks_are_called_dead() -> None:
    class Still(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * 0.0)

    with pytest.raises(DeadNetworkError, match="nothing flows"):
        Zen()(Probe(made(Still), images()))


@pytest.mark.parametrize("settings", [{"examples": 1}, {"repeats": 0}, {"epsilon": 0.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(settings)))):
        Zen(**settings)  # type: ignore[arg-type]


def test_the_network_and_the_generators_are_left_alone() -> None:
    model = made(Small).eval()
    before, random = state(model), torch.get_rng_state()
    assert Zen(repeats=2)(Probe(model, images())) == Zen(repeats=2)(Probe(model, images()))
    assert Zen(repeats=2)(Probe(model, images(), seed=1)) != Zen(repeats=2)(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
