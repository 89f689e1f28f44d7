"""What every search strategy owes the engine, whatever its method."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nascli import plugins, settings
from nascli.engine.network import Network
from nascli.engine.protocol import Strategy, Trial
from nascli.engine.task import Task
from nascli.errors import SettingsError
from search_spaces import Architecture
from tests.toy_scores import Assisted
from tests.toy_search import FOUR, TABLE, failed, measured, talk, task

TRAINING = {"darts", "darts-pt"}
"""Strategies that train on data and go on from states instead of being replayed: see test_relaxed_strategies."""
GIVEN: dict[str, dict[str, Any]] = {"listed": {"sample": 10_000}}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, GIVEN.get(name, {})) for name in plugins.names("strategy") if name not in TRAINING),
    ("evolution", {"algorithm": "nsga3", "population": 20}),
    ("evolution", {"algorithm": "sms-emoa", "population": 20, "offspring": 7}),
    ("bayes", {"sampler": "nsga3", "batch": 8}),
    ("random", {"proxy": "toy", "warm_up": 15, "batch": 6}),
    ("random", {"proxy": "toy"}),
    ("evolution", {"proxy": "toy", "warm_up": 40}),
    ("evolution", {"proxy": "toy", "proposals": "best-neighbours", "population": 10}),
    ("regularised", {"proxy": "toy"}),
    ("regularised", {"proxy": "toy", "warm_up": 40, "candidates": 0, "greedy": 0.75}),
    ("reinforce", {"proxy": "toy"}),
    ("reinforce", {"proxy": "toy", "candidates_from": "mutants"}),
]
ONE_OBJECTIVE = {"regularised", "reinforce"}
"""Strategies that follow the first objective and take others as limits only."""
SLOW = pytest.param(("bayes", {"sampler": "gp", "startup": 4, "batch": 4}), marks=pytest.mark.slow, id="bayes-gp")


def strategy(variant: tuple[str, dict[str, Any]]) -> Strategy:
    name, values = variant
    made: Strategy = settings.build(plugins.load("strategy", name), values, where=name)
    return Assisted(made, score) if values.get("proxy") else made


def score(arch: Architecture) -> float | None:
    """A cost by the letters of an architecture; some have none."""
    return None if arch.text.count("1") == 2 else float(sum(map(ord, arch.text)))


def about(variant: tuple[str, dict[str, Any]], **what: Any) -> Task:
    """A task with as many objectives as the strategy takes, at most two."""
    return task(1 if variant[0] in ONE_OBJECTIVE else 2, **what)


def label(variant: tuple[str, dict[str, Any]]) -> str:
    return "-".join([variant[0], *(str(v) for v in variant[1].values())])


def span(variant: tuple[str, dict[str, Any]], trials: int) -> int:
    """So many trials; far fewer where a proposal takes a second."""
    return min(trials, 8) if "gp" in variant[1].values() else trials


every = pytest.mark.parametrize("variant", [*(pytest.param(v, id=label(v)) for v in VARIANTS), SLOW])


@every
def test_the_seed_decides_everything(variant: tuple[str, dict[str, Any]]) -> None:
    tasks = [about(variant, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (talk(strategy(variant), t, trials=span(variant, 45)).steps for t in tasks)
    assert first == again
    assert first != other


@every
def test_a_crash_at_any_trial_changes_nothing(variant: tuple[str, dict[str, Any]]) -> None:
    trials = span(variant, 45)
    whole = talk(strategy(variant), about(variant), trials=trials)
    for survived in (1, trials // 2, trials - 1):
        journal = {key: replace(whole.memo[key], seconds=9.0, number=7) for key in whole.keys[:survived]}
        resumed = talk(strategy(variant), about(variant), trials=trials, memo=journal)
        assert resumed.steps == whole.steps
        assert resumed.fresh == whole.keys[survived:]


@every
def test_proposals_are_members_and_never_come_twice(variant: tuple[str, dict[str, Any]]) -> None:
    trials = span(variant, 60)
    said = talk(strategy(variant), about(variant), trials=trials)
    assert len(said.keys) >= trials and all(said.steps)
    assert len(set(said.keys)) == len(said.keys)
    assert all(str(TABLE.parse(key)) == key for key in said.keys)


@every
def test_it_ends_when_a_small_space_is_used_up(variant: tuple[str, dict[str, Any]]) -> None:
    def flat(network: Network, asked: Task) -> Trial:
        number = float(len(network.key) + FOUR.indices(network.arch)[0])
        return Trial(0, network.key, network, {}, costs=(number, -number)[: len(asked.objectives)])

    for measure in (flat, failed):
        said = talk(strategy(variant), about(variant, table=FOUR), measure, trials=1000)
        assert said.ended
        assert sorted(said.keys) == sorted(str(a) for a in FOUR.members())


@every
def test_steps_in_which_all_failed_are_survived(variant: tuple[str, dict[str, Any]]) -> None:
    seen: list[str] = []
    trials = span(variant, 80)

    def sometimes(network: Network, asked: Task) -> Trial:
        seen.append(network.key)
        return failed(network, asked) if len(seen) <= trials // 3 or len(seen) % 3 == 0 else measured(network, asked)

    for measure in (sometimes, failed):
        assert len(talk(strategy(variant), about(variant), measure, trials=trials).keys) >= trials


@every
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_objectives(variant: tuple[str, dict[str, Any]], count: int) -> None:
    if count == 1 and "algorithm" in variant[1]:
        pytest.skip("an algorithm that trades off")
    trials = span(variant, 90)
    if count > 1 and variant[0] in ONE_OBJECTIVE:
        with pytest.raises(SettingsError, match="Trade objectives off with 'evolution'"):
            talk(strategy(variant), task(count))
        return
    assert len(talk(strategy(variant), task(count), trials=trials).keys) >= trials


@every
def test_the_surroundings_stay_as_they_were(
    variant: tuple[str, dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    monkeypatch.chdir(tmp_path)

    def around() -> list[Any]:
        numbers = np.random.get_state()
        assert isinstance(numbers, tuple)
        texts = [random.getstate(), numbers[1].tobytes(), numbers[2:], torch.get_rng_state().numpy().tobytes()]
        return [*texts, list(warnings.filters), optuna.logging.get_verbosity(), torch.get_num_threads()]

    before = around()
    talk(strategy(variant), about(variant), trials=span(variant, 45))
    assert around() == before
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


REPLAY = """
import json, sys
from nascli import plugins, settings
from tests.toy_scores import Assisted
from tests.toy_search import talk, task
said = {}
for name, values, objectives in json.loads(sys.argv[1]):
    strategy = settings.build(plugins.load("strategy", name), values, where=name)
    said[name + str(values)] = talk(Assisted(strategy), task(objectives), trials=35).steps
print(json.dumps([said, "torch" in sys.modules]))
"""


def test_proposals_do_not_depend_on_hashes_and_need_no_torch() -> None:
    root = Path(__file__).parents[2]
    told = []
    for salt in ("1", "2"):
        asked = [(*variant, len(about(variant).objectives)) for variant in VARIANTS]
        command = [sys.executable, "-c", REPLAY, json.dumps(asked)]
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert told[0][1] is False
