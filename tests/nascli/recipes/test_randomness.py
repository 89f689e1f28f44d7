from __future__ import annotations

import pytest
import torch

from nascli.recipes.randomness import generators, seeded


def test_the_cpus_generator_is_seeded_and_given_back() -> None:
    before = torch.get_rng_state()
    found = []
    for seed in (7, 7, 8):
        with torch.random.fork_rng(devices=generators("cpu")):
            seeded(seed, "cpu")
            found.append(torch.rand(3))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_of_63_bits_are_taken() -> None:
    with torch.random.fork_rng(devices=[]):
        seeded(2**63 - 1, "cpu")
        assert torch.rand(1).item() >= 0


@pytest.mark.parametrize(("device", "indices"), [("cpu", []), ("cuda", [0]), ("cuda:0", [0]), ("cuda:3", [3])])
def test_generators_by_device(device: str, indices: list[int]) -> None:
    assert generators(device) == indices


@pytest.mark.gpu
def test_a_gpus_generator_is_seeded_and_given_back() -> None:
    before = torch.cuda.get_rng_state()
    found = []
    for _ in range(2):
        with torch.random.fork_rng(devices=generators("cuda")):
            seeded(7, "cuda")
            found.append(torch.rand(3, device="cuda"))
    assert torch.equal(found[0], found[1]) and torch.equal(torch.cuda.get_rng_state(), before)
