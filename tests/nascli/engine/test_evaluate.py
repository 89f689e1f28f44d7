from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascli import training
from nascli.data import Data
from nascli.engine import evaluate
from nascli.engine.checkpoints import write_tensors
from nascli.engine.evaluate import Subject, assemble, measure
from nascli.engine.network import Network
from nascli.engine.objectives import ACCURACY, LATENCY_MS, MACS, Objective
from nascli.engine.task import Task
from nascli.errors import DataError, UnsupportedError
from predictors.protocol import Reading
from search_spaces import Architecture
from search_spaces.errors import SpaceError
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Signature
from tests.toy_images import MOBILE, RESNET, Single, corners, image_task, same
from tests.toys import BROKEN, ERROR, SIZE, TABLE, ToySpace, toy_task

DATA = corners()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet with wild weights, so that uncalibrated networks are far off."""
    path = tmp_path_factory.mktemp("trained") / "supernet.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        supernet = RESNET.supernet()
        with torch.no_grad():
            for weights in supernet.parameters():
                weights.copy_(2 * torch.randn_like(weights) + 0.5)
            for name, statistics in supernet.named_buffers():
                if name.endswith(("mean", "var")):
                    statistics.uniform_(0.5, 2)
    write_tensors(path, supernet.state_dict(), {})
    return path.parent


@pytest.fixture
def task(checkpoint: Path) -> Task:
    return replace(image_task(data=DATA), supernet=checkpoint, calibration=32)


def calls(*names: str, task: Task, limit: float | None = None) -> tuple[list[str], Task]:
    """Objectives named "name:price" that note when they are called; the limit is that of the first."""
    called: list[str] = []

    def objective(text: str) -> Objective:
        name, _, price = text.partition(":")

        def read(subject: Subject, task: Task) -> float:
            called.append(name)
            return 5.0

        return Objective(name, "min", "", int(price), read)

    made = [objective(text) for text in names]
    return called, replace(task, objectives=(replace(made[0], limit=limit), *made[1:]))


class TestMeasuring:
    def test_cheap_things_first_and_costs_in_the_order_asked(self) -> None:
        called, task = calls("trained:3", "counted:0", "timed:1", "passed:2", "looked:0", task=toy_task())
        trial = measure(Network(TABLE.smallest), task)
        assert called == ["counted", "looked", "timed", "passed", "trained"]
        assert list(trial.values) == called and trial.costs == (5.0,) * 5
        assert trial.number == -1 and trial.seconds > 0 and trial.error == ""

    @pytest.mark.parametrize(
        ("limit", "expected"), [(4.0, ["counted", "timed"]), (5.0, ["counted", "timed", "passed"])]
    )
    def test_nothing_is_measured_after_a_broken_limit(self, limit: float, expected: list[str]) -> None:
        called, task = calls("timed:1", "passed:2", "counted:0", task=toy_task(), limit=limit)
        trial = measure(Network(TABLE.smallest), task)
        assert called == expected and list(trial.values) == expected
        assert (trial.costs == ()) == (limit == 4.0)
        assert trial.violation == (0.25 if limit == 4.0 else 0.0)
        assert trial.error == ("timed=5 breaks the limit timed:min<=4" if limit == 4.0 else "")

    def test_a_broken_latency_limit_spares_the_data(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither the pass over validation data nor the one that re-estimates statistics is made."""
        monkeypatch.setattr(training, "calibrate", None)
        monkeypatch.setattr(training, "evaluate", None)
        slow = replace(LATENCY_MS, limit=1.0)
        timed = replace(task, objectives=(ACCURACY, slow, MACS), latency=lambda model, inputs: Reading(2.0, 0.5))
        trial = measure(Network(RESNET.table.smallest), timed)
        assert trial.violation == 1.0 and trial.values.keys() == {"macs", "latency_ms", "latency_ms_iqr"}

    def test_several_values_of_one_objective(self) -> None:
        spread = Objective("ms", "min", "ms", 0, lambda s, t: {"ms": 2.0, "ms_iqr": 0.5, "ms_max": math.inf})
        trial = measure(Network(TABLE.smallest), toy_task(spread))
        assert trial.values == {"ms": 2.0, "ms_iqr": 0.5} and trial.costs == (2.0,)
        other = Objective("ms", "min", "ms", 0, lambda s, t: {"seconds": 2.0})
        trial = measure(Network(TABLE.smallest), toy_task(other))
        assert trial.error == "ms is missing" and trial.costs == ()


