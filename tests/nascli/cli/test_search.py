from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nascli.cli.search import DEFAULTS, complete
from nascli.engine.runs import Run
from nascli.settings import Layers
from tests.toy_runs import IMAGES, NUMBERS

Nascli = Callable[..., Any]


def test_the_front_is_printed_and_where_it_is(nascli: Nascli, tmp_path: Path) -> None:
    left = nascli("search", *NUMBERS, "-n", 8, "--out", tmp_path / "a")
    front = Run.open(tmp_path / "a").front
    assert left.code == 0
    assert left.out.splitlines()[0] == "n\terror (%)\tsize (units)\tnetwork"
    assert [line.split("\t")[0] for line in left.out.splitlines()[1:]] == [str(m["n"]) for m in front["members"]]
    assert left.err.splitlines()[-1] == (
        f"{len(front['members'])} networks on the front of 8 measured; all in {tmp_path}/a"
    )


def test_one_document_on_stdout_and_nothing_else(nascli: Nascli, tmp_path: Path) -> None:
    left = nascli("search", *NUMBERS, "-n", 8, "--out", tmp_path / "a", "--json")
    document = json.loads(left.out)
    assert document == {
        "schema": "nascli/1",
        "command": "search",
        "ok": True,
        "data": {"run": str(tmp_path / "a"), "front": Run.open(tmp_path / "a").front},
        "warnings": [],
    }


def test_flags_reach_their_settings(nascli: Nascli, tmp_path: Path, supernet: Path) -> None:
    Path("a.toml").write_text("seed = 1\ncalibration = 64\n[budget]\nseconds = '20m'\n")
    arguments = [*IMAGES, "--supernet", supernet, "--strategy", "random", "-O", "accuracy", "-O", "params<=100000"]
    arguments += ["--latency", "roofline", "--seed", 7, "--device", "cpu", "-c", "a.toml", "-n", 4, "--preset", "auto"]
    arguments += ["--set", "strategy.batch=2", "--time-limit", "90s", "--dry-run", "--json"]
    left = nascli("search", *arguments)
    assert left.code == 2 and left.err.endswith(
        "needs gflops, gbytes_per_s; give --set latency.gflops=... --set latency.gbytes_per_s=...\n"
    )
    left = nascli("search", *arguments, "--set", "latency.gflops=9", "--set", "latency.gbytes_per_s=9")
    found = json.loads(left.out)["data"]["settings"]
    assert found["strategy"].items() >= {"name": "random", "batch": 2}.items()
    assert found["seed"] == 7 and found["calibration"] == 64 and found["device"] == "cpu"
    assert found["budget"] == {"seconds": "90s", "evaluations": 4}
    assert found["objectives"] == ["accuracy", "params<=100000"] and found["supernet"] == str(supernet)
    assert found["latency"]["name"] == "roofline" and found["space"]["widths"] == [4, 8]


def test_what_a_dry_run_says_repeats_the_search(nascli: Nascli, tmp_path: Path) -> None:
    assert nascli("search", *NUMBERS, "-n", 5, "--out", "a").code == 0
    assert nascli("search", "--config", "a/settings.toml", "--out", "b").code == 0
    keys = [[row["key"] for row in Run.open(Path(p)).rows] for p in ("a", "b")]
    assert keys[0] == keys[1]


def test_objectives_and_budget_that_nobody_gave() -> None:
    layers = Layers()
    complete(layers)
    assert layers.values == {"objectives": ["accuracy", "macs"], "budget": {"evaluations": 300}}
    layers = Layers({"objectives": ["loss"], "budget": {"seconds": 5}})
    assert complete(layers).values == {"objectives": ["loss"], "budget": {"seconds": 5}}
    assert DEFAULTS["strategy.name"] == "evolution"


def test_random_weights_are_a_warning(nascli: Nascli) -> None:
    left = nascli("search", *IMAGES, "-n", 2, "--out", "a", "--json")
    (warning,) = json.loads(left.out)["warnings"]
    assert left.code == 0 and "accuracy will be that of random weights: give --supernet RUN" in warning
    assert "WARNING" in Path("a/log.txt").read_text() or warning in left.err


def test_a_front_from_a_supernet_has_test_values_and_weights(searched: Path) -> None:
    run = Run.open(searched)
    for member in run.front["members"]:
        assert {"test_accuracy", "test_loss"} <= member["values"].keys()
        assert run.network_path(member["n"]).exists()


def test_a_time_limit_ends_a_search(nascli: Nascli) -> None:
    left = nascli("search", *NUMBERS, "--time-limit", "0.2s", "--set", "budget.patience=100000", "--out", "a")
    assert left.code == 0 and Run.open(Path("a")).header["elapsed_s"] < 5


def test_verbose_tells_more(nascli: Nascli) -> None:
    assert "finished after" in nascli("search", *NUMBERS, "-n", 2, "--out", "a", "-v").err
    assert "finished after" not in nascli("search", *NUMBERS, "-n", 2, "--out", "b").err
