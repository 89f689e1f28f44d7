from collections import Counter

import pytest

from nascli import settings
from nascli.errors import SettingsError
from nascli.strategies.random import Random
from tests.toy_search import TABLE, talk, task


def test_batches_are_as_large_as_asked_until_the_last() -> None:
    said = talk(Random(batch=500), task(), trials=10_000)
    assert [len(step) for step in said.steps] == [500, 500, 500, 252]
    assert said.ended


def test_the_first_draws_are_uniform_in_every_choice() -> None:
    counts = Counter(
        TABLE.values(TABLE.parse(talk(Random(batch=1), task(seed=s), trials=1).keys[0]))["net.depth"]
        for s in range(300)
    )
    assert len(counts) == 3 and min(counts.values()) > 70


def test_answers_change_nothing() -> None:
    from tests.toy_search import failed

    assert talk(Random(), task()).steps == talk(Random(), task(), failed).steps


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch must be at least 1, but got 0"):
        settings.build(Random, {"batch": 0}, where="strategy 'random'")
