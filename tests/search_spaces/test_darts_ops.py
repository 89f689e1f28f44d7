from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.darts_cells import OPERATIONS
from search_spaces.darts_ops import DropPath, Halved, Noise, factorized_reduce, new_operation, projection, set_drop_path

C = 6


def images(height: int = 8, width: int = 8, channels: int = C) -> Tensor:
    return torch.randn(4, channels, height, width, generator=torch.Generator().manual_seed(0))


def made(name: str, stride: int = 1, *, pool_norm: bool = True) -> nn.Module:
    torch.manual_seed(1)
    module = new_operation(name, C, stride, nn.BatchNorm2d, pool_norm=pool_norm)
    assert module is not None
    return module.eval()


def test_nothing_and_the_identity_are_no_modules() -> None:
    for name, stride in (("none", 1), ("none", 2), ("skip_connect", 1)):
        assert new_operation(name, C, stride, nn.BatchNorm2d) is None


@pytest.mark.parametrize("name", [o for o in OPERATIONS if o != "none"])
@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (1, 2)])
def test_strides_halve_the_sides_rounding_up(name: str, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    assert made(name, 2)(images(*sides)).shape == (4, C, *(-(-side // 2) for side in sides))
    if name != "skip_connect":
        assert made(name)(images(*sides)).shape == (4, C, *sides)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sep_conv_3x3", 2 * (9 * C + C * C + 2 * C)),
        ("sep_conv_5x5", 2 * (25 * C + C * C + 2 * C)),
        ("dil_conv_3x3", 9 * C + C * C + 2 * C),
        ("dil_conv_5x5", 25 * C + C * C + 2 * C),
        ("max_pool_3x3", 2 * C),
        ("avg_pool_3x3", 2 * C),
        ("skip_connect", C * C + 2 * C),
        ("noise", 0),
    ],
)
def test_parameters_as_counted_by_hand(name: str, expected: int) -> None:
    assert sum(p.numel() for p in made(name, 2).parameters()) == expected


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (5, 2), (3, 1), (5, 1)])
def test_convolutions_see_as_far_as_they_should(kernel: int, dilation: int) -> None:
    name = f"{'dil' if dilation == 2 else 'sep'}_conv_{kernel}x{kernel}"
    x = images(21, 21).requires_grad_()
    made(name)(x)[0, 0, 10, 10].backward()
    seen = x.grad[0].abs().sum(0).nonzero()  # type: ignore[index]
    # Separable convolutions come twice.
    reach = dilation * (kernel // 2) * (2 if dilation == 1 else 1)
    assert seen.min() >= 10 - reach and seen.max() <= 10 + reach
    assert int(seen.min()) == 10 - reach or int(seen.max()) == 10 + reach
    if dilation == 2:
        assert ((seen - 10) % 2 == 0).all()


def test_each_convolution_comes_after_its_activation_and_before_its_normalisation() -> None:
    layers = [type(m).__name__ for m in made("sep_conv_3x3")]
    assert layers == ["ReLU", "Conv2d", "Conv2d", "BatchNorm2d"] * 2
    assert [type(m).__name__ for m in made("dil_conv_5x5")] == layers[:4]
    first, second = [m for m in made("sep_conv_5x5", 2) if getattr(m, "groups", 1) == C]
    assert (first.stride, second.stride) == ((2, 2), (1, 1))
    assert [type(m).__name__ for m in projection(3, C, nn.BatchNorm2d)] == ["ReLU", "Conv2d", "BatchNorm2d"]


def test_average_pools_do_not_count_what_lies_outside() -> None:
    y = made("avg_pool_3x3", pool_norm=False)(torch.arange(9.0).expand(1, C, 9).reshape(1, C, 3, 3))
    assert y[0, 0].tolist() == [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]


def test_pools_are_normalised_or_not() -> None:
    for name in ("max_pool_3x3", "avg_pool_3x3"):
        assert list(made(name, pool_norm=False).parameters()) == []
        pool, norm = made(name)
        assert isinstance(norm, nn.BatchNorm2d) and torch.equal(pool(images()), made(name, pool_norm=False)(images()))


@pytest.mark.parametrize("sides", [(4, 6), (5, 4), (3, 3), (1, 1)])
def test_halving_reads_even_pixels_and_odd_ones(sides: tuple[int, int]) -> None:
    layer, x = Halved(C, 5), images(*sides)
    y = layer(x)
    assert y.shape[1] == 5
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :, ::2, ::2], layer.even.weight))
    odd = torch.zeros(4, C, -(-sides[0] // 2), -(-sides[1] // 2))
    there = x[:, :, 1::2, 1::2]
    odd[:, :, : there.shape[2], : there.shape[3]] = there
    torch.testing.assert_close(y[:, 2:], F.conv2d(odd, layer.odd.weight))
    torch.testing.assert_close(torch.fx.symbolic_trace(layer)(x), y)


def test_a_factorised_reduction_activates_halves_and_normalises() -> None:
    reduce, x = factorized_reduce(C, 8, nn.BatchNorm2d), images()
    act, halved, norm = reduce
    torch.testing.assert_close(reduce.eval()(x), norm.eval()(halved(x.relu())))
    assert isinstance(act, nn.ReLU)


def test_noise_is_standard_normal_and_passes_no_gradient() -> None:
    torch.manual_seed(0)
    x = (100 + images(64, 64)).requires_grad_()
    y = Noise(2)(x)
    assert not y.requires_grad and y.shape == (4, C, 32, 32)
    assert abs(y.mean().item()) < 0.03 and abs(y.std().item() - 1) < 0.03
    assert not torch.equal(Noise(2)(x), y)


# -- drop path -------------------------------------------------------------------------------------------------------


def test_paths_are_dropped_by_example_and_scaled() -> None:
    drop, x = DropPath(), torch.ones(4000, 3, 2, 2)
    assert set_drop_path(drop, 0.2) == 1
    torch.manual_seed(0)
    y = drop.train()(x)
    assert y.flatten(1).std(1).max() == 0, "an example is kept or dropped as a whole"
    first = y[:, 0, 0, 0]
    assert sorted(first.unique().tolist()) == pytest.approx([0, 1.25])
    assert first.mean().item() == pytest.approx(1, abs=0.03)


def test_nothing_is_drawn_in_evaluation_or_at_rate_0() -> None:
    drop, x, state = DropPath(), images(), torch.get_rng_state()
    assert drop.train()(x) is x
    set_drop_path(drop, 0.9)
    assert drop.eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_all_places_of_a_model_are_set() -> None:
    model = nn.Sequential(DropPath(), nn.Sequential(DropPath(), nn.ReLU()))
    assert set_drop_path(model, 0.3) == 2 and model[0].rate == model[1][0].rate == 0.3
    assert set_drop_path(nn.ReLU(), 0.3) == 0
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
            set_drop_path(model, rate)
