from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from nascli import plugins
from nascli.engine.evaluate import Subject, measure
from nascli.engine.network import Network
from nascli.engine.objectives import parse
from nascli.engine.scores import NODE_STATISTICS, made, of_proxy, of_record
from nascli.engine.task import Probing, Task
from nascli.errors import SettingsError, UnsupportedError
from predictors import DeadNetworkError
from predictors.probe import Probe
from predictors.protocol import About
from search_spaces import Architecture
from search_spaces.nb201 import Nb201Space
from tests.toy_images import corners
from tests.toys import TABLE, ToySpace


@dataclass(frozen=True)
class First:
    """The first weight: another one at each initialisation."""

    about: ClassVar[About] = About("min", 1, "data", ("none",), "2020")
    factor: float = 1.0

    def __call__(self, probe: Probe) -> float:
        return self.factor * float(probe.layers[0][1].weight.detach().flatten()[0])


@dataclass(frozen=True)
class Dead:
    """Finds every network dead."""

    about: ClassVar[About] = About("max", 0, "nothing", (), "2020")

    def __call__(self, probe: Probe) -> float:
        raise DeadNetworkError("nothing flows")


HERE = "tests.nascli.engine.test_scores"
SPACE = Nb201Space(corners().signature, channels=2, cells=1)
NETWORK = Network(SPACE.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"))


def task(**changes: object) -> Task:
    return replace(Task(SPACE, data=corners(), probing=Probing(examples=8)), **changes)  # type: ignore[arg-type]


def test_a_proxy_is_an_objective_with_its_goal_and_settings() -> None:
    objective = of_proxy(f"{HERE}:First", {"factor": 2.0})
    assert (objective.goal, objective.price) == ("min", 1)
    found = objective.measure(Subject(NETWORK, task()), task())
    plain = of_proxy(f"{HERE}:First", {}).measure(Subject(NETWORK, task()), task())
    assert found[f"{HERE}:First"] == 2 * plain[f"{HERE}:First"]  # type: ignore[index]


def test_a_proxy_is_made_by_name_with_its_settings() -> None:
    assert made(f"{HERE}:First", {"factor": 2.0}) == First(factor=2.0)
    assert made("nwot", {}).about.goal == "max"
    with pytest.raises(SettingsError, match="no proxy: a frozen dataclass"):
        made("collections:OrderedDict", {})
    with pytest.raises(SettingsError, match="proxy 'nwot' has no setting 'depth'"):
        made("nwot", {"depth": 3})
    with pytest.raises(SettingsError, match="Did you mean 'nwot'"):
        made("nwto", {})


def test_every_proxy_can_be_named_as_an_objective() -> None:
    for name in set(plugins.names("proxy")) - {"params", "macs", "parzc"}:
        assert parse(name, ToySpace()).name == name


def test_ones_own_proxy_is_named_by_its_place() -> None:
    assert parse(f"{HERE}:First:max", ToySpace()).goal == "max"
    doubled = parse(f"{HERE}:First", ToySpace(), {f"{HERE}:First": {"factor": 2.0}})
    once = parse(f"{HERE}:First", ToySpace())
    subject = Subject(NETWORK, task())
    assert doubled.measure(subject, task()) == {k: 2 * v for k, v in once.measure(subject, task()).items()}  # type: ignore[union-attr, operator]


def test_settings_of_proxies_reach_them_and_unknown_ones_are_refused() -> None:
    with pytest.raises(SettingsError, match="examples"):
        parse("gradsign", ToySpace(), {"gradsign": {"examples": 3}})
    with pytest.raises(SettingsError, match="gradsign"):
        parse("gradsing", ToySpace())
    with pytest.raises(SettingsError, match="no proxy"):
        of_proxy("collections:OrderedDict", {})


def test_repeats_average_over_fresh_initialisations() -> None:
    name = f"{HERE}:First"
    once = Subject(NETWORK, task())
    thrice = Subject(NETWORK, task(probing=Probing(examples=8, repeats=3)))
    weights = [float(p.layers[0][1].weight.detach().flatten()[0]) for p in thrice.probes]
    assert len(set(weights)) == 3
    assert weights[0] == float(once.probes[0].layers[0][1].weight.detach().flatten()[0])
    found = of_proxy(name, {}).measure(thrice, thrice.task)
    assert found == {name: statistics.fmean(weights), f"{name}_std": statistics.stdev(weights)}


def test_a_dead_network_keeps_its_other_scores_and_says_why_one_is_missing() -> None:
    dead, first = of_proxy(f"{HERE}:Dead", {}), of_proxy(f"{HERE}:First", {})
    trial = measure(NETWORK, task(objectives=(first,), recorded=(dead,)))
    assert trial.costs and trial.missing == {dead.name: "dead: nothing flows"} and not trial.error
    trial = measure(NETWORK, task(objectives=(dead, first)))
    assert not trial.costs and first.name in trial.values
    assert trial.error == f"{dead.name}: dead: nothing flows"


def test_recorded_limits_and_values_are_of_no_account() -> None:
    size = parse("params<=1", ToySpace())
    trial = measure(NETWORK, task(objectives=(parse("macs", ToySpace()),), recorded=(size,)))
    assert len(trial.costs) == 1 and trial.values["params"] > 1 and not trial.error


def test_a_proxy_that_looks_at_data_needs_data() -> None:
    objective = parse("gradsign", ToySpace())
    with pytest.raises(UnsupportedError, match="--data"):
        objective.measure(Subject(NETWORK, Task(SPACE)), Task(SPACE))
    found = parse("synflow", SPACE).measure(Subject(NETWORK, Task(SPACE)), Task(SPACE))
    assert found["synflow"] > 0  # type: ignore[index]


def test_statistics_of_layers_are_recorded_as_a_vector() -> None:
    assert of_record("nodes", ToySpace(), {}) is NODE_STATISTICS
    trial = measure(NETWORK, task(objectives=(parse("macs", ToySpace()),), recorded=(NODE_STATISTICS,)))
    # A stem, two convolutions in each of three cells, three in each of two reductions, a classifier.
    assert trial.values["nodes"] == 14
    assert trial.vectors["nodes_statistics"].shape == (14, 6)


@dataclass(frozen=True)
class Threads:
    """The threads that torch has while it scores."""

    about: ClassVar[About] = About("max", 0, "nothing", (), "2020")

    def __call__(self, probe: Probe) -> float:
        return float(torch.get_num_threads())


def test_scores_are_computed_on_one_thread_as_workers_compute_them() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert of_proxy(f"{HERE}:Threads", {}).measure(Subject(NETWORK, task()), task()) == {f"{HERE}:Threads": 1.0}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_remarks_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass(frozen=True)
    class Odd(ToySpace):
        def build(self, arch: Architecture) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4))

    about = task(space=Odd(corners().signature), objectives=(parse("gradsign", ToySpace()),))
    for depth in ("1", "2"):
        arch = TABLE.canonical([depth, *(["1", "plain"] * 3)])
        assert measure(Network(arch), about).costs
    assert [r.message for r in caplog.records if "running statistics" in r.message and "2" in r.message] == [
        "GradSign took running statistics where one example is one number a channel: 2."
    ]


def test_scoring_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    measure(NETWORK, task(objectives=(parse("gradsign", ToySpace()),)))
    assert torch.equal(before, torch.get_rng_state())
