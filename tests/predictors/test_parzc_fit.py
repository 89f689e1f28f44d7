from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from predictors import ScoreError
from predictors.graph_encoder import GraphSizes
from predictors.mixer import MixerSizes
from predictors.parzc_fit import Fitted, TrainingSet, fit, normal_quantiles
from predictors.parzc_net import ParZCSettings
from predictors.probe import Cell
from predictors.profiles import Networks
from predictors.ranking import kendall_tau

SMALL = ParZCSettings(
    mixer=MixerSizes(projected=8, segments=2, dim=8, depth=1), points=6, score_width=16, epochs=40, members=2
)
KINDS = np.eye(4)


def known(networks: int, seed: int = 0) -> TrainingSet:
    """Networks of three to six layers whose label is the number of layers and the size of one statistic."""
    rng = np.random.default_rng(seed)
    layers = rng.integers(3, 7, size=networks)
    sizes = rng.normal(size=networks)
    statistics = [np.exp(s) * rng.uniform(0.9, 1.1, size=(n, 7)) for n, s in zip(layers, sizes, strict=True)]
    cells = [Cell(np.eye(4, k=1), KINDS[[0, 1 + n % 2, 1 + n // 5, 3]]) for n in layers]
    return TrainingSet(Networks(statistics, cells, rng.normal(size=(networks, 2))), layers / 2 + sizes)


def by_layers(networks: int, seed: int = 0) -> TrainingSet:
    """The same networks, labelled by their number of layers alone, which decides their cells."""
    found = known(networks, seed).networks
    return TrainingSet(found, np.array([float(len(s)) for s in found.statistics]))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(known(80), SMALL, rng=np.random.default_rng(0))


def test_it_ranks_networks_that_it_has_not_seen(fitted: Fitted) -> None:
    unseen = known(60, seed=1)
    mean, deviation = fitted.predict(unseen.networks)
    assert kendall_tau(mean, unseen.targets) > 0.7
    assert (deviation > 0).all()


def test_scores_are_in_deviations_of_the_training_set(fitted: Fitted) -> None:
    mean, _ = fitted.predict(known(80).networks)
    assert mean.mean() == pytest.approx(0, abs=1e-5)
    assert mean.std() == pytest.approx(1, abs=0.1)


def test_predictions_repeat_and_draws_widen_them(fitted: Fitted) -> None:
    networks = known(10, seed=2).networks
    before = torch.random.get_rng_state()
    for draws in (0, 5):
        first, second = fitted.predict(networks, draws=draws), fitted.predict(networks, draws=draws)
        assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    alone = replace(fitted, members=fitted.members[:1], centres=fitted.centres[:1])
    assert (alone.predict(networks)[1] == 0).all()
    assert (alone.predict(networks, draws=5)[1] > 0).all()
    assert [len(part) for part in fitted.predict(Networks([]))] == [0, 0]


def test_the_generator_decides_everything() -> None:
    training, settings = known(20), replace(SMALL, epochs=2)
    networks = known(5, seed=1).networks

    def run(seed: int) -> np.ndarray:
        return fit(training, settings, rng=np.random.default_rng(seed)).predict(networks)[0]

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))


def test_a_network_alone_is_predicted_as_among_others(fitted: Fitted) -> None:
    networks = known(6, seed=3).networks
    alone = fitted.predict(networks[np.array([4])])[0]
    assert alone[0] == pytest.approx(fitted.predict(networks)[0][4], abs=1e-5)


def test_a_monotone_change_of_the_labels_changes_nothing_for_quantiles() -> None:
    training, settings = known(20), replace(SMALL, epochs=2)
    bent = TrainingSet(training.networks, np.exp(training.targets))
    networks = known(5, seed=1).networks

    def run(given: TrainingSet, **changes: object) -> np.ndarray:
        made = fit(given, replace(settings, **changes), rng=np.random.default_rng(0))  # type: ignore[arg-type]
        return made.predict(networks)[0]

    assert np.array_equal(run(training), run(bent))
    assert not np.array_equal(run(training, targets="zscore"), run(bent, targets="zscore"))


def test_normal_quantiles_by_hand() -> None:
    # ranks 1, 2.5, 2.5, 4 of four: quantiles at 1/8, 1/2, 1/2, 7/8
    assert normal_quantiles(np.array([-3.0, 7, 7, 9])) == pytest.approx([-1.15035, 0, 0, 1.15035], abs=1e-5)


def test_the_graph_is_read_where_it_is_asked_for() -> None:
    settings = replace(
        SMALL, graph=GraphSizes(dim=8, layers=1, hidden=2, head_dim=4, inner=8), statistics=(), scores="none"
    )
    training, unseen = by_layers(40), by_layers(40, seed=1)
    made = fit(training, settings, rng=np.random.default_rng(0))
    assert made.shapes.nodes == 4 and made.shapes.profile == 0
    mean, _ = made.predict(unseen.networks)
    assert kendall_tau(mean, unseen.targets) > 0.5
    with pytest.raises(ScoreError, match="these have none"):
        fit(
            TrainingSet(Networks(known(9).networks.statistics), known(9).targets), settings, rng=np.random.default_rng()
        )


def test_training_sets_that_teach_nothing_are_refused() -> None:
    rng, training = np.random.default_rng(0), known(5)
    with pytest.raises(ScoreError, match="at least 2 networks with different labels"):
        fit(TrainingSet(training.networks, np.ones(5)), SMALL, rng=rng)
    with pytest.raises(ScoreError, match="5 networks need as many labels"):
        TrainingSet(training.networks, np.ones(4))
    with pytest.raises(ScoreError, match="no finite numbers"):
        TrainingSet(training.networks, np.array([1, 2, 3, np.nan, 5]))
    with pytest.raises(ScoreError, match="nothing to predict from"):
        fit(training, replace(SMALL, statistics=(), scores="none"), rng=rng)
