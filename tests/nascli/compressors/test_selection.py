import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nascli.compressors.selection import Rules, protected, ranks, select
from nascli.errors import InfeasibleError
from search_spaces.groups import Groups


def groups(*sizes: int) -> Groups:
    axis = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return Groups(axis, tuple(f"layer{i}" for i in range(len(sizes))), ())


def alone(alive: Tensor) -> float:
    return float(alive.double().mean())


def test_ranks_count_from_the_best_of_each_axis() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 9.0])
    assert ranks(scores, groups(3, 3)).tolist() == [2, 0, 1, 1, 2, 0]


def test_the_best_of_each_axis_are_protected() -> None:
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 9.0, 8.0])
    safe = protected(scores, groups(4, 2), Rules(floor=0.5, least=1))
    assert safe.tolist() == [False, False, True, True, True, False]


def test_the_level_is_met_exactly_when_groups_are_counted() -> None:
    torch.manual_seed(0)
    of = groups(16, 32, 64)
    scores = torch.rand(len(of))
    for kept in (0.2, 0.31, 0.5, 0.77):
        alive = select(scores, of, Rules(floor=0.0), alone, kept)
        assert int(alive.sum()) == int(kept * len(of))
        best = torch.argsort(scores, descending=True)[: int(alive.sum())]
        floor = protected(scores, of, Rules(floor=0.0))
        assert alive[best].double().mean() >= 1 - int(floor.sum()) / int(alive.sum())


def test_scores_compete_across_axes_or_within_them() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0])
    of = groups(4, 4)
    free = select(scores, of, Rules(floor=0.0), alone, 0.5)
    assert free.tolist() == [False, False, False, True, False, True, True, True]
    even = select(scores, of, Rules(floor=0.0, scope="axis"), alone, 0.5)
    assert even.tolist() == [False, False, True, True] * 2


def test_axes_keep_multiples() -> None:
    torch.manual_seed(1)
    of = groups(32, 12, 5, 64)
    for kept in (0.3, 0.5, 0.9):
        alive = select(torch.rand(len(of)), of, Rules(round_to=8), alone, kept)
        counts = torch.bincount(of.axis[alive], minlength=4).tolist()
        # An axis that is kept whole, or has fewer than eight, is no multiple; all others are.
        assert all(c % 8 == 0 or c == size or size < 8 for c, size in zip(counts, (32, 12, 5, 64), strict=True))
        assert alone(alive) <= kept


def test_what_still_fits_comes_in_the_place_of_what_is_too_dear() -> None:
    of = groups(4, 4)
    scores = torch.tensor([9.0, 8.0, 5.0, 4.0, 7.0, 3.0, 2.0, 1.0])
    prices = torch.tensor([10.0] * 4 + [1.0] * 4, dtype=torch.float64)

    def share(alive: Tensor) -> float:
        return float(prices[alive].sum() / 44)

    # 9, 8 and 7 fit; 5 is dear and does not, but of the cheap ones two more do.
    alive = select(scores, of, Rules(floor=0.0), share, 23.5 / 44)
    assert alive.tolist() == [True, True, False, False, True, True, True, False]
    # Where every axis keeps the same share, nothing is filled in.
    even = select(scores, of, Rules(floor=0.0, scope="axis"), share, 23.5 / 44)
    assert even.tolist() == [True, True, False, False, True, True, False, False]


def test_a_level_below_the_floors_is_refused_with_the_least_there_is() -> None:
    with pytest.raises(InfeasibleError, match=r"0\.05.*0\.2000 is left"):
        select(torch.rand(10), groups(10), Rules(floor=0.2), alone, 0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.floats(0.05, 0.95),
    st.sampled_from(["global", "axis"]),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 10**6),
)
def test_no_larger_count_would_fit(sizes: list[int], kept: float, scope: str, round_to: int, seed: int) -> None:
    of = groups(*sizes)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(len(of), generator=generator)
    prices = torch.rand(len(sizes), generator=generator, dtype=torch.float64)[of.axis] + 0.1
    rules = Rules(floor=0.1, round_to=round_to, scope=scope)  # type: ignore[arg-type]

    def share(alive: Tensor) -> float:
        return float(prices[alive].sum() / prices.sum())

    try:
        alive = select(scores, of, rules, share, kept)
    except InfeasibleError:
        assert share(protected(scores, of, rules)) > kept
        return
    assert share(alive) <= kept
    counts = torch.bincount(of.axis[alive], minlength=len(sizes))
    assert (counts >= rules.floors(of)).all()
    # On each axis the best live, and nothing that could be added alone is better than what already lives there.
    for axis in range(len(sizes)):
        mine = scores[of.axis == axis]
        living = alive[of.axis == axis]
        for a, b in itertools.product(mine[living].tolist(), mine[~living].tolist()):
            assert a >= b


@pytest.mark.parametrize("wrong", [{"floor": 1.0}, {"floor": -0.1}, {"least": 0}, {"round_to": 0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rules(**wrong)  # type: ignore[arg-type]
