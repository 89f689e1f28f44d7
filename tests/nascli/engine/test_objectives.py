from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli import plugins
from nascli.engine import objectives
from nascli.engine.evaluate import Subject, measure
from nascli.engine.network import Network
from nascli.engine.objectives import Objective, column, judge, parse
from nascli.engine.task import Task
from nascli.errors import SettingsError, UnsupportedError
from predictors.cost import count
from predictors.protocol import Reading
from search_spaces.table import TableSpace
from tests.toy_images import RESNET, image_task
from tests.toys import BROKEN, ERROR, SIZE, TABLE, ToySpace, toy_task

SPACE = ToySpace()
NOT_ONE = 3
"""An attribute that is no objective."""


class TestParse:
    @pytest.mark.parametrize("name", plugins.names("objective"))
    def test_every_name_there_is(self, name: str) -> None:
        objective = parse(name, SPACE)
        assert objective.name == name and objective.limit is None
        assert objective.goal == ("max" if name == "accuracy" else "min")
        assert objective.unit

    @pytest.mark.parametrize(
        ("text", "name", "goal", "limit"),
        [
            ("latency_ms<=5", "latency_ms", "min", 5.0),
            ("  latency_ms <= 5.5 ", "latency_ms", "min", 5.5),
            ("latency_ms<=-1e-3", "latency_ms", "min", -1e-3),
            ("accuracy>=70", "accuracy", "max", 70.0),
            ("accuracy:max>=70", "accuracy", "max", 70.0),
            ("accuracy:min<=70", "accuracy", "min", 70.0),
            ("params:max", "params", "max", None),
            ("macs:min<=1_000_000", "macs", "min", 1e6),
        ],
    )
    def test_the_grammar(self, text: str, name: str, goal: str, limit: float | None) -> None:
        found = parse(text, SPACE)
        assert (found.name, found.goal, found.limit) == (name, goal, limit)

    def test_what_is_printed_can_be_given(self) -> None:
        for text in ("latency_ms:min<=5", "accuracy:max>=70", "params:min"):
            assert str(parse(text, SPACE)) == text
            assert parse(str(parse(text, SPACE)), SPACE) == parse(text, SPACE)

    def test_an_objective_of_ones_own(self) -> None:
        assert parse("tests.toys:SIZE", SPACE) == SIZE
        found = parse("tests.toys:ERROR:max>=3", SPACE)
        assert (found.name, found.goal, found.limit) == ("error", "max", 3.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("latency_ms>=5", "'latency_ms>=5': latency_ms is minimised, so its limit is written latency_ms<=VALUE."),
            ("accuracy<=70", "'accuracy<=70': accuracy is maximised, so its limit is written accuracy>=VALUE."),
            ("accuracy:min>=70", "accuracy is minimised, so its limit is written accuracy<=VALUE."),
            ("macs<=nan", "'macs<=nan': the limit 'nan' is not a number."),
            ("macs<=inf", "the limit 'inf' is not a number."),
            ("macs<=5ms", "the limit '5ms' is not a number."),
            ("accuracy=70", "'accuracy=70' is no objective; write NAME, NAME:min, NAME<=LIMIT or NAME>=LIMIT."),
            ("accuracy<70", "is no objective"),
            ("accuracy>=", "is no objective"),
            (">=70", "is no objective"),
            ("", "'' is no objective"),
            ("5<=accuracy<=9", "is no objective"),
            ("acuracy", "No objective is called 'acuracy'. Did you mean 'accuracy'?"),
            ("acuracy>=70", "No objective is called 'acuracy'. Did you mean 'accuracy'?"),
            ("tests.toys:SIZES", "has no 'SIZES'. Did you mean 'SIZE'?"),
            ("tests.toyz:SIZE", "there is no module 'tests.toyz'"),
            ("tests.nascli.engine.test_objectives:NOT_ONE", "is a int, neither an Objective nor a proxy."),
        ],
    )
    def test_what_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(SettingsError) as refused:
            parse(text, SPACE)
        assert message in str(refused.value) and "\n" not in str(refused.value)

    def test_no_order_of_characters_does_anything_else(self) -> None:
        for text in ("a:min:max", "a:b:c", "::", "a<=", "<=<=", "a>=1>=2", "a:min<=1:max", "\n", "a\nb<=1"):
            with pytest.raises(SettingsError):
                parse(text, SPACE)


