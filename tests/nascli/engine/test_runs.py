from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nascli.engine import runs
from nascli.engine.archive import Front
from nascli.engine.runs import Run
from nascli.errors import RunError, RunFormatError
from tests.toy_journal import trial, write
from tests.toys import ERROR, SIZE, toy_task


def test_limits_are_judged_afresh(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(2))
        found = run.run.trials(toy_task(replace(ERROR, limit=1.0), SIZE))[0]
    assert found.costs == () and found.violation == 1.0 and "breaks the limit error:min<=1" in found.error


def test_the_front_can_be_made_again_from_the_journal(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"schema": 2, "nascli": "9.9"}', "Upgrade it"), ("[]", "not of a format"), ("{", "can't be read")],
)
def test_other_formats(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFormatError, match=message):
        Run.open(tmp_path)


def test_names_say_what_and_do_not_collide() -> None:
    assert runs.name("search", "evolution", "mobile").split("-")[1:4] == ["search", "evolution", "mobile"]
    assert runs.name("search") != runs.name("search")


def test_a_trial_that_is_not_there(tmp_path: Path) -> None:
    with write(tmp_path) as run:
        run.record(trial(0))
        with pytest.raises(RunError, match="has no trial 7; it has 0 to 0"):
            run.run.network(7, toy_task().space)
        assert run.run.network(0, toy_task().space).tag == "0"


def test_differences_of_settings() -> None:
    assert runs.differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}, "d": 4}) == [
        "a: 1 -> None",
        "b.c: 2 -> 3",
        "d: None -> 4",
    ]


def test_settings_that_a_version_did_not_know_are_no_difference_while_they_are_empty() -> None:
    old: dict[str, object] = {"seed": 0}
    assert runs.differences(old, {"seed": 0, "record": [], "proxy": {}, "also": ""}) == []
    assert runs.differences(old, {"seed": 0, "record": ["macs"]}) == ["record: None -> ['macs']"]
    assert runs.differences({"seed": 0}, {"seed": 1}) == ["seed: 0 -> 1"]
