from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nascli import training
from nascli.engine import final
from nascli.engine.checkpoints import read_described, write_tensors
from nascli.engine.evaluate import Subject, measure
from nascli.engine.final import finalise
from nascli.engine.network import Network
from nascli.engine.objectives import ACCURACY, MACS
from nascli.engine.protocol import Trial
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted
from tests.toy_images import RESNET, corners, image_task, same
from tests.toys import toy_task

TABLE = RESNET.table


@pytest.fixture(scope="module")
def inheriting(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A task whose networks inherit from a supernet nobody trained."""
    path = tmp_path_factory.mktemp("trained")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        write_tensors(path / "supernet.safetensors", RESNET.supernet().state_dict(), {})
    return replace(image_task(data=corners()), supernet=path, objectives=(ACCURACY, MACS))


def writer(path: Path, task: Task) -> Writer:
    return Writer(path, command="search", resolved={}, header={"fingerprint": task.space.table.fingerprint})


def journalled(run: Writer, task: Task, *networks: Network) -> list[Trial]:
    trials = [replace(measure(n, task), number=i) for i, n in enumerate(networks)]
    for trial in trials:
        run.record(trial)
    return trials


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the networks that were looked at on the test split."""
    seen: list[str] = []

    class Counting(Subject):
        def quality(self, split: str) -> dict[str, float]:  # type: ignore[override]
            seen.append(f"{split} of {self.network.key}")
            return dict(super().quality(split))

    monkeypatch.setattr(final, "Subject", Counting)
    return seen


def test_members_are_measured_on_the_test_split_and_kept(tmp_path: Path, inheriting: Task) -> None:
    networks = [Network(TABLE.smallest), Network(TABLE.largest)]
    with writer(tmp_path, inheriting) as run:
        dominated = Network(TABLE.sample(inheriting.rng("any")))
        trials = journalled(run, inheriting, *networks, dominated)
        finalise(trials[:2], inheriting, run)
    finals = Run.open(tmp_path).finals
    assert finals.keys() == {n.key for n in networks}
    assert sorted(p.name for p in (tmp_path / "networks").iterdir()) == [
        "0.json",
        "0.safetensors",
        "1.json",
        "1.safetensors",
    ]
    for number, network in enumerate(networks):
        tensors, description = read_described(tmp_path / f"networks/{number}.safetensors")
        subject = Subject(network, inheriting)
        assert same(tensors, dict(subject.model.state_dict())), "with the statistics that were re-estimated"
        assert finals[network.key] == {f"test_{k}": v for k, v in subject.quality("test").items()}
        expected = {**trials[number].values, **finals[network.key]}
        assert description["values"] == expected and description["arch"] == str(network.arch)
        restored = Run.open(tmp_path).network(number, inheriting.space)
        again = training.evaluate(restored.build(RESNET), corners().test, batch_size=40, device="cpu")
        assert again["accuracy"] == finals[network.key]["test_accuracy"]


def test_the_test_split_is_looked_at_once(tmp_path: Path, inheriting: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    for _ in range(2):
        with writer(tmp_path, inheriting) as run:
            trials = run.run.trials(inheriting) or journalled(run, inheriting, Network(TABLE.smallest))
            finalise(trials, inheriting, run)
    assert seen == [f"test of {TABLE.smallest}"]


def test_networks_that_were_never_trained_are_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    task = replace(image_task(data=corners()), objectives=(MACS,))
    with writer(tmp_path / "fresh", task) as run:
        finalise(journalled(run, task, Network(TABLE.smallest)), task, run)
    numbers = toy_task()
    with writer(tmp_path / "numbers", numbers) as run:
        finalise(journalled(run, numbers, Network(numbers.space.table.smallest)), numbers, run)
    assert seen == [] and not list(tmp_path.rglob("networks")) and Run.open(tmp_path / "fresh").finals == {}


def test_tensors_of_ones_own_are_tested_as_they_are(tmp_path: Path, inheriting: Task) -> None:
    """With and without a supernet: what is stored is not inherited anew."""
    state = {
        k: v.clone()
        for k, v in Subject(Network(TABLE.smallest), replace(inheriting, seed=9)).model.state_dict().items()
    }
    state["classifier.bias"] += torch.tensor([0.0, 0.0, 0.0, 100.0])
    for name, task in (("with", inheriting), ("without", replace(inheriting, supernet=None))):
        with writer(tmp_path / name, task) as run:
            (trial,) = journalled(run, task, Network(TABLE.smallest, tensors=state, tag="mine"))
            run.save_network(trial, state, {"values": {}})
            before = (tmp_path / name / "networks/0.safetensors").read_bytes()
            finalise([replace(trial, network=replace(trial.network, tensors=None))], task, run)
        assert Run.open(tmp_path / name).finals[trial.key]["test_accuracy"] == 25.0, "all are taken for the last class"
        assert (tmp_path / name / "networks/0.safetensors").read_bytes() == before


def once() -> Callable[[], bool]:
    answers = iter([True])
    return lambda: next(answers, False)


def test_an_interruption_keeps_what_was_measured(
    tmp_path: Path, inheriting: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    networks = [Network(TABLE.smallest), Network(TABLE.largest)]
    with writer(tmp_path, inheriting) as run:
        trials = journalled(run, inheriting, *networks)
        with pytest.raises(Interrupted, match="what was measured is kept"):
            finalise(trials, inheriting, run, stop=once())
        assert list(run.run.finals) == [networks[0].key]
        finalise(trials, inheriting, run)
    assert seen == [f"test of {n.key}" for n in networks]
    assert list(Run.open(tmp_path).finals) == [n.key for n in networks]


@pytest.mark.parametrize("left", ["0.safetensors", "0.safetensors 0.json"])
def test_after_a_kill_between_the_files(tmp_path: Path, inheriting: Task, left: str) -> None:
    """The tensors were stored, perhaps with their description, and the result was not journalled."""
    with writer(tmp_path / "whole", inheriting) as run:
        finalise(journalled(run, inheriting, Network(TABLE.smallest)), inheriting, run)
    with writer(tmp_path / "torn", inheriting) as run:
        trials = journalled(run, inheriting, Network(TABLE.smallest))
        (tmp_path / "torn/networks").mkdir()
        for name in left.split():
            (tmp_path / "torn/networks" / name).write_bytes((tmp_path / "whole/networks" / name).read_bytes())
        finalise(trials, inheriting, run)
    for name in ("finals.jsonl", "networks/0.safetensors", "networks/0.json"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
