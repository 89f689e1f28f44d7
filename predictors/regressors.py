"""Regressors over plain features of networks, by which neural predictors are judged: trees, a Gaussian process and a
linear model, on labels turned into normal quantiles.

Extremely randomised trees on proxies and graph features are what ParZC has to beat (Geurts et al. 2006,
doi:10.1007/s10994-006-6226-1; Kadlecova et al. 2024, arXiv:2404.16551). A file holds the training set, not the fitted
model, which only a pickle could: reading one fits again, and checks that the same comes out.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from safetensors.numpy import save
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from predictors import ScoreError
from predictors.fitted_files import read, write
from predictors.parzc_fit import normal_quantiles

Kind = Literal["extra_trees", "gaussian_process", "ridge"]

FILE_KIND = "nascli.regressor"
VERSION = 1
TREES = 300
_CUT = 4.0
_SAME = 1e-6
"""How far predictions of a model fitted again may differ, in deviations of the targets."""


@dataclass(frozen=True, eq=False)
class Regressor:
    """A fitted regressor and what it was fitted to."""

    kind: Kind
    features: np.ndarray
    targets: np.ndarray
    seed: int
    model: Any

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean score and its deviation, each [networks], of features [networks, features].

        The deviation is that between the trees, or the model's own. Scores are normal quantiles of the training labels.
        Raises ScoreError for features of another number, or that are not finite.
        """
        given = _checked(features)
        if given.shape[1] != self.features.shape[1]:
            raise ScoreError(f"The regressor reads {self.features.shape[1]} features, but got {given.shape[1]}.")
        if self.kind == "extra_trees":
            said = np.stack([tree.predict(given.astype(np.float32)) for tree in self.model.estimators_])
            return said.mean(0), said.std(0)
        mean, deviation = self.model.predict(given, return_std=True)
        return np.asarray(mean), np.asarray(deviation)


def fit(features: np.ndarray, targets: np.ndarray, *, kind: Kind = "extra_trees", seed: int = 0) -> Regressor:
    """The regressor fitted to features [networks, features] and labels [networks], higher being better.

    Raises ScoreError for fewer than two networks, equal labels, or numbers that are not finite.
    """
    given, labels = _checked(features), np.asarray(targets, dtype=np.float64)
    if labels.shape != (len(given),) or not np.isfinite(labels).all():
        raise ScoreError(f"{len(given)} networks need as many labels that are finite numbers, but got {labels.shape}.")
    if len(given) < 2 or np.ptp(labels) == 0:
        raise ScoreError("A regressor needs at least 2 networks with different labels; give more of them.")
    model = _MODELS[kind](given.shape[1], seed)
    with warnings.catch_warnings():
        # A length scale at its bound means a feature space that is nearly linear or nearly noise: both are fits.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(given, normal_quantiles(labels))
    return Regressor(kind, given, labels, seed, model)


def _extra_trees(features: int, seed: int) -> Any:
    return ExtraTreesRegressor(TREES, random_state=seed, n_jobs=1)


def _gaussian_process(features: int, seed: int) -> Any:
    matern = Matern(length_scale=features**0.5, length_scale_bounds=(1e-1, 1e4), nu=2.5)
    kernel = ConstantKernel() * matern + WhiteKernel(0.05)
    return make_pipeline(*_standardised(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed))


def _ridge(features: int, seed: int) -> Any:
    return make_pipeline(*_standardised(), BayesianRidge())


_MODELS = {"extra_trees": _extra_trees, "gaussian_process": _gaussian_process, "ridge": _ridge}


def _standardised() -> tuple[Any, Any]:
    """Mean 0 and deviation 1, then cut: a few training networks say little of how far the features reach."""
    return StandardScaler(), FunctionTransformer(np.clip, kw_args={"a_min": -_CUT, "a_max": _CUT})


def _checked(features: np.ndarray) -> np.ndarray:
    given = np.asarray(features, dtype=np.float64)
    if given.ndim != 2 or not given.shape[1]:
        raise ScoreError(f"Features should be [networks, features], but are {given.shape}.")
    if not np.isfinite(given).all():
        raise ScoreError(
            f"{int((~np.isfinite(given)).sum())} features are no finite numbers; leave those networks out."
        )
    return given


# -- files -------------------------------------------------------------------------------------------------------------


def save_regressor(regressor: Regressor, path: str | Path) -> None:
    """Write what the regressor was fitted to, and what it says of that; the file appears whole or not at all."""
    said, _ = regressor.predict(regressor.features)
    arrays = {"features": regressor.features, "targets": regressor.targets, "said": said}
    header = json.dumps({"kind": regressor.kind, "seed": regressor.seed})
    metadata = {"kind": FILE_KIND, "version": str(VERSION), "header": header}
    write(path, save({k: np.ascontiguousarray(a) for k, a in arrays.items()}, metadata=metadata), what="regressor")


def load_regressor(path: str | Path) -> Regressor:
    """The regressor of a file, fitted again.

    Raises ScoreError for a file that is missing, damaged, foreign or from a newer version, and if the regressor says
    something else of its training set than it did: another version of scikit-learn may draw other trees.
    """
    metadata, arrays = read(path, framework="numpy", what="regressor", advice="fit one first")
    if metadata.get("kind") != FILE_KIND or metadata.get("version") != str(VERSION):
        raise ScoreError(f"{str(path)!r} is no regressor of format {VERSION}; fit one again, or update.")
    try:
        header = json.loads(metadata["header"])
        kind, seed, said = header["kind"], int(header["seed"]), arrays["said"]
        if kind not in get_args(Kind):
            raise ValueError(f"there is no kind {kind!r}")
        regressor = fit(arrays["features"], arrays["targets"], kind=kind, seed=seed)
    except (KeyError, TypeError, ValueError) as error:
        raise ScoreError(f"{str(path)!r} is a damaged regressor ({error}); fit one again.") from None
    now, _ = regressor.predict(regressor.features)
    if now.shape != said.shape or np.abs(now - said).max() > _SAME:
        raise ScoreError(
            f"{str(path)!r} fitted again says something else than it did; fit a new one with this version."
        )
    return regressor
