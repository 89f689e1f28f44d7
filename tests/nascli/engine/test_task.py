from __future__ import annotations

import pickle

import numpy as np

from tests.toys import toy_task


def test_streams_are_repeatable_and_independent() -> None:
    task = toy_task(seed=7)
    first = task.rng("a").random(4)
    task.rng("b").random(1000)
    np.random.default_rng(0).random(10)
    assert (task.rng("a").random(4) == first).all()
    assert not (task.rng("b").random(4) == first).any()
    assert not (toy_task(seed=8).rng("a").random(4) == first).any()


def test_streams_are_the_same_on_every_machine_and_in_every_version() -> None:
    task = toy_task(seed=0)
    assert task.entropy("a") == 6612858177627257344
    assert task.entropy("init") == 7797302695267191734
    assert task.rng("a").integers(1000, size=3).tolist() == [254, 495, 449]


def test_entropy_fits_where_libraries_want_a_signed_number() -> None:
    found = {toy_task(seed=s).entropy(f"stream{s}") for s in range(500)}
    assert len(found) == 500
    assert all(0 <= e < 2**63 for e in found)
    assert max(found) > 2**62


def test_a_task_can_be_sent_to_a_process() -> None:
    task = toy_task(seed=3)
    assert pickle.loads(pickle.dumps(task)) == task
