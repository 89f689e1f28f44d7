from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nascli.engine.network import Network
from nascli.engine.objectives import Objective, judge
from nascli.engine.protocol import Trial
from nascli.engine.runs import Run
from nascli.engine.scores import NODE_STATISTICS, RECORDED
from nascli.engine.task import Task
from nascli.errors import DataError, NascliError, SettingsError, UnsupportedError
from nascli.report import fitted
from nascli.report.scored import Made, Report
from nascli.strategies.listed import Listed
from predictors import ScoreError
from search_spaces import SpaceError
from tests.toy_board import archs
from tests.toy_journal import write
from tests.toys import ToySpace


def never(subject: object, task: Task) -> float:
    raise AssertionError("a report measures nothing")


def objective(name: str) -> Objective:
    return Objective(name, "min" if name in ("params", "macs") else "max", "", 0, never)


NAMES = ("jacov", "params", "macs")
TASK = Task(ToySpace(), objectives=tuple(map(objective, NAMES)), recorded=(NODE_STATISTICS,))
ARCHS = archs(24)
LISTED = Listed(tuple(map(str, ARCHS)))
QUALITY = np.random.default_rng(0).standard_normal(24)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("arch", "top1"), *zip(map(str, ARCHS), 90 + QUALITY, strict=True)])


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    """A run whose proxy ranks perfectly, and params not at all; the last network is dead."""
    with write(tmp_path / "run") as writer:
        for n, arch in enumerate(ARCHS):
            alive = {"jacov": QUALITY[n], "nodes": 2.0} if n < 23 else {}
            values = {**alive, "params": 100.0 + n, "macs": 7.0}
            missing = {} if alive else {"jacov": "nothing flows", "nodes": "nothing flows"}
            vectors = {"nodes_statistics": np.full((2, len(RECORDED)), np.exp(QUALITY[n]))} if alive else {}
            network = Network(arch)
            judged = judge(values, TASK.objectives, missing=missing)
            writer.record(Trial(n, network.key, network, values, *judged, 0.1, missing, vectors))
    return Run.open(tmp_path / "run")


def made(run: Run, **given: object) -> Made:
    report = Report(**given)  # type: ignore[arg-type]
    report.check(TASK, LISTED)
    return report.make(run, TASK, LISTED)


def test_without_anything_to_hold_against_there_is_a_ranking(finished: Run) -> None:
    found = made(finished, top=3)
    assert found.figures == [] and found.leader == "log_rank:jacov,params" and found.warnings == []
    assert found.written == (finished.path / "scores.csv",)
    best = found.best()
    assert len(best) == 3 and best[0]["log_rank:jacov,params"] >= best[1]["log_rank:jacov,params"]
    assert json.loads(json.dumps(found.facts(), allow_nan=False))["training"] is None
    # Told to make another aggregate, it makes no more.
    assert [s.name for s in made(finished, aggregate=("vote:jacov,macs",)).board.scores][-1] == "vote:jacov,macs"


def test_the_best_come_first_and_those_without_a_score_last(finished: Run) -> None:
    found = replace(made(finished, top=24), board=replace(made(finished).board))
    bare = replace(found, board=replace(found.board, scores=found.board.scores[:1]))
    order = [row["arch"] for row in bare.best()]
    assert bare.leader == "jacov" and order[:23] == [str(ARCHS[i]) for i in np.argsort(-QUALITY[:23])]
    assert order[23] == str(ARCHS[23]) and made(finished, top=0).best() == []


def test_scores_are_held_against_what_was_measured(finished: Run) -> None:
    found = made(finished, against="truth.csv", k=5)
    jacov = next(f for f in found.figures if f.score == "jacov")
    assert jacov.rho == pytest.approx(1) and (jacov.networks, jacov.scored, jacov.dead, jacov.k) == (24, 23, 1, 5)
    assert [f.score for f in found.figures] == ["jacov", "params", "macs", "log_rank:jacov,params"]
    facts = found.facts()
    assert facts["against"] == {"source": "truth.csv", "column": "top1", "goal": "max", "unit": ""}
    assert facts["scores"]["jacov"] == {"goal": "max", "missing": {"nothing flows": 1}}
    assert facts["between"]["jacov"]["macs"] is None and facts["figures"][0]["rho_interval"] == pytest.approx([1, 1])


