from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.engine.runs import Run
from tests.toy_runs import IMAGES, NUMBERS, SHORT

Nascli = Callable[..., Any]


def rows(run: Path) -> list[dict[str, Any]]:
    """The journal without what the clock wrote."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in Run.open(run).rows]


@pytest.fixture
def copied(numbers: Path, tmp_path: Path) -> Path:
    shutil.copytree(numbers, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_prints_its_result_again(nascli: Nascli, copied: Path) -> None:
    before = (copied / "trials.jsonl").read_bytes()
    left = nascli("resume", copied)
    assert left.code == 0 and (copied / "trials.jsonl").read_bytes() == before
    assert left.out == nascli("search", *NUMBERS, "-n", 12, "--out", copied).out


def test_a_larger_budget_goes_on_as_if_it_had_been_given_at_once(nascli: Nascli, copied: Path, tmp_path: Path) -> None:
    left = nascli("resume", copied, "--evaluations", 30, "--json")
    assert left.code == 0 and json.loads(left.out)["data"]["front"]["trials"] == 30
    assert nascli("search", *NUMBERS, "-n", 30, "--out", tmp_path / "at-once").code == 0
    assert rows(copied) == rows(tmp_path / "at-once")
    front, at_once = Run.open(copied).front, Run.open(tmp_path / "at-once").front
    assert front == at_once


def test_a_training_given_more_epochs_measures_its_networks_anew(nascli: Nascli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert nascli("train", *IMAGES, *SHORT, "--out", run).code == 0
    assert nascli("resume", run, "--epochs", 4).code == 0
    assert [row["tag"] for row in Run.open(run).rows] == ["step8", "step8", "step16", "step16"]
    largest = Run.open(run).rows[0]["arch"]
    losses = [json.loads(line)["values"]["test_loss"] for line in (run / "finals.jsonl").read_text().splitlines()]
    assert {row["arch"] for row in Run.open(run).rows} > {largest} and len(set(losses)) == len(losses)
    state = torch.load(run / "state.pt", weights_only=True)["state"]["model"]
    stored = load_file(run / "supernet.safetensors")
    assert all(torch.equal(stored[name], state[name]) for name in state)


def test_a_training_goes_on_by_the_clock(nascli: Nascli, supernet: Path, tmp_path: Path) -> None:
    shutil.copytree(supernet, run := tmp_path / "run")
    assert nascli("resume", run, "--time-limit", "0.5s").code == 0
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert steps[-1]["seconds"] >= 0.5 and steps[-1]["progress"] == 1.0


def test_each_command_has_its_own_budgets(nascli: Nascli, numbers: Path, supernet: Path) -> None:
    left = nascli("resume", numbers, "--epochs", 5)
    assert left.code == 2 and "--epochs is no budget of nascli search; give --evaluations or --time-limit." in left.err
    left = nascli("resume", supernet, "-n", 5)
    assert left.code == 2 and "--evaluations is no budget of nascli train; give --epochs or --time-limit." in left.err


def test_workers_are_for_networks_that_are_measured(nascli: Nascli, supernet: Path) -> None:
    left = nascli("resume", supernet, "--workers", 2)
    assert left.code == 2 and "--workers measures networks side by side, but nascli train has one in hand." in left.err


def test_only_runs_are_resumed(nascli: Nascli, tmp_path: Path) -> None:
    left = nascli("resume", tmp_path)
    assert left.code == 4 and f"{tmp_path} is no run directory" in left.err


def test_a_run_of_a_command_from_the_future(nascli: Nascli, copied: Path) -> None:
    header = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(header | {"command": "distil"}))
    left = nascli("resume", copied)
    assert left.code == 4 and "is a run of nascli distil, which this nascli can't continue" in left.err
