"""The arrays of NAS-Bench-201 and of the tables measured on the same 15,625 cells, as columns with goal and unit.

Costs without a data set in their name are those of the CIFAR-10 network. CIFAR-10's test accuracies come from training
on all training images, its validation accuracies from training on half of them (Dong & Yang 2020, arXiv:2001.00326).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from search_spaces.errors import SpaceError

Arrays = Mapping[str, np.ndarray]
Values = tuple[np.ndarray, Literal["min", "max"], str]

EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
"""From node to node, in the order of the code's columns."""

_BY_COST = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")

_ACCURACIES = {
    "test_acc_200ep": "test",
    "val_acc_200ep_seeds": "valid",
    "test_acc_12ep": "test_12ep",
    "val_acc_12ep": "valid_12ep",
}
_COSTS = {
    "params_M": ("params", "parameters", 1e6),
    "mflops": ("mflops", "MFLOPs", 1.0),
    "latency_s": ("latency_ms", "ms", 1e3),
    "train_time_s": ("train_s", "s", 1.0),
}
_SUFFIXES = {"_latency": ("_latency_ms", "ms"), "_energy": ("_energy_mj", "mJ")}


def architectures(arrays: Arrays, path: Path) -> tuple[list[str], list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The names of the choices, their options in ascending cost, and the options of each row. Raises SpaceError."""
    code, ops = arrays["code"], [str(o) for o in arrays["ops"]]
    if code.ndim != 2 or code.shape[1] != len(EDGES) or code.dtype.kind not in "iu":
        raise SpaceError(
            f"{path}: 'code' should hold {len(EDGES)} whole numbers a row, but is {code.dtype} {code.shape}."
        )
    if not code.size or code.min() < 0 or code.max() >= len(ops):
        raise SpaceError(
            f"{path}: 'code' should index the {len(ops)} entries of 'ops', but goes beyond them or is empty."
        )
    ordered = tuple(sorted(ops, key=lambda o: _BY_COST.index(o) if o in _BY_COST else len(_BY_COST)))
    rows = [tuple(ops[i] for i in row) for row in code.tolist()]
    if len(set(rows)) != len(rows):
        raise SpaceError(f"{path}: 'code' names {len(rows) - len(set(rows))} architectures twice.")
    return [f"edge.{e}" for e in EDGES], [ordered] * len(EDGES), rows


def columns(arrays: Arrays) -> dict[str, Values]:
    """Column name -> values [architectures], goal and unit."""
    found: dict[str, Values] = {}
    for d, dataset in enumerate(_datasets(arrays)):
        for array, name in _ACCURACIES.items():
            if array in arrays:
                found[f"{dataset}_{name}"] = (_mean_over_seeds(arrays[array][:, d]), "max", "%")
        for array, (name, unit, scale) in _COSTS.items():
            if array in arrays:
                # The file's float32 holds counts to six digits; as float64 they would not be whole.
                values = arrays[array][:, d].astype(np.float64) * scale
                found[_cost(dataset, name)] = (np.rint(values) if array == "params_M" else values, "min", unit)
    return found


def further_columns(arrays: Arrays, rows: int) -> dict[str, Values]:
    """Those of HW-NAS-Bench, of a plain "columns" and "values" file, or of NAS-Bench-Suite-Zero's proxies."""
    if {"metrics", "datasets", "values"} <= arrays.keys():
        return _hardware(arrays)
    if {"columns", "values"} <= arrays.keys():
        named = zip(map(str, arrays["columns"]), arrays["values"].T.astype(np.float64), strict=True)
        return {n: (v, "max", "%") if n.endswith("accuracy") else (v, "min", "") for n, v in named}
    if {"row", "proxies"} <= arrays.keys():
        return _proxies(arrays, rows)
    return {}


def _hardware(arrays: Arrays) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for d, dataset in enumerate(_datasets(arrays)):
        for m, metric in enumerate(map(str, arrays["metrics"])):
            values = arrays["values"][d, :, m].astype(np.float64)
            values[values < 0] = np.nan  # -1: the device could not run it
            suffix = next((s for s in _SUFFIXES if metric.endswith(s)), "")
            if suffix:
                ending, unit = _SUFFIXES[suffix]
                found[_cost(dataset, metric.removesuffix(suffix) + ending)] = (values, "min", unit)
            else:
                found[_cost(dataset, metric)] = (values, "max", "operations/byte")
    return found


def _proxies(arrays: Arrays, rows: int) -> dict[str, Values]:
    """The proxies were computed of some architectures only; -1e8 marks those on which one failed."""
    found: dict[str, Values] = {}
    for dataset, row, names in (("cifar10", "row", "proxies"), ("ImageNet16-120", "row_in16", "proxies_in16")):
        if {dataset, row, names} <= arrays.keys():
            for name, scores in zip(map(str, arrays[names]), arrays[dataset].T, strict=True):
                values = np.full(rows, np.nan)
                values[arrays[row]] = np.where(scores <= -1e8, np.nan, scores)
                found[_cost(_short(dataset), name)] = (values, "max", "score")
    return found


def _datasets(arrays: Arrays) -> list[str]:
    return [_short(str(d)) for d in arrays.get("datasets", np.array(["cifar10"]))]


def _short(dataset: str) -> str:
    return dataset.lower().removesuffix("-120")


def _cost(dataset: str, name: str) -> str:
    return name if dataset == "cifar10" else f"{dataset}_{name}"


def _mean_over_seeds(values: np.ndarray) -> np.ndarray:
    """The mean of what was measured [architectures], of [architectures] or [architectures, seeds]; NaN is padding."""
    runs = values.reshape(len(values), -1).astype(np.float64)
    known = ~np.isnan(runs)
    total = np.where(known, runs, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
