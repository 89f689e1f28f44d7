"""What a fitted predictor reads of networks, as tensors: node-wise statistics on one scale and of one length, cells,
and further scores standardised as in the training set.

ParZC scales each statistic to [0, 1] within each network (Dong et al. 2025, arXiv:2402.02105, section 3.1), which keeps
the profile over depth and throws magnitudes away; signed logarithms standardised over the training set keep both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from predictors import ScoreError
from predictors.cell_features import cell_features
from predictors.graph_encoder import Graphs, stacked
from predictors.probe import Cell

Normalisation = Literal["minmax", "log", "both"]
Alignment = Literal["padded", "stretched"]
"""Zeros after the last layer, as published, or every network's depth interpolated to the same number of points."""

CLIP = 5.0
"""Standardised numbers beyond this many deviations are cut: there are networks unlike all of a small training set."""


@dataclass(frozen=True)
class Networks:
    """What is known of some networks without training them."""

    statistics: Sequence[np.ndarray]
    """Of each network [layers, statistics], in natural magnitudes."""
    cells: Sequence[Cell] | None = None
    scores: np.ndarray | None = None
    """Further numbers [networks, scores]: proxies, counts, the encoding."""
    score_names: tuple[str, ...] = ()
    """What these are, so that they can be computed of another network; only needed for that."""

    def __post_init__(self) -> None:
        for name, given in (("cells", self.cells), ("scores", self.scores)):
            if given is not None and len(given) != len(self.statistics):
                raise ScoreError(f"There are {len(self.statistics)} networks, but {len(given)} {name}.")

    def __len__(self) -> int:
        return len(self.statistics)

    def __getitem__(self, rows: np.ndarray) -> Networks:
        chosen = np.arange(len(self))[rows]
        cells = None if self.cells is None else [self.cells[i] for i in chosen]
        scores = None if self.scores is None else self.scores[chosen]
        return Networks([self.statistics[i] for i in chosen], cells, scores, self.score_names)


@dataclass(frozen=True)
class Inputs:
    """The same as tensors; what a predictor does not read is None."""

    profiles: Tensor | None
    """[networks, numbers]"""
    graphs: Graphs | None
    scores: Tensor | None
    """[networks, scores]"""

    def __getitem__(self, rows: Tensor) -> Inputs:
        return Inputs(
            None if self.profiles is None else self.profiles[rows],
            None if self.graphs is None else self.graphs[rows],
            None if self.scores is None else self.scores[rows],
        )


@dataclass(frozen=True)
class Scale:
    """Signed logarithms, standardised: sign(x) log(1 + |x| / unit), less a mean, over a deviation; each [columns]."""

    unit: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The same values [rows, columns] on this scale, cut at some deviations; 0 in columns that do not vary."""
        apart = (_signed_log(values, self.unit) - self.mean) / np.where(self.deviation > 0, self.deviation, np.inf)
        cut: np.ndarray = np.clip(apart, -CLIP, CLIP)
        return cut


def scale(values: np.ndarray, *, quantile: float) -> Scale:
    """The scale of these values [rows, columns]; its units are that quantile of the magnitudes above 0."""
    unit = np.array([np.quantile(m[m > 0], quantile) if (m > 0).any() else 1.0 for m in np.abs(values).T])
    logs = _signed_log(values, unit)
    deviation = logs.std(0)
    return Scale(unit, logs.mean(0), np.where(deviation > 1e-9, deviation, 0.0))


def within(profile: np.ndarray) -> np.ndarray:
    """Each statistic of one network [layers, statistics] brought to [0, 1] over its layers; 0 if it does not vary."""
    low, high = profile.min(0), profile.max(0)
    inside: np.ndarray = (profile - low) / np.where(high > low, high - low, np.inf)
    return inside


def stretched(profile: np.ndarray, points: int) -> np.ndarray:
    """A profile [layers, columns] at so many points of relative depth [points, columns], interpolated linearly."""
    depth, wanted = np.linspace(0, 1, len(profile)), np.linspace(0, 1, points)
    return np.stack([np.interp(wanted, depth, column) for column in profile.T], 1)


def summary(profile: np.ndarray) -> np.ndarray:
    """Sums over the layers, and over each third of the depth, of every statistic's magnitudes [4 * statistics]."""
    thirds = np.array_split(np.abs(profile), 3)
    return np.concatenate([np.abs(profile).sum(0), *(third.sum(0) for third in thirds)])


