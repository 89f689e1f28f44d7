from __future__ import annotations

from torch import Tensor, nn

from predictors.protocol import LatencyModel, Reading


def test_a_reading_is_a_latency_and_its_spread() -> None:
    reading = Reading(2.0, 0.5)
    assert (reading.ms, reading.iqr_ms) == (2.0, 0.5)


def test_a_function_of_network_and_inputs_is_a_latency_model() -> None:
    def constant(model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        return Reading(1.0, 0.0)

    model: LatencyModel = constant
    assert model(nn.Identity(), ()).ms == 1.0
