from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from predictors.graph_encoder import Graphs, GraphSizes
from predictors.mixer import MixerSizes
from predictors.parzc_net import ParZCNet, ParZCSettings, Shapes, published, scored, train
from predictors.profiles import Inputs
from predictors.ranking import kendall_tau

SMALL = ParZCSettings(mixer=MixerSizes(projected=8, segments=2, dim=8, depth=1), score_width=16, epochs=40)
SHAPES = Shapes(profile=6, scores=3)


def known(networks: int, seed: int = 0) -> tuple[Inputs, torch.Tensor]:
    """Inputs, and targets that a number of the profile and a score decide."""
    generator = torch.Generator().manual_seed(seed)
    profiles, scores = torch.randn(networks, 6, generator=generator), torch.randn(networks, 3, generator=generator)
    return Inputs(profiles, None, scores), profiles[:, 0] + scores[:, 1]


@pytest.mark.parametrize("loss", ["mse", "parzc", "kendall", "preference"])
def test_it_learns_from_profiles_and_scores(loss: str) -> None:
    inputs, targets = known(80)
    net = train(inputs, targets, settings=replace(SMALL, loss=loss), shapes=SHAPES, seed=0)
    unseen, truth = known(60, seed=1)
    assert kendall_tau(scored(net, unseen, count=60).numpy(), truth.numpy()) > 0.45
    assert not net.training


def test_the_seed_decides_everything_and_torch_is_left_alone() -> None:
    inputs, targets = known(30)
    settings = replace(SMALL, epochs=2)

    def run(seed: int) -> torch.Tensor:
        return scored(train(inputs, targets, settings=settings, shapes=SHAPES, seed=seed), inputs, count=30)

    before = torch.random.get_rng_state()
    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_graph_variant_adds_the_mixer_to_the_nodes() -> None:
    settings = replace(SMALL, graph=GraphSizes(dim=4, layers=1, hidden=2, head_dim=2, inner=4), scores="none")
    torch.default_generator.manual_seed(0)
    net = ParZCNet(settings, Shapes(profile=6, nodes=3, kinds=2)).eval()
    graphs = Graphs(torch.eye(3).roll(1, 1).triu()[None], torch.eye(3)[None, :, :2], torch.ones(1, 3, dtype=torch.bool))
    with torch.no_grad():
        one = net(Inputs(torch.zeros(1, 6), graphs, None))
        other = net(Inputs(torch.ones(1, 6), graphs, None))
        turned = Graphs(graphs.adjacency, graphs.operations.flip(2), graphs.present)
        third = net(Inputs(torch.zeros(1, 6), turned, None))
    assert one.shape == (1,) and not torch.equal(one, other) and not torch.equal(one, third)


class Watch(nn.Module):
    """Remembers in which epochs it was in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(self.training)
        return x


@pytest.mark.parametrize(("dropout", "expected"), [("throughout", 6), ("until_evaluation", 2)])
def test_dropout_ends_with_the_first_evaluation_as_published_or_never(
    dropout: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    monkeypatch.setattr(nn, "GELU", lambda: watch)
    settings = ParZCSettings(
        statistics=(),
        score_width=4,
        epochs=6,
        evaluate_every=2,
        dropout=dropout,  # type: ignore[arg-type]
    )
    inputs, targets = known(10)
    train(inputs, targets, settings=settings, shapes=Shapes(scores=3), seed=0)
    assert sum(watch.seen[::2]) == expected and len(watch.seen) == 12


def test_the_epoch_that_ranks_the_validation_set_best_is_kept() -> None:
    inputs, targets = known(40)
    unseen, truth = known(40, seed=1)
    # labels of the validation set reversed: the longer it learns, the worse it gets
    settings = replace(SMALL, epochs=30, evaluate_every=1)
    reversed_ = (unseen, -truth.numpy())
    last = train(inputs, targets, settings=settings, shapes=SHAPES, seed=0)
    kept = train(inputs, targets, settings=settings, shapes=SHAPES, seed=0, validation=reversed_)

    def reached(net: ParZCNet) -> float:
        return kendall_tau(scored(net, unseen, count=40).numpy(), -truth.numpy())

    assert reached(kept) > reached(last) + 0.2


def test_batches_are_equal_and_none_is_smaller_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = ParZCNet.forward

    def counted(self: ParZCNet, inputs: Inputs) -> torch.Tensor:
        out = forward(self, inputs)
        sizes.append(len(out))
        return out

    monkeypatch.setattr(ParZCNet, "forward", counted)
    inputs, targets = known(23)
    train(inputs, targets, settings=replace(SMALL, epochs=1, batch=10), shapes=SHAPES, seed=0)
    assert sorted(sizes) == [11, 12]


def test_divergence_pulls_the_weights_towards_the_prior() -> None:
    inputs, targets = known(20)
    settings = replace(SMALL, statistics=("snip",), scores="none", epochs=30)
    rho = [
        train(inputs, targets, settings=replace(settings, divergence=d), shapes=Shapes(profile=6), seed=0)
        .get_parameter("mixer.embed.rho")
        .mean()
        .item()
        for d in (0.0, 1.0)
    ]
    assert rho[1] > rho[0] + 0.02


def test_draws_differ_and_means_do_not() -> None:
    inputs, _ = known(5)
    torch.default_generator.manual_seed(0)
    net = ParZCNet(SMALL, SHAPES)
    assert torch.equal(scored(net, inputs, count=5), scored(net, inputs, count=5))
    assert not torch.equal(scored(net, inputs, count=5, draw=True), scored(net, inputs, count=5, draw=True))


def test_published_settings() -> None:
    settings = published()
    assert settings.statistics == ("grad_norm", "snip", "synflow") and settings.mixer == MixerSizes()
    assert (settings.epochs, settings.batch, settings.learning_rate, settings.weight_decay) == (200, 10, 1e-4, 1e-3)
    assert settings.graph is not None and settings.graph.dim == 765 and settings.normalisation == "minmax"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "rmse"}, "'rmse' is not known"),
        ({"statistics": ("naswot",)}, "statistics \\['naswot'\\] are not known"),
        ({"batch": 1}, "batch 2"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)  # type: ignore[arg-type]


def test_what_is_not_there_has_no_part() -> None:
    net = ParZCNet(SMALL, Shapes(scores=3))
    assert net.mixer is None and net.encoder is None and net.head is None
    assert np.isfinite(scored(net, Inputs(None, None, torch.zeros(2, 3)), count=2).numpy()).all()