class TestColumns:
    @pytest.fixture
    def space(self, tmp_path: Path) -> TableSpace:
        path = tmp_path / "measured.csv"
        path.write_text("choice.width,accuracy,edge_ms\n8,60.5,1.5\n16,70.25,3\n32,71,\n")
        return TableSpace(str(path), maximise=("accuracy",))

    def test_columns_are_looked_up(self, space: TableSpace) -> None:
        best, fast = parse("accuracy>=65", space), parse("edge_ms", space)
        assert (best.goal, fast.goal, best.price) == ("max", "min", 0)
        task = Task(space, objectives=(best, fast))
        trial = measure(Network(space.table.canonical(["16"])), task)
        assert trial.values == {"accuracy": 70.25, "edge_ms": 3.0} and trial.costs == (-70.25, 3.0)
        assert (
            measure(Network(space.table.canonical(["8"])), task).error
            == "accuracy=60.5 breaks the limit accuracy:max>=65"
        )

    def test_the_goal_may_be_turned_round(self, space: TableSpace) -> None:
        assert parse("edge_ms:max>=2", space).goal == "max"

    def test_what_was_not_measured_is_a_failed_trial(self, space: TableSpace) -> None:
        task = Task(space, objectives=(parse("edge_ms", space),))
        trial = measure(Network(space.table.canonical(["32"])), task)
        assert trial.costs == () and "was not measured" in trial.error

    def test_a_column_that_is_not_there(self, space: TableSpace) -> None:
        with pytest.raises(SettingsError, match=r"no column 'latency_ms'\. There are accuracy, edge_ms\."):
            parse("latency_ms", space)
        assert parse("tests.toys:SIZE", space) == SIZE

    def test_a_space_without_a_table(self) -> None:
        subject = Subject(Network(TABLE.smallest), toy_task())
        with pytest.raises(UnsupportedError, match="'toy' has no table to look 'edge_ms' up in"):
            column("edge_ms", "min", "ms").measure(subject, subject.task)

    def test_columns_can_be_sent_to_a_process(self) -> None:
        assert pickle.loads(pickle.dumps(column("edge_ms", "min", "ms"))).name == "edge_ms"


class TestLimits:
    def test_how_far_beyond(self) -> None:
        low, high = replace(SIZE, limit=10.0), Objective("accuracy", "max", "%", 2, SIZE.measure, limit=80.0)
        assert [low.violation(v) for v in (3.0, 10.0, 15.0)] == [0.0, 0.0, 0.5]
        assert [high.violation(v) for v in (90.0, 80.0, 60.0)] == [0.0, 0.0, 0.25]
        assert SIZE.violation(1e300) == 0.0

    def test_limits_of_nothing_and_below(self) -> None:
        assert replace(SIZE, limit=0.0).violation(3.0) == 3.0
        assert replace(SIZE, limit=-2.0).violation(-1.0) == 0.5
        assert replace(SIZE, limit=-2.0).violation(-3.0) == 0.0

    def test_costs_are_minimised(self) -> None:
        assert SIZE.cost(3.0) == 3.0 and replace(SIZE, goal="max").cost(3.0) == -3.0


