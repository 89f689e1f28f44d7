"""The methods by name, each with its settings, as one value that a strategy can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from nascli.strategies.gradient.bilevel.alternating import Alternating
from nascli.strategies.gradient.bilevel.bo_rep import BoRep
from nascli.strategies.gradient.bilevel.implicit import Implicit
from nascli.strategies.gradient.bilevel.lv_hba import LvHba
from nascli.strategies.gradient.bilevel.problem import Method, Optimisers, Problem, Solver
from nascli.strategies.gradient.bilevel.unrolled import Unrolled

Name = Literal["alternating", "unrolled", "implicit", "lv-hba", "bo-rep"]


@dataclass(frozen=True, kw_only=True)
class Bilevel:
    """How the two levels are solved: one method, and the settings of those that have any."""

    name: Name = "alternating"
    """Of the method: first order, one step ahead, by implicit gradient, by penalty, or by a running linear system."""
    implicit: Implicit = Implicit()
    lv_hba: LvHba = LvHba()
    bo_rep: BoRep = BoRep()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.name not in self._methods():
            raise ValueError(f"name={self.name!r} must be one of {', '.join(self._methods())}")

    @property
    def method(self) -> Method:
        """The method of that name."""
        return self._methods()[self.name]

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """See `Method.solver`."""
        return self.method.solver(problem, optimisers)

    def _methods(self) -> Mapping[str, Method]:
        return {
            "alternating": Alternating(),
            "unrolled": Unrolled(),
            "implicit": self.implicit,
            "lv-hba": self.lv_hba,
            "bo-rep": self.bo_rep,
        }