def failing(error: BaseException) -> Objective:
    def read(subject: Subject, task: Task) -> float:
        raise error

    return Objective("failing", "min", "", 1, read)


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ValueError("first line\nsecond line"), "ValueError: first line"),
            (ZeroDivisionError(), "ZeroDivisionError"),
            (RuntimeError("x" * 1000), "RuntimeError: " + "x" * 200),
            (MemoryError(), "out of memory"),
            (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "out of memory"),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
            (SpaceError("no such network"), "no such network"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_a_failure_is_a_trial(self, error: BaseException, said: str) -> None:
        trial = measure(Network(TABLE.smallest), toy_task(SIZE, failing(error), ERROR))
        assert trial.error == said and trial.costs == () and trial.violation == math.inf
        assert trial.values.keys() == {"size"}, "what was measured before is kept, and nothing after it"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_is_a_failure(self, value: float) -> None:
        called, task = calls("later:2", task=toy_task())
        odd = Objective("odd", "min", "", 0, lambda s, t: value)
        trial = measure(Network(TABLE.smallest), replace(task, objectives=(odd, *task.objectives)))
        assert trial.error == f"odd is {value}" and trial.costs == () and trial.violation == math.inf
        assert trial.values == {} and called == []

    def test_the_log_has_the_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("DEBUG"):
            measure(Network(TABLE.smallest), toy_task(BROKEN))
        assert "measuring toy:1/1,plain/-/- failed" in caplog.text and "in broken" in caplog.text

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt(), DataError("There is no supernet."), UnsupportedError("No.")]
    )
    def test_what_concerns_all_networks_is_no_trial(self, error: BaseException) -> None:
        with pytest.raises(type(error)):
            measure(Network(TABLE.smallest), toy_task(failing(error)))

    def test_a_network_that_cannot_be_built(self) -> None:
        @dataclass(frozen=True)
        class Refusing(ToySpace):
            def build(self, arch: Architecture) -> nn.Module:
                raise SpaceError("depth 3 needs more pixels")

        trial = measure(Network(TABLE.smallest), Task(Refusing(), objectives=(MACS,)))
        assert trial.error == "depth 3 needs more pixels"


