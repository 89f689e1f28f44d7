from __future__ import annotations

import pytest
import torch
from torch import nn

from predictors import ScoreError
from predictors.passes import evaluating, forward, shape


def test_every_part_gets_its_own_mode_back_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(part.training for part in model.modules())
        raise KeyError
    assert [part.training for part in model.modules()] == [True, True, False]


def test_a_failing_pass_names_the_network_and_the_shapes() -> None:
    with pytest.raises(ScoreError, match=r"^Linear fails on inputs of shape 2x5 \(.+\); give examples") as caught:
        forward(nn.Linear(3, 4), (torch.zeros(2, 5),))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_running_out_of_memory_is_no_score_error() -> None:
    class Greedy(nn.Module):
        def forward(self) -> None:
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        forward(Greedy(), ())


def test_shapes_in_words() -> None:
    assert (shape(torch.zeros(1, 3, 8)), shape(torch.tensor(1.0))) == ("1x3x8", "scalar")