class TestJudge:
    objectives = (ERROR, replace(SIZE, limit=4.0), Objective("accuracy", "max", "%", 2, SIZE.measure))

    def test_all_measured_and_within(self) -> None:
        values = {"size": 4.0, "error": 2.0, "accuracy": 90.0, "accuracy_spread": 1.0}
        assert judge(values, self.objectives) == ((2.0, 4.0, -90.0), "", 0.0)

    def test_a_broken_limit_counts_whatever_else_was_measured(self) -> None:
        expected = ((), "size=5 units breaks the limit size:min<=4", 0.25)
        assert judge({"size": 5.0}, self.objectives) == expected
        assert judge({"size": 5.0, "error": 2.0, "accuracy": 90.0}, self.objectives) == expected

    def test_what_is_missing_has_no_costs(self) -> None:
        assert judge({"size": 3.0}, self.objectives) == ((), "error, accuracy was not measured", math.inf)

    def test_a_failure_has_no_costs_and_keeps_its_reason(self) -> None:
        assert judge({"size": 3.0}, self.objectives, "out of memory") == ((), "out of memory", math.inf)
        full = {"size": 3.0, "error": 1.0, "accuracy": 2.0}
        assert judge(full, self.objectives, "out of memory") == ((), "out of memory", math.inf)

    def test_a_journalled_trial_is_judged_as_it_was_when_measured(self) -> None:
        task = toy_task(*self.objectives[:2], BROKEN)
        for arch in (TABLE.smallest, TABLE.largest):
            now = measure(Network(arch), task)
            row = json.loads(json.dumps({"values": now.values, "error": now.error}))
            then = judge(row["values"], task.objectives, row["error"])
            assert then == (now.costs, now.error, now.violation)


class TestBuiltIn:
    def test_what_is_counted(self) -> None:
        task = image_task()
        subject = Subject(Network(RESNET.table.smallest), task)
        model = RESNET.build(RESNET.table.smallest).eval()
        cost = count(model, (torch.zeros(1, 1, 4, 4),))
        values = {n: plugins.load("objective", n).measure(subject, task) for n in ("macs", "params", "size_bytes")}
        assert values == {"macs": cost.macs, "params": cost.params, "size_bytes": cost.size_bytes}
        assert values["params"] == sum(p.numel() for p in model.parameters())
        assert all(isinstance(v, float) for v in values.values())

    def test_what_is_zero_is_not_counted_among_what_is_left(self) -> None:
        task = image_task()
        model = RESNET.build(RESNET.table.smallest)
        tensors = {name: torch.full_like(tensor, 3) for name, tensor in model.state_dict().items()}
        tensors["classifier.weight"][1:] = 0
        found = objectives.nonzero(Subject(Network(RESNET.table.smallest, tensors=tensors), task), task)
        gone = tensors["classifier.weight"][1:].numel()
        assert gone and found == sum(p.numel() for p in model.parameters()) - gone

    def test_accuracy_and_loss_come_from_one_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        passes: list[str] = []

        def evaluate(*_: object, **__: object) -> dict[str, float]:
            passes.append("val")
            return {"accuracy": 50.0, "loss": 1.5}

        monkeypatch.setattr("nascli.training.evaluate", evaluate)
        task = image_task()
        subject = Subject(Network(RESNET.table.smallest), task)
        assert objectives.accuracy(subject, task) == 50.0 and objectives.loss(subject, task) == 1.5
        assert passes == ["val"]

    def test_latency_with_its_spread(self) -> None:
        timed: list[tuple[bool, tuple[int, ...]]] = []

        def stopwatch(model: Any, inputs: Any) -> Reading:
            timed.append((model.training, tuple(inputs[0].shape)))
            return Reading(3.5, 0.25)

        task = replace(image_task(), latency=stopwatch, objectives=(parse("latency_ms<=3", RESNET),))
        trial = measure(Network(RESNET.table.smallest), task)
        assert trial.values == {"latency_ms": 3.5, "latency_ms_iqr": 0.25}
        assert trial.violation == pytest.approx(1 / 6)
        assert timed == [(False, (1, 1, 4, 4))]

    def test_latency_needs_a_model_of_it(self) -> None:
        with pytest.raises(UnsupportedError, match="latency_ms needs a latency model; give --latency"):
            measure(Network(RESNET.table.smallest), replace(image_task(), objectives=(objectives.LATENCY_MS,)))
