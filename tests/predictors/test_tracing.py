import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.layers import isolated, weighted
from predictors.tracing import Trace
from tests.predictors.probes import Sentences, convolutional, images, made
from tests.predictors.test_per_example import sentences


def test_gradients_are_those_of_the_mean_loss_in_training_mode() -> None:
    model, batch = made(convolutional), images()
    reference = copy.deepcopy(model).train()
    batch.losses(reference(*batch.inputs)).mean().backward()
    found = Trace(copy.deepcopy(model).train(), batch).weight_gradients()
    layers = [m for m in reference.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for gradient, layer in zip(found, layers, strict=True):
        torch.testing.assert_close(gradient, layer.weight.grad)


def test_input_gradients_are_those_of_the_summed_outputs() -> None:
    model, batch = made(convolutional).train(), images()
    x = batch.inputs[0].clone().requires_grad_()
    copy.deepcopy(model)(x).sum().backward()
    trace = Trace(model, batch)
    for _ in range(2):
        torch.testing.assert_close(trace.input_gradients(), x.grad.flatten(1))  # type: ignore[union-attr]


def test_inputs_that_are_whole_numbers_have_no_gradients() -> None:
    with pytest.raises(ScoreError, match="whole numbers"):
        Trace(made(Sentences), sentences()).input_gradients()


def test_rectifiers_are_met_in_order_with_what_they_returned() -> None:
    model, batch = isolated(made(convolutional)), images()
    trace = Trace(model, batch)
    assert [call.name for call in trace.rectified] == ["2", "4", "8"]
    x = isolated(made(convolutional))[:3](*batch.inputs)  # type: ignore[index]
    torch.testing.assert_close(trace.rectified[0].output, x)


def test_channel_products_by_hand() -> None:
    """One linear layer y = x with weight 1, loss of logits (y, 0) for class 0: its gradient at y is p - 1."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.layer.weight)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return torch.cat((y, torch.zeros_like(y)), 1)

    from search_spaces.space import Batch

    x = torch.tensor([[1.0], [-2.0]])
    trace = Trace(Two(), Batch((x,), torch.tensor([0, 0])))
    assert not trace.products
    trace.weight_gradients()
    gradient = (torch.sigmoid(x) - 1) / 2
    expected = (x * gradient).square().mean() / 2
    (product,) = trace.products["layer"]
    assert product.fan_in == 1
    torch.testing.assert_close(product.values, expected[None])


def test_channel_products_sum_over_positions_of_convolutions_and_tokens() -> None:
    trace = Trace(isolated(made(convolutional)), images())
    trace.weight_gradients()
    assert {name: len(p[0].values) for name, p in trace.products.items()} == {
        "0": 8, "3": 8, "5": 12, "6": 12, "9": 6, "12": 4,
    }  # fmt: skip
    trace = Trace(made(Sentences), sentences())
    trace.weight_gradients()
    assert len(trace.products["query"][0].values) == 8


def test_outputs_changed_in_place_are_named_and_not_counted() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(243, 5), nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x.flatten(1)).mul_(2))
            return out

    trace = Trace(made(InPlace), images())
    trace.weight_gradients()
    assert trace.in_place == ["first"] and list(trace.products) == ["last"]


def test_nothing_is_kept_alive() -> None:
    trace = Trace(isolated(made(convolutional)), images())
    trace.weight_gradients()
    kept = [weakref.ref(trace.net), *(weakref.ref(layer.weight) for _, layer in weighted(trace.net))]
    del trace
    gc.collect()
    assert not any(reference() for reference in kept)
