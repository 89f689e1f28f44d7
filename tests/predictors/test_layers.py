import pytest
import torch
from torch import nn

from predictors import ScoreError
from predictors.layers import fan_in, isolated, replace_norms, reset, uncounted, weighted
from tests.predictors.probes import Sentences, Shared, convolutional, made, state


def test_layers_come_once_in_the_order_of_modules() -> None:
    assert [name for name, _ in weighted(made(convolutional))] == ["0", "3", "5", "6", "9", "12"]
    assert [name for name, _ in weighted(made(Shared))] == ["first", "again", "a", "b", "last"]


def test_what_is_no_layer_is_named() -> None:
    model = nn.ModuleDict({"text": made(Sentences), "attention": nn.MultiheadAttention(8, 2)})
    model.table = nn.Parameter(torch.zeros(3, 3))
    assert uncounted(model) == ("table", "text.embedding.weight", "attention.in_proj_weight")


def test_fan_in_counts_the_inputs_of_one_number() -> None:
    assert fan_in(nn.Conv2d(8, 6, 3, groups=2)) == 4 * 9
    assert fan_in(nn.Linear(7, 2)) == 7


def test_a_copy_leaves_the_model_alone() -> None:
    model = made(convolutional).eval()
    model[0].weight.requires_grad_(False)  # type: ignore[index, union-attr, operator]
    before = state(model)
    net = isolated(model)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert not any(getattr(part, "inplace", False) for part in net.modules())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert state(model) == before


def test_a_copy_may_be_in_double_precision() -> None:
    assert {p.dtype for p in isolated(made(convolutional), dtype=torch.float64).parameters()} == {torch.float64}


def test_tensors_with_a_history_are_refused() -> None:
    model = nn.Linear(2, 2)
    model.cache = model.weight * 2  # type: ignore[assignment]
    with pytest.raises(ScoreError, match="can't be copied"):
        isolated(model)


def test_norms_are_replaced_once_each() -> None:
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(norm, nn.Sequential(norm, nn.ReLU()), nn.BatchNorm2d(4))
    made_of: list[nn.Module] = []

    def make(found: nn.Module) -> nn.Module:
        made_of.append(found)
        return nn.Identity()

    replace_norms(model, make)
    assert made_of == [norm, made_of[1]]
    assert model[0] is model[1][0]  # type: ignore[index]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def test_weights_are_drawn_anew() -> None:
    model = made(convolutional)
    reset(model, lambda w: w.fill_(2.0))
    assert all(layer.weight.eq(2).all() for _, layer in weighted(model))
    assert all(layer.bias.eq(0).all() for _, layer in weighted(model) if layer.bias is not None)
    assert model[1].weight.eq(1).all() and model[1].bias.eq(0).all()  # type: ignore[index, union-attr, operator]
