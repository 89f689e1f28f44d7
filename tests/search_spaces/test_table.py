from __future__ import annotations

import itertools
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import SpaceError
from search_spaces.table import TableSpace
from search_spaces.tabulated import Tabulated


@pytest.fixture
def space(tmp_path: Path) -> TableSpace:
    """64 cells of two operations; the test accuracy counts the convolutions."""
    path = tmp_path / "cells.npz"
    code = np.array(list(itertools.product((0, 1), repeat=6)), np.uint8)[::-1]
    accuracy = code.sum(1, keepdims=True).astype(np.float32)
    accuracy[-1] = np.nan
    np.savez(path, ops=np.array(["none", "nor_conv_3x3"]), code=code, datasets=["cifar10"], test_acc_200ep=accuracy)
    return TableSpace(str(path), name="cells")


def test_every_architecture_is_found_by_its_string(space: TableSpace) -> None:
    arch = space.table.parse("cells:none,nor_conv_3x3,none,nor_conv_3x3,nor_conv_3x3,none")
    assert space.look_up(arch, "cifar10_test") == 3.0
    assert [space.look_up(a, "cifar10_test") for a in itertools.islice(space.table.members(), 1, None)] == [
        a.options.count("nor_conv_3x3") for a in itertools.islice(space.table.members(), 1, None)
    ]


def test_columns_and_signature(space: TableSpace) -> None:
    assert isinstance(space, Tabulated)
    assert space.columns == {"cifar10_test": ("max", "%")}
    assert (space.signature.kind, space.signature.shape) == ("table", (6,))
    assert space.table.name == "cells"
    assert space.table.size == 64


def test_what_was_not_measured_and_what_is_not_there(space: TableSpace) -> None:
    with pytest.raises(SpaceError, match=r"cifar10_test of cells:none,.* was not measured"):
        space.look_up(space.table.smallest, "cifar10_test")
    with pytest.raises(SpaceError, match="has no column 'accuracy'; there are cifar10_test"):
        space.look_up(space.table.largest, "accuracy")


def test_an_incomplete_table_says_which_architecture_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("choice.a,choice.b,ms\n1,1,5\n2,2,6\n")
    space = TableSpace(str(path))
    assert space.look_up(space.table.parse("table:2,2"), "ms") == 6.0
    with pytest.raises(SpaceError, match="ms of table:1,2 was not measured"):
        space.look_up(space.table.parse("table:1,2"), "ms")


def test_it_has_no_networks_and_says_what_it_has(space: TableSpace) -> None:
    with pytest.raises(SpaceError, match="no networks, only numbers; search it with the objectives cifar10_test"):
        space.build(space.table.largest)
    with pytest.raises(SpaceError, match="no supernet"):
        space.supernet()
    with pytest.raises(SpaceError, match="no weights"):
        space.inherit(None, space.table.largest)  # type: ignore[arg-type]


def test_a_used_space_travels_as_a_few_strings(space: TableSpace) -> None:
    space.look_up(space.table.largest, "cifar10_test")
    travelled = pickle.dumps(space)
    assert len(travelled) < 500
    assert pickle.loads(travelled) == space


def test_a_missing_file_is_refused_when_the_space_is_made(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="There is no table"):
        TableSpace(str(tmp_path / "none.npz"))


def test_choices_of_an_npz_are_refused(space: TableSpace) -> None:
    with pytest.raises(SpaceError, match="name columns of a CSV"):
        _ = TableSpace(space.path, choices=("edge.0-1",)).table


@pytest.mark.data
def test_nas_bench_201_as_published() -> None:
    space = TableSpace("nasbench201.npz", also=("hwnasbench_nb201.npz",), name="nb201")
    assert space.table.size == 15_625
    members = list(space.table.members())
    start = time.perf_counter()
    accuracies = [space.look_up(a, "cifar10_test") for a in members]
    assert (time.perf_counter() - start) / len(members) < 100e-6
    assert max(accuracies) == pytest.approx(94.37, abs=0.005)
    assert max(space.look_up(a, "cifar100_test") for a in members) == pytest.approx(73.51, abs=0.005)
    assert max(space.look_up(a, "imagenet16_test") for a in members) == pytest.approx(47.31, abs=0.005)


@pytest.mark.data
def test_hardware_rows_belong_to_the_same_architectures() -> None:
    space = TableSpace("nasbench201.npz", also=("hwnasbench_nb201.npz",), name="nb201")
    # architecture 0 of the benchmark is the example in HW-NAS-Bench's description
    arch = space.table.parse("nb201:avg_pool_3x3,nor_conv_1x1,skip_connect,nor_conv_1x1,skip_connect,skip_connect")
    assert space.look_up(arch, "edgegpu_latency_ms") == pytest.approx(5.807418537139893)
    assert space.look_up(arch, "eyeriss_latency_ms") == pytest.approx(3.64562)
    assert space.look_up(arch, "params") == 129_306
    assert space.columns["edgegpu_energy_mj"] == ("min", "mJ")


@pytest.mark.data
def test_quantised_accuracies_and_proxies_join_too() -> None:
    space = TableSpace(
        "nasbench201.npz", also=("nb201_quantized_cifar10.npz", "nasbench201_zero_cost_proxies.npz"), name="nb201"
    )
    scored = [a for a in itertools.islice(space.table.members(), 4000, 6000) if _measured(space, a, "nwot")]
    assert 0 < len(scored) < 2000
    accuracy, retrained, nwot = (
        np.array([space.look_up(a, column) for a in scored]) for column in ("cifar10_test", "baseline_accuracy", "nwot")
    )
    assert np.corrcoef(accuracy, retrained)[0, 1] > 0.99
    assert np.corrcoef(np.argsort(np.argsort(accuracy)), np.argsort(np.argsort(nwot)))[0, 1] > 0.6


@pytest.mark.data
def test_a_real_csv_with_unmeasured_architectures() -> None:
    choices = tuple(f"block{b}_{c}" for b in range(7) for c in ("e", "k", "l", "se"))
    space = TableSpace(
        "accel_nasbench_mnasnet_imagenet.csv.gz", choices=choices, maximise=("val_top1",), name="mnasnet"
    )
    arch = space.table.parse("mnasnet:6,3,1,0,1,5,3,0,6,3,2,0,6,3,1,0,4,3,2,0,6,5,1,0,4,5,2,0")
    assert space.look_up(arch, "val_top1") == pytest.approx((61.092 + 61.106) / 2)  # measured twice
    assert space.columns["val_top1"][0] == "max"
    with pytest.raises(SpaceError, match="was not measured"):
        space.look_up(space.table.smallest, "val_top1")


def _measured(space: TableSpace, arch: object, column: str) -> bool:
    try:
        space.look_up(arch, column)  # type: ignore[arg-type]
    except SpaceError:
        return False
    return True
