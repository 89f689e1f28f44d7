from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.runs import Run
from tests.toy_runs import IMAGES, NUMBERS, run

Nascli = Callable[..., Any]
SCORE = ["score", *IMAGES, "--set", "probe.examples=16", "--proxy", "synflow,jacov"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 12 networks."""
    return run(*SCORE, "--sample", 12, "--out", tmp_path_factory.mktemp("scored") / "run")


def test_the_best_are_printed_and_all_are_in_the_file(nascli: Nascli, scored: Path) -> None:
    left = nascli("resume", scored)
    assert left.code == 0, left.err
    heads, *lines = [line.split("\t") for line in left.out.splitlines()]
    # The aggregate leads, unasked, where its parts are there.
    assert heads == ["place", "log_rank:jacov,params", "synflow", "jacov", "params", "macs", "network"]
    found = rows(scored / "scores.csv")
    assert len(found) == 12 and len(lines) == 10
    best = sorted(found, key=lambda row: -float(row["log_rank:jacov,params"]))
    assert [line[-1] for line in lines[:3]] == [row["arch"] for row in best[:3]]
    assert left.err.splitlines()[-1] == f"12 networks, 12 of them different; all in {scored}"


def test_it_is_a_run_like_any_other(scored: Path) -> None:
    run = Run.open(scored)
    assert run.header["command"] == "score" and run.header["status"] == "finished" and len(run.rows) == 12
    assert [o["name"] for o in run.header["objectives"]] == ["synflow", "params", "macs"]
    assert all({"synflow", "jacov", "params", "macs"} <= row["values"].keys() for row in run.rows)
    assert run.settings["record"] == ["jacov"] and run.settings["strategy"]["equivalents"] == "once"
    kept = {row["arch"]: row["values"] for row in run.rows}
    for row in rows(scored / "scores.csv"):
        assert float(row["jacov"]) == kept[row["measured"]]["jacov"]


def test_one_document_on_stdout_and_nothing_else(nascli: Nascli, scored: Path) -> None:
    left = nascli("resume", scored, "--json")
    data = json.loads(left.out)["data"]
    assert data["run"] == str(scored) and data["networks"] == data["measured"] == 12
    assert data["scores"]["macs"] == {"goal": "max", "missing": {}} and data["against"] is None
    assert data["between"]["jacov"]["jacov"] == pytest.approx(1) and data["figures"] == []
    assert data["files"] == [f"{scored}/scores.csv"] and len(data["best"]) == 10


def test_a_larger_sample_goes_on(nascli: Nascli, tmp_path: Path) -> None:
    few = [*SCORE, "--sample", 3, "--out", "a"]
    assert nascli(*few).code == 0
    before = Path("a/trials.jsonl").read_text()
    left = nascli(*SCORE, "--sample", 5, "--arch", rows(Path("a/scores.csv"))[0]["arch"], "--top", 3, "--out", "a")
    assert left.code == 0, left.err
    after = Path("a/trials.jsonl").read_text()
    assert after.startswith(before) and after.count("\n") == len(rows(Path("a/scores.csv"))) == 6
    assert len(left.out.splitlines()) == 4
    left = nascli(*SCORE, "--sample", 5, "--proxy", "snip", "--out", "a")
    assert left.code == 4 and "record: ['jacov'] -> ['jacov', 'snip']" in left.err


def test_networks_come_from_a_file_and_from_the_command_line(nascli: Nascli, scored: Path) -> None:
    archs = [row["arch"] for row in rows(scored / "scores.csv")]
    Path("list.txt").write_text(f"# two\n{archs[1]}\n{archs[2]}\n")
    left = nascli(*SCORE, "--file", "list.txt", "--arch", archs[5], "--arch", archs[2], "--out", "a")
    assert left.code == 0, left.err
    assert [row["arch"] for row in rows(Path("a/scores.csv"))] == [archs[5], archs[2], archs[1]]


def test_a_model_of_ones_own_is_scored(nascli: Nascli) -> None:
    Path("mine.py").write_text(
        "from torch import nn\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))\n"
    )
    data = ["--data", "tests.toy_images:corners", "--set", "probe.examples=16"]
    left = nascli("score", "--model", "mine:net", *data, "--proxy", "gradsign,snip", "--out", "a", "--json")
    assert left.code == 0, left.err
    (best,) = json.loads(left.out)["data"]["best"]
    assert best["params"] == 3 * 9 + 3 + 12 * 4 + 4 and best["gradsign"] > 0 and best["snip"] > 0


def test_a_run_brings_its_space_data_networks_and_values(nascli: Nascli, searched: Path) -> None:
    left = nascli(
        "score", "--from", searched, "--set", "probe.examples=16", "--proxy", "synflow", "--out", "a", "--json"
    )
    assert left.code == 0, left.err
    data = json.loads(left.out)["data"]
    values = {row["arch"]: row["values"]["accuracy"] for row in Run.open(searched).rows}
    assert data["against"] == {"source": str(searched), "column": "accuracy", "goal": "max", "unit": "%"}
    assert {row["arch"]: float(row["accuracy"]) for row in rows(Path("a/scores.csv"))} == values
    assert [f["score"] for f in data["figures"]] == ["synflow", "params", "macs"]
    assert tomllib.loads(Path("a/settings.toml").read_text())["parent"] == str(searched)
    left = nascli("score", "--from", searched, "--set", "probe.examples=16", "--proxy", "synflow", "--against",
                  f"{searched}:macs:min", "--out", "a", "--json")  # fmt: skip
    # The report may change when a run goes on.
    assert json.loads(left.out)["data"]["figures"][2]["rho"] == pytest.approx(-1)


def test_a_dry_run_writes_nothing(nascli: Nascli) -> None:
    left = nascli(*SCORE, "--sample", 12, "--dry-run", "--json")
    data = json.loads(left.out)["data"]
    assert data["networks"] == data["different"] == 12 and data["first"]["params"] > 0
    assert data["seconds_estimated"] == pytest.approx(12 * data["seconds_each"], rel=0.5, abs=0.1)
    assert data["settings"]["report"]["top"] == 10 and list(Path().iterdir()) == []


def test_tables_have_no_networks_and_searches_go_elsewhere(nascli: Nascli) -> None:
    Path("table.csv").write_text("choice.width,accuracy\n1,80\n2,90\n")
    left = nascli("score", "--space", "table", "--set", "space.path=table.csv", "--sample", 2,
                  "--set", "objectives=['accuracy']")  # fmt: skip
    assert left.code == 5 and "A table has numbers and no networks that could be scored" in left.err
    left = nascli("score", *NUMBERS[:2], "--proxy", "synflow", "--set", "strategy.name=random")
    assert left.code == 2 and "takes the strategy 'listed' alone; to search by a proxy: nascli search" in left.err


def test_the_list_of_proxies_needs_no_space(nascli: Nascli) -> None:
    left = nascli("score", "--list")
    assert left.code == 0 and left.out.startswith("proxy\tgoal\tcost") and "\ngradsign\t" in left.out
