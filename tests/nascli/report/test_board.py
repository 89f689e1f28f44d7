from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nascli.engine.network import Network
from nascli.engine.objectives import Objective, judge
from nascli.engine.protocol import Trial
from nascli.engine.runs import Run
from nascli.engine.scores import NODE_STATISTICS
from nascli.engine.task import Task
from nascli.report.board import Board, read
from nascli.strategies.listed import Listed
from search_spaces import Architecture
from tests.toy_board import DEAD, NAN, score
from tests.toy_journal import write
from tests.toys import TABLE, ToySpace


class Plain(ToySpace):
    """A space in which wide blocks compute what plain ones do, and which has a custom of its own to write networks."""

    def equivalent(self, arch: Architecture) -> Architecture:
        return TABLE.parse(str(arch).replace("wide", "plain"))

    def field(self, arch: Architecture) -> str:
        return str(arch).removeprefix("toy:")


def never(subject: object, task: Task) -> float:
    raise AssertionError("a board measures nothing")


def objective(name: str, goal: str) -> Objective:
    return Objective(name, goal, "", 0, never)  # type: ignore[arg-type]


TASK = Task(
    Plain(),
    objectives=(objective("jacov", "max"), objective("params", "min"), objective("macs", "min")),
    recorded=(objective("ntk", "min"), NODE_STATISTICS),
)
NODES = np.arange(12.0).reshape(2, 6)


def journalled(path: Path, *found: tuple[str, dict[str, float], dict[str, str]]) -> Run:
    with write(path) as writer:
        for number, (text, values, missing) in enumerate(found):
            network = Network(TABLE.parse(text))
            costs, error, violation = judge(values, TASK.objectives, missing=missing)
            vectors = {"nodes_statistics": NODES + number} if "nodes" in values else {}
            writer.record(Trial(number, network.key, network, values, costs, error, violation, 0.1, missing, vectors))
    return Run.open(path)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    run = journalled(
        tmp_path / "run",
        ("toy:1/1,plain/-/-", {"jacov": 5.0, "jacov_std": 0.5, "params": 10, "macs": 20, "ntk": 3.0, "nodes": 2}, {}),
        ("toy:1/2,plain/-/-", {"params": 12, "macs": 24}, {"jacov": DEAD, "ntk": "few", "nodes": DEAD}),
        ("toy:1/8,plain/-/-", {}, {}),
    )
    archs = ("toy:1/1,plain/-/-", "toy:1/2,wide/-/-", "toy:1/2,plain/-/-", "toy:1/1,wide/-/-", "toy:1/4,wide/-/-")
    return read(run, TASK, Listed(archs, equivalents="once"))


def test_every_network_asked_for_has_the_values_of_the_one_that_stands_for_it(board: Board) -> None:
    assert board.fields == ("1/1,plain/-/-", "1/2,wide/-/-", "1/2,plain/-/-", "1/1,wide/-/-", "1/4,wide/-/-")
    assert [str(a).removeprefix("toy:1/") for a in board.measured] == [
        *("1,plain/-/-", "2,plain/-/-", "2,plain/-/-", "1,plain/-/-", "4,plain/-/-"),
    ]
    assert np.array_equal(board.score("jacov").values, [5, NAN, NAN, 5, NAN], equal_nan=True)
    assert np.array_equal(board.params, [10, 12, 12, 10, NAN], equal_nan=True)
    assert np.array_equal(board.deviations["jacov"], [0.5, NAN, NAN, 0.5, NAN], equal_nan=True)
    assert list(board.deviations) == ["jacov"]


def test_scores_come_in_their_order_with_counts_last_and_large(board: Board) -> None:
    assert [(s.name, s.goal) for s in board.scores] == [
        ("jacov", "max"), ("ntk", "min"), ("params", "max"), ("macs", "max"),
    ]  # fmt: skip


def test_what_is_missing_has_its_reason(board: Board) -> None:
    jacov = board.score("jacov")
    assert jacov.reasons == ("", DEAD, DEAD, "", "not measured yet")
    assert jacov.dead == 2 and jacov.failures == {DEAD: 2, "not measured yet": 1}
    assert board.score("ntk").dead == 0 and board.score("ntk").reasons[1] == "few"


def test_the_error_of_a_network_is_the_reason_for_all_it_lacks(tmp_path: Path) -> None:
    run = journalled(tmp_path / "run", ("toy:1/1,plain/-/-", {}, {}))
    path = run.path / "trials.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"error": "out of memory"}) + "\n")
    found = read(run, TASK, Listed(("toy:1/1,plain/-/-",)))
    assert [s.reasons for s in found.scores] == [("out of memory",)] * 4


def test_statistics_of_layers_are_found_again(board: Board) -> None:
    assert [n is None for n in board.nodes] == [False, True, True, False, True]
    assert board.unread == ("", DEAD, DEAD, "", "not measured yet")
    assert np.array_equal(board.nodes[3], NODES)  # type: ignore[arg-type]


def test_a_score_turns_so_that_more_is_better_and_picks_rows() -> None:
    ntk = score("ntk", [1.0, NAN, 3.0], goal="min")
    assert np.array_equal(ntk.rising, [-1, NAN, -3], equal_nan=True)
    assert replace(ntk, goal="max").rising is ntk.values
    some = ntk.among(np.array([False, True, True]))
    assert some.reasons == (DEAD, "") and np.array_equal(some.values, [NAN, 3], equal_nan=True)


def test_a_board_without_counts_has_no_params(board: Board) -> None:
    assert np.isnan(replace(board, scores=board.scores[:1]).params).all()
