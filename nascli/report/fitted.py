"""A predictor fitted to the layers' statistics and the measured values of some networks, which then scores the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nascli.engine.files import explained
from nascli.engine.scores import RECORDED
from nascli.errors import SettingsError
from nascli.report.board import FITTED, NODES, Board, Score
from nascli.report.truth import Truth
from predictors.parzc_files import load_fitted, save_fitted
from predictors.parzc_fit import Fitted, TrainingSet
from predictors.parzc_fit import fit as fit_parzc
from predictors.parzc_net import ParZCSettings
from predictors.probe import Cell
from predictors.profiles import Networks
from predictors.statistics import STATISTICS
from search_spaces import Architecture
from search_spaces.space import CellSpace

if TYPE_CHECKING:
    from nascli.engine.task import Task
    from search_spaces.space import SearchSpace

LEAST = 10
"""Networks that must be left to hold a fitted predictor against."""
CLOSED = "none"
"""The kind of operation that lets nothing through."""


def check(train: int, measured: Sequence[Architecture], truth: Truth) -> None:
    """Raise SettingsError unless there are enough different networks with a measured value."""
    known = {str(arch) for arch, value in zip(measured, truth.values, strict=True) if not np.isnan(value)}
    _enough(train, len(known), truth)


def load(path: str) -> Fitted:
    """The predictor in a file; raises ScoreError if it is none."""
    return load_fitted(path)


def save(found: Fitted, path: Path) -> None:
    """Replace a file by the predictor; raises RunError or ScoreError if it can't be written."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_fitted(found, path)


def fit(board: Board, truth: Truth, train: int, task: Task) -> tuple[Fitted, np.ndarray]:
    """A predictor fitted to `train` networks drawn from the board, and which those are, bool [networks].

    Networks that compute the same as one of them are among them too, so that none is tested on. Raises SettingsError if
    too few could be scored.
    """
    first = {str(arch): i for i, arch in reversed(list(enumerate(board.measured)))}
    usable = _usable(board) & ~np.isnan(truth.values)
    rows = np.array([i for i in sorted(first.values()) if usable[i]], dtype=np.int64)
    _enough(train, len(rows), truth)
    drawn = np.sort(task.rng("fit").permutation(rows)[:train])
    rising = truth.values if truth.goal == "max" else -truth.values
    names = tuple(s.name for s in board.scores)
    training = TrainingSet(_networks(board, drawn, names, task.space), rising[drawn])
    found = fit_parzc(training, _settings(task.space), rng=task.rng("fit/weights"))
    chosen = {str(board.measured[i]) for i in drawn}
    return found, np.array([str(arch) in chosen for arch in board.measured])


def predict(board: Board, found: Fitted, space: SearchSpace) -> Board:
    """The board with the predictor's score, and its deviation between the predictor's members.

    Raises SettingsError if the board lacks a score that the predictor reads.
    """
    there = [s.name for s in board.scores]
    if lacking := [name for name in found.score_names if name not in there]:
        raise SettingsError(f"The predictor also reads {', '.join(lacking)}; give --proxy {','.join(lacking)}.")
    usable = _usable(board, found.score_names)
    values, deviations = (np.full(len(usable), np.nan) for _ in range(2))
    rows = np.flatnonzero(usable)
    values[rows], deviations[rows] = found.predict(_networks(board, rows, found.score_names, space))
    reasons = tuple("" if ok else _reason(board, i, found.score_names) for i, ok in enumerate(usable))
    score = Score(FITTED, "max", values, reasons)
    return replace(board, scores=(score, *board.scores), deviations=board.deviations | {FITTED: deviations})


def _settings(space: SearchSpace) -> ParZCSettings:
    """The predictor's own defaults, for the statistics that are recorded."""
    kinds = space.graph(space.table.largest).kinds if isinstance(space, CellSpace) else ()
    absent = tuple(i for i, kind in enumerate(kinds) if kind == CLOSED)
    return ParZCSettings(statistics=tuple(s for s in STATISTICS if s in RECORDED), absent=absent)


def _enough(train: int, known: int, truth: Truth) -> None:
    if known < train + LEAST:
        raise SettingsError(
            f"--train {train} networks can't be fitted on and {LEAST} be left to test on: of those asked for, "
            f"{known} differ, have a value in {truth.source!r} and can be scored; give a smaller --train or a larger "
            "--sample."
        )


def _usable(board: Board, names: Sequence[str] | None = None) -> np.ndarray:
    """Which networks have statistics of their layers and all these scores, bool [networks]."""
    scores = [s for s in board.scores if names is None or s.name in names]
    there = [nodes is not None for nodes in board.nodes]
    return np.array(there) & ~np.isnan([s.values for s in scores] or np.zeros((1, len(there)))).any(0)


def _reason(board: Board, row: int, names: Sequence[str]) -> str:
    reasons = [board.unread[row], *(board.score(name).reasons[row] for name in names)]
    return next((reason for reason in reasons if reason), f"no {NODES}")


def _networks(board: Board, rows: np.ndarray, names: Sequence[str], space: SearchSpace) -> Networks:
    """What the predictor reads of some networks."""
    columns = [STATISTICS.index(name) for name in RECORDED]
    profiles = []
    for i in rows:
        nodes = board.nodes[i]
        if nodes is not None:
            profile = np.zeros((len(nodes), len(STATISTICS)))
            profile[:, columns] = nodes
            profiles.append(profile)
    cells = None
    if isinstance(space, CellSpace):
        graphs = [space.graph(board.measured[i]) for i in rows]
        cells = [Cell(graph.adjacency, graph.operations) for graph in graphs]
    scores = np.stack([board.score(name).values[rows] for name in names], axis=1) if names else None
    return Networks(profiles, cells, scores, tuple(names))
