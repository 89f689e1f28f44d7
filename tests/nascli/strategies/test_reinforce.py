import math

import numpy as np
import pytest

from nascli import settings
from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from nascli.errors import SettingsError
from nascli.strategies.random import Random
from nascli.strategies.reinforce import TRIES, Average, Reinforce, _Learner
from search_spaces import Choice, ChoiceTable
from tests.toy_scores import Assisted, error
from tests.toy_search import FLAT, FOUR, TABLE, costs, failed, talk, task

BIT = ChoiceTable("bit", (Choice("a.x", ("0", "1")),))


def trial(text: str, cost: float | None) -> Trial:
    network = Network(BIT.parse(text))
    return failed(network, task(1)) if cost is None else Trial(0, network.key, network, {}, costs=(cost,))


def test_the_average_does_not_lean_to_zero() -> None:
    average = Average(0.9)
    assert average.add(10.0) == pytest.approx(10.0)
    assert average.add(20.0) == pytest.approx((0.9 * 1 + 2) / 0.19)  # (.9 x .1 x 10 + .1 x 20) / (.9 x .1 + .1)
    assert Average(0.0).add(3.0) == 3.0


def test_two_steps_by_hand() -> None:
    """The first reward is the average itself, so nothing is learnt; the second is better and raises its option."""
    learner = _Learner(Reinforce(lr=0.01), task(1, table=BIT))
    learner.learn(BIT.parse("bit:0"), trial("bit:0", 4.0))
    assert learner._policy.logits.tolist() == [0.0, 0.0]
    learner.learn(BIT.parse("bit:1"), trial("bit:1", 3.0))
    # Adam's second step after a gradient of 0: mean .1 g / .19, square .001 g^2 / .001999, whatever g is.
    step = 0.01 * (0.1 / 0.19) / math.sqrt(0.001 / 0.001999)
    assert learner._policy.logits == pytest.approx([-step, step])


def test_better_than_the_average_is_learnt_and_worse_unlearnt() -> None:
    for third, sign in ((2.0, 1), (3.0, 0), (4.0, -1)):
        learner = _Learner(Reinforce(), task(1, table=BIT))
        for text, cost in (("bit:0", 3.0), ("bit:0", 3.0), ("bit:1", third)):
            learner.learn(BIT.parse(text), trial(text, cost))
        assert np.sign(learner._policy.logits[1]) == sign


def test_a_failure_after_a_bad_network_is_rewarded_like_it() -> None:
    logits = []
    for last in (9.0, None, 2.0):
        learner = _Learner(Reinforce(), task(1, table=BIT))
        for text, cost in (("bit:0", 1.0), ("bit:0", 9.0), ("bit:0", 1.0), ("bit:1", last)):
            learner.learn(BIT.parse(text), trial(text, cost))
        logits.append(float(learner._policy.logits[1]))
    assert logits[0] == logits[1] < logits[2]


def test_a_broken_limit_is_no_reward_whatever_else_was_measured() -> None:
    over = Network(BIT.parse("bit:1"))
    broken = Trial(0, over.key, over, {"cost0": -100.0}, error="over the limit", violation=0.5)
    learner = _Learner(Reinforce(), task(2, table=BIT, limit=1.0))
    for cost in (1.0, 2.0, 1.0):
        network = Network(BIT.parse("bit:0"))
        learner.learn(network.arch, Trial(0, network.key, network, {}, costs=(cost, 0.0)))
    before = learner._policy.logits[1]
    learner.learn(over.arch, broken)
    assert learner._policy.logits[1] < before


def test_one_network_a_step_and_none_twice() -> None:
    said = talk(Reinforce(), task(1), trials=60)
    assert all(len(step) == 1 for step in said.steps) and len(set(said.keys)) == 60


def test_learns() -> None:
    """Costs of FLAT add up over twelve choices: 18 on average, with a deviation of 3.9."""

    def sums(strategy: Reinforce | Random) -> list[float]:
        def measure(network, about):  # type: ignore[no-untyped-def]
            total = float(sum(map(int, network.arch.options)))
            return Trial(0, network.key, network, {}, costs=(total,))

        return [t.costs[0] for t in talk(strategy, task(1, table=FLAT), measure, trials=400).memo.values()]

    assert np.mean(sums(Reinforce(lr=0.05))[-50:]) < 9
    assert np.mean(sums(Random())[-50:]) > 15


def test_the_best_scored_of_ten_draws_is_measured_and_credited() -> None:
    asking = Assisted(Reinforce(proxy="gradsign"))
    said = talk(asking, task(1), trials=30)
    assert len(asking.asked) == len(said.keys) == 30
    for asked, key in zip(asking.asked, said.keys, strict=True):
        assert len(set(asked)) == 10 and key in asked
        assert error(TABLE.parse(key)) == min(error(TABLE.parse(k)) for k in asked)


def proposals(strategy: Reinforce, count: int) -> list[tuple[str, str, list[str]]]:
    """What took the credit, what was to be measured, and what was scored."""
    learner, found = _Learner(strategy, task(1)), []
    for _ in range(count):
        part = learner.propose()
        step = next(part)
        try:
            part.send([Trial(-1, n.key, n, {}, costs=(error(n.arch),)) for n in step.candidates])
        except StopIteration as end:
            credited, arch = end.value
            found.append((str(credited), str(arch), [n.key for n in step.candidates]))
    return found


def test_credit_goes_to_what_was_measured_or_as_published_to_what_was_drawn() -> None:
    for credited, arch, _ in proposals(Reinforce(proxy="gradsign"), 20):
        assert credited == arch
    for credited, arch, asked in proposals(Reinforce(proxy="gradsign", candidates_from="mutants"), 20):
        before, after = TABLE.values(TABLE.parse(credited)), TABLE.values(TABLE.parse(arch))
        assert sum(before[n] != after[n] for n in before.keys() & after.keys()) == 1
        assert credited not in asked and arch in asked and len(asked) <= 10


def test_a_good_proxy_helps() -> None:
    def found(strategy: Reinforce, seed: int) -> float:
        said = talk(Assisted(strategy), task(1, seed=seed), trials=20)
        return min(costs(TABLE.parse(k), 1)[0] for k in said.keys)

    helped, plain = (sum(found(s, seed) for seed in range(6)) for s in (Reinforce(proxy="gradsign"), Reinforce()))
    assert helped < 0.85 * plain


def test_when_the_policy_only_repeats_itself_neighbours_step_in() -> None:
    learner = _Learner(Reinforce(), task(1))
    learner._policy.logits[:] = 50 * TABLE.encode(TABLE.smallest)
    keys = []
    for _ in range(8):
        with pytest.raises(StopIteration) as end:
            next(learner.propose())
        credited, arch = end.value.value
        assert credited == arch
        keys.append(str(arch))
    assert keys[0] == str(TABLE.smallest) and len(set(keys)) == 8
    assert TRIES >= 20


def test_ends_with_the_space() -> None:
    said = talk(Reinforce(), task(1, table=FOUR), lambda n, _: Trial(0, n.key, n, {}, costs=(1.0,)), trials=99)
    assert said.ended and sorted(said.keys) == sorted(str(a) for a in FOUR.members())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr must be more than 0, but got 0"),
        ({"momentum": 1}, "momentum must be from 0 to below 1, but got 1"),
        ({"proxy": "x", "candidates": 0}, "candidates must be at least 1, but got 0"),
        ({"proxy": "x", "candidates": 1}, "nothing to choose from"),
        ({"candidates_from": "thin air"}, "candidates_from='thin air'"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.build(Reinforce, values, where="strategy 'reinforce'")
