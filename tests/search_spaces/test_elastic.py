from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, inherited
from search_spaces.errors import SpaceError
from search_spaces.gated import Pick


def noisy(layer: ElasticConv2d) -> ElasticConv2d:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


def test_convolution_slices_first_channels() -> None:
    layer, x = ElasticConv2d(6, 8, (3,), stride=2, bias=True), torch.randn(2, 4, 7, 7)
    assert layer.bias is not None
    expected = F.conv2d(x, layer.weight[:5, :4], layer.bias[:5], 2, 1)
    torch.testing.assert_close(layer(x, 5), expected)


def test_depthwise_convolution_slices_channels() -> None:
    layer, x = ElasticConv2d(8, 8, (5,), groups=8), torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(layer(x, 3), F.conv2d(x, layer.weight[:3], None, 1, 2, groups=3))


def test_groups_other_than_one_or_all_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=2"):
        ElasticConv2d(8, 8, groups=2)


def test_fresh_small_kernels_are_centres_of_the_large() -> None:
    layer = ElasticConv2d(4, 4, (3, 5, 7), groups=4)
    torch.testing.assert_close(layer.kernel(3, 4, 1), layer.weight[:, :, 2:-2, 2:-2])
    torch.testing.assert_close(layer.kernel(5, 2, 1), layer.weight[:2, :, 1:-1, 1:-1])
    assert layer.kernel(7, 4, 1).shape == (4, 1, 7, 7)


def test_kernels_shrink_by_learnt_matrices_in_sequence() -> None:
    layer = noisy(ElasticConv2d(2, 3, (3, 5, 7)))
    assert {n: tuple(p.shape) for n, p in layer.transforms.items()} == {"3": (9, 9), "5": (25, 25)}
    for out in range(3):
        for channel in range(2):
            five = (layer.transforms["5"] @ layer.weight[out, channel, 1:-1, 1:-1].flatten()).view(5, 5)
            three = (layer.transforms["3"] @ five[1:-1, 1:-1].flatten()).view(3, 3)
            torch.testing.assert_close(layer.kernel(5, 3, 2)[out, channel], five)
            torch.testing.assert_close(layer.kernel(3, 3, 2)[out, channel], three)


def test_gradients_reach_the_matrices_that_were_used() -> None:
    layer = ElasticConv2d(2, 2, (3, 5, 7))
    layer(torch.randn(1, 2, 8, 8), 2, 1).square().sum().backward()
    assert layer.transforms["5"].grad is not None and layer.transforms["3"].grad is None


@pytest.mark.parametrize("groups", [1, 4])
def test_weighted_kernels_are_the_weighted_results(groups: int) -> None:
    layer, x = noisy(ElasticConv2d(4, 4, (3, 5, 7), stride=2, groups=groups)).double(), torch.randn(2, 4, 9, 9).double()
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for picked in ((0, 1, 2), (0, 1), (2,)):
        some: Pick = tuple((i, weights[i]) for i in picked)
        torch.testing.assert_close(layer(x, 4, some), sum(weights[i] * layer(x, 4, i) for i in picked))


def test_weighted_kernels_compute_no_larger_than_needed() -> None:
    layer = ElasticConv2d(2, 2, (3, 5, 7))
    layer(torch.randn(1, 2, 8, 8), 2, ((0, torch.tensor(0.5)), (1, torch.tensor(0.5)))).sum().backward()
    grad = layer.weight.grad
    assert grad is not None and not grad[:, :, 0].any() and grad[:, :, 1:-1, 1:-1].any()


def test_linear_slices_first_features() -> None:
    layer, x = ElasticLinear(6, 3), torch.randn(2, 4)
    torch.testing.assert_close(layer(x), x @ layer.weight[:, :4].T + layer.bias)


