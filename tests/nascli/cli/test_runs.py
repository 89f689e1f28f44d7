from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.files import Lock
from nascli.engine.runs import Run
from tests.toy_runs import NUMBERS

Nascli = Callable[..., Any]


def changed(run: Path, to: Path, **header: object) -> Path:
    """A copy of a run with other facts in run.json."""
    shutil.copytree(run, to)
    (to / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | header))
    return to


def test_ls_lists_runs_by_age(nascli: Nascli, numbers: Path, searched: Path) -> None:
    changed(numbers, Path("runs/b"), created="2026-01-01T00:00:00+00:00")
    changed(searched, Path("runs/a"), created="2026-02-01T00:00:00+00:00")
    Path("runs/not-a-run").mkdir()
    answer = json.loads(nascli("runs", "ls", "--json").out)["data"]
    assert [(f["run"], f["command"], f["status"], f["space"], f["trials"]) for f in answer] == [
        ("runs/b", "search", "finished", "toy", 12),
        ("runs/a", "search", "finished", "resnet", 6),
    ]
    lines = nascli("runs", "ls", "--root", "runs").out.splitlines()
    assert lines[0].startswith("run\tcommand\tstatus") and lines[2].startswith("runs/a\tsearch\tfinished")


def test_ls_of_nothing_says_how_to_make_something(nascli: Nascli) -> None:
    left = nascli("runs", "ls")
    assert (left.code, left.out) == (0, "") and "make one with nascli train or nascli search" in left.err
    assert json.loads(nascli("runs", "ls", "--json").out)["data"] == []


def test_a_run_that_can_not_be_read_hides_no_other(nascli: Nascli, numbers: Path) -> None:
    changed(numbers, Path("runs/a"))
    changed(numbers, Path("runs/b"), schema=99)
    Path("runs/c").mkdir()
    Path("runs/c/run.json").write_text("{torn")
    left = nascli("runs", "ls", "--json")
    answer = json.loads(left.out)
    assert left.code == 0 and [f["run"] for f in answer["data"]] == ["runs/a"]
    assert len(answer["warnings"]) == 2 and "runs/b was written by nascli" in left.err


def test_a_run_that_died_is_told_from_one_that_runs(nascli: Nascli, numbers: Path) -> None:
    run = changed(numbers, Path("runs/a"), status="running")
    assert json.loads(nascli("runs", "show", run, "--json").out)["data"]["status"] == "dead"
    lock = Lock(run)
    try:
        assert json.loads(nascli("runs", "ls", "--json").out)["data"][0]["status"] == "running"
    finally:
        lock.release()


def test_show_tells_how_a_run_stands(nascli: Nascli, numbers: Path) -> None:
    answer = json.loads(nascli("runs", "show", numbers, "--json").out)["data"]
    assert answer["status"] == "finished" and answer["trials"] == 12 and answer["seed"] == 0
    assert answer["front"] == Run.open(numbers).front
    lines = nascli("runs", "show", numbers).out.splitlines()
    assert "status: finished" in lines and "n\terror (%)\tsize (units)\tnetwork" in lines


def test_show_counts_failures(nascli: Nascli) -> None:
    left = nascli("search", *NUMBERS[:2], "-O", "tests.toys:ERROR", "-O", "tests.toys:SIZE<=0", "-n", 5, "--out", "a")
    assert left.code == 6
    last = nascli("runs", "show", "a").out.splitlines()[-1]
    assert last.startswith("5 trials without costs, the last: size=") and "breaks the limit" in last


def test_diff_of_settings_and_results(nascli: Nascli, numbers: Path) -> None:
    assert nascli("search", *NUMBERS, "-n", 3, "--seed", 5, "--out", "other").code == 0
    lines = nascli("runs", "diff", numbers, "other").out.splitlines()
    assert {"seed: 0 -> 5", "budget.evaluations: 12 -> 3", "trials: 12 -> 3"} <= set(lines)
    answer = json.loads(nascli("runs", "diff", numbers, "other", "--json").out)["data"]
    assert answer["settings"] + answer["results"] == lines
    assert nascli("runs", "diff", numbers, numbers).out == "The two runs have the same settings and results.\n"


def test_hypervolumes_are_compared_against_one_reference_point(nascli: Nascli, tmp_path: Path) -> None:
    """Hand-worked: fronts {(1, 4), (2, 2)} and {(1, 3)}; worst (2, 4) plus a tenth of the ranges: (2.1, 4.2)."""
    for name, points in {"a": [(1, 4), (2, 2)], "b": [(1, 3)]}.items():
        assert nascli("search", *NUMBERS, "-n", 2, "--out", name).code == 0
        front = Run.open(Path(name)).front
        front["members"] = [{"n": n, "values": {"error": x, "size": y}} for n, (x, y) in enumerate(points)]
        Path(name, "front.json").write_text(json.dumps(front))
    results = json.loads(nascli("runs", "diff", "a", "b", "--json").out)["data"]["results"]
    (line,) = [r for r in results if r.startswith("hypervolume")]
    a, b = (float(v) for v in line.removeprefix("hypervolume: ").split(" -> "))
    assert a == pytest.approx(1.1 * 0.2 + 0.1 * 2.0) and b == pytest.approx(1.1 * 1.2)


def test_runs_of_other_objectives_have_no_common_hypervolume(nascli: Nascli, numbers: Path, searched: Path) -> None:
    results = json.loads(nascli("runs", "diff", numbers, searched, "--json").out)["data"]["results"]
    assert not any("hypervolume" in line for line in results) and "trials: 12 -> 6" in results


def test_a_run_without_a_front_is_compared_by_settings(nascli: Nascli, numbers: Path) -> None:
    run = changed(numbers, Path("a"))
    (run / "front.json").unlink()
    results = json.loads(nascli("runs", "diff", numbers, run, "--json").out)["data"]["results"]
    assert "trials: 12 -> None" in results
