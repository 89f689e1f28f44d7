"""Roots of ramps that can be drawn on paper, and that the root costs the budget whatever the ramps are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nascli.compressors.envelope.root import Ramps, by_sorting, heights
from tests.nascli.compressors.envelope.envelope_cases import quick


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def spent(ramps: Ramps, budget: float) -> float:
    full = heights(ramps, by_sorting(ramps, vector(budget).squeeze()))
    return float((full * ramps.cost).sum())


@pytest.mark.parametrize(
    ("budget", "mu"),
    [
        (0.5, 1.0),  # the first ramp alone, half full
        (1.0, 2.0),
        (2.0, 3.0),  # the second costs 2 and is half full
        (3.5, 5.0),  # the third has half of its width
    ],
)
def test_one_ramp_after_another(budget: float, mu: float) -> None:
    ramps = Ramps(vector(0, 2, 4), vector(2, 4, 6), vector(1, 2, 1))
    assert float(by_sorting(ramps, vector(budget).squeeze()).mu) == pytest.approx(mu, rel=1e-15)


def test_ramps_over_each_other() -> None:
    """Between 1 and 2: mu / 2 + 2 (mu - 1) = 1.5 at mu = 1.4."""
    ramps = Ramps(vector(0, 1), vector(2, 2), vector(1, 2))
    root = by_sorting(ramps, vector(1.5).squeeze())
    assert float(root.mu) == pytest.approx(1.4, rel=1e-15)
    assert heights(ramps, root) == pytest.approx(vector(0.7, 0.4), rel=1e-14)


def test_a_step_is_filled_in_part() -> None:
    """The ramp costs 0.5 below the step at 1; both steps share the other 1.5 of their 4."""
    ramps = Ramps(vector(0, 1, 1, 5), vector(2, 1, 1, 5), vector(1, 3, 1, 1))
    root = by_sorting(ramps, vector(2).squeeze())
    assert (float(root.mu), float(root.share)) == (1.0, 0.375)
    assert heights(ramps, root).tolist() == [0.5, 0.375, 0.375, 0.0]


def test_a_flat_piece_at_the_budget() -> None:
    ramps = Ramps(vector(0, 1, 5, 7), vector(1, 1, 6, 7), vector(1, 1, 1, 1))
    assert heights(ramps, by_sorting(ramps, vector(2).squeeze())).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_rows_have_roots_of_their_own() -> None:
    lo = torch.tensor([[0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    root = by_sorting(Ramps(lo, lo + 2, vector(1).squeeze()), vector(0.5, 1.0))
    assert root.mu.tolist() == [1.0, 2.0]


places = st.floats(-30, 30).map(lambda p: 10.0**p) | st.sampled_from([1.0, 2.0])


@quick
@given(st.data(), st.floats(0.001, 0.999))
def test_the_root_costs_the_budget_over_all_orders_of_magnitude(data: st.DataObject, part: float) -> None:
    """Sums along the sorted breakpoints lose all their digits here."""
    count = data.draw(st.integers(1, 12))
    pairs = data.draw(st.lists(st.tuples(places, places), min_size=count, max_size=count))
    costs = data.draw(st.lists(st.floats(0.1, 10), min_size=count, max_size=count))
    ends = torch.tensor(pairs, dtype=torch.float64).sort(-1).values
    ramps = Ramps(ends[:, 0], ends[:, 1], vector(*costs))
    budget = part * sum(costs)
    assert spent(ramps, budget) == pytest.approx(budget, rel=1e-12)
