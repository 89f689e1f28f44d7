from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search_spaces import nasbench201
from search_spaces.errors import SpaceError

OPS = np.array(["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"])
HERE = Path("cells.npz")


def test_rows_keep_their_place_and_options_go_by_cost() -> None:
    code = np.array([[0, 1, 2, 3, 4, 0], [3, 3, 3, 3, 3, 3]], dtype=np.uint8)
    names, options, rows = nasbench201.architectures({"code": code, "ops": OPS}, HERE)
    assert names == ["edge.0-1", "edge.0-2", "edge.1-2", "edge.0-3", "edge.1-3", "edge.2-3"]
    assert options == [("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")] * 6
    assert rows[0] == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (np.zeros((4, 5), np.uint8), "should hold 6 whole numbers"),
        (np.zeros((4, 6)), "should hold 6 whole numbers"),
        (np.full((1, 6), 5, np.uint8), "goes beyond them"),
        (np.zeros((0, 6), np.uint8), "or is empty"),
        (np.zeros((3, 6), np.uint8), "names 2 architectures twice"),
    ],
)
def test_a_code_that_names_no_cells_is_refused(code: np.ndarray, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        nasbench201.architectures({"code": code, "ops": OPS}, HERE)


def test_columns_have_names_goals_units_and_means_over_seeds() -> None:
    seeds = np.array([[[80.0, 82.0, np.nan], [50.0, np.nan, np.nan]]], np.float32)
    arrays = {
        "datasets": np.array(["cifar10", "ImageNet16-120"]),
        "val_acc_200ep_seeds": seeds,
        "params_M": np.array([[0.129306, 0.136456]], np.float32),
        "latency_s": np.array([[0.014, 0.013]], np.float32),
    }
    found = nasbench201.columns(arrays)
    assert {n: (g, u) for n, (_, g, u) in found.items()} == {
        "cifar10_valid": ("max", "%"),
        "params": ("min", "parameters"),
        "latency_ms": ("min", "ms"),
        "imagenet16_valid": ("max", "%"),
        "imagenet16_params": ("min", "parameters"),
        "imagenet16_latency_ms": ("min", "ms"),
    }
    assert found["cifar10_valid"][0].tolist() == [81.0]
    assert found["imagenet16_valid"][0].tolist() == [50.0]
    assert found["params"][0].tolist() == [129306.0]
    assert found["latency_ms"][0] == pytest.approx([14.0])


def test_hardware_columns_and_what_could_not_run() -> None:
    arrays = {
        "datasets": np.array(["cifar10"]),
        "metrics": np.array(["edgetpu_latency", "eyeriss_energy", "eyeriss_arithmetic_intensity"]),
        "values": np.array([[[0.5, 2.0, 14.0], [-1.0, 3.0, 15.0]]], np.float32),
    }
    found = nasbench201.further_columns(arrays, 2)
    assert {n: (g, u) for n, (_, g, u) in found.items()} == {
        "edgetpu_latency_ms": ("min", "ms"),
        "eyeriss_energy_mj": ("min", "mJ"),
        "eyeriss_arithmetic_intensity": ("max", "operations/byte"),
    }
    assert found["edgetpu_latency_ms"][0][0] == 0.5
    assert np.isnan(found["edgetpu_latency_ms"][0][1])


def test_proxies_fill_their_rows_and_failures_stay_empty() -> None:
    arrays = {
        "row": np.array([2, 0]),
        "proxies": np.array(["nwot", "zen"]),
        "cifar10": np.array([[7.0, -1e8], [8.0, 9.0]]),
    }
    found = nasbench201.further_columns(arrays, 3)
    np.testing.assert_array_equal(found["nwot"][0], [8.0, np.nan, 7.0])
    np.testing.assert_array_equal(found["zen"][0], [9.0, np.nan, np.nan])


def test_plain_columns_and_nothing() -> None:
    arrays = {"columns": np.array(["qat_accuracy", "bits"]), "values": np.array([[90.0, 4.0]])}
    found = nasbench201.further_columns(arrays, 1)
    assert {n: g for n, (_, g, _) in found.items()} == {"qat_accuracy": "max", "bits": "min"}
    assert nasbench201.further_columns({"x": np.zeros(1)}, 1) == {}
