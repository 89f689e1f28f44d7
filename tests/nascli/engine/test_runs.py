from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nascli.engine import runs
from nascli.engine.network import Network
from nascli.engine.objectives import judge
from nascli.engine.protocol import Trial
from nascli.engine.runs import Run, Writer
from nascli.errors import RunBusyError, RunConflictError, RunError, RunFormatError
from tests.toys import TABLE, toy_task

SETTINGS = {"seed": 0, "strategy": {"name": "random", "batch": 4}, "budget": {"evaluations": 3}}


def write(path: Path, command: str = "search", **changes: object) -> Writer:
    return Writer(path, command=command, resolved=SETTINGS | changes, header={"fingerprint": TABLE.fingerprint})


def trial(number: int) -> Trial:
    values = {"error": float(number), "size": 1.0}
    network = Network(TABLE.smallest, tag=str(number))
    return Trial(number, network.key, network, values, *judge(values, toy_task().objectives), seconds=0.25)


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        for n in range(3):
            run.record(trial(n))
        assert run.run.trials(toy_task()) == [trial(n) for n in range(3)]
    row = json.loads((tmp_path / "trials.jsonl").read_text().splitlines()[1])
    assert list(row) == ["n", "key", "arch", "edits", "tag", "values", "seconds", "error"]


def test_limits_are_judged_afresh(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.toys import ERROR, SIZE

    with write(tmp_path) as run:
        run.record(trial(2))
        found = run.run.trials(toy_task(replace(ERROR, limit=1.0), SIZE))[0]
    assert found.costs == () and found.violation == 1.0 and "breaks the limit error:min<=1" in found.error


def test_the_front_can_be_made_again_from_the_journal(tmp_path: Path) -> None:
    from nascli.engine.archive import Front

    task = toy_task()
    with write(tmp_path) as run:
        front = Front()
        for n in (3, 1, 2):
            run.record(trial(n))
            front.add(trial(n))
        run.write_front(front.members, front.summary())
        before = (tmp_path / "front.json").read_bytes()
        again = Front()
        for t in run.run.trials(task):
            again.add(t)
        run.write_front(again.members, again.summary())
    assert (tmp_path / "front.json").read_bytes() == before
    assert [m["n"] for m in Run.open(tmp_path).front["members"]] == [1]


def test_finals_join_the_front(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(1))
        run.record_final(trial(1).key, {"test_accuracy": 90.0})
        run.write_front([trial(1)], {})
    assert Run.open(tmp_path).front["members"][0]["values"]["test_accuracy"] == 90.0
    assert (tmp_path / "front.csv").read_text().splitlines()[0] == "n,arch,error,size,test_accuracy"


def test_state_survives_and_forgets_later_steps(tmp_path: Path) -> None:
    import torch

    with write(tmp_path) as run:
        assert run.state() is None
        run.tell({"loss": 1.0})
        run.save_state({"w": torch.ones(2), "step": 3})
        run.tell({"loss": 0.5})
    with write(tmp_path) as run:
        state = run.state()
        assert state is not None and state["step"] == 3 and state["w"].tolist() == [1.0, 1.0]
    assert (tmp_path / "steps.jsonl").read_text() == '{"loss":1.0}\n'


def test_going_on_needs_the_same_settings_but_for_the_budget(tmp_path: Path) -> None:
    write(tmp_path).__exit__()
    write(tmp_path, budget={"evaluations": 30}).__exit__()
    with pytest.raises(RunConflictError, match=r"\(seed: 0 -> 1; strategy.batch: 4 -> 5\)"):
        write(tmp_path, seed=1, strategy={"name": "random", "batch": 5})
    with pytest.raises(RunConflictError, match="is a run of nascli search"):
        write(tmp_path, command="train")
    with pytest.raises(RunConflictError, match="the choices of the space"):
        Writer(tmp_path, command="search", resolved=SETTINGS, header={"fingerprint": "00000000"})
    write(tmp_path).__exit__()


def test_two_writers(tmp_path: Path) -> None:
    with write(tmp_path), pytest.raises(RunBusyError, match=f"process {os.getpid()}"):
        write(tmp_path)
    assert Run.open(tmp_path).header["status"] == "running"


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(RunError, match="holds other files and is no run directory"):
        write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFormatError, match="is no run directory"):
        Run.open(tmp_path)


@pytest.mark.parametrize(("text", "message"), [('{"schema": 2, "nascli": "9.9"}', "Upgrade it"), ("[]", "not of a format"), ("{", "can't be read")])
def test_other_formats(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFormatError, match=message):
        Run.open(tmp_path)


def test_time_goes_on_over_interruptions(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.mark("interrupted")
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(header | {"elapsed_s": 100.0}))
    with write(tmp_path) as run:
        assert 100.0 <= run.elapsed_s < 101.0


def test_listing_and_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / name).__exit__()
    (tmp_path / "other").mkdir()
    assert [run.path.name for run in runs.listing(tmp_path)] == ["a", "b"]
    assert runs.name("search", "evolution", "mobile").split("-")[1:4] == ["search", "evolution", "mobile"]
    assert runs.name("search") != runs.name("search")


def test_a_trial_that_is_not_there(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(0))
        with pytest.raises(RunError, match="has no trial 7; it has 0 to 0"):
            run.run.network(7, toy_task().space)
        assert run.run.network(0, toy_task().space).tag == "0"


def test_differences_of_settings() -> None:
    assert runs.differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}, "d": 4}) == ["a: 1 -> None", "b.c: 2 -> 3", "d: None -> 4"]
