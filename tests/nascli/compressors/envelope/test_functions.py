"""The envelope and its operators against solvers that know nothing of them, certificates of optimality, and laws."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from nascli.compressors.envelope.functions import Operator, Search, conjugate, selection, shrink, value, variational
from tests.nascli.compressors.envelope.envelope_cases import Case, cases, few, numbers, quick, textbook

OPERATORS: tuple[Operator, ...] = ("published", "debiased")
both = pytest.mark.parametrize("operator", OPERATORS)


def shrunk(case: Case, operator: Operator = "published", search: Search = "newton") -> Tensor:
    """The prox of the norms [groups]."""
    return case.norms * shrink(case.norms, case.budget, case.step, **case.all, operator=operator, search=search)


class TestValue:
    @quick
    @given(cases())
    def test_is_the_textbook_formula(self, case: Case) -> None:
        weights, costs = case.factor("weights").numpy(), case.factor("costs").numpy()
        expected = textbook(case.norms.numpy(), case.budget, weights, costs)
        assert float(value(case.norms, case.budget, **case.priced)) == pytest.approx(expected, rel=1e-9)

    @few
    @given(cases(most=6, norms=numbers(0.3, 3)))
    def test_no_selection_within_the_budget_is_better(self, case: Case) -> None:
        square = (case.factor("weights") * case.norms.square()).numpy()
        costs = case.factor("costs").numpy()
        found = optimize.minimize(
            lambda u: (square / u).sum() / square.sum(),
            np.full(len(square), min(1.0, case.budget / costs.sum())),
            jac=lambda u: -square / u**2 / square.sum(),
            bounds=[(1e-4, 1.0)] * len(square),
            constraints=[{"type": "ineq", "fun": lambda u: case.budget - costs @ u, "jac": lambda u: -costs}],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        # The solver overspends by its tolerance.
        within = found.x * min(1.0, case.budget / (costs @ found.x))
        solved = (square / within).sum() / 2
        assert solved * (1 - 1e-4) <= float(value(case.norms, case.budget, **case.priced)) <= solved * (1 + 1e-12)

    @quick
    @given(cases())
    def test_its_selection_keeps_to_the_budget(self, case: Case) -> None:
        chosen = selection(case.norms, case.budget, **case.priced)
        assert ((chosen >= 0) & (chosen <= 1)).all() and ((chosen > 0) == (case.norms > 0)).all()
        spent = float((chosen * case.factor("costs")).sum())
        need = float((case.factor("costs") * (case.norms > 0)).sum())
        assert spent == pytest.approx(min(case.budget, need), rel=1e-12)

    @quick
    @given(cases(whole=True))
    def test_is_weight_decay_where_no_more_than_k_are_left_and_more_elsewhere(self, case: Case) -> None:
        decay = float((case.factor("weights") * case.norms.square()).sum() / 2)
        found = float(value(case.norms, case.budget, **case.priced))
        if (case.norms > 0).sum() <= case.budget:
            assert found == pytest.approx(decay, rel=1e-14)
        else:
            assert found > decay * (1 + 1e-9)

    @quick
    @given(cases(whole=True), st.data())
    def test_is_the_greatest_convex_function_below_the_sparse_one(self, case: Case, data: st.DataObject) -> None:
        """S* is the sparse function's conjugate (all supports tried), and S is the conjugate of S*: never below one of
        its planes, and on one of them."""
        count, weights = len(case.norms), case.factor("weights")
        y = torch.tensor(data.draw(st.lists(numbers(1e-2, 1e2), min_size=count, max_size=count)), dtype=torch.float64)
        supports = itertools.combinations(range(count), int(case.budget))
        best = max(float((y.square() / weights)[list(s)].sum() / 2) for s in supports)
        assert float(conjugate(y, case.budget, **case.priced)) == pytest.approx(best, rel=1e-12)
        found = float(value(case.norms, case.budget, **case.priced))
        assert found >= float((case.norms * y).sum()) - best - 1e-9 * best
        chosen = selection(case.norms, case.budget, **case.priced)
        slope = torch.where(chosen > 0, weights * case.norms / chosen, 0.0)
        plane = float((case.norms * slope).sum() - conjugate(slope, case.budget, **case.priced))
        assert found == pytest.approx(plane, rel=1e-12)

    @quick
    @given(cases())
    def test_the_conjugate_is_a_knapsack_whose_last_item_may_be_cut(self, case: Case) -> None:
        gain = (case.norms.square() / case.factor("weights") / 2).numpy()
        found = optimize.linprog(-gain, A_ub=[case.factor("costs").numpy()], b_ub=[case.budget], bounds=(0, 1))
        assert float(conjugate(case.norms, case.budget, **case.priced)) == pytest.approx(-found.fun, rel=1e-7, abs=1e-9)

    def test_budgets_that_hold_nothing(self) -> None:
        norms = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
        assert value(norms, 0.0).tolist() == [math.inf, 0.0]
        assert value(norms, -1.0).tolist() == [math.inf, 0.0]
        assert conjugate(norms, 0.0).tolist() == [0.0, 0.0]

    def test_variational_says_what_zeros_are(self) -> None:
        norms, chosen = torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0])
        assert float(variational(norms, chosen, weights=torch.tensor([3.0, 1.0]))) == 3 * 4 / 0.5 / 2
        assert float(variational(norms, torch.tensor([0.0, 1.0]))) == math.inf

    def test_infinite_budget(self) -> None:
        assert float(value(torch.tensor([3.0, 4.0]), math.inf)) == 12.5


class TestPublished:
    @quick
    @given(cases())
    def test_certificate(self, case: Case) -> None:
        """y = h (v - x) / t is a subgradient of S at x just if S(x) + S*(y) = <x, y>, and then x is the prox."""
        x = shrunk(case)
        y = case.factor("metric") * (case.norms - x) / case.step
        product = float((x * y).sum())
        gap = float(value(x, case.budget, **case.priced) + conjugate(y, case.budget, **case.priced)) - product
        # What is lost by the difference v - x.
        rounding = float((case.factor("metric") * case.norms * x).sum()) / case.step
        assert abs(gap) <= 1e-10 * product + 1e-13 * rounding

    @few
    @given(cases(most=7, norms=numbers(0.1, 10), steps=numbers(0.05, 5), factors=numbers(0.3, 3)))
    def test_a_convex_solver_finds_the_same(self, case: Case) -> None:
        """x is n u / (u + e) for the best u, so what is left to minimise is sum of h n^2 e / (u + e) / 2."""
        offset, costs, norms = case.offset.numpy(), case.factor("costs").numpy(), case.norms.numpy()
        gain = case.factor("metric").numpy() * norms**2 * offset
        scale = gain.sum()
        found = optimize.minimize(
            lambda u: (gain / (u + offset)).sum() / 2 / scale,
            np.full(len(gain), min(1.0, case.budget / costs.sum())),
            jac=lambda u: -gain / (u + offset) ** 2 / 2 / scale,
            bounds=[(0.0, 1.0)] * len(gain),
            constraints=[{"type": "ineq", "fun": lambda u: case.budget - costs @ u, "jac": lambda u: -costs}],
            method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-16},
        )
        solved = torch.from_numpy(norms * found.x / (found.x + offset))
        # A quadratic is flat at its minimum: half the digits of the objective.
        assert shrunk(case) == pytest.approx(solved, abs=1e-6 * float(case.norms.max()))

    @quick
    @given(cases(), st.data())
    def test_is_firmly_non_expansive_in_its_metric(self, case: Case, data: st.DataObject) -> None:
        count = len(case.norms)
        signed = st.lists(st.floats(-10, 10), min_size=count, max_size=count)
        v, w = (torch.tensor(data.draw(signed), dtype=torch.float64) for _ in range(2))
        p, q = (a * shrink(a.abs(), case.budget, case.step, **case.all) for a in (v, w))
        metric = case.factor("metric")
        apart, before = (metric * (p - q).square()).sum(), (metric * (p - q) * (v - w)).sum()
        assert float(apart) <= float(before) + 1e-9 * float(1 + (metric * (v - w).square()).sum())

    def test_everything_within_the_budget_decays(self) -> None:
        factors = shrink(torch.tensor([3.0, 0.0, 1.0]), 2, 0.5, weights=torch.tensor([1.0, 1.0, 2.0]))
        assert factors.tolist() == [1 / 1.5, 0.0, 1 / 2.0]

    def test_equal_groups_share_the_budget(self) -> None:
        """u = k / m for all of them, and nothing is zero."""
        assert shrink(torch.full((4,), 2.0), 3, 0.5) == pytest.approx(
            torch.full((4,), 0.75 / 1.25, dtype=torch.float64)
        )

    def test_long_steps_keep_k_groups_and_little_of_them(self) -> None:
        factors = shrink(torch.tensor([5.0, 4.0, 3.0, 2.0]), 2, 1e9)
        assert factors == pytest.approx(torch.tensor([1e-9, 1e-9, 0.0, 0.0]), rel=1e-6)
        assert (factors > 0).tolist() == [True, True, False, False]


class TestDebiased:
    @few
    @given(cases(most=4, norms=numbers(0.1, 10), steps=numbers(0.01, 0.3), factors=numbers(0.6, 1.6)), st.data())
    def test_no_search_finds_less(self, case: Case, data: st.DataObject) -> None:
        x = shrunk(case, "debiased").numpy()
        anywhere = st.lists(st.floats(0, 10), min_size=len(x), max_size=len(x)).map(np.array)
        for start in (x * 0.99, case.norms.numpy(), data.draw(anywhere)):
            found = optimize.minimize(
                case.debiased, start, method="Nelder-Mead", options={"maxfev": 800, "xatol": 1e-9}
            )
            assert found.fun >= case.debiased(x) - 1e-9 * float(case.norms.max()) ** 2

    @quick
    @given(cases(most=6, whole=True, steps=numbers(12, 100), norms=numbers(0.1, 10)))
    def test_long_steps_choose_hard(self, case: Case) -> None:
        """Among all supports of K groups, that with the least objective, x being v on it."""
        assume(bool((case.offset >= 1).all()) and len(case.norms.unique()) == len(case.norms))
        lost = case.factor("metric") * case.norms.square()
        assume(len({round(float(a), 9) for a in lost}) == len(lost))
        supports = itertools.combinations(range(len(lost)), int(case.budget))
        best = max(supports, key=lambda s: float(lost[list(s)].sum()))
        factors = shrink(case.norms, case.budget, case.step, **case.all, operator="debiased")
        assert factors.tolist() == [float(j in best) for j in range(len(lost))]

    @few
    @given(cases(most=3, whole=True, steps=numbers(0.5, 2), norms=numbers(0.1, 10)))
    def test_where_it_is_not_convex_it_is_exact_if_no_group_is_cut(self, case: Case) -> None:
        factors = shrink(case.norms, case.budget, case.step, **case.all, operator="debiased")
        hard = case.offset >= 1
        assume(bool(((factors == 0) | (factors == 1))[hard].all()))
        x = (case.norms * factors).numpy()
        for support in itertools.product([0.01, 0.9], repeat=len(x)):
            start = case.norms.numpy() * np.array(support)
            found = optimize.minimize(case.debiased, start, method="Nelder-Mead", options={"maxfev": 200})
            assert found.fun >= case.debiased(x) - 1e-9 * float(case.norms.max()) ** 2

    def test_is_continuous_up_to_the_hard_choice(self) -> None:
        norms, costs = torch.tensor([5.0, 4.0, 4.0, 1.0]), torch.tensor([1.0, 2.0, 2.0, 1.0])
        limit = shrink(norms, 2.5, 1.0, costs=costs, operator="debiased")
        assert limit.tolist() == [1.0, 0.375, 0.375, 0.0]
        assert shrink(norms, 2.5, 1 - 1e-7, costs=costs, operator="debiased") == pytest.approx(limit, abs=1e-6)
        assert shrink(norms, 2.5, 7.0, costs=costs, operator="debiased").tolist() == limit.tolist()

    @quick
    @given(cases(whole=True))
    def test_leaves_alone_what_has_k_groups(self, case: Case) -> None:
        order = case.norms.argsort(descending=True)
        kept = torch.zeros_like(case.norms)
        kept[order[: int(case.budget)]] = case.norms[order[: int(case.budget)]]
        factors = shrink(kept, case.budget, case.step, **case.all, operator="debiased")
        assert factors.tolist() == (kept > 0).double().tolist()

    @quick
    @given(cases(steps=numbers(1e-3, 0.9)))
    def test_is_the_published_one_of_a_longer_step_from_further_out(self, case: Case) -> None:
        t = case.step
        found = shrink(case.norms, case.budget, t, costs=case.costs, operator="debiased")
        published = shrink(case.norms / (1 - t), case.budget, t / (1 - t), costs=case.costs) / (1 - t)
        assert found == pytest.approx(published, abs=1e-12)

    @quick
    @given(cases(steps=numbers(1e-3, 0.9)))
    def test_survivors_that_the_envelope_counts_in_full_are_returned_as_they_were(self, case: Case) -> None:
        plain = Case(case.norms, case.budget, case.step, None, case.costs, None)
        x = shrunk(plain, "debiased")
        full = selection(x, plain.budget, costs=plain.costs) == 1
        assert x[full] == pytest.approx(case.norms[full], rel=1e-12)


@both
class TestLaws:
    @quick
    @given(case=cases(), times=numbers(1e-3, 1e3))
    def test_scaling(self, operator: Operator, case: Case, times: float) -> None:
        factors = shrink(case.norms, case.budget, case.step, **case.all, operator=operator)
        scaled = shrink(case.norms * times, case.budget, case.step, **case.all, operator=operator)
        assert scaled == pytest.approx(factors, abs=1e-9)

    @quick
    @given(case=cases(), random=st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, operator: Operator, case: Case, random: Any) -> None:
        order = list(range(len(case.norms)))
        random.shuffle(order)
        moved = {k: None if f is None else f[order] for k, f in case.all.items()}
        factors = shrink(case.norms, case.budget, case.step, **case.all, operator=operator)
        again = shrink(case.norms[order], case.budget, case.step, **moved, operator=operator)
        assert again == pytest.approx(factors[order], abs=1e-9)

    @quick
    @given(case=cases())
    def test_equal_groups_get_equal_factors(self, operator: Operator, case: Case) -> None:
        twice = {k: None if f is None else torch.cat([f, f]) for k, f in case.all.items()}
        factors = shrink(case.norms.repeat(2), 2 * case.budget, case.step, **twice, operator=operator)
        first, second = factors.chunk(2)
        assert first.tolist() == second.tolist()
        once = shrink(case.norms, case.budget, case.step, **case.all, operator=operator)
        assert first == pytest.approx(once, abs=1e-9)

    @quick
    @given(case=cases(whole=True))
    def test_no_fewer_than_k_survive(self, operator: Operator, case: Case) -> None:
        factors = shrink(case.norms, case.budget, case.step, **case.all, operator=operator)
        assert ((factors >= 0) & (factors <= 1)).all() and (factors[case.norms == 0] == 0).all()
        assert (factors > 0).sum() >= min(case.budget, int((case.norms > 0).sum()))

    @quick
    @given(case=cases())
    def test_both_searches_agree(self, operator: Operator, case: Case) -> None:
        sort, newton = (shrunk(case, operator, search) for search in ("sorting", "newton"))
        assert newton == pytest.approx(sort, abs=1e-12 * float(1 + case.norms.max()))

    @few
    @given(rows=st.lists(cases(most=4), min_size=1, max_size=6))
    def test_rows_are_solved_one_by_one(self, operator: Operator, rows: list[Case]) -> None:
        def padded(values: Tensor, with_: float) -> Tensor:
            return torch.cat([values, torch.full((4 - len(values),), with_, dtype=torch.float64)])

        norms = torch.stack([padded(r.norms, 0.0) for r in rows])
        budgets = torch.tensor([r.budget for r in rows], dtype=torch.float64)
        names = ("weights", "costs", "metric")
        factors = {n: torch.stack([padded(r.factor(n), 1.0) for r in rows]) for n in names}
        step = rows[0].step
        found = shrink(norms, budgets, step, **factors, operator=operator)
        values = value(norms, budgets, weights=factors["weights"], costs=factors["costs"])
        duals = conjugate(norms, budgets, weights=factors["weights"], costs=factors["costs"])
        for i, r in enumerate(rows):
            alone = shrink(r.norms, r.budget, step, **r.all, operator=operator)
            assert found[i, : len(alone)] == pytest.approx(alone, abs=1e-9)
            assert float(values[i]) == pytest.approx(float(value(r.norms, r.budget, **r.priced)), rel=1e-10)
            assert float(duals[i]) == pytest.approx(float(conjugate(r.norms, r.budget, **r.priced)), rel=1e-10)

    def test_two_of_every_four(self, operator: Operator) -> None:
        generator = torch.Generator().manual_seed(0)
        norms = torch.rand(5, 3, 4, generator=generator)
        factors = shrink(norms, 2, 0.9, operator=operator)
        assert factors.shape == (5, 3, 4)
        assert factors[3, 1] == pytest.approx(shrink(norms[3, 1], 2, 0.9, operator=operator), abs=1e-12)
        hard = shrink(norms, 2, 1.0, operator="debiased")
        assert (hard.sum(-1) == 2).all()
        assert torch.equal(hard == 1, norms >= norms.topk(2, -1).values[..., -1:])

    def test_sizes_at_the_ends_of_the_range(self, operator: Operator) -> None:
        norms = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
        factors = shrink(norms, 3, 0.3, operator=operator)
        for times in (1e-300, 1e300):
            assert shrink(norms * times, 3, 0.3, operator=operator) == pytest.approx(factors, abs=1e-12)
        wide = torch.tensor([1.0, 1e-150, 1e-300, 0.0], dtype=torch.float64)
        assert (shrink(wide, 2, 0.3, operator=operator) > 0).tolist() == [True, True, False, False]

    def test_single_precision(self, operator: Operator) -> None:
        norms = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
        exact = shrink(norms.double(), 3, 0.3, operator=operator)
        for dtype in (torch.float16, torch.float32):
            found = shrink(norms.to(dtype), 3, 0.3, operator=operator)
            assert found.dtype is torch.float64 and torch.equal(found, exact)

    @pytest.mark.parametrize(
        ("norms", "budget", "step", "expected"),
        [
            ([3.0, 1.0], 1, 0.0, [1.0, 1.0]),
            ([3.0, 0.0], 0, 0.0, [1.0, 1.0]),
            ([3.0, 1.0], 0, 0.5, [0.0, 0.0]),
            ([3.0, 1.0], -2, 0.5, [0.0, 0.0]),
            ([0.0, 0.0], 1, 0.5, [0.0, 0.0]),
            ([], 1, 0.5, []),
        ],
    )
    def test_edges(
        self, operator: Operator, norms: list[float], budget: float, step: float, expected: list[float]
    ) -> None:
        assert shrink(torch.tensor(norms), budget, step, operator=operator).tolist() == expected

    def test_one_group(self, operator: Operator) -> None:
        """u is the budget: 0.5 / (0.5 + 0.25), and 0.5 / (0.5 + 0.25 * 0.5)."""
        found = float(shrink(torch.tensor([7.0]), 0.5, 0.25, operator=operator))
        assert found == pytest.approx({"published": 2 / 3, "debiased": 0.8}[operator], rel=1e-15)

    def test_nothing_at_all(self, operator: Operator) -> None:
        assert shrink(torch.zeros(0, 3), 1, 0.5, operator=operator).shape == (0, 3)
        assert value(torch.zeros(2, 0), 1).tolist() == [0.0, 0.0]

    @pytest.mark.gpu
    def test_devices_agree(self, operator: Operator) -> None:
        norms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
        expected = shrink(norms, 5000, 0.3, operator=operator)
        found = shrink(norms.cuda(), 5000, 0.3, operator=operator)
        assert found.is_cuda and found.cpu() == pytest.approx(expected, abs=1e-12)
        rows = shrink(norms.cuda().view(-1, 4), 2, 0.3, operator=operator)
        assert rows.cpu() == pytest.approx(shrink(norms.view(-1, 4), 2, 0.3, operator=operator), abs=1e-12)


class TestRefusals:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
    def test_norms(self, bad: float) -> None:
        norms = torch.tensor([1.0, bad])
        for refuse in (lambda: value(norms, 1), lambda: conjugate(norms, 1), lambda: shrink(norms, 1, 0.1)):
            with pytest.raises(ValueError, match="norms of groups must be finite"):
                refuse()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
    @pytest.mark.parametrize("name", ["weights", "costs", "metric"])
    def test_factors(self, name: str, bad: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be finite and more than 0"):
            shrink(torch.ones(2), 1, 0.1, **{name: torch.tensor([1.0, bad])})

    @pytest.mark.parametrize("step", [math.nan, math.inf, -0.1])
    def test_steps(self, step: float) -> None:
        with pytest.raises(ValueError, match="step"):
            shrink(torch.ones(2), 1, step)

    def test_budget(self) -> None:
        with pytest.raises(ValueError, match="budget nan"):
            value(torch.ones(2), math.nan)

    def test_a_single_number(self) -> None:
        with pytest.raises(ValueError, match="dimension of groups"):
            value(torch.tensor(1.0), 1)
