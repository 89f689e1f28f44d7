from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.cli.relaxed import SELECT, reselection
from nascli.engine.runs import Run
from nascli.errors import SettingsError
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Signature

Nascli = Callable[..., Any]
CELLS = ("--space", "nb201", "--set", "space.channels=2", "--set", "space.cells=1")
DATA = ("--data", "tests.toy_images:corners", "-O", "macs", "-O", "accuracy", "--set", "calibration=32")
SHORT = ("--set", "strategy.epochs=1", "--set", "strategy.batch=32")
SPACE = Nb201Space(Signature("image", (1, 4, 4), 4), channels=2, cells=1)


@pytest.fixture
def searched(nascli: Nascli, tmp_path: Path) -> Path:
    """The run of a short search."""
    left = nascli("search", *CELLS, *DATA, *SHORT, "--strategy", "darts", "--out", tmp_path / "darts")
    assert left.code == 0, left.err
    return tmp_path / "darts"


def test_a_search_leaves_its_supernet_genotype_drawing_and_command(nascli: Nascli, tmp_path: Path) -> None:
    left = nascli("search", *CELLS, *DATA, *SHORT, "--strategy", "darts", "--out", tmp_path / "a")
    run = Run.open(tmp_path / "a")
    (member,) = run.front["members"]
    genotype = (tmp_path / "a" / "genotype-0.txt").read_text().strip()
    assert SPACE.parse(genotype) == SPACE.parse(member["arch"])
    assert f"genotype: {genotype}" in left.err
    command = f"nascli train --recipe cells --from {tmp_path}/a --set strategy.weights=fresh"
    assert f"{command} --set space.channels=16 --set space.cells=5" in left.err
    assert {f.name for f in (tmp_path / "a" / "drawings").iterdir()} >= {"0.svg", "0.dot"}
    saved = json.loads((tmp_path / "a" / "supernet.json").read_text())
    assert {name: len(row) for name, row in saved["alpha"].items()} == {c.name: 5 for c in SPACE.table.choices}
    assert "random weights" not in left.err and run.has_network(0)


def test_the_printed_command_trains_the_network_from_scratch(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    short = ["--epochs", "0.5", "--set", "strategy.batch=32", "--set", "space.channels=4"]
    start = ["--from", searched, "--set", "strategy.weights=fresh", *short]
    left = nascli("train", "--recipe", "cells", *start, "--out", tmp_path / "t")
    assert left.code == 0, left.err
    (trained,), (found,) = (Run.open(p).front["members"] for p in (tmp_path / "t", searched))
    assert trained["arch"] == found["arch"]


@pytest.mark.parametrize("select", SELECT)
def test_selecting_again_trains_nothing_and_needs_the_run_alone(
    nascli: Nascli, searched: Path, tmp_path: Path, select: str
) -> None:
    more = ["--set", "strategy.tune_epochs=0", "--set", "strategy.last_epochs=0"] if select == "perturbation" else []
    left = nascli("search", "--select", select, "--supernet", searched, *more, "--out", tmp_path / "again")
    assert left.code == 0, left.err
    run = Run.open(tmp_path / "again")
    steps = [json.loads(line) for line in (tmp_path / "again" / "steps.jsonl").read_text().splitlines()]
    assert not any("loss" in step for step in steps)
    assert run.settings["parent"] == str(searched) and run.settings["space"]["channels"] == 2
    if select == "magnitude":
        assert run.front["members"][0]["arch"] == Run.open(searched).front["members"][0]["arch"]
    else:
        assert sum(any(k.startswith("without ") for k in step) for step in steps) == 6 * 5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("magnitud", "runs/a", None), "no --select 'magnitud'. Did you mean 'magnitude'"),
        (("magnitude", None, None), "needs --supernet RUN"),
        (("perturbation", "runs/a", "darts"), "leave --strategy darts out"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: tuple[str, str | None, str | None], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        reselection(*asked)


def test_without_select_nothing_changes() -> None:
    assert reselection(None, "runs/a", "darts") == {}


def test_a_file_brings_the_strategy_only() -> None:
    assert reselection("perturbation", "supernet.safetensors", None) == {"strategy.name": "darts-pt"}


def test_even_weights_cannot_be_selected_by_magnitude(nascli: Nascli, tmp_path: Path) -> None:
    blank = [*CELLS, *DATA, *SHORT, "--strategy", "darts-pt", "--set", "strategy.alpha=fixed"]
    quick = ["--set", "strategy.tune_epochs=0", "--set", "strategy.last_epochs=0"]
    assert nascli("search", *blank, *quick, "--out", tmp_path / "a").code == 0
    left = nascli("search", "--select", "magnitude", "--supernet", tmp_path / "a", "--out", tmp_path / "b")
    assert left.code == 5 and "Select from it by perturbation" in left.err


def test_a_supernet_of_another_space_is_refused(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    other = ["--set", "space.channels=3", "--out", tmp_path / "b"]
    left = nascli("search", "--select", "magnitude", "--supernet", searched, *other)
    assert left.code == 3 and "is no supernet of this 'nb201' space" in left.err


def test_a_time_limit_that_comes_first_says_how_to_go_on(nascli: Nascli, tmp_path: Path) -> None:
    long = ["--set", "strategy.epochs=500", "--set", "strategy.batch=32", "--time-limit", "1s"]
    left = nascli("search", *CELLS, *DATA, *long, "--strategy", "darts", "--out", tmp_path / "a")
    assert left.code == 0 and f"go on: nascli resume {tmp_path}/a --time-limit LONGER" in left.err


def test_other_strategies_leave_none_of_this(nascli: Nascli, tmp_path: Path) -> None:
    left = nascli(
        "search", *CELLS, "-O", "macs", "-O", "params", "-n", 3, "--strategy", "random", "--out", tmp_path / "a"
    )
    assert left.code == 0 and "genotype" not in left.err
    assert not list((tmp_path / "a").glob("genotype*")) and not (tmp_path / "a" / "supernet.safetensors").exists()


def test_a_dry_run_promises_no_time_that_it_does_not_know(nascli: Nascli) -> None:
    left = nascli("search", *CELLS, *DATA, *SHORT, "--strategy", "darts", "--dry-run", "--json")
    found = json.loads(left.out)["data"]
    assert found["seconds_estimated"] is None and "evaluations" not in found["settings"]["budget"]
