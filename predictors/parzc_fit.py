"""A predictor fitted to what is known of a few trained networks: how it reads networks, trained members, predictions.

Training labels alone set the targets' scale, and only a validation set held out of them may choose an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from scipy import stats

from predictors import ScoreError
from predictors.parzc_net import ParZCNet, ParZCSettings, Shapes, scored, train
from predictors.profiles import Inputs, Layout, Networks, Reader, cells_of, scale
from predictors.statistics import STATISTICS


@dataclass(frozen=True)
class TrainingSet:
    """Networks and what they reached after training [networks]; higher is better."""

    networks: Networks
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.targets.shape != (len(self.networks),):
            raise ScoreError(f"{len(self.networks)} networks need as many labels, but got {self.targets.shape}.")
        if not np.isfinite(self.targets).all():
            raise ScoreError("Some labels are no finite numbers; leave those networks out.")


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor: how it reads networks, its trained members, and each one's mean and deviation in training."""

    settings: ParZCSettings
    reader: Reader
    shapes: Shapes
    members: tuple[ParZCNet, ...]
    centres: tuple[tuple[float, float], ...]
    score_names: tuple[str, ...] = ()

    def predict(self, networks: Networks, *, draws: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The mean score and its deviation, each [networks]; in deviations of the training set's scores.

        The deviation is that between the members, and between so many draws of the Bayesian weights each; without draws
        the weights' means are taken, and the result is the same every time anyway. Raises ScoreError for networks that
        lack what the predictor reads.
        """
        if not len(networks):
            return np.zeros(0), np.zeros(0)
        inputs, found = self.reader(networks), []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            for net, (mean, deviation) in zip(self.members, self.centres, strict=True):
                for _ in range(max(draws, 1)):
                    said = scored(net, inputs, count=len(networks), draw=draws > 0)
                    found.append((said.numpy().astype(np.float64) - mean) / deviation)
        return np.mean(found, axis=0), np.std(found, axis=0)


def fit(
    training: TrainingSet,
    settings: ParZCSettings,
    *,
    validation: TrainingSet | None = None,
    rng: Generator,
) -> Fitted:
    """The predictor fitted to a training set; with a validation set, each member's best epoch on that is kept.

    Raises ScoreError for fewer than two networks, labels that are all equal, or networks that lack what is read.
    """
    if len(training.targets) < 2 or np.ptp(training.targets) == 0:
        raise ScoreError("A predictor needs at least 2 networks with different labels; give more of them.")
    networks = training.networks
    reader = _reader(networks, settings)
    inputs, targets = reader(networks), torch.as_tensor(_targets(training.targets, settings), dtype=torch.float32)
    shapes = _shapes(reader, inputs)
    held_out = None if validation is None else (reader(validation.networks), validation.targets)
    members, centres = [], []
    for _ in range(settings.members):
        seed = int(rng.integers(2**62))
        net = train(inputs, targets, settings=settings, shapes=shapes, seed=seed, validation=held_out)
        said = scored(net, inputs, count=len(targets)).double()
        members.append(net)
        centres.append((float(said.mean()), max(float(said.std(correction=0)), 1e-8)))
    return Fitted(settings, reader, shapes, tuple(members), tuple(centres), networks.score_names)


def _targets(labels: np.ndarray, settings: ParZCSettings) -> np.ndarray:
    if settings.targets == "zscore":
        standard: np.ndarray = (labels - labels.mean()) / labels.std()
        return standard
    return normal_quantiles(labels)


def normal_quantiles(labels: np.ndarray) -> np.ndarray:
    """The normal distribution's quantiles at the labels' ranks [networks]; ties share theirs."""
    quantiles: np.ndarray = stats.norm.ppf((stats.rankdata(labels) - 0.5) / len(labels))
    return quantiles


def _reader(networks: Networks, settings: ParZCSettings) -> Reader:
    """How the predictor reads networks, measured on its training set."""
    columns = tuple(STATISTICS.index(name) for name in settings.statistics)
    widest = max(len(profile) for profile in networks.statistics) if columns else 0
    graphs = cells_of(networks) if settings.graph else ()
    layout = Layout(
        columns=columns,
        normalisation=settings.normalisation,
        alignment=settings.alignment,
        points=settings.points if columns and settings.alignment == "stretched" else widest,
        summaries=settings.summaries if columns else "none",
        cells="none" if networks.cells is None else settings.cells,
        absent=settings.absent,
        nodes=max((len(cell.operations) for cell in graphs), default=0),
        kinds=graphs[0].operations.shape[1] if graphs else 0,
    )
    unscaled = Reader(layout, None, None)
    profile_scale = score_scale = None
    if columns and settings.normalisation != "minmax":
        profile_scale = scale(np.concatenate([unscaled.chosen(p) for p in networks.statistics]), quantile=0.05)
    numbers = unscaled.numbers(networks) if settings.scores == "read" else None
    if numbers is not None:
        score_scale = scale(numbers, quantile=0.5)
    return replace(unscaled, profile_scale=profile_scale, score_scale=score_scale)


def _shapes(reader: Reader, inputs: Inputs) -> Shapes:
    """What the networks' inputs measure. Raises ScoreError if there are none."""
    profile = 0 if inputs.profiles is None else inputs.profiles.shape[1]
    scores = 0 if inputs.scores is None else inputs.scores.shape[1]
    if not (profile or scores or reader.layout.nodes):
        raise ScoreError("There is nothing to predict from: no statistics, no cells and no scores are read.")
    return Shapes(profile=profile, nodes=reader.layout.nodes, kinds=reader.layout.kinds, scores=scores)
