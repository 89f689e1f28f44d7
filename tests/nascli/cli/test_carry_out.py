from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nascli.cli import console
from nascli.cli.carry_out import carry_out, rehearse
from nascli.cli.log import to_stderr
from nascli.engine import executors
from nascli.engine.drive import Budget
from nascli.engine.plan import Prepared, prepare
from nascli.engine.protocol import Evaluate
from nascli.engine.runs import Run
from nascli.errors import Interrupted, NascliError, SettingsError
from nascli.settings import Layers


def prepared(*objectives: str, evaluations: int = 5) -> Prepared:
    layers = Layers()
    for key, value in {
        "space.name": "tests.toys:ToySpace",
        "strategy.name": "random",
        "objectives": list(objectives or ("tests.toys:ERROR", "tests.toys:SIZE")),
        "budget.evaluations": evaluations,
    }.items():
        layers.put(key, value, origin="here")
    return prepare(layers, kind="strategy")


def nothing(*_: object) -> None:
    return


def timed(latency: str, *objectives: str, **settings: object) -> Prepared:
    layers = Layers()
    for key, value in {
        "space.name": "tests.toys:ToySpace",
        "strategy.name": "random",
        "latency.name": latency,
        "objectives": list(objectives),
        "budget.evaluations": 4,
        **{f"latency.{k}": v for k, v in settings.items()},
    }.items():
        layers.put(key, value, origin="here")
    return prepare(layers, kind="strategy")


@pytest.mark.parametrize("name", ["measured", "predictors.latency:Measured"])
def test_latency_is_not_timed_on_workers(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SettingsError, match="--workers 2: networks that run side by side slow each other down, .* roof"
    ):
        carry_out("search", timed(name, "latency_ms", "macs"), out=tmp_path / "a", after=nothing, workers=2)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_timed_may_run_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    @contextmanager
    def recorded(workers: int) -> Iterator[Evaluate]:
        asked.append(workers)
        yield executors.inline

    monkeypatch.setattr(executors, "executor", recorded)
    estimated = timed("roofline", "latency_ms", "macs", gflops=50.0, gbytes_per_s=10.0)
    for name, plan in {"a": estimated, "b": timed("measured", "macs", "params")}.items():
        assert len(carry_out("search", plan, out=tmp_path / name, after=nothing, workers=3).rows) == 4
    assert asked == [3, 3]


def test_the_bar_knows_the_end_where_no_budget_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    totals: list[int | None] = []
    real = console.progress

    def progress(label: str, *, total: int | None, limit_s: float | None) -> Any:
        totals.append(total)
        return real(label, total=total, limit_s=limit_s)

    monkeypatch.setattr(console, "progress", progress)
    carry_out("search", replace(prepared(), budget=Budget(seconds=60, patience=1)), out=tmp_path / "a", after=nothing,
              total=584)  # fmt: skip
    carry_out("search", prepared(evaluations=3), out=tmp_path / "b", after=nothing)
    assert totals == [584, 3]


def raising(error: BaseException) -> Callable[..., None]:
    def after(*_: object) -> None:
        raise error

    return after


def test_a_run_is_carried_out_and_says_where_it_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    run = carry_out("search", prepared(), out=tmp_path / "a", after=lambda *given: seen.append(given))
    assert run.header["status"] == "finished" and len(run.rows) == 5
    ((with_prepared, writer, front, stop),) = seen
    assert with_prepared.budget.evaluations == 5 and writer.path == tmp_path / "a" and not stop()
    assert [t.number for t in front] == [m["n"] for m in run.front["members"]]
    out, err = capfd.readouterr()
    assert out == "" and err == f"search: writing {tmp_path}/a\n"


def test_the_default_folder_says_what_it_is(tmp_path: Path) -> None:
    run = carry_out("search", prepared(), out=None, after=nothing)
    assert re.fullmatch(r"runs/\d{8}T\d{6}Z-search-random-ToySpace-[0-9a-f]{4}", str(run.path))


@pytest.mark.parametrize("error", [Interrupted("Stopped here."), KeyboardInterrupt()])
def test_an_interrupted_run_tells_how_to_go_on(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(Interrupted, match=rf"^Stopped (here|at once)\. Go on with: nascli resume {tmp_path}/a$"):
        carry_out("search", prepared(), out=tmp_path / "a", after=raising(error))
    assert Run.open(tmp_path / "a").header["status"] == "interrupted"


def test_a_failed_run_is_marked_and_its_traceback_logged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), to_stderr():
        carry_out("search", prepared(), out=tmp_path / "a", after=raising(ZeroDivisionError("what a bug")))
    assert Run.open(tmp_path / "a").header["status"] == "failed"
    log = (tmp_path / "a" / "log.txt").read_text()
    assert "ZeroDivisionError: what a bug" in log and "Traceback" in log


def test_the_log_goes_on_when_the_run_does(tmp_path: Path, nascli: Callable[..., Any]) -> None:
    from tests.toy_runs import NUMBERS

    for evaluations in (2, 4):
        assert nascli("search", *NUMBERS, "-n", evaluations, "--out", tmp_path / "a").code == 0
    lines = (tmp_path / "a" / "log.txt").read_text().splitlines()
    assert [re.sub(r"[\d.]+ s", "T", line.partition("carry_out: ")[2]) for line in lines] == [
        "search, T into the run",
        "finished after T",
    ] * 2


def test_a_rehearsal_measures_both_ends_and_writes_nothing(tmp_path: Path) -> None:
    facts = rehearse(prepared("tests.toys:ERROR", "tests.toys:SIZE<=4", evaluations=30))
    assert facts["architectures"] == 584 and facts["smallest"]["arch"] == "toy:1/1,plain/-/-"
    # The limit does not keep the largest from being measured.
    assert facts["largest"]["arch"] == "toy:3/8,wide/8,wide/8,wide" and facts["largest"]["size"] == 24
    assert facts["largest"]["error"] < facts["smallest"]["error"]
    mean_s = (facts["smallest"]["seconds"] + facts["largest"]["seconds"]) / 2
    assert facts["seconds_estimated"] == pytest.approx(30 * mean_s)
    assert facts["settings"]["strategy"].items() >= {"name": "random", "batch": 20}.items()
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_says_what_would_fail() -> None:
    with pytest.raises(NascliError, match="could not be measured: ValueError: this network is broken"):
        rehearse(prepared("tests.toys:BROKEN"))
