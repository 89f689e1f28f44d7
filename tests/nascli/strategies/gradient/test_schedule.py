from __future__ import annotations

import math

import pytest

from nascli.strategies.gradient.schedule import Stage, cosine


def test_a_stage_knows_how_much_of_the_search_is_spent() -> None:
    stage = Stage(5, first=10, total=20)
    assert [stage.spent(done) for done in (0, 2.5, 5)] == [0.5, 0.625, 0.75]
    assert Stage(5, first=18, total=20).spent(5) == 1.0
    # Schedules have come to their end in a stage of tuning.
    assert Stage(5, first=10).spent(0) == 1.0


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    rates = [cosine(k / 4, highest=0.9, lowest=0.1) for k in range(5)]
    middle = 0.1 + 0.8 * 0.5 * (1 + math.sqrt(0.5))
    assert rates == pytest.approx([0.9, middle, 0.5, 1.0 - middle, 0.1])
