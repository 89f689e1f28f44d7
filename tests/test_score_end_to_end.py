"""Scoring on the embedded digits: ranked, held against a table, fitted, stopped and gone on with; and what users get
wrong.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.runs import Run
from tests.toy_runs import IMAGES, child, run

Nascli = Callable[..., Any]
DIGITS = ["--space", "resnet", "--data", "digits", "--set", "data.limit=200", "--set", "probe.examples=16"]
SCORE = ["score", *DIGITS, "--proxy", "synflow,jacov", "--sample", 24]
COUNT = 24


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(*SCORE, "--out", tmp_path_factory.mktemp("scored") / "run")


@pytest.fixture
def truth(scored: Path) -> Path:
    """A table in which networks are as good as synflow says, but for some noise, and one of which it does not know."""
    rows = [(row["arch"], float(row["synflow"]) + (i % 5)) for i, row in enumerate(table(scored / "scores.csv"))]
    with Path("truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("arch", "accuracy"), *rows[1:]])
    return Path("truth.csv")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def journal(path: Path) -> list[dict[str, Any]]:
    """The trials without what the clock wrote."""
    rows = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_ranking_is_held_against_a_table(nascli: Nascli, scored: Path, truth: Path) -> None:
    shutil.copytree(scored, "run")
    left = nascli(*SCORE, "--out", "run", "--against", truth, "--plot", "p.svg", "--output", "o.json", "--json")
    assert left.code == 0, left.err
    document = json.loads(left.out)
    data = document["data"]
    assert document["command"] == "score" and data["against"]["column"] == "accuracy" and data["networks"] == COUNT
    figures = {f["score"]: f for f in data["figures"]}
    assert figures["synflow"]["networks"] == COUNT - 1 and figures["synflow"]["rho"] > 0.8
    low, high = figures["synflow"]["rho_interval"]
    assert low < figures["synflow"]["rho"] < high and list(figures)[2:4] == ["params", "macs"]
    assert [row["synflow"] for row in json.loads(Path("o.json").read_text())] == [
        float(row["synflow"]) for row in table(scored / "scores.csv")
    ]
    assert all(Path(f"p{part}.svg").stat().st_size > 1000 for part in ("", "-values", "-ranks"))
    # For people: a row a score, then the best networks.
    left = nascli(*SCORE, "--out", "run", "--against", truth)
    heads, *lines = [line.split("\t") for line in left.out.splitlines()]
    assert heads[0] == "score" and "dead" in heads and lines[0][0] == "synflow" and ["place"] in [r[:1] for r in lines]


def test_scoring_the_same_again_gives_the_same_numbers(nascli: Nascli, scored: Path) -> None:
    assert nascli(*SCORE, "--out", "again").code == 0
    assert journal(Path("again")) == journal(scored)
    assert Path("again/scores.csv").read_text() == (scored / "scores.csv").read_text()
    assert nascli(*SCORE, "--seed", 1, "--out", "other").code == 0
    assert {row["key"] for row in journal(Path("other"))} != {row["key"] for row in journal(scored)}


def test_a_predictor_is_fitted_and_then_used_on_others(nascli: Nascli, truth: Path) -> None:
    fit = ["--fit", "parzc", "--train", 10, "--save", "parzc.safetensors", "--against", truth]
    left = nascli(*SCORE, *fit, "--out", "fitted", "--json")
    assert left.code == 0, left.err
    data = json.loads(left.out)["data"]
    assert data["leader"] == "parzc" and data["training"] == 10
    assert {f["networks"] for f in data["figures"]} == {COUNT - 1 - 10}
    assert all("nodes_statistics" in row["vectors"] for row in journal(Path("fitted")))
    # What it reads is scored unasked.
    left = nascli("score", *DIGITS, "--sample", 3, "--seed", 5, "--proxy", "jacov", "--predictor", "parzc.safetensors",
                  "--out", "used", "--json")  # fmt: skip
    assert left.code == 0, left.err
    best = json.loads(left.out)["data"]["best"]
    assert len(best) == 3 and all(isinstance(row["parzc"], float) and "synflow" in row for row in best)


@pytest.mark.slow
def test_ctrl_c_stops_workers_and_what_goes_on_ends_the_same(nascli: Nascli, scored: Path, tmp_path: Path) -> None:
    process = child(*SCORE, "--workers", 2, "--set", "strategy.batch=4", "--out", "run", cwd=tmp_path)
    deadline = time.monotonic() + 240
    while not Path("run/trials.jsonl").exists() or Path("run/trials.jsonl").read_text().count("\n") < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130 and out == "" and "Traceback" not in err, err
    assert err.endswith("Go on with: nascli resume run\n")
    assert 2 <= len(journal(Path("run"))) < COUNT and Run.open(Path("run")).header["status"] == "interrupted"
    left = nascli("resume", "run", "--workers", 2)
    assert left.code == 0, left.err
    assert journal(Path("run")) == journal(scored)
    assert Path("run/scores.csv").read_text() == (scored / "scores.csv").read_text()


@pytest.mark.data
def test_cells_that_compute_the_same_are_scored_once(nascli: Nascli) -> None:
    settings = ("space.channels=4", "space.cells=1", "data.limit=200", "probe.examples=8")
    small = [word for setting in settings for word in ("--set", setting)]
    cells = ["|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|",
             "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
             "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"]  # fmt: skip
    archs = [flag for cell in cells for flag in ("--arch", cell)]
    left = nascli("score", "--space", "nb201", "--data", "cifar10", *small, *archs, "--proxy", "synflow",
                  "--against", "nasbench201.npz", "--out", "a", "--json")  # fmt: skip
    assert left.code == 0, left.err
    data = json.loads(left.out)["data"]
    assert (data["networks"], data["measured"]) == (3, 2) and len(journal(Path("a"))) == 2
    rows = table(Path("a/scores.csv"))
    assert [row["field"] for row in rows] == cells and rows[0]["synflow"] == rows[1]["synflow"] != rows[2]["synflow"]
    # But what they reached was measured apart.
    assert len({row["cifar10_test"] for row in rows}) == 3


# -- what users get wrong ----------------------------------------------------------------------------------------------

BAD: list[tuple[list[object], int, str]] = [
    (["--proxy", "gradsing"], 2, "No proxy is called 'gradsing'. Did you mean 'gradsign'?"),
    (["--against", "none.csv"], 5, "There is no table 'none.csv'"),
    (["--against", "foreign.csv"], 3, "says nothing in 'accuracy' of the 24 networks asked for"),
    (["--against", "choices.csv"], 3, "choices.csv tells architectures apart by width, but those of 'resnet' have"),
    (["--against", "truth.csv:acuracy"], 2, "truth.csv has no column 'acuracy'. Did you mean 'accuracy'?"),
    (["--fit", "parzc"], 2, "--fit needs measured values: give --against TABLE_OR_RUN, or --from RUN."),
    (["--fit", "parcz", "--against", "truth.csv"], 2, "report: fit='parcz': Input should be"),
    (["--save", "p"], 2, "--save needs a predictor to save; give --fit parzc."),
    (["--train", 50], 2, "--train needs a predictor to fit; give --fit parzc."),
    (
        ["--fit", "parzc", "--train", 23, "--against", "truth.csv"],
        2,
        "--train 23 networks can't be fitted on",
    ),
    (["--predictor", "truth.csv"], 1, "'truth.csv' is no fitted predictor"),
    (["--aggregate", "log_rnk:jacov,params"], 2, "Did you mean 'log_rank'?"),
    (["--output", "a.xlsx"], 2, "--output 'a.xlsx': its ending is none of .csv, .json, .parquet."),
    (["--plot", "a.png"], 2, "--plot needs measured values"),
    (["--set", "report.tpo=3"], 2, "report has no setting 'tpo'. Did you mean 'top'?"),
    (["--set", "proxy.jacv.x=1"], 2, "No proxy is called 'jacv'. Did you mean 'jacov'?"),
    (["--set", "strategy.sample=0"], 2, "has nothing to list; give it archs, file or sample."),
    (["--arch", "resnet:nonsense"], 2, "resnet"),
    (["--file", "none.txt"], 3, "Can't read the list of architectures 'none.txt'"),
    (["--from", "."], 4, ". is no run directory"),
    (["--workers", 2, "--set", "record=['latency_ms']"], 2, "latency_ms can't be timed; give --workers 1, or another"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), BAD, ids=lambda v: str(v[0]) if isinstance(v, list) else "")
def test_a_slip_is_one_sentence_before_anything_is_written(
    nascli: Nascli, truth: Path, arguments: list[object], code: int, sentence: str
) -> None:
    Path("foreign.csv").write_text(f"arch,accuracy\n{json.dumps(OTHER)},90\n")
    Path("choices.csv").write_text("choice.width,accuracy\n1,90\n2,91\n")
    left = nascli(*SCORE, *arguments, "--out", "new")
    assert left.code == code and left.out == "", left.err
    told = [line for line in left.err.splitlines() if line.startswith("nascli: ")]
    assert len(told) == 1 and sentence in told[0] and "Traceback" not in left.err, left.err
    assert not Path("new").exists()


OTHER = "resnet:3,0.25/0.25/0.25/0.25/3,0.25/0.25/0.25/0.25"


def test_parquet_without_pyarrow_is_said_at_once(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "pyarrow" else find(n, *a))
    left = nascli(*SCORE, "--output", "a.parquet", "--out", "new")
    assert left.code == 5 and 'pip install "nascli[parquet]"' in left.err and not Path("new").exists()


def test_data_that_a_proxy_needs_must_be_there(nascli: Nascli) -> None:
    left = nascli("score", *IMAGES[:2], "--preset", "digits", "--sample", 2, "--proxy", "gradsign", "--out", "new")
    assert left.code == 5 and "The proxy 'gradsign' looks at labels; give --data NAME." in left.err
    left = nascli("score", *IMAGES[:2], "--preset", "digits", "--sample", 2, "--out", "a")
    assert left.code == 0 and left.out.startswith("place\tsynflow\tparams\tmacs\tnetwork\n"), left.err


def test_the_list_is_one_document(nascli: Nascli) -> None:
    document = json.loads(nascli("score", "--list", "--json").out)
    assert document["command"] == "score" and {"proxy", "goal", "paper"} <= document["data"][0].keys()
