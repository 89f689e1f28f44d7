import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from nascli.strategies.policy import Adam, Policy
from search_spaces import Choice, ChoiceTable

DEEP = ChoiceTable(
    "deep",
    (Choice("n.depth", ("1", "2")), Choice("n.width", ("1", "2", "3"), (("n.depth", frozenset({"2"})),))),
)
"""Four architectures: one shallow, three deep."""


def tilted() -> Policy:
    """p(depth) = 1/4, 3/4; p(width) = 1/6, 2/6, 3/6."""
    policy = Policy(DEEP)
    policy.logits[:] = np.log([1, 3, 1, 2, 3])
    return policy


def test_at_first_every_option_is_as_likely() -> None:
    assert [p.tolist() for p in Policy(DEEP).probabilities()] == [[0.5, 0.5], [pytest.approx(1 / 3)] * 3]


def test_probabilities_by_hand_inactive_choices_have_no_say() -> None:
    found = {str(a): math.exp(tilted().log_probability(a)) for a in DEEP.members()}
    assert found == pytest.approx({"deep:1,-": 1 / 4, "deep:2,1": 1 / 8, "deep:2,2": 1 / 4, "deep:2,3": 3 / 8})


def test_draws_follow_the_probabilities() -> None:
    policy = tilted()
    counts = Counter(islice(policy.draws(np.random.default_rng(0)), 8000))
    for arch in DEEP.members():
        assert counts[arch] / 8000 == pytest.approx(math.exp(policy.log_probability(arch)), abs=0.02)


def test_the_gradient_by_hand() -> None:
    shallow, deep = DEEP.parse("deep:1,-"), DEEP.parse("deep:2,3")
    assert tilted().gradient(shallow) == pytest.approx([3 / 4, -3 / 4, 0, 0, 0])
    assert tilted().gradient(deep) == pytest.approx([-1 / 4, 1 / 4, -1 / 6, -2 / 6, 1 / 2])


def test_the_gradient_is_that_of_the_log_probability() -> None:
    policy = tilted()
    for arch in DEEP.members():
        numeric = []
        for i in range(len(policy.logits)):
            sides = []
            for step in (1e-6, -1e-6):
                policy.logits[i] += step
                sides.append(policy.log_probability(arch))
                policy.logits[i] -= step
            numeric.append((sides[0] - sides[1]) / 2e-6)
        assert policy.gradient(arch) == pytest.approx(numeric, abs=1e-7)


def test_large_logits_do_not_overflow() -> None:
    policy = Policy(DEEP)
    policy.logits[0] = 2000.0
    assert policy.probabilities()[0].tolist() == [1.0, 0.0]
    assert {str(a) for a in islice(policy.draws(np.random.default_rng(0)), 20)} == {"deep:1,-"}


def test_adam_by_hand() -> None:
    """Gradients 1 and 3: means .1/.1 and .39/.19, squares .001/.001 and .009999/.001999, both without their bias."""
    adam = Adam(2, 0.01)
    assert adam.step(np.array([1.0, 0.0])) == pytest.approx([0.01, 0.0])
    wanted = 0.01 * (0.39 / 0.19) / math.sqrt(0.009999 / 0.001999)
    assert adam.step(np.array([3.0, 0.0])) == pytest.approx([wanted, 0.0])
    # Without a gradient the mean still carries it on.
    assert 0 < adam.step(np.zeros(2))[0] < wanted


def test_adam_does_not_care_for_the_scale() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(30, 4))
    small, large = Adam(4, 0.1), Adam(4, 0.1)
    for gradient in gradients:
        assert small.step(gradient) == pytest.approx(large.step(1e6 * gradient), rel=1e-5)
