"""What is worth keeping among trade-offs: the points that nothing beats, and the volume they dominate.

Everything is minimised. The algorithms are moocore's (Fonseca, Paquete & López-Ibáñez 2006 for the hypervolume).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def non_dominated(costs: ArrayLike) -> list[int]:
    """The rows of costs [points, objectives] that no other dominates, in the order of the objectives.

    Equal points are all kept: networks that tie are different networks. Raises ValueError for what is not finite.
    """
    points = _points(costs)
    if not len(points):
        return []
    from moocore import is_nondominated

    kept = np.flatnonzero(is_nondominated(points, keep_weakly=True))
    # lexsort reads its keys from the last to the first; it is stable, so ties stay in the order they came.
    return [int(row) for row in kept[np.lexsort(points[kept].T[::-1])]]


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """The volume between costs [points, objectives] and the reference point [objectives]; points beyond it add nothing.

    Raises ValueError for what is not finite.
    """
    points, corner = _points(costs), np.asarray(reference, dtype=float)
    if not len(points):
        return 0.0
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise ValueError(f"a reference point needs {points.shape[1]} finite numbers, but got {corner.tolist()}")
    import moocore

    return float(moocore.hypervolume(points, ref=corner))


def reference_point(costs: ArrayLike) -> np.ndarray:
    """The worst of costs [points, objectives] plus a tenth of the range: [objectives].

    To be taken once, from the first points of a run: hypervolumes against different references can't be compared.
    Where all points agree in an objective, a tenth of its size stands in for the range. Raises ValueError if empty.
    """
    points = _points(costs)
    if not len(points):
        raise ValueError("a reference point needs at least one point")
    worst, spread = points.max(axis=0), np.ptp(points, axis=0)
    size = np.where(worst == 0, 1.0, np.abs(worst))
    corner: np.ndarray = worst + 0.1 * np.where(spread > 0, spread, size)
    return corner


def _points(costs: ArrayLike) -> np.ndarray:
    points = np.asarray(costs, dtype=float)
    if points.size == 0:
        return np.empty((0, 0))
    if points.ndim != 2:
        raise ValueError(f"costs must be [points, objectives], but have the shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("costs must be finite: a network without costs is no point")
    return points
