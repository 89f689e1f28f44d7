from __future__ import annotations

import pytest
import torch

from nascli.errors import DataError
from nascli.recipes.stream import Stream
from tests.toy_cells import cells_task
from tests.toy_images import corners, same


def stream(size: int = 16, *, name: str = "s", seed: int = 0, train: int = 40) -> Stream:
    task = cells_task(seed=seed, train=train)
    assert task.data is not None
    return Stream(task.data.train, size, task, name=name)


def drawn(of: Stream, count: int) -> list[torch.Tensor]:
    return [of.next().inputs[0] for _ in range(count)]


def test_epochs_are_shuffled_anew_and_leave_out_what_is_left_over() -> None:
    found = stream()
    assert found.steps_an_epoch == 2 and found.size == 16
    first, second = (torch.cat(drawn(found, 2)) for _ in range(2))
    assert len(first) == 32

    def rows(of: torch.Tensor) -> list:
        return sorted(map(tuple, of.flatten(1).tolist()))

    assert len({*rows(first)}) == 32, "no example comes twice in an epoch"
    assert rows(first) != rows(second)


def test_the_order_is_the_names_and_the_seeds() -> None:
    first = drawn(stream(), 5)
    assert same(first, drawn(stream(), 5))
    assert not same(first, drawn(stream(name="other"), 5))
    assert not same(first, drawn(stream(seed=1), 5))


def test_it_is_taken_up_wherever_it_stood() -> None:
    whole = drawn(stream(), 8)
    for count in range(8):
        before, after = stream(), stream()
        drawn(before, count)
        after.load(before.state())
        assert after.state() == before.state()
        assert same(drawn(after, 8 - count), whole[count:])


def test_another_size_holds_from_the_next_epoch_on() -> None:
    found = stream()
    drawn(found, 1)
    found.resize(16)
    assert found.state() == {"epoch": 0, "used": 1, "size": 16}, "the same size changes nothing"
    found.resize(20)
    assert found.state() == {"epoch": 1, "used": 0, "size": 20}
    assert [len(b) for b in drawn(found, 3)] == [20, 20, 20]
    resumed = stream()
    resumed.load(found.state())
    assert resumed.size == 20 and same(drawn(resumed, 3), drawn(found, 3))


def test_few_examples_make_one_small_batch() -> None:
    found = stream(64, train=8)
    assert found.steps_an_epoch == 1
    assert [len(b) for b in drawn(found, 3)] == [8, 8, 8]


def test_batches_are_altered_as_training_data_are() -> None:
    task = cells_task()
    data = corners(40, pad=1, noise=1)
    given, kept = (Stream(split, 40, task, name="s").next().inputs[0] for split in (data.train, data.train.head(40)))
    assert not torch.equal(given, kept)


def test_no_examples_are_refused_at_once() -> None:
    task = cells_task()
    assert task.data is not None
    with pytest.raises(DataError, match="no examples for 'gradient/val'"):
        Stream(task.data.val.head(0), 16, task, name="gradient/val")
