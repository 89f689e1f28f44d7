from typing import Any

import pytest

from nascli import settings
from nascli.errors import SettingsError
from nascli.recipes.plain import Plain
from nascli.recipes.schedule import Recipe, Span

WHOLE = Span()


def test_epochs_steps_and_seconds_are_budgets() -> None:
    assert Plain(epochs=2).spent(5, 99.0, steps_an_epoch=10) == 0.25
    assert Plain(epochs=0.25).spent(3, 0.0, steps_an_epoch=10) == 1.0  # 2.5 steps are 3
    assert Plain(epochs=2, steps=5).spent(4, 99.0, steps_an_epoch=10) == 0.8
    assert Plain(epochs=2, time_limit_s=60.0).spent(10_000, 15.0, steps_an_epoch=10) == 0.25


def test_the_rate_rises_to_the_peak_and_falls_to_nothing() -> None:
    recipe = Plain(lr=2.0, ramp=0.2)
    assert recipe.rate(0.0, WHOLE) == pytest.approx(0.2)
    assert recipe.rate(0.1, WHOLE) == pytest.approx(1.1)
    assert recipe.rate(0.2, WHOLE) == pytest.approx(2.0)
    assert recipe.rate(0.6, WHOLE) == pytest.approx(1.0)
    assert recipe.rate(1.0, WHOLE) == recipe.rate(1.3, WHOLE) == pytest.approx(0.0)


def test_without_a_ramp_the_rate_begins_at_the_peak() -> None:
    assert Plain(lr=2.0, ramp=0.0).rate(0.0, WHOLE) == 2.0


def test_each_span_has_its_own_rise_and_fall() -> None:
    recipe, span = Plain(lr=2.0, ramp=0.2), Span(0.5, 1.0, scale=0.3)
    assert recipe.rate(0.5, span) == pytest.approx(0.06)
    assert recipe.rate(0.6, span) == pytest.approx(0.6)
    assert recipe.rate(1.0, span) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"steps": 5, "time_limit_s": 3.0}, "steps=5 and time_limit_s=3 exclude"),
        ({"epochs": 0}, "epochs=0.0 must be more than 0"),
        ({"steps": 0}, "steps=0 must"),
        ({"time_limit_s": -1}, "time_limit_s=-1.0"),
        ({"batch": 0}, "batch=0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"ramp": 1.0}, "ramp=1.0 must be at least 0 and less than 1"),
        ({"smoothing": -0.1}, "smoothing=-0.1"),
        ({"weight_decay": -1e-5}, "weight_decay=-1e-05"),
        ({"clip": 0}, "clip=0"),
        ({"report_steps": 0}, "report_steps=0"),
        ({"speed": 1}, "has no setting 'speed'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.build(Plain, values, where="recipe 'plain'")


def test_a_recipe_is_abstract() -> None:
    with pytest.raises(TypeError):
        Recipe()  # type: ignore[abstract]
