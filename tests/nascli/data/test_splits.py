"""Held-out examples: exact counts, each class its share, the same ones every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.data.splits import held_out, to_hold_out
from nascli.errors import DataError


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.floats(0.01, 0.99), st.integers(0, 3))
def test_counts_are_exact_and_each_class_gets_its_share(labels, share, seed):
    labels = np.array(labels)
    kept, held = held_out(labels, share, seed=seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    count = min(max(1, round(len(labels) * share)), len(labels) - 1)
    assert len(held) == count
    for label in np.unique(labels):
        # Consecutive strata of a systematic sample are off by less than one.
        exact = (labels == label).sum() * count / len(labels)
        assert abs((labels[held] == label).sum() - exact) < 1


def test_the_seed_decides_which():
    labels = np.arange(300) % 3
    first, again, other = (held_out(labels, 0.2, seed=s)[1] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_held_out_are_drawn_at_random_within_a_class():
    gaps = np.diff(held_out(np.zeros(1000, int), 0.1)[1])
    assert gaps.min() < 5 and gaps.max() > 15


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_hold_any_out(count):
    with pytest.raises(DataError, match=f"of {count} example"):
        held_out(np.zeros(count, int), 0.5)


@pytest.mark.parametrize(
    ("total", "limit", "expected"), [(50_000, None, 5000), (10_000, None, 2500), (50_000, 300, 300), (3, None, 1)]
)
def test_by_default_what_there_is_caps_the_images_held_out(total, limit, expected):
    assert to_hold_out(None, total=total, limit=limit) == expected


def test_what_is_asked_for_is_held_out():
    assert to_hold_out(25_000, total=50_000, limit=20_000) == 25_000


def test_a_senseless_count_is_left_for_the_split_to_refuse():
    assert to_hold_out(0, total=100, limit=None) == 0
    assert to_hold_out(-3, total=100, limit=10) == -3