def test_files_and_pictures_are_written_where_they_are_asked_for(finished: Run) -> None:
    found = made(finished, against="truth.csv", output=("a/b.csv", "c.json"), plot=("p.svg",))
    names = ["scores.csv", "b.csv", "c.json", "p.svg", "p-values.svg", "p-ranks.svg"]
    assert [p.name for p in found.written] == names and all(p.exists() for p in found.written)
    assert Path("a/b.csv").read_text() == (finished.path / "scores.csv").read_text()


def test_a_predictor_is_fitted_tested_on_others_saved_and_used_again(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted._settings
    monkeypatch.setattr(fitted, "_settings", lambda space: replace(whole(space), epochs=30, members=1))
    found = made(finished, against="truth.csv", fit="parzc", train=10, save="parzc.safetensors")
    assert found.training is not None and found.training.sum() == 10 and not found.training[23]
    assert found.leader == "parzc" and {f.networks for f in found.figures} == {14}
    parzc = found.figures[0]
    assert parzc.score == "parzc" and (parzc.scored, parzc.dead) == (13, 1)
    assert parzc.rho is not None and parzc.rho > 0.6
    with (finished.path / "scores.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert splits.count("train") == 10 and splits.count("test") == 14
    assert found.facts()["training"] == 10 and found.written[-1].name == "parzc.safetensors"
    again = made(finished, against="truth.csv", predictor="parzc.safetensors", aggregate=("rank_sum:parzc,jacov",))
    assert np.array_equal(again.board.score("parzc").values, found.board.score("parzc").values, equal_nan=True)
    assert again.training is None and {f.networks for f in again.figures} == {24}


BAD: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"fit": "parzc"}, SettingsError, "--fit needs measured values: give --against TABLE_OR_RUN, or --from RUN"),
    ({"plot": ("p.png",)}, SettingsError, "--plot needs measured values"),
    ({"save": "a"}, SettingsError, "--save needs a predictor to save; give --fit parzc"),
    ({"fit": "parzc", "predictor": "a", "against": "truth.csv"}, SettingsError, "give one of the two"),
    ({"fit": "parzc", "against": "truth.csv", "train": 20}, SettingsError, "--train 20 networks can't be fitted on"),
    ({"predictor": "none"}, ScoreError, "The predictor 'none' does not exist"),
    ({"output": ("a.xls",)}, SettingsError, "its ending is none of"),
    ({"plot": ("a.gif",), "against": "truth.csv"}, SettingsError, "its ending is none of"),
    ({"aggregate": ("vote:jacov,zen",)}, SettingsError, "The aggregate 'vote:jacov,zen' needs 'zen'."),
    ({"aggregate": ("vote:jacov,parzc",)}, SettingsError, "needs 'parzc'."),
    ({"against": "none.csv"}, SpaceError, "There is no table 'none.csv'"),
    ({"against": "truth.csv:top5"}, SettingsError, "has no column 'top5'. Did you mean 'top1'?"),
]


@pytest.mark.parametrize(("given", "error", "said"), BAD)
def test_what_can_not_be_made_is_refused_before_anything_is_measured(
    given: dict[str, object], error: type[NascliError], said: str
) -> None:
    with pytest.raises(error, match=said.replace("?", r"\?")):
        Report(**given).check(TASK, LISTED)  # type: ignore[arg-type]


def test_networks_of_another_table_are_refused() -> None:
    Path("other.csv").write_text('arch,top1\n"toy:3/8,wide/8,wide/8,wide",90\n')
    with pytest.raises(DataError, match="nothing in 'top1' of the 24 networks"):
        Report(against="other.csv").check(TASK, LISTED)


def test_a_name_is_not_given_twice() -> None:
    task = replace(TASK, recorded=(objective("parzc"),))
    with pytest.raises(SettingsError, match="called 'parzc' too; leave --proxy parzc out"):
        Report(predictor="a").check(task, LISTED)


def test_missing_pyarrow_is_said_at_once(no_pyarrow: Callable[[], None]) -> None:
    with pytest.raises(UnsupportedError, match=r'pip install "nascli\[parquet\]"'):
        Report(output=("a.parquet",)).check(TASK, LISTED)


@pytest.fixture
def no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("given", [{"top": -1}, {"k": 0}, {"train": 1}])
def test_numbers_are_checked(given: dict[str, int]) -> None:
    (name,) = given
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        Report(**given)  # type: ignore[arg-type]
