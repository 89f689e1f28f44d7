from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nascli.engine.probing import batches, probe
from nascli.engine.task import Probing, Task
from nascli.errors import DataError
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Signature
from tests.toy_images import corners
from tests.toys import TABLE, ToySpace


def task(seed: int = 0, examples: int = 8) -> Task:
    data = corners()
    return Task(ToySpace(data.signature), data=data, seed=seed, probing=Probing(examples=examples))


def test_all_networks_of_a_run_see_the_same_two_batches() -> None:
    about = task()
    first, second = batches(about)
    again, _ = batches(about)
    assert torch.equal(first.inputs[0], again.inputs[0]) and torch.equal(first.targets, again.targets)
    assert second is not None and not torch.equal(first.inputs[0], second.inputs[0])
    assert len(first.targets) == 8


def test_another_seed_draws_other_examples() -> None:
    assert not torch.equal(batches(task())[0].inputs[0], batches(task(seed=1))[0].inputs[0])


def test_batches_of_other_data_are_not_mistaken_for_these() -> None:
    one, other = task(), task()
    small = replace(one, probing=Probing(examples=4))
    assert len(batches(one)[0].targets) == 8 and len(batches(small)[0].targets) == 4
    assert torch.equal(batches(one)[0].inputs[0], batches(other)[0].inputs[0])


def test_without_data_there_is_noise_of_the_right_shape() -> None:
    first, second = batches(Task(ToySpace(Signature("image", (2, 3, 5), 4)), probing=Probing(examples=6)))
    assert first.inputs[0].shape == (6, 2, 3, 5) and second is None
    assert first.inputs[0].std() > 0.5


def test_a_single_example_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        batches(task(examples=1))


def test_probes_know_the_architecture() -> None:
    about, arch = task(), TABLE.sample(np.random.default_rng(0))
    made = probe(arch, about.space.build(arch), about)
    np.testing.assert_array_equal(made.code, TABLE.encode(arch))
    assert made.cell is None and made.examples == "independent"


def test_cells_come_as_graphs() -> None:
    space = Nb201Space(corners().signature, channels=2, cells=1)
    about = replace(task(), space=space)
    arch = space.table.largest
    cell = probe(arch, space.build(arch), about).cell
    assert cell is not None and cell.adjacency.shape == (8, 8) and len(cell.operations) == 8
