"""What searches by gradients owe the engine: they train, so they are resumed from states and not replayed."""

from __future__ import annotations

import json
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nascli import plugins, settings
from nascli.engine.drive import Budget, drive
from nascli.engine.executors import inline
from nascli.engine.objectives import ACCURACY
from nascli.engine.protocol import Step, Strategy
from nascli.engine.task import Probing, Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import Cells, cells_task, steps_of, through_file
from tests.toy_images import SIGNATURE, same

QUICK: dict[str, Any] = {"epochs": 1.0, "batch": 16, "report_steps": 2}
GREEDY = {"first": 1.0, "every": 0.34, "more": 4}
PT: dict[str, Any] = {"tune_epochs": 0.34, "last_epochs": 0.34, "examples": 16}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "darts": ("darts", {}),
    "second-order": ("darts", {"bilevel": {"name": "unrolled"}}),
    "idarts": ("darts", {"bilevel": {"name": "implicit"}}),
    "lv-hba": ("darts", {"bilevel": {"name": "lv-hba"}}),
    "bo-rep": ("darts", {"bilevel": {"name": "bo-rep"}}),
    "gdas": ("darts", {"relaxation": "gumbel"}),
    "drnas": ("darts", {"relaxation": "dirichlet", "anchor": 0.1}),
    "sdarts": ("darts", {"perturbation": 0.3, "early_stop": "eigenvalue"}),
    "sgas": ("darts", {"decisions": "greedy", "greedy": {**GREEDY, "criterion": 2}}),
    "darts-pt": ("darts-pt", PT),
    "blank-pt": ("darts-pt", {**PT, "alpha": "fixed", "criterion": "loss"}),
    "sgas-pt": ("darts-pt", {**PT, "decisions": "greedy", "greedy": GREEDY}),
    "zero-cost-pt": ("darts-pt", {"criterion": "zero-cost", "proxy": "grad_norm", "proposals": 2}),
}
SPACES = {"cells": Cells(("normal", "reduce")), "nb201": Nb201Space(SIGNATURE, channels=2, cells=1)}
CASES = [
    *((variant, "cells") for variant in VARIANTS),
    *((variant, "nb201") for variant in ("darts", "gdas", "sgas", "darts-pt", "blank-pt")),
]
every = pytest.mark.parametrize(("variant", "space"), CASES)


def strategy(variant: str) -> Strategy:
    name, values = VARIANTS[variant]
    made: Strategy = settings.build(plugins.load("strategy", name), {**QUICK, **values}, where=name)
    return made


def about(space: str, *, seed: int = 0) -> Task:
    found = replace(cells_task(SPACES[space], seed=seed, train=32), probing=Probing(examples=8))
    return replace(found, objectives=(ACCURACY,))


Said = tuple[dict[str, float], list[str], list[Any]]


def said(step: Step) -> Said:
    """All that a step says but the time: numbers, networks, their tensors."""
    metrics = {k: v for k, v in step.metrics.items() if k != "seconds"}
    tensors = [None if n.tensors is None else dict(n.tensors) for n in step.candidates]
    return metrics, [step.proxy, *(n.key for n in step.candidates)], tensors


@every
def test_the_seed_decides_everything(variant: str, space: str) -> None:
    first, again, other = ([said(s) for s in steps_of(strategy(variant), about(space, seed=i))] for i in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


@every
def test_it_can_be_stopped_after_any_step_and_goes_on_as_if_nothing_had_been(variant: str, space: str) -> None:
    whole = [(said(step), through_file(step)) for step in steps_of(strategy(variant), about(space))]
    assert sum(len(keys) - 1 for (_, keys, _), _ in whole if not keys[0]) == 1
    stops = [k for k, (_, state) in enumerate(whole) if state is not None]
    for k in dict.fromkeys([*stops[:: max(1, len(stops) // 8)], *stops[-3:]]):
        rest = [said(step) for step in steps_of(strategy(variant), about(space), whole[k][1])]
        if k < len(whole) - 1:
            assert same(rest, [step for step, _ in whole[k + 1 :]])
        # From its end, it proposes what it has found once more.
        assert same(rest[-1][1:], whole[-1][0][1:])


@every
def test_the_surroundings_stay_as_they_were(
    variant: str, space: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def around() -> list[Any]:
        numbers = np.random.get_state()
        assert isinstance(numbers, tuple)
        texts = [random.getstate(), numbers[1].tobytes(), numbers[2:], torch.get_rng_state().numpy().tobytes()]
        return [*texts, list(warnings.filters), torch.get_num_threads(), torch.is_grad_enabled()]

    before = around()
    for _ in steps_of(strategy(variant), about(space)):
        assert around() == before
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def run(path: Path, variant: str, *, stop_after: int | None = None) -> Path:
    """The run of a search by the engine; it is interrupted after so many steps."""
    task, seen = about("cells"), 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return stop_after is not None and seen > stop_after

    header = {"fingerprint": task.space.table.fingerprint}
    with Writer(path, command="search", resolved={"seed": task.seed}, header=header) as writer:
        drive(strategy(variant), task, writer, inline, budget=Budget(evaluations=5), stop=stop)
    return path


def told(path: Path) -> list[dict[str, Any]]:
    """The steps of a run without the time."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(path / "steps.jsonl")]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("variant", ["darts", "sgas", "darts-pt", "zero-cost-pt"])
def test_an_interrupted_run_has_the_journal_of_one_that_was_not(variant: str, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", variant)
    count = len(told(whole))
    for stop_after in (1, count // 2, count - 1):
        path = tmp_path / f"torn{stop_after}"
        with pytest.raises(Interrupted):
            run(path, variant, stop_after=stop_after)
        run(path, variant)
        assert told(path) == told(whole)
        trials, expected = rows(path / "trials.jsonl"), rows(whole / "trials.jsonl")
        assert [{**t, "seconds": 0} for t in trials] == [{**t, "seconds": 0} for t in expected]
        weights = "networks/0.safetensors"
        assert (path / weights).exists() == (whole / weights).exists()
        if (whole / weights).exists():
            assert (path / weights).read_bytes() == (whole / weights).read_bytes()
        # A finished run, looked at again, tells nothing twice.
        run(path, variant)
        assert told(path) == told(whole)