class TestSubject:
    def test_each_thing_is_made_once_and_only_if_asked_for(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        real = evaluate.assemble
        monkeypatch.setattr(evaluate, "assemble", lambda n, t: made.append(n.key) or real(n, t))
        subject = Subject(Network(RESNET.table.largest), task)
        assert made == []
        assert subject.cost is subject.cost and subject.quality("val") is subject.quality("val")
        assert subject.model is subject.structure and subject.quality("test") is not subject.quality("val")
        assert len(made) == 1 and not subject.model.training

    def test_the_example_is_real_where_there_are_data(self, task: Task) -> None:
        (example,) = Subject(Network(RESNET.table.smallest), task).example
        expected = next(DATA.val.batches(1)).inputs[0]
        assert torch.equal(example, expected)
        (blank,) = Subject(Network(RESNET.table.smallest), replace(task, data=None)).example
        assert blank.shape == expected.shape and not blank.any()

    def test_an_example_cannot_be_invented_for_other_kinds(self) -> None:
        space = ToySpace(Signature("sequence", (7,), 3))
        with pytest.raises(UnsupportedError, match="Measuring a sequence network needs data; give --data"):
            _ = Subject(Network(TABLE.smallest), Task(space)).example

    def test_accuracy_needs_data(self) -> None:
        with pytest.raises(UnsupportedError, match="Accuracy needs data; give --data NAME"):
            Subject(Network(TABLE.smallest), toy_task()).quality("val")

    def test_the_splits_are_not_mixed_up(self) -> None:
        mixed = Data(DATA.signature, DATA.train, DATA.val.head(10), DATA.test)
        subject = Subject(Network(RESNET.table.smallest), image_task(data=mixed))
        direct = {
            name: training.evaluate(subject.model, split, batch_size=7, device="cpu")
            for name, split in (("val", mixed.val), ("test", mixed.test))
        }
        for name, expected in direct.items():
            assert subject.quality(name) == pytest.approx(expected, rel=1e-5)
        assert direct["val"] != direct["test"]

    def test_networks_that_draw_numbers_are_measured_alike(self, task: Task) -> None:
        @dataclass(frozen=True)
        class Noisy(Single):
            def build(self, arch: Architecture) -> nn.Module:
                return Drawing()

        drawing = replace(task, space=Noisy(), supernet=None)
        arch, found = Noisy().table.smallest, []
        for seed in (1, 2):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            found.append(Subject(Network(arch), drawing).quality("val")["loss"])
            assert torch.equal(torch.get_rng_state(), state)
        assert found[0] == found[1]
        other = Subject(Network(arch), replace(drawing, seed=1)).quality("val")["loss"]
        assert other != found[0], "another run draws other numbers"


class Drawing(nn.Module):
    """Answers at random, in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), 4)


def calibrated_by_hand(arch: Architecture, supernet: nn.Module, images: Tensor) -> nn.Module:
    """The inherited network after each BatchNorm, from the first to the last, got the moments of what reaches it."""
    model = RESNET.build(arch).eval()
    model.load_state_dict(RESNET.inherit(supernet, arch))
    for layer in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
        seen: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(images)
        handle.remove()
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(seen[0].mean((0, 2, 3)))
        layer.running_var.copy_(seen[0].var((0, 2, 3), unbiased=False))
    return model


class TestInheriting:
    def test_statistics_are_never_those_of_the_supernet(self, task: Task) -> None:
        supernet = evaluate.supernet(RESNET, task.supernet or Path(), "cpu")
        images = next(DATA.train.head(32).batches(32)).inputs[0]
        val = next(DATA.val.batches(len(DATA.val)))
        rng, differ = np.random.default_rng(0), 0
        for arch in (RESNET.table.smallest, RESNET.table.largest, RESNET.table.sample(rng)):
            found = Subject(Network(arch), task)
            expected = calibrated_by_hand(arch, supernet, images)
            with torch.no_grad():
                logits = expected(val.inputs[0])
                torch.testing.assert_close(found.model(val.inputs[0]), logits, rtol=1e-3, atol=1e-3)
            accuracy = 100 * val.correct(logits).float().mean().item()
            assert found.quality("val")["accuracy"] == pytest.approx(accuracy)
            assert measure(Network(arch), replace(task, objectives=(ACCURACY,))).values["accuracy"] == pytest.approx(
                accuracy
            )
            raw = training.evaluate(assemble(Network(arch), task), DATA.val, batch_size=40, device="cpu")
            assert math.isfinite(raw["loss"])
            differ += raw["loss"] != pytest.approx(found.quality("val")["loss"], rel=0.01)
        assert differ == 3, "without calibration the numbers would have been others"

    def test_a_network_with_tensors_of_its_own_keeps_its_statistics(self, task: Task) -> None:
        arch = RESNET.table.smallest
        state = {k: v.clone() for k, v in RESNET.build(arch).state_dict().items()}
        for name, tensor in state.items():
            if name.endswith("running_mean"):
                tensor.fill_(0.25)
        assert same(dict(Subject(Network(arch, tensors=state), task).model.state_dict()), state)

    def test_the_supernet_is_read_once(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        evaluate.supernet.cache_clear()
        reads: list[Path] = []
        real = evaluate.checkpoints.read_tensors
        monkeypatch.setattr(evaluate.checkpoints, "read_tensors", lambda path: reads.append(path) or real(path))
        for arch in (RESNET.table.smallest, RESNET.table.largest):
            assemble(Network(arch), task)
        assert len(reads) == 1 and task.supernet is not None
        assemble(Network(RESNET.table.smallest), replace(task, supernet=task.supernet / "supernet.safetensors"))
        assert len(reads) == 2, "another path may be another file"

    def test_measuring_leaves_the_supernet_alone(self, task: Task) -> None:
        supernet = evaluate.supernet(RESNET, task.supernet or Path(), "cpu")
        before = {k: v.clone() for k, v in supernet.state_dict().items()}
        measure(Network(RESNET.table.largest), replace(task, objectives=(ACCURACY, MACS)))
        assert same(before, dict(supernet.state_dict()))

    @pytest.mark.parametrize(
        "space",
        [replace(RESNET, widths=(4, 12)), replace(RESNET, depths=(1, 3)), MOBILE],
        ids=["wider", "deeper", "other"],
    )
    def test_a_supernet_of_other_settings(self, task: Task, space: ResNetSpace) -> None:
        with pytest.raises(DataError) as refused:
            measure(Network(space.table.smallest), replace(task, space=space, objectives=(ACCURACY,)))
        said = str(refused.value)
        assert f"supernet.safetensors is no supernet of this {space.table.name!r} space (" in said
        assert "search with the space settings it was trained with, or train another." in said and "\n" not in said

    def test_a_folder_without_a_supernet(self, task: Task, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"holds no trained supernet \(supernet.safetensors\); train one with nascli"
        ):
            assemble(Network(RESNET.table.smallest), replace(task, supernet=tmp_path))


class TestFreshWeights:
    def test_seed_and_key_decide_and_nothing_else(self) -> None:
        task, arch = toy_task(seed=4), TABLE.parse("toy:2/4,plain/2,wide/-")
        torch.default_generator.manual_seed(1)
        first = assemble(Network(arch), task).state_dict()
        torch.default_generator.manual_seed(2)
        assemble(Network(TABLE.largest), task)
        assert same(dict(first), dict(assemble(Network(arch), task).state_dict()))
        for other in (assemble(Network(arch, tag="again"), task), assemble(Network(arch), toy_task(seed=5))):
            assert not same(dict(first), dict(other.state_dict()))

    def test_the_global_generators_are_left_alone(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        def seeded(*_: object) -> None:
            raise AssertionError("other devices were seeded")

        monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
        evaluate.supernet.cache_clear()
        np.random.seed(5)  # noqa: NPY002 the global generator is what is looked at
        before, numbers = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        measure(Network(Single().table.smallest), image_task(Single(), data=DATA))
        measure(Network(RESNET.table.sample(np.random.default_rng(0))), task)
        assert torch.equal(before, torch.get_rng_state())
        assert (numbers == np.random.get_state()[1]).all()  # noqa: NPY002

    def test_they_are_not_calibrated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "calibrate", None)
        assert not Subject(Network(RESNET.table.smallest), image_task(data=DATA)).model.training

    def test_the_same_trial_twice(self, task: Task) -> None:
        whole = replace(task, objectives=(ACCURACY, MACS))
        one, two = (measure(Network(RESNET.table.largest), whole) for _ in range(2))
        assert replace(one, seconds=0.0) == replace(two, seconds=0.0)
