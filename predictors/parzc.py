"""ParZC: layers' zero-cost statistics weighed by a predictor that was fitted to a few trained networks, or by a sine of
the layer's number where there are none (Dong et al. 2025, arXiv:2402.02105).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from predictors import ScoreError
from predictors.activation import LinearRegions, Nwot
from predictors.counts import Macs, Params
from predictors.gradsign import GradSign
from predictors.jacobian import EpeNas, Jacov
from predictors.parzc_files import load_fitted, save_fitted
from predictors.parzc_fit import Fitted, TrainingSet, fit
from predictors.parzc_net import ParZCSettings, published
from predictors.probe import Probe, finite
from predictors.profiles import Networks
from predictors.protocol import About
from predictors.saliency import Fisher, GradNorm, Grasp, L2Norm, Plain, Snip, SynFlow
from predictors.statistics import STATISTICS, Statistic, node_statistics
from predictors.zen import Zen

__all__ = [
    "Fitted",
    "Networks",
    "ParZC",
    "ParZCFree",
    "ParZCSettings",
    "TrainingSet",
    "fit",
    "load_fitted",
    "published",
    "save_fitted",
]

PAPER = "Dong et al. 2025, arXiv:2402.02105"

SCORES: Mapping[str, Callable[[Probe], float]] = {
    "params": Params(),
    "macs": Macs(),
    "epe_nas": EpeNas(),
    "fisher": Fisher(),
    "grad_norm": GradNorm(),
    "gradsign": GradSign(),
    "grasp": Grasp(),
    "jacov": Jacov(),
    "l2_norm": L2Norm(),
    "linear_regions": LinearRegions(),
    "nwot": Nwot(),
    "plain": Plain(),
    "snip": Snip(),
    "synflow": SynFlow(),
    "zen": Zen(),
}
"""The further scores that are computed for a fitted predictor which was trained with them; "code" is the encoding."""


@dataclass(frozen=True)
class ParZC:
    """What a fitted predictor says of the network; `nascli score --fit parzc` fits one (arXiv:2402.02105).

    The file's predictor was trained on networks of one space and kind of batch, and says little of others. With `draws`
    the mean over so many draws of its Bayesian weights is taken. Raises ScoreError for a file that is none.
    """

    about: ClassVar[About] = About("max", 3.0, "labels", ("labelled", "curvature", "data_free"), PAPER)

    file: str
    draws: int = 0

    def __post_init__(self) -> None:
        if self.draws < 0:
            raise ValueError(f"draws={self.draws} must be at least 0")
        # Read at once: a file that is none would otherwise fail every network of a run, one by one.
        self._fitted()

    def __call__(self, probe: Probe) -> float:
        """The predicted score, in deviations of the training set's. Raises ScoreError if it needs what is not there."""
        fitted = self._fitted()
        mean, _ = fitted.predict(networks_of([probe], fitted), draws=self.draws)
        return finite(mean[0])

    def _fitted(self) -> Fitted:
        path = Path(self.file)
        return _loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)


@dataclass(frozen=True)
class ParZCFree:
    """ParZC without fitting: the layers' sums of one statistic, weighted by their number (arXiv:2402.02105).

    The sine is the paper's, (sin(0.1 i) + 1) / 2 for layer i from 0; the square, ((L - i) / L)^2 of L layers, is what
    the authors' program ended with. Which statistic they weigh, they leave open.
    """

    about: ClassVar[About] = About("max", 1.5, "labels", ("labelled", "curvature", "data_free"), PAPER)

    statistic: Statistic = "snip"
    weights: Literal["sine", "square"] = "sine"

    def __call__(self, probe: Probe) -> float:
        """The weighted sum."""
        values = node_statistics(probe, (self.statistic,)).values[:, 0]
        if self.statistic not in ("grad_norm", "l2_norm"):  # those are whole already, the others means
            sizes = [
                layer.weight.shape[0] if self.statistic == "fisher" else layer.weight.numel()
                for _, layer in probe.layers
            ]
            values = values * np.array(sizes)
        weigh = sine_weights if self.weights == "sine" else square_weights
        return finite(float(weigh(len(values)) @ values))


def sine_weights(layers: int) -> np.ndarray:
    """(sin(0.1 i) + 1) / 2 for i from 0 [layers]."""
    weights: np.ndarray = (np.sin(0.1 * np.arange(layers)) + 1) / 2
    return weights


def square_weights(layers: int) -> np.ndarray:
    """((L - i) / L)^2 of L layers, for i from 0 [layers]."""
    weights: np.ndarray = ((layers - np.arange(layers)) / layers) ** 2
    return weights


def networks_of(probes: list[Probe], fitted: Fitted) -> Networks:
    """What the predictor reads of these networks. Raises ScoreError if that can't be had of a probe."""
    layout, names = fitted.reader.layout, fitted.score_names
    cells = None
    if layout.nodes or layout.cells == "features":
        cells = [probe.cell for probe in probes if probe.cell is not None]
        if len(cells) < len(probes):
            raise ScoreError("This predictor reads the graph of a cell, and the space tells of none.")
    scores = np.stack([_scores(probe, names) for probe in probes]) if names else None
    return Networks([_statistics(probe, fitted) for probe in probes], cells, scores, names)


def _statistics(probe: Probe, fitted: Fitted) -> np.ndarray:
    """All statistics' columns [layers, statistics], of which only those are computed that the predictor reads."""
    read = fitted.settings.statistics
    if not read:
        return np.zeros((1, len(STATISTICS)))
    found = node_statistics(probe, read)
    values = np.zeros((len(found.names), len(STATISTICS)))
    values[:, [STATISTICS.index(name) for name in read]] = found.values
    return values


def _scores(probe: Probe, names: tuple[str, ...]) -> np.ndarray:
    numbers: list[float] = []
    for name in dict.fromkeys(names):
        if name == "code":
            if probe.code is None:
                raise ScoreError("This predictor reads the architecture's encoding, and there is none.")
            numbers += [float(x) for x in probe.code]
        elif name in SCORES:
            numbers.append(SCORES[name](probe))
        else:
            raise ScoreError(f"This predictor reads the score {name!r}, which is not known here; fit it to others.")
    return np.array(numbers)


@lru_cache(maxsize=4)
def _loaded(path: Path, changed_ns: int) -> Fitted:
    return load_fitted(path)
