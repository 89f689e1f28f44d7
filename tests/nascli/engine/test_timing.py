import pytest
import torch
from torch import Tensor, nn

from nascli.engine.timing import side_by_side
from nascli.errors import UnsupportedError
from predictors.latency import Reading


class Tired:
    """A stop-watch on a machine that gets slower with every reading."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        width = model.get_parameter("weight").shape[0]
        self.asked.append(width)
        return Reading(width * (1 + len(self.asked)), float(len(self.asked)))


def test_networks_take_turns_and_the_middle_reading_counts() -> None:
    clock = Tired()
    models = [nn.Linear(2, 3), nn.Linear(2, 5)]
    first, second = side_by_side(models, (torch.zeros(1, 2),), clock, rounds=3)
    assert clock.asked == [3, 5, 5, 3, 3, 5]
    # Readings 1, 4, 5 of the one and 2, 3, 6 of the other.
    assert (first.ms, first.iqr_ms) == (3 * 5, 4.0)
    assert (second.ms, second.iqr_ms) == (5 * 4, 3.0)


def test_a_latency_model_is_needed() -> None:
    with pytest.raises(UnsupportedError, match="--latency"):
        side_by_side([], (), None)
