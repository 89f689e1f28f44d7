"""Newton's root is the sorted one, and what it looks at grows with the groups and no faster, whatever they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nascli.compressors.envelope.newton import Search, by_newton
from nascli.compressors.envelope.root import Ramps, by_sorting, heights
from tests.nascli.compressors.envelope.envelope_cases import quick


@st.composite
def ramps(draw: st.DrawFn) -> Ramps:
    """Ramps over many orders of magnitude, or on few places so that ends meet, some of them steps."""
    count = draw(st.integers(2, 40))
    place = draw(st.sampled_from([st.integers(1, 6).map(float), st.floats(-9, 9).map(lambda p: 10.0**p)]))
    pairs = draw(st.lists(st.tuples(place, place), min_size=count, max_size=count))
    ends = torch.tensor(pairs, dtype=torch.float64).sort(-1).values
    if draw(st.booleans()):
        return Ramps(torch.zeros_like(ends[:, 0]), ends[:, 1], torch.ones((), dtype=torch.float64))
    costs = draw(st.lists(st.floats(0.1, 10), min_size=count, max_size=count))
    return Ramps(ends[:, 0], ends[:, 1], torch.tensor(costs, dtype=torch.float64))


def whole(found: Ramps) -> float:
    return float(found.cost.sum()) if found.cost.dim() else len(found.lo) * float(found.cost)


@quick
@given(ramps(), st.floats(0.001, 0.999))
def test_agrees_with_sorting(found: Ramps, part: float) -> None:
    budget = part * whole(found)
    newton = heights(found, by_newton(found, budget, small=1))
    assert newton == pytest.approx(heights(found, by_sorting(found, found.lo.new_tensor(budget))), abs=1e-12)


@quick
@given(ramps(), st.floats(0.001, 0.999), st.floats(-20, 20))
def test_wherever_it_starts(found: Ramps, part: float, start: float) -> None:
    budget = part * whole(found)
    full = heights(found, Search(found, budget, 10.0**start).root())
    assert float((full * found.cost).sum()) == pytest.approx(budget, rel=1e-12)


@quick
@given(ramps(), st.data())
def test_budgets_that_are_met_between_the_ramps(found: Ramps, data: st.DataObject) -> None:
    """Sums of whole costs, where phi may be flat."""
    count = data.draw(st.integers(1, len(found.lo) - 1))
    budget = float(found.cost.expand_as(found.lo)[:count].sum())
    full = heights(found, by_newton(found, budget, small=1))
    assert float((full * found.cost).sum()) == pytest.approx(budget, rel=1e-12)


COUNT = 1 << 15


def nasty(name: str) -> Tensor:
    """Places of ramps, in orders and of distributions that mislead a sample or Newton's steps."""
    even = torch.linspace(1e-3, 1, COUNT, dtype=torch.float64)
    if name == "even":
        return even
    if name == "geometric":
        return 10.0 ** (60 * even)
    if name == "doubly geometric":
        return 10.0 ** (2.0 ** (8 * even) - 50)
    if name == "every 64th is unlike the others":
        return torch.where(torch.arange(COUNT) % 64 == 0, 1e9 * even, even)
    if name == "equal":
        return torch.ones_like(even)
    return 1 + 1e-13 * even


DISTRIBUTIONS = ["even", "geometric", "doubly geometric", "every 64th is unlike the others", "equal", "nearly equal"]
WIDTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "steps": lambda lo: lo,
    "steep": lambda lo: lo * (1 + 1e-6),
    "wide": lambda lo: lo * 3,
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("part", [0.003, 0.5, 0.99])
def test_looks_at_a_multiple_of_the_groups(name: str, width: str, part: float) -> None:
    """5 to 20 times as many; bisecting all of them to the last digit would take more than 50 passes."""
    lo = nasty(name)
    found = Ramps(lo, WIDTHS[width](lo), torch.ones((), dtype=torch.float64))
    search = Search(found, part * COUNT, float(lo[::64].median()))
    full = heights(found, search.root())
    assert float(full.sum()) == pytest.approx(part * COUNT, rel=1e-7)
    assert search.looked_at <= 24 * COUNT


def test_long_rows_are_as_exact_as_short_ones() -> None:
    lo = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Ramps(lo, lo * 1.5, torch.rand(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    newton = by_newton(found, 30_000.0)
    assert float(newton.mu) == pytest.approx(float(by_sorting(found, lo.new_tensor(30_000.0)).mu), rel=1e-12)
