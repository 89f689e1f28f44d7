from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nascli import settings
from nascli.data.builtin import Digits
from nascli.engine.drive import Budget
from nascli.engine.plan import Plan, header, prepare, torch_device
from nascli.errors import DataError, NascliError, SettingsError, UnsupportedError
from nascli.settings import Layers
from nascli.strategies.evolution import Evolution
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Signature
from tests.toys import ERROR, SIZE, ToySpace, toy_task

TOY = {
    "space.name": "tests.toys:ToySpace",
    "strategy.name": "random",
    "objectives": ["tests.toys:SIZE"],
    "device": "cpu",
}
DIGITS = {**TOY, "space.name": "resnet", "data.name": "digits", "objectives": ["accuracy", "macs"]}


def layers(values: dict[str, Any] = TOY, *sets: str, **changes: Any) -> Layers:
    found = Layers()
    for key, value in (values | changes).items():
        found.put(key, value, origin="default")
    for text in sets:
        found.assign(text)
    return found


class TestPreparing:
    def test_names_become_objects(self) -> None:
        given = layers(TOY, "strategy.name='evolution'", "strategy.population=8", "budget.evaluations=30", "seed=7")
        given.put("objectives", ["tests.toys:ERROR", "tests.toys:SIZE<=9"], origin="--objective")
        made = prepare(given, kind="strategy")
        assert made.strategy == Evolution(population=8) and made.budget == Budget(evaluations=30)
        task = made.task
        assert task.space == ToySpace() and task.seed == 7 and task.device == "cpu" and task.data is None
        assert task.objectives[0] == ERROR and task.objectives[1].limit == 9.0
        assert (task.calibration, task.batch_size, task.supernet) == (Plan().calibration, Plan().batch_size, None)

    def test_the_space_takes_what_the_data_give(self) -> None:
        made = prepare(layers(DIGITS, "data.limit=100", "space.widths=[4, 8]"), kind="strategy")
        assert made.task.space.signature == Signature("image", (1, 8, 8), 10)
        assert isinstance(made.task.space, ResNetSpace) and made.task.space.widths == (4, 8)
        assert made.task.data is not None and len(made.task.data.train) == 100

    def test_recipes_are_another_kind(self) -> None:
        made = prepare(layers(DIGITS, "strategy.name='sandwich'", "strategy.nets=3"), kind="recipe")
        assert type(made.strategy).__name__ == "Sandwich" and made.strategy.nets == 3

    def test_the_resolved_settings_prepare_the_same_again(self, tmp_path: Path) -> None:
        (tmp_path / "supernet").mkdir()
        given = layers(DIGITS, "data.limit=50", "budget.seconds='1m30s'", "seed=3", "latency.name='roofline'")
        given.assign("latency.gflops=100")
        given.assign("latency.gbytes_per_s=10")
        given.put("supernet", str(tmp_path / "supernet"), origin="--supernet")
        given.put("objectives", ["accuracy>=50", "latency_ms"], origin="--objective")
        first = prepare(given, kind="strategy")
        (tmp_path / "settings.toml").write_text(settings.to_toml(first.resolved))
        again = Layers()
        again.file(tmp_path / "settings.toml")
        second = prepare(again, kind="strategy")
        assert second.resolved == first.resolved
        for part in ("space", "objectives", "device", "seed", "supernet", "latency", "calibration", "batch_size"):
            assert getattr(second.task, part) == getattr(first.task, part), part
        assert (second.strategy, second.budget) == (first.strategy, Budget(seconds=90.0))
        assert first.task.supernet == tmp_path / "supernet"

    def test_every_field_is_resolved_so_that_new_defaults_change_no_old_run(self) -> None:
        resolved = prepare(layers(DIGITS), kind="strategy").resolved
        assert resolved["strategy"] == {"name": "random", "batch": 20, "proxy": "", "candidates": 10, "warm_up": 0}
        assert resolved["latency"]["name"] == "measured" and len(resolved["latency"]) > 1
        assert resolved["space"]["preset"] == "auto" and resolved["calibration"] == 2000

    @pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("'30m'", 1800.0), ("'1h30m'", 5400.0)])
    def test_durations(self, text: str, seconds: float) -> None:
        assert prepare(layers(TOY, f"budget.seconds={text}"), kind="strategy").budget.seconds == seconds

    def test_settings_of_compressors_are_the_tasks(self) -> None:
        given = layers(TOY, "compressor.wgsef.epochs=5")
        # The dots of a full name make tables within tables, in flags and when a run's settings are read again.
        given.put("compressor.tests.toy_compress:Halve.epochs", 7, origin="--epochs")
        given.put("compressor.tests.toy_compress:Halve.telling", False, origin="--set")
        made = prepare(given, kind="strategy").task.compressors
        assert made == {"wgsef": {"epochs": 5}, "tests.toy_compress:Halve": {"epochs": 7, "telling": False}}


