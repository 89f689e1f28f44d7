"""Holding examples out: by class, from a seed that belongs to the data and not to the run, so that runs compare."""

from __future__ import annotations

import numpy as np

from nascli.errors import DataError


def held_out(labels: np.ndarray, share: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The rows kept and the rows held out, both ascending; of `labels` [n], `share` of each class is held out.

    Of n examples round(n * share) are held out, at least one and never all; a class misses its share by less than
    one example. Raises DataError for fewer than two examples.
    """
    total = len(labels)
    if total < 2:
        raise DataError(f"Nothing can be held out of {total} example{'s' * (total != 1)}; at least 2 are needed.")
    count = min(max(1, round(total * share)), total - 1)
    by_class = np.lexsort((np.random.default_rng(seed).random(total), labels))
    # Every (total / count)-th along the classes: strata of any size get their share, and the sum is exact.
    taken = np.diff(np.arange(total + 1) * count // total) > 0
    return np.sort(by_class[~taken]), np.sort(by_class[taken])


HELD_OUT = 5000
"""Images that are held out where nobody says how many."""


def to_hold_out(val: int | None, *, total: int, limit: int | None) -> int:
    """How many of `total` training images to hold out: `val`, or by default 5,000, at most a quarter and `limit`."""
    if val is not None:
        return val
    return min(HELD_OUT, max(1, total // 4), HELD_OUT if limit is None else limit)
