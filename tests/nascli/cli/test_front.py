from __future__ import annotations

from pathlib import Path

import pytest

from nascli.cli import front
from nascli.engine.objectives import ACCURACY, MACS, parse
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.errors import InfeasibleError, RunError
from tests.toys import ToySpace, toy_task


def test_members_are_rows_with_units_and_what_else_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    objectives = [{"name": o.name, "unit": o.unit} for o in (ACCURACY, MACS)]
    members = [
        {"n": 4, "arch": "a:1", "values": {"accuracy": 91.25, "macs": 2000.0, "test_loss": 0.5}},
        {"n": 7, "arch": "a:2", "values": {"accuracy": 80.0, "macs": 1000.0}},
    ]
    front.print_front({"objectives": objectives, "members": members})
    assert capsys.readouterr().out.splitlines() == [
        "n\taccuracy (%)\tmacs (MACs)\ttest_loss\tnetwork",
        "4\t91.25\t2,000\t0.5\ta:1",
        "7\t80\t1,000\t\ta:2",
    ]
    assert front.rows({"members": members}) == 2


def test_a_member_is_chosen_by_number(numbers: Path) -> None:
    run = Run.open(numbers)
    members = run.front["members"]
    assert front.chosen(run, None) == members[0] and front.chosen(run, members[-1]["n"]) == members[-1]
    with pytest.raises(RunError, match=r"has no front member 99; it has \d+, "):
        front.chosen(run, 99)


def limited(*specs: str) -> Task:
    return Task(ToySpace(), objectives=tuple(parse(text, ToySpace()) for text in specs))


def test_a_run_with_a_front_is_feasible(numbers: Path) -> None:
    front.check_feasible(Run.open(numbers), toy_task())


def test_the_nearest_miss_is_named(numbers: Path) -> None:
    run = Run.open(numbers)
    smallest = min(row["values"]["size"] for row in run.rows)
    with pytest.raises(InfeasibleError) as refused:
        front.check_feasible(run, limited("tests.toys:ERROR", "tests.toys:SIZE<=0.5"))
    assert str(refused.value).startswith(f"No network met size<=0.5; the nearest of 12 has {smallest:g} units (toy:")
    assert str(refused.value).endswith("). The front is empty.")


def test_when_nothing_could_be_measured_the_last_error_is_told(numbers: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"None of 12 networks could be measured; the last error: macs was not"):
        front.check_feasible(Run.open(numbers), limited("macs"))