@dataclass(frozen=True)
class Layout:
    """What a predictor reads of networks, and how large that is."""

    columns: tuple[int, ...]
    """The statistics that are read, by number; none: no profiles."""
    normalisation: Normalisation
    alignment: Alignment
    points: int
    """Layers that a profile is padded or stretched to."""
    summaries: Literal["none", "sums"]
    cells: Literal["none", "features"]
    absent: tuple[int, ...]
    nodes: int
    """Nodes that cells are padded to; 0: no graphs."""
    kinds: int


@dataclass(frozen=True)
class Reader:
    """How a predictor reads networks: the layout, and the scales that it measured on its training set."""

    layout: Layout
    profile_scale: Scale | None
    score_scale: Scale | None

    def __call__(self, networks: Networks) -> Inputs:
        """The networks as tensors. Raises ScoreError for networks that lack what is read, or are larger."""
        graphs = None
        if self.layout.nodes:
            graphs = stacked(cells_of(networks), nodes=self.layout.nodes, kinds=self.layout.kinds)
        numbers = self._scores(networks) if self.score_scale is not None else None
        profiles = self._profiles(networks) if self.layout.columns and self.layout.points else None
        return Inputs(profiles, graphs, None if numbers is None else _tensor(numbers))

    def numbers(self, networks: Networks) -> np.ndarray | None:
        """Scores, features of the cells and sums of the statistics as they are [networks, columns], None if there are
        none of them.
        """
        parts = [] if networks.scores is None else [np.asarray(networks.scores, dtype=np.float64)]
        if self.layout.cells == "features":
            features = [cell_features(c.adjacency, c.operations, absent=self.layout.absent) for c in cells_of(networks)]
            parts.append(np.stack(features))
        if self.layout.summaries == "sums":
            parts.append(np.stack([summary(self.chosen(profile)) for profile in networks.statistics]))
        return np.concatenate(parts, axis=1) if parts else None

    def _scores(self, networks: Networks) -> np.ndarray | None:
        numbers = self.numbers(networks)
        if self.score_scale is None or numbers is None:
            return None
        if numbers.shape[1] != len(self.score_scale.unit):
            wanted, given = len(self.score_scale.unit), numbers.shape[1]
            raise ScoreError(f"The predictor reads {wanted} scores a network, but {given} were given.")
        return self.score_scale(numbers)

    def chosen(self, profile: np.ndarray) -> np.ndarray:
        """The statistics that are read [layers, columns], 0 where they are not finite. Raises ScoreError for others."""
        if profile.ndim != 2 or not len(profile) or profile.shape[1] <= max(self.layout.columns, default=-1):
            raise ScoreError(
                f"A network's statistics should be [layers, statistics] with at least "
                f"{max(self.layout.columns) + 1} of them, but are {profile.shape}."
            )
        read = profile[:, list(self.layout.columns)]
        return np.where(np.isfinite(read), read, 0.0)

    def _profiles(self, networks: Networks) -> Tensor:
        return _tensor(np.stack([self._aligned(self._channels(self.chosen(p))) for p in networks.statistics]))

    def _channels(self, profile: np.ndarray) -> np.ndarray:
        parts = []
        if self.layout.normalisation != "log":
            parts.append(within(profile))
        if self.profile_scale is not None:
            # The last channel tells layers from padding: 0 is an ordinary number on this scale.
            parts += [self.profile_scale(profile), np.ones((len(profile), 1))]
        return np.concatenate(parts, axis=1)

    def _aligned(self, channels: np.ndarray) -> np.ndarray:
        if self.layout.alignment == "stretched":
            return stretched(channels, self.layout.points).T.ravel()
        if len(channels) > self.layout.points:
            raise ScoreError(
                f"A network has {len(channels)} layers, but the predictor was fitted to networks of up to "
                f"{self.layout.points}; fit it to such networks too, or with alignment 'stretched'."
            )
        return np.pad(channels, ((0, self.layout.points - len(channels)), (0, 0))).T.ravel()


def cells_of(networks: Networks) -> Sequence[Cell]:
    """The networks' cells. Raises ScoreError if they have none."""
    if networks.cells is None:
        raise ScoreError("The predictor reads the cells of networks, and these have none.")
    return networks.cells


def _signed_log(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.sign(values) * np.log1p(np.abs(values) / unit)
    return logs


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32)
