from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import nn

from predictors import ScoreError
from predictors.cost import Cost, count


def test_a_small_network_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    cost = count(model, (torch.zeros(1, 1, 4, 4),))
    params = (2 * 9 + 2) + 4 + (24 + 3)
    assert cost == Cost(params=params, macs=4 * 2 * 9 + 24, size_bytes=4 * (params + 4) + 8, uncounted=())


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    count(model, (torch.randn(2, 1, 4, 4),))
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_shared_weights_count_once_and_work_twice() -> None:
    layer = nn.Linear(4, 4)
    cost = count(nn.Sequential(layer, layer), (torch.zeros(1, 4),))
    assert (cost.params, cost.macs, cost.size_bytes) == (20, 32, 80)


def test_tied_parameters_of_different_modules_are_stored_once() -> None:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    cost = count(nn.Sequential(first, second), (torch.zeros(1, 4),))
    assert (cost.params, cost.size_bytes) == (16, 64)


def test_frozen_weights_are_numbers_too() -> None:
    model = nn.Linear(4, 4).requires_grad_(False)
    assert count(model, (torch.zeros(1, 4),)).params == 20


def test_half_precision_takes_half_the_bytes() -> None:
    assert count(nn.Linear(4, 4).bfloat16(), (torch.zeros(1, 4, dtype=torch.bfloat16),)).size_bytes == 40


def test_macs_are_those_of_all_examples() -> None:
    model = nn.Linear(4, 4)
    assert count(model, (torch.zeros(3, 4),)).macs == 3 * count(model, (torch.zeros(1, 4),)).macs


def test_a_network_with_two_inputs() -> None:
    assert count(nn.Bilinear(3, 4, 5), (torch.zeros(2, 3), torch.zeros(2, 4))).uncounted == ("aten._trilinear",)


def test_a_wrong_input_is_a_score_error_and_the_mode_comes_back() -> None:
    model = nn.Sequential(nn.Linear(3, 4)).train()
    with pytest.raises(ScoreError, match="1x5"):
        count(model, (torch.zeros(1, 5),))
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_costs_little_more_than_the_pass() -> None:
    torch.set_num_threads(1)
    layers = [part for _ in range(60) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())]
    model, images = nn.Sequential(*layers).eval(), (torch.zeros(1, 8, 8, 8),)
    count(model, images)
    taken = []
    for _ in range(5):
        start = time.process_time()
        count(model, images)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.1
