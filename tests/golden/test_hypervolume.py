"""Hypervolumes counted by hand, square by square."""

import pytest

from nascli.engine.front import hypervolume

STAIRS = [[1, 4], [2, 2], [4, 1]]
"""Against (5, 5): 4 x 1, then 3 x 2 beneath it, then 1 x 1."""


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [
        ([[3]], [5], 2),
        ([[3], [1], [4]], [5], 4),
        ([[1, 1]], [3, 4], 2 * 3),
        (STAIRS, [5, 5], 4 * 1 + 3 * 2 + 1 * 1),
        ([*STAIRS, [3, 3], [2, 2], [4.5, 4.5]], [5, 5], 11),  # dominated points and doubles add nothing
        ([*STAIRS, [0, 6], [6, 0], [5, 0]], [5, 5], 11),  # nor do those beyond the reference or on its edge
        ([[-94.0, 2.0], [-90.0, 1.0]], [-80.0, 4.0], 14 * 2 + 10 * 1),
        ([[0, 0, 0]], [2, 3, 4], 24),
        ([[0, 0, 2], [1, 1, 0]], [2, 2, 3], 4 * 1 + 1 * 3 - 1 * 1),  # two boxes less what they share
        ([[0] * 5, [1] * 5], [2] * 5, 32),
    ],
)
def test_hypervolume(points: list[list[float]], reference: list[float], volume: float) -> None:
    assert hypervolume(points, reference) == pytest.approx(volume, rel=1e-12)