@dataclass(frozen=True)
class Elsewhere:
    """Data of another shape."""

    def load(self) -> Any:
        return Digits(limit=20).load()


REFUSED: dict[str, tuple[Callable[[], Layers], type[NascliError], str]] = {
    "strategy": (lambda: layers(TOY, "strategy.name='evoluton'"), SettingsError,
                 "No strategy is called 'evoluton'. Did you mean 'evolution'?"),
    "a recipe for a strategy": (lambda: layers(TOY, "strategy.name='sandwich'"), SettingsError,
                                "No strategy is called 'sandwich'."),
    "space": (lambda: layers(TOY, "space.name='resnett'"), SettingsError, "No space is called 'resnett'. Did you mean"),
    "data": (lambda: layers(TOY, "data.name='digit'"), SettingsError, "No data is called 'digit'. Did you mean"),
    "latency": (lambda: layers(TOY, "latency.name='rooflin'"), SettingsError, "Did you mean 'roofline'?"),
    "objective": (lambda: layers(objectives=["acuracy"]), SettingsError, "Did you mean 'accuracy'?"),
    "objective twice": (lambda: layers(objectives=["macs", "params", "macs<=5"]), SettingsError,
                        "An objective is given twice in macs, params, macs<=5; give each once."),
    "no space": (lambda: layers({"strategy.name": "random", "device": "cpu"}), SettingsError,
                 "No space is given; name one: --space NAME"),
    "no strategy": (lambda: layers({"space.name": "resnet", "device": "cpu"}), SettingsError, "No strategy is given"),
    "data without a name": (lambda: layers(TOY, "data.limit=3"), SettingsError, "No data is given"),
    "setting of a strategy": (lambda: layers(TOY, "strategy.bach=3"), SettingsError,
                              "--set strategy.bach=3: strategy 'random' has no setting 'bach'. Did you mean 'batch'?"),
    "setting of data": (lambda: layers(DIGITS, "data.limits=3"), SettingsError, "--set data.limits=3: data 'digits'"),
    "compressor": (lambda: layers(TOY, "compressor.wgsff.epochs=3"), SettingsError,
                   "No compressor is called 'wgsff'. Did you mean 'wgsef'?"),
    "compressor in a package": (lambda: layers(TOY, "compressor.a.b.epochs=3"), SettingsError,
                                "No compressor is called 'a.b'."),
    "compressor without a table": (lambda: layers(TOY, "compressor.wgsef=3"), SettingsError,
                                   "compressor.wgsef=3 is no table of settings; write compressor.wgsef.SETTING=VALUE."),
    "setting of nothing": (lambda: layers(TOY, "sed=3"), SettingsError, "--set sed=3: nascli has no setting 'sed'."),
    "budget": (lambda: layers(TOY, "budget.evaluation=3"), SettingsError, "Did you mean 'evaluations'?"),
    "budget of nothing": (lambda: layers(TOY, "budget.evaluations=-5"), SettingsError,
                          "budget: evaluations=-5 must be more than 0"),
    "duration": (lambda: layers(TOY, "budget.seconds='soon'"), SettingsError, "'soon' is no duration"),
    "value": (lambda: layers(TOY, "seed='x'"), SettingsError, "--set seed='x': nascli: seed='x': Input should"),
    "value out of range": (lambda: layers(TOY, "strategy.batch=0"), SettingsError, "batch must be at least 1"),
    "space that describes no network": (lambda: layers(DIGITS, "space.depths=[3, 1]"), SettingsError, "depths=(3, 1)"),
    "no files": (lambda: layers(DIGITS, "data.name='npz'", "data.path='/nowhere.npz'"), DataError, "/nowhere.npz"),
    "supernet": (lambda: layers(DIGITS, supernet="/nowhere"), DataError,
                 "There is no supernet '/nowhere'; train one with nascli train --out /nowhere."),
    "signature": (lambda: layers(DIGITS, "space.signature={kind='image', shape=[3, 32, 32], classes=10}"), DataError,
                  "The space 'resnet' reads image 3x32x32 -> 10 classes, but the data are image 1x8x8 -> 10 classes; "
                  "leave space.signature out to take the data's."),
    "classes": (lambda: layers(DIGITS, "space.signature={kind='image', shape=[1, 8, 8], classes=9}"), DataError,
                "image 1x8x8 -> 9 classes, but the data are image 1x8x8 -> 10 classes"),
    "a space with a shape of its own": (lambda: layers(TOY, f"data.name='{__name__}:Elsewhere'",
                                                       "space.signature={kind='image', shape=[1, 2, 2], classes=3}"),
                                        DataError, "reads image 1x2x2 -> 3 classes"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    given, error, message = REFUSED[what]
    with pytest.raises(error) as refused:
        prepare(given(), kind="strategy")
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert type(refused.value) is error


class TestDevices:
    @pytest.fixture(params=[0, 2], ids=["no GPU", "two GPUs"])
    def gpus(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
        return int(request.param)

    def test_the_best_there_is(self, gpus: int) -> None:
        assert torch_device("auto") == ("cuda:0" if gpus else "cpu") and torch_device("cpu") == "cpu"

    def test_a_gpu_by_number(self, gpus: int) -> None:
        for name, index in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:2", 2)):
            if index < gpus:
                assert torch_device(name) == f"cuda:{index}"
                continue
            with pytest.raises(UnsupportedError) as refused:
                torch_device(name)
            assert refused.value.exit_code == 5
            assert str(refused.value) == (
                f"This machine has {gpus} CUDA devices that torch can use, so there is no {name!r}; "
                "give --device cpu or auto."
            )

    def test_other_devices(self) -> None:
        for name in ("mps", "meta", "xla"):
            with pytest.raises(UnsupportedError, match=f"Device '{name}' is not supported; give auto, cpu or cuda:0"):
                torch_device(name)
        for name in ("gpu", "cuda:x", "", "cpu0"):
            with pytest.raises(SettingsError, match=f"'{name}' is no device; give auto, cpu or cuda:0"):
                torch_device(name)

    def test_nothing_else_is_read_before_a_missing_device_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(UnsupportedError, match="there is no 'cuda'"):
            prepare(layers(DIGITS, "device='cuda'", "data.name='npz'", "data.path='/nowhere.npz'"), kind="strategy")


def test_the_header_says_what_the_run_depends_on() -> None:
    task = toy_task(ERROR, SIZE, seed=4)
    found = json.loads(json.dumps(header(task), allow_nan=False))
    assert found["seed"] == 4 and found["space"] == "toy" and found["fingerprint"] == task.space.table.fingerprint
    assert found["objectives"][1] == {"name": "size", "goal": "min", "unit": "units", "limit": None}
    assert found["versions"]["torch"] == torch.__version__ and found["versions"]["numpy"] == np.__version__
    assert found["device"]["torch_device"] == "cpu" and found["device"]["cpu"]
