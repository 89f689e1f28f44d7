"""What holds for every compressor: a network goes in and stays as it is, and a smaller one comes out, always the same.

Run for every name there is, and for a toy; on a small network of convolutions with normalisation.
"""

from __future__ import annotations

import dataclasses
import io
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nascli import plugins
from nascli.compressors.protocol import Compressor, Level
from nascli.compressors.sweep import Sweep
from nascli.engine.checkpoints import read_described, write_tensors
from nascli.engine.compressing import made
from nascli.engine.network import Network, restore
from nascli.engine.protocol import Step, Trial
from nascli.engine.task import Task
from predictors.cost import count
from tests.toy_compress import HALVE, checkpoint, sweep_task
from tests.toy_images import same

GIVEN: dict[str, dict[str, Any]] = {}
"""By name, settings without which a compressor would take long, beside those in QUICK."""
QUICK: dict[str, Any] = {"epochs": 2.0, "batch": 24, "report_steps": 2, "examples": 24}
"""Given to every compressor that has such a setting."""
NAMES = [*plugins.names("compressor"), HALVE]
LEVELS = (Level(0.75), Level(0.5), Level(0.4, "params"))
every = pytest.mark.parametrize("name", NAMES)
CLOCK = ("seconds", "images_per_s", "elapsed_s")
"""What the clock writes into metrics and states."""


def about(name: str, *, seed: int = 0) -> Task:
    fields = {f.name for f in dataclasses.fields(plugins.load("compressor", name))}
    quick = {k: v for k, v in QUICK.items() if k in fields}
    return replace(sweep_task(), seed=seed, compressors={name: {**quick, **GIVEN.get(name, {})}})


@pytest.fixture
def dense(tmp_path: Path) -> Network:
    return Sweep(str(checkpoint(tmp_path))).sources(sweep_task())[0]


@dataclass(frozen=True)
class Came:
    """What came of a compression, and all that was said on its way."""

    network: Network
    said: list[dict[str, float]]
    states: list[Mapping[str, Any] | None]


def compressed(name: str, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None) -> Came:
    """The conversation to its end; states are saved and read back, as a run does."""
    compressor: Compressor = made(name, task)
    conversation = compressor.compress(network, level, task, state)
    said: list[dict[str, float]] = []
    states: list[Mapping[str, Any] | None] = []
    reply: list[Trial] | None = None
    while True:
        try:
            step = next(conversation) if reply is None else conversation.send(reply)
        except StopIteration as ended:
            return Came(ended.value, said, states)
        said.append({k: v for k, v in step.metrics.items() if k not in CLOCK})
        states.append(through_file(step))
        reply = [Trial(0, n.key, n, {}) for n in step.candidates]


def through_file(step: Step) -> Mapping[str, Any] | None:
    if step.state is None:
        return None
    held = io.BytesIO()
    torch.save(dict(step.state()), held)
    held.seek(0)
    found: Mapping[str, Any] = torch.load(held, weights_only=True)
    return found


def timeless(states: list[Mapping[str, Any] | None]) -> list[dict[str, Any] | None]:
    return [s if s is None else {k: v for k, v in s.items() if k not in CLOCK} for s in states]


def bytes_of(network: Network) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in (network.tensors or {}).items()}


@pytest.mark.parametrize("name", plugins.names("compressor"))
@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_level_is_met(name: str, level: Level, dense: Network) -> None:
    task = about(name)
    found = compressed(name, dense, level, task).network
    example = (torch.zeros(1, 1, 4, 4),)
    before, after = (count(n.build(task.space).eval(), example) for n in (dense, found))
    share = {"macs": after.macs / before.macs, "params": after.params / before.params}[level.of]
    # No more than is allowed, and not much less: a network of eight channels and six cannot be cut finely.
    assert level.kept - 0.25 <= share <= level.kept + 1e-9
    assert after.size_bytes < before.size_bytes


@every
def test_what_is_stored_computes_what_was_found(name: str, dense: Network, tmp_path: Path) -> None:
    task = about(name)
    found = compressed(name, dense, Level(0.5), task).network
    assert found.arch == dense.arch and found.tensors is not None
    assert all(t.device.type == "cpu" and not t.requires_grad for t in found.tensors.values())
    write_tensors(tmp_path / "a.safetensors", found.tensors, found.describe())
    tensors, description = read_described(tmp_path / "a.safetensors")
    again = restore(description, task.space, tensors)
    assert again.key == found.key
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = [n.build(task.space).eval()(images) for n in (found, again)]
    assert torch.equal(*outputs) and outputs[0].shape == (5, 4) and outputs[0].isfinite().all()


@every
def test_the_network_that_goes_in_stays_as_it_is(name: str, dense: Network) -> None:
    before, key = bytes_of(dense), dense.key
    came = compressed(name, dense, Level(0.5), about(name))
    assert bytes_of(dense) == before and dense.key == key
    places = {t.untyped_storage().data_ptr() for t in (dense.tensors or {}).values()}
    assert came.network.edits or not places & {t.data_ptr() for t in (came.network.tensors or {}).values()}


@every
def test_the_seed_decides_everything(name: str, dense: Network) -> None:
    first, again = (compressed(name, dense, Level(0.5), about(name, seed=3)) for _ in range(2))
    assert first.network.key == again.network.key and bytes_of(first.network) == bytes_of(again.network)
    assert first.said == again.said


@every
def test_it_goes_on_from_any_state_as_if_nothing_had_been(name: str, dense: Network) -> None:
    task = about(name)
    whole = compressed(name, dense, Level(0.5), task)
    stops = [k for k, state in enumerate(whole.states) if state is not None]
    for k in stops:
        rest = compressed(name, dense, Level(0.5), task, whole.states[k])
        assert rest.network.key == whole.network.key, k
        assert bytes_of(rest.network) == bytes_of(whole.network), k
        assert rest.said == whole.said[k + 1 :], k
        assert same(timeless(rest.states), timeless(whole.states[k + 1 :])), k


@every
def test_what_was_compressed_can_be_compressed_again(name: str, dense: Network) -> None:
    task = about(name)
    first = compressed(name, dense, Level(0.75), task).network
    second = compressed(name, replace(first, tag="once"), Level(0.6), task).network
    example = (torch.zeros(1, 1, 4, 4),)
    sizes = [count(n.build(task.space).eval(), example).macs for n in (dense, first, second)]
    assert sizes[2] < sizes[1] < sizes[0] and second.edits[: len(first.edits)] == first.edits


@every
def test_the_surroundings_stay_as_they_were(
    name: str, dense: Network, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def around() -> list[Any]:
        numbers = np.random.get_state()
        assert isinstance(numbers, tuple)
        texts = [random.getstate(), numbers[1].tobytes(), numbers[2:], torch.get_rng_state().numpy().tobytes()]
        return [*texts, list(warnings.filters), torch.get_num_threads(), torch.is_grad_enabled()]

    task = about(name)
    conversation = made(name, task).compress(dense, Level(0.5), task)
    before = around()
    for step in conversation:
        assert around() == before
        assert not step.candidates
    assert around() == before
    assert capfd.readouterr() == ("", "")
    assert list(Path().iterdir()) == []


@every
def test_its_progress_comes_to_its_end(name: str, dense: Network) -> None:
    told = [m["progress"] for m in compressed(name, dense, Level(0.5), about(name)).said if "progress" in m]
    assert told == sorted(told) and all(0 <= p <= 1 for p in told)
    assert not told or told[-1] == 1.0