def test_normalisation_in_training_uses_the_batch_and_keeps_nothing() -> None:
    layer, x = ElasticBatchNorm2d(6), 3 * torch.randn(8, 4, 5, 5) + 1
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    y = layer(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_normalisation_in_evaluation_uses_the_first_statistics() -> None:
    layer, x = ElasticBatchNorm2d(6).eval(), torch.randn(8, 4, 5, 5)
    torch.testing.assert_close(layer(x), x / (1 + layer.eps) ** 0.5)
    layer.running_mean.copy_(torch.arange(6.0))
    layer.running_var.fill_(4.0)
    expected = (x - torch.arange(4.0).view(1, 4, 1, 1)) / (4 + layer.eps) ** 0.5
    torch.testing.assert_close(layer(x), expected)


def test_a_normalisation_that_does_not_scale_learns_nothing_but_has_the_same_tensors() -> None:
    plain, x = ElasticBatchNorm2d(6, affine=False), torch.randn(8, 6, 5, 5)
    assert list(plain.parameters()) == [] and plain.state_dict().keys() == ElasticBatchNorm2d(6).state_dict().keys()
    assert torch.equal(plain(x), ElasticBatchNorm2d(6)(x))
    assert inherited(nn.ModuleDict({"bn": plain}), nn.ModuleDict({"bn": nn.BatchNorm2d(4)})).keys() == {
        *("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    }


@pytest.mark.parametrize("training", [False, True])
def test_a_normalisation_can_multiply(training: bool) -> None:
    layer, x = ElasticBatchNorm2d(6).train(training), torch.randn(8, 4, 5, 5)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(x, 0.3), 0.3 * layer(x))
    torch.testing.assert_close(layer(x, torch.tensor(2.0)), 2 * layer(x))


@pytest.mark.parametrize("groups", [1, 4])
def test_permuted_channels_give_permuted_results(groups: int) -> None:
    layer, x = ElasticConv2d(4, 4, (3,), groups=groups, bias=True), torch.randn(2, 4, 6, 6)
    before, order = layer(x, 4), torch.tensor([2, 0, 3, 1])
    layer.permute_outputs(order)
    torch.testing.assert_close(layer(x[:, order] if groups > 1 else x, 4), before[:, order])
    if groups == 1:
        layer.permute_inputs(order)
        torch.testing.assert_close(layer(x[:, order], 4), before[:, order])


def test_importance_is_the_norm_by_input_channel() -> None:
    layer = ElasticConv2d(2, 2)
    layer.weight.data = torch.tensor([[1.0, -5.0], [-2.0, 0.5]]).view(2, 2, 1, 1)
    assert layer.importance().tolist() == [3, 5.5]


def elastic_net() -> nn.ModuleDict:
    return nn.ModuleDict(
        {"conv": noisy(ElasticConv2d(3, 8, (3, 5))), "bn": ElasticBatchNorm2d(8), "head": ElasticLinear(8, 2)}
    )


def plain_net(outputs: int, kernel: int) -> nn.ModuleDict:
    conv = nn.Conv2d(3, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(outputs), "head": nn.Linear(outputs, 2)})


def forward(net: nn.ModuleDict, *convolve: int, x: Tensor) -> Tensor:
    result: Tensor = net["head"](net["bn"](net["conv"](x, *convolve)).mean((2, 3)))
    return result


@pytest.mark.parametrize("outputs, kernel", [(8, 5), (5, 3), (1, 5)])
def test_plain_layers_inherit_by_name_and_shape(outputs: int, kernel: int) -> None:
    elastic, plain, x = elastic_net(), plain_net(outputs, kernel), torch.randn(4, 3, 6, 6)
    state = inherited(elastic, plain)
    plain.load_state_dict(state, strict=True)
    torch.testing.assert_close(forward(plain, x=x), forward(elastic, outputs, (3, 5).index(kernel), x=x))


def test_inherited_tensors_are_copies() -> None:
    elastic = elastic_net()
    state = inherited(elastic, plain_net(8, 5))
    assert not any(t.requires_grad for t in state.values())
    for tensor in state.values():
        tensor.fill_(7)
    assert not any((t == 7).any() for t in elastic.state_dict().values())


def test_networks_of_other_shapes_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"'other\.weight'"):
        inherited(elastic_net(), nn.ModuleDict({"other": nn.Linear(2, 2)}))
