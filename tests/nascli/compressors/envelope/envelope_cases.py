"""Random problems for the envelope: norms with ties and zeros, factors or none, budgets that bind and that do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

quick = settings(max_examples=30, deadline=None, derandomize=True, database=None)
few = settings(max_examples=15, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Case:
    """One call: norms [groups], budget, step and factors."""

    norms: Tensor
    budget: float
    step: float
    weights: Tensor | None
    costs: Tensor | None
    metric: Tensor | None

    @property
    def priced(self) -> dict[str, Any]:
        """What the envelope depends on beside the norms."""
        return {"weights": self.weights, "costs": self.costs}

    @property
    def all(self) -> dict[str, Any]:
        return self.priced | {"metric": self.metric}

    def factor(self, name: str) -> Tensor:
        given: Tensor | None = getattr(self, name)
        return torch.ones_like(self.norms) if given is None else given

    @property
    def offset(self) -> Tensor:
        return self.step * self.factor("weights") / self.factor("metric")

    def debiased(self, x: np.ndarray) -> float:
        """What the debiased prox of this step minimises."""
        weights, metric = self.factor("weights").numpy(), self.factor("metric").numpy()
        above = textbook(x, self.budget, weights, self.factor("costs").numpy()) - (weights * x**2).sum() / 2
        return float(self.step * above + (metric * (x - self.norms.numpy()) ** 2).sum() / 2)


def textbook(norms: np.ndarray, budget: float, weights: np.ndarray, costs: np.ndarray) -> float:
    """The envelope by the formula of the k-support norm: the greatest count in full, the others by the square of their
    sum, and how many of them count in full is tried one after another."""
    a = np.sqrt(weights) * np.abs(norms)
    order = np.argsort(-a / np.sqrt(costs))
    a, c = a[order], costs[order]
    if c[a > 0].sum() <= budget:
        return float((a**2).sum() / 2)
    for i in range(len(a)):
        left, tail = budget - c[:i].sum(), (np.sqrt(c) * a)[i:].sum()
        if left > 0 and left * a[i] / np.sqrt(c[i]) <= tail * (1 + 1e-12):
            return float(((a[:i] ** 2).sum() + tail**2 / left) / 2)
    raise AssertionError("no number of groups in full fits")


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers that are spread evenly over the orders of magnitude."""
    return st.floats(0, 1).map(lambda s: low * (high / low) ** s)


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    most: int = 12,
    norms: st.SearchStrategy[float] = st.one_of(numbers(1e-2, 1e2), st.sampled_from([0.0, 1.0, 2.0])),  # noqa: B008
    steps: st.SearchStrategy[float] = numbers(1e-3, 30),  # noqa: B008
    factors: st.SearchStrategy[float] = numbers(0.1, 10),  # noqa: B008
    whole: bool = False,
) -> Case:
    """A problem of up to `most` groups; `whole` ones have costs of 1 and a whole budget."""
    count = draw(st.integers(1, most))

    def vector(numbers: st.SearchStrategy[float]) -> Tensor:
        return torch.tensor(draw(st.lists(numbers, min_size=count, max_size=count)), dtype=torch.float64)

    weights, costs, metric = (vector(factors) if draw(st.booleans()) else None for _ in range(3))
    if whole:
        costs, budget = None, float(draw(st.integers(1, count)))
    else:
        price = float(count if costs is None else costs.sum())
        budget = price * draw(st.one_of(st.floats(0.01, 1.2), st.sampled_from([0.5, 1.0])))
    return Case(vector(norms), budget, draw(steps), weights, costs, metric)
