from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.latency import LatencyModel, Measured, Reading, Roofline, Table, fingerprint, write_table

QUICK = Measured(warmup=1, repeats=10, min_ms=5)


def chain(layers: int, width: int = 64) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))


def test_fifty_times_the_work_takes_longer() -> None:
    inputs = (torch.ones(1, 64),)
    small, large = QUICK(chain(2), inputs), QUICK(chain(100), inputs)
    assert large.ms > 5 * small.ms > 0
    assert small.iqr_ms >= 0


def test_the_result_is_the_median_and_the_interquartile_range() -> None:
    times = iter([4.0, 1.0, 2.0, 100.0, 3.0])
    found = Measured(repeats=5, min_ms=1)._times(lambda: None, lambda run: next(times))
    low, median, high = np.percentile(found, (25, 50, 75))
    assert (median, high - low) == (3.0, 2.0)


def test_it_goes_on_until_the_least_time_and_stops_at_the_most() -> None:
    def times(passes_ms: float) -> int:
        return len(Measured(repeats=10, min_ms=50, max_ms=200)._times(lambda: None, lambda run: passes_ms))

    assert (times(0.5), times(8.0), times(40.0), times(1000.0)) == (100, 10, 5, 3)


def test_threads_mode_and_garbage_collection_are_put_back() -> None:
    before = torch.get_num_threads()
    seen: list[tuple[int, bool, bool, bool]] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch.get_num_threads(), self.training, torch.is_inference_mode_enabled(), gc.isenabled()))
            return x

    model = Spy().train()
    Measured(threads=before + 1, warmup=1, repeats=3, min_ms=0.001)(model, (torch.ones(1),))
    assert set(seen) == {(before + 1, False, True, False)}
    assert (torch.get_num_threads(), model.training, gc.isenabled()) == (before, True, True)


def test_everything_is_put_back_after_an_error_too() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ScoreError, match="fails on inputs of shape 1x3"):
        Measured(threads=before + 1)(nn.Linear(2, 2), (torch.ones(1, 3),))
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_the_network_is_not_changed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = copy.deepcopy(model.state_dict())
    QUICK(model, (torch.randn(1, 1, 8, 8),))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_batch_is_copies_of_the_example() -> None:
    shapes: list[torch.Size] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(x.shape)
            return x

    Measured(warmup=1, repeats=3, min_ms=0.001, batch=4)(Spy(), (torch.ones(1, 3),))
    assert set(shapes) == {torch.Size((4, 3))}
    with pytest.raises(ScoreError, match="copies of one example, but the input is 2x3"):
        Measured(batch=4)(Spy(), (torch.ones(2, 3),))


@pytest.mark.parametrize("settings", [{"threads": 0}, {"repeats": 0}, {"batch": 0}, {"min_ms": 0}, {"max_ms": 1}])
def test_settings_that_time_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Measured(**settings)  # type: ignore[arg-type]


def test_the_roofline_by_hand() -> None:
    model, inputs = nn.Linear(100, 50, bias=False), (torch.ones(10, 100),)
    moved = 4 * (10 * 100 + 100 * 50 + 10 * 50)
    assert Roofline(gflops=1e9, gbytes_per_s=1)(model, inputs).ms == pytest.approx(moved / 1e6)
    assert Roofline(gflops=1, gbytes_per_s=1e9)(model, inputs).ms == pytest.approx(2 * 10 * 100 * 50 / 1e6)
    assert Roofline(gflops=1e9, gbytes_per_s=1e9, overhead_us=7)(model, inputs) == Reading(pytest.approx(0.007), 0.0)


def test_a_roofline_without_a_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Roofline(gflops=0, gbytes_per_s=1)


def test_latency_models_travel_to_workers(tmp_path: Path) -> None:
    write_table(tmp_path / "t.json", [], machine={})
    models: list[LatencyModel] = [Measured(), Roofline(1, 1), Table(str(tmp_path / "t.json"))]
    for model in models:
        assert pickle.loads(pickle.dumps(model)) == model


def test_the_fingerprint_is_json_and_names_the_machine() -> None:
    found = fingerprint("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["cores"] == os.cpu_count()
    assert found["threads"] == torch.get_num_threads()
    assert found["python"] == platform.python_version()
    assert found["cpu"]
    assert "accelerator" not in found


@pytest.mark.gpu
def test_on_cuda_the_time_is_that_of_the_device() -> None:
    inputs = (torch.ones(64, 2048, device="cuda"),)
    small, large = QUICK(chain(1, 2048).cuda(), inputs), QUICK(chain(50, 2048).cuda(), inputs)
    assert large.ms > 5 * small.ms > 0
    assert fingerprint("cuda")["accelerator"]
