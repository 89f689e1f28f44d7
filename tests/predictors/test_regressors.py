from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats

from predictors import ScoreError
from predictors.ranking import kendall_tau
from predictors.regressors import Kind, Regressor, fit, load_regressor, save_regressor

KINDS: tuple[Kind, ...] = get_args(Kind)


def known(networks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels that two of them decide."""
    features = np.random.default_rng(seed).normal(size=(networks, 4))
    return features, features[:, 0] + 0.5 * features[:, 1]


@pytest.fixture(scope="module")
def fitted() -> dict[Kind, Regressor]:
    return {kind: fit(*known(60), kind=kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_networks_are_ranked(fitted: dict[Kind, Regressor], kind: Kind) -> None:
    features, labels = known(40, seed=1)
    mean, deviation = fitted[kind].predict(features)
    assert kendall_tau(mean, labels) > (0.6 if kind == "extra_trees" else 0.9)
    assert mean.shape == deviation.shape == (40,) and (deviation >= 0).all()


@pytest.mark.parametrize("kind", ["extra_trees", "gaussian_process"])
def test_it_is_less_sure_of_what_it_has_not_seen(fitted: dict[Kind, Regressor], kind: Kind) -> None:
    seen, unseen = known(60)[0], 2 * known(40, seed=1)[0]
    assert fitted[kind].predict(seen)[1].mean() < 0.9 * fitted[kind].predict(unseen)[1].mean()


def test_the_scale_of_labels_does_not_matter(fitted: dict[Kind, Regressor]) -> None:
    features, labels = known(60)
    curved = fit(features, np.exp(labels), kind="ridge")
    assert np.allclose(curved.predict(features)[0], fitted["ridge"].predict(features)[0])
    # scores are quantiles of a normal distribution: with the labels all but known, those of the ranks
    assert np.corrcoef(curved.predict(features)[0], stats.norm.ppf((stats.rankdata(labels) - 0.5) / 60))[0, 1] > 0.98


def test_one_odd_number_does_not_carry_a_prediction_away(fitted: dict[Kind, Regressor]) -> None:
    features, _ = known(5, seed=2)
    features[0, 2] = 1e9
    assert np.abs(fitted["ridge"].predict(features)[0]).max() < 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_brings_the_same_predictions_back(fitted: dict[Kind, Regressor], kind: Kind, tmp_path: Path) -> None:
    save_regressor(fitted[kind], tmp_path / "it")
    features, _ = known(7, seed=3)
    again = load_regressor(tmp_path / "it")
    for now, before in zip(again.predict(features), fitted[kind].predict(features), strict=True):
        assert np.allclose(now, before, atol=1e-8)
    assert [p.name for p in tmp_path.iterdir()] == ["it"]


def test_what_cannot_be_fitted_or_predicted_is_refused(fitted: dict[Kind, Regressor]) -> None:
    features, labels = known(10)
    with pytest.raises(ScoreError, match="at least 2 networks with different labels"):
        fit(features, np.ones(10))
    with pytest.raises(ScoreError, match="10 networks need as many labels"):
        fit(features, labels[:9])
    with pytest.raises(ScoreError, match="1 features are no finite numbers"):
        fit(np.where(np.arange(40).reshape(10, 4) == 7, np.nan, features), labels)
    with pytest.raises(ScoreError, match="reads 4 features, but got 3"):
        fitted["ridge"].predict(features[:, :3])


def test_files_that_are_none_of_ours_are_refused(fitted: dict[Kind, Regressor], tmp_path: Path) -> None:
    path = tmp_path / "it"
    with pytest.raises(ScoreError, match="does not exist"):
        load_regressor(path)
    path.write_text("hello")
    with pytest.raises(ScoreError, match="is no fitted regressor"):
        load_regressor(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ScoreError, match="no regressor of format 1"):
        load_regressor(path)
    other = Regressor("ridge", fitted["ridge"].features, -fitted["ridge"].targets, 0, fitted["ridge"].model)
    save_regressor(other, path)
    with pytest.raises(ScoreError, match="says something else than it did"):
        load_regressor(path)
