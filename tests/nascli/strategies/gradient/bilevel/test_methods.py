import tomllib
from dataclasses import dataclass
from typing import get_args

import pytest
import torch

from nascli import settings
from nascli.errors import SettingsError
from nascli.strategies.gradient.bilevel.bo_rep import BoRep
from nascli.strategies.gradient.bilevel.implicit import Implicit
from nascli.strategies.gradient.bilevel.lv_hba import LvHba
from nascli.strategies.gradient.bilevel.methods import Bilevel, Name
from nascli.strategies.gradient.bilevel.problem import Optimisers, Pace
from tests.toy_bilevel import Quadratic

NAMES = get_args(Name)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Stands for a strategy."""

    bilevel: Bilevel = Bilevel()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_method_that_moves_both_levels(name: Name) -> None:
    problem = Quadratic()
    x, y = problem.x(), problem.y()
    solver = Bilevel(name=name, bo_rep=BoRep(refinement=0)).solver(problem, Optimisers())
    for _ in range(2):
        told = solver.step(Pace(lr=0.01, spent=0.0))
    assert not torch.equal(problem.x(), x) and not torch.equal(problem.y(), y)
    assert told.upper is not None and not told.upper.requires_grad and told.lower.shape == told.upper.shape == ()


def test_names_are_not_mixed_up() -> None:
    kinds = [type(Bilevel(name=name).method).__name__ for name in NAMES]
    assert kinds == ["Alternating", "Unrolled", "Implicit", "LvHba", "BoRep"]
    chosen = Bilevel(name="implicit", implicit=Implicit(terms=5))
    assert chosen.method == Implicit(terms=5)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_toml(name: Name) -> None:
    holder = Holder(bilevel=Bilevel(name=name, lv_hba=LvHba(gamma=3.0), bo_rep=BoRep(interval=4, radius=float("inf"))))
    values = tomllib.loads(settings.to_toml(settings.plain(holder)))
    assert settings.build(Holder, values, where="holder") == holder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "newton"}, "name"),
        ({"implicit": {"term": 3}}, "term"),
        ({"lv_hba": {"power": 0.7}}, "power=0.7"),
        ({"bo_rep": {"rounds": "often"}}, "rounds"),
        ({"lvhba": {}}, "lvhba"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.build(Holder, {"bilevel": values}, where="holder")


def test_a_wrong_name_is_refused_in_code_too() -> None:
    with pytest.raises(ValueError, match="'newton' must be one of alternating"):
        Bilevel(name="newton")  # type: ignore[arg-type]
