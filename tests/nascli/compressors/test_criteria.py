import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors import criteria
from nascli.errors import DataError, UnsupportedError
from search_spaces.groups import NOBODY, Groups, Part
from search_spaces.space import Batch


class Net(nn.Module):
    """Two axes: the first convolution with its BatchNorm, the second with a bias and another BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 2, 3)
        self.bn2 = nn.BatchNorm2d(2)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(2, 4)

    def forward(self, images: Tensor) -> Tensor:
        found = torch.tanh(self.bn2(self.conv2(torch.tanh(self.bn1(self.conv1(images))))))
        return self.linear(self.dropout(found.mean((2, 3))))


def rows(*owners: int, dims: int) -> Tensor:
    return torch.tensor(owners).view(-1, *[1] * (dims - 1))


GROUPS = Groups(
    torch.tensor([0, 0, 0, 1, 1]),
    ("conv1", "conv2"),
    (
        Part("conv1.weight", rows(0, 1, 2, dims=4)),
        Part("bn1.weight", rows(0, 1, 2, dims=1)),
        Part("bn1.bias", rows(0, 1, 2, dims=1)),
        Part("conv2.weight", rows(3, 4, dims=4)),
        Part("conv2.bias", rows(3, 4, dims=1)),
        Part("bn2.weight", rows(3, 4, dims=1)),
        Part("bn2.bias", rows(3, 4, dims=1)),
    ),
)


@pytest.fixture
def model() -> nn.Module:
    """A network with statistics and parameters of its own, parts of which are frozen or in evaluation mode."""
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for tensor in (*net.parameters(), net.bn1.running_mean, net.bn2.running_mean):
            tensor.add_(0.3 * torch.randn_like(tensor))
    net.train()
    net.bn2.eval()
    return net


def batches(*sizes: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    return [Batch((torch.randn(n, 2, 5, 5, generator=draw),), torch.randint(4, (n,), generator=draw)) for n in sizes]


def by_hand(model: nn.Module, group: int) -> list[tuple[str, int]]:
    """The tensors of a group, and its row in them."""
    layer, row = ("1", group) if group < 3 else ("2", group - 3)
    names = [f"conv{layer}.weight", f"bn{layer}.weight", f"bn{layer}.bias", f"conv{layer}.bias"]
    return [(name, row) for name in names if name in dict(model.named_parameters())]


# -- magnitude ---------------------------------------------------------------------------------------------------------


def test_magnitudes_of_a_worked_example() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        model.bias.copy_(torch.tensor([2.0, -4.0]))
    groups = Groups(
        torch.tensor([0, 0]), ("linear",), (Part("weight", rows(0, 1, dims=2)), Part("bias", rows(0, 1, dims=1)))
    )
    assert criteria.magnitude(model, groups).tolist() == [3.0, 5.0]
    assert criteria.magnitude(model, groups, power=1).tolist() == [5.0, 7.0]
    assert criteria.magnitude(model, groups).dtype == torch.float64


@pytest.mark.parametrize("power", [1, 2])
def test_magnitude_is_the_norm_of_all_that_a_group_has(model: nn.Module, power: int) -> None:
    found = criteria.magnitude(model, GROUPS, power=power)
    state = model.state_dict()
    for group in range(5):
        numbers = torch.cat([state[name][row].flatten() for name, row in by_hand(model, group)])
        assert found[group].item() == pytest.approx(torch.linalg.vector_norm(numbers, power).item(), rel=1e-6)


def test_magnitude_of_half_precision_does_not_overflow() -> None:
    model = nn.Linear(4, 1, bias=False).half()
    nn.init.constant_(model.weight, 30_000)
    groups = Groups(torch.tensor([0]), ("linear",), (Part("weight", rows(0, dims=2)),))
    assert criteria.magnitude(model, groups).tolist() == [60_000.0]


# -- Taylor ------------------------------------------------------------------------------------------------------------


def test_taylor_is_the_change_of_the_loss_when_a_group_shrinks_squared(model: nn.Module) -> None:
    """d/ds of the loss with a group scaled by s is its sum of gradient x weight: here by central differences."""
    model.double()
    given = [Batch((b.inputs[0].double(),), b.targets) for b in batches(6, 3)]
    found = criteria.taylor(model, GROUPS, given)
    model.eval()
    step = 1e-5

    def loss(group: int, scale: float, batch: Batch) -> float:
        state = {name: p.detach().clone() for name, p in model.named_parameters()}
        for name, row in by_hand(model, group):
            state[name][row] *= scale
        with torch.no_grad():
            return F.cross_entropy(torch.func.functional_call(model, state, batch.inputs), batch.targets).item()

    for group in range(5):
        slopes = [(loss(group, 1 + step, b) - loss(group, 1 - step, b)) / (2 * step) for b in given]
        assert found[group].item() == pytest.approx(np.mean(np.square(slopes)), rel=1e-6)


def test_taylor_joins_the_parameters_of_a_group_before_it_squares() -> None:
    """loss = log(1 + exp(-z)), z = w.x: gradient x weight is -sigmoid(-z) w_i x_i, here 3 and -2 times the same."""

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1, bias=False)

        def forward(self, inputs: Tensor) -> Tensor:
            return F.pad(self.linear(inputs), (1, 0))

    model = Scored()
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor([[1.5, -1.0]]))
    groups = Groups(torch.tensor([0]), ("linear",), (Part("linear.weight", rows(0, dims=2)),))
    batch = Batch((torch.tensor([[2.0, 2.0]]),), torch.tensor([1]))
    slope = 1 / (1 + math.exp(3.0 - 2.0))
    assert criteria.taylor(model, groups, [batch]).item() == pytest.approx((slope * (3 - 2)) ** 2, rel=1e-6)
    lone = Groups(torch.tensor([0, 0]), ("linear",), (Part("linear.weight", torch.tensor([[0, 1]])),))
    assert criteria.taylor(model, lone, [batch]).tolist() == pytest.approx([(slope * 3) ** 2, (slope * 2) ** 2])


def test_taylor_averages_batches_and_not_their_gradients(model: nn.Module) -> None:
    one, two = batches(4, 4)
    apart = [criteria.taylor(model, GROUPS, [b]) for b in (one, two)]
    torch.testing.assert_close(criteria.taylor(model, GROUPS, [one, two]), (apart[0] + apart[1]) / 2)


def test_derivatives_of_examples_add_up_to_those_of_the_batch(model: nn.Module) -> None:
    names = dict(model.named_parameters())
    (whole,) = criteria.derivatives(model, names, batches(5))
    each = list(criteria.derivatives(model, names, batches(5), of="examples"))
    assert len(each) == 5
    for name, gradient in whole.items():
        torch.testing.assert_close(torch.stack([g[name] for g in each]).mean(0), gradient, atol=1e-6, rtol=1e-4)


def test_derivatives_are_those_of_backward(model: nn.Module) -> None:
    model.eval()
    names = dict(model.named_parameters())
    (batch,) = batches(5)
    (found,) = criteria.derivatives(model, names, [batch])
    F.cross_entropy(model(*batch.inputs), batch.targets).backward()
    for name, parameter in names.items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad)


def test_tied_weights_have_the_same_gradient_under_both_names() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    batch = Batch((torch.randn(4, 3),), torch.tensor([0, 1, 2, 0]))
    names = dict(model.named_parameters(remove_duplicate=False))
    (found,) = criteria.derivatives(model, names, [batch])
    F.cross_entropy(model(*batch.inputs), batch.targets).backward()
    torch.testing.assert_close(found["0.weight"], model[0].weight.grad)
    torch.testing.assert_close(found["1.weight"], model[0].weight.grad)


class Counter(nn.Module):
    """Writes a buffer on every pass, in whatever mode."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs


def test_taylor_leaves_the_network_as_it_was(model: nn.Module) -> None:
    model = nn.Sequential(Counter(), model)
    groups = Groups(GROUPS.axis, GROUPS.names, tuple(Part(f"1.{p.tensor}", p.owners) for p in GROUPS.parts))
    kept = model.get_parameter("1.conv1.weight")
    kept.grad = torch.full_like(kept, 7.0)
    model.get_parameter("1.conv2.weight").requires_grad_(False)
    before = {name: t.clone() for name, t in (*model.named_parameters(), *model.named_buffers())}
    modes = [m.training for m in model.modules()]
    demands = [p.requires_grad for p in model.parameters()]
    with torch.no_grad():
        assert (criteria.taylor(model, groups, batches(4, 2)) > 0).all()
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        assert torch.equal(t, before[name]), name
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == demands
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["1.conv1.weight"]
    assert torch.equal(kept.grad, torch.full_like(kept, 7.0))


def test_taylor_needs_batches(model: nn.Module) -> None:
    with pytest.raises(DataError, match="give at least one batch"):
        criteria.taylor(model, GROUPS, [])


def test_taylor_refuses_a_loss_that_is_no_number(model: nn.Module) -> None:
    broken = [Batch((torch.full((2, 2, 5, 5), math.nan),), torch.zeros(2, dtype=torch.long))]
    with pytest.raises(UnsupportedError, match="no number"):
        criteria.taylor(model, GROUPS, broken)


# -- BatchNorm's scales ------------------------------------------------------------------------------------------------


def test_scales_are_absolute_and_averaged_over_the_layers_of_a_group() -> None:
    model = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2), "conv": nn.Conv1d(1, 2, 1)})
    model["plain"] = nn.BatchNorm1d(2, affine=False)
    with torch.no_grad():
        model["a"].weight.copy_(torch.tensor([-3.0, 1.0]))
        model["b"].weight.copy_(torch.tensor([1.0, 0.5]))
    # Group 1 has the scale 1 of each: the layers are coupled crosswise.
    parts = (
        Part("a.weight", rows(0, 1, dims=1)),
        Part("b.weight", rows(1, 0, dims=1)),
        Part("b.bias", rows(1, 0, dims=1)),
        Part("conv.weight", rows(0, 1, dims=3)),
    )
    groups = Groups(torch.tensor([0, 0]), ("conv",), parts)
    assert criteria.bn_scale(model, groups).tolist() == [(3 + 0.5) / 2, (1 + 1) / 2]


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(3, affine=False), nn.GroupNorm(1, 3)])
def test_scales_are_refused_where_there_are_none(model: nn.Module, norm: nn.Module) -> None:
    model.bn1 = norm
    parts = tuple(p for p in GROUPS.parts if p.tensor in model.state_dict())
    with pytest.raises(UnsupportedError, match="groups of 'conv1' have no BatchNorm.*use magnitude or taylor"):
        criteria.bn_scale(model, Groups(GROUPS.axis, GROUPS.names, parts))


def test_scales_of_zero_are_scales(model: nn.Module) -> None:
    nn.init.zeros_(model.get_parameter("bn1.weight"))
    assert criteria.bn_scale(model, GROUPS)[:3].tolist() == [0, 0, 0]


def test_a_message_names_a_few_axes() -> None:
    groups = Groups(torch.tensor([0, 0, 1, 2, 3, 4]), tuple("abcde"), ())
    assert criteria.lacking(groups, torch.tensor([True, True, True, False, True, True])) == "'c'"
    assert criteria.lacking(groups, torch.tensor([False] * 6)) == "'a', 'b', 'c' and 2 more"
    assert criteria.lacking(groups, torch.tensor([True] * 6)) == ""


# -- random, normalised ------------------------------------------------------------------------------------------------


def test_random_scores_are_the_generators_and_no_others() -> None:
    before = torch.get_rng_state()
    found = criteria.random(GROUPS, np.random.default_rng(3))
    assert found.tolist() == np.random.default_rng(3).random(5).tolist()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "by, expected",
    [
        ("none", [1, 7, 4, 0, 0, 3]),
        ("mean", [1 / 4, 7 / 4, 4 / 4, 0, 0, 1]),
        ("max", [1 / 7, 1, 4 / 7, 0, 0, 1]),
        ("rms", [1 / math.sqrt(22), 7 / math.sqrt(22), 4 / math.sqrt(22), 0, 0, 1]),
    ],
)
def test_scores_are_divided_by_what_is_usual_on_their_axis(by: str, expected: list[float]) -> None:
    groups = Groups(torch.tensor([0, 0, 0, 1, 1, 2]), ("a", "b", "c"), ())
    scores = torch.tensor([1.0, 7.0, 4.0, 0.0, 0.0, 3.0])
    found = criteria.normalised(scores, groups, by)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(expected)
    assert found.dtype == torch.float64
    assert scores.tolist() == [1, 7, 4, 0, 0, 3]


def test_nobodys_entries_count_for_nothing() -> None:
    model = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0], [9.0], [-4.0]]))
    groups = Groups(torch.tensor([0, 0]), ("linear",), (Part("weight", rows(0, NOBODY, 1, dims=2)),))
    assert criteria.magnitude(model, groups).tolist() == [2, 4]


def test_fisher_is_the_mean_square_of_what_each_example_loses_with_a_group() -> None:
    """By central differences: what is scaled is the scale and shift of its BatchNorm, or else its weights and bias."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 2)  # type: ignore[operator, union-attr]
        net[1].bias.uniform_(-1, 1)  # type: ignore[operator, union-attr]
    axis, four = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.arange(4)
    parts = (
        Part("0.weight", four.view(-1, 1, 1, 1)),
        Part("0.bias", four),
        Part("1.weight", four),
        Part("1.bias", four),
        Part("4.weight", torch.arange(4, 7).view(-1, 1)),
        Part("4.bias", torch.arange(4, 7)),
    )
    groups = Groups(axis, ("conv", "linear"), parts)
    batch = Batch((torch.randn(5, 3, 4, 4, dtype=torch.float64),), torch.tensor([0, 1, 2, 1, 0]))
    found = criteria.fisher(net, groups, [batch])
    net.eval()
    scaled = {0: ("1.weight", "1.bias"), 1: ("4.weight", "4.bias")}

    def losses(group: int, scale: float) -> Tensor:
        state = {name: p.detach().clone() for name, p in net.named_parameters()}
        for name in scaled[int(axis[group])]:
            state[name][group if group < 4 else group - 4] *= scale
        with torch.no_grad():
            logits = torch.func.functional_call(net, state, batch.inputs)
            return F.cross_entropy(logits, batch.targets, reduction="none")

    step = 1e-5
    for group in range(7):
        slopes = (losses(group, 1 + step) - losses(group, 1 - step)) / (2 * step)
        assert found[group].item() == pytest.approx(slopes.square().mean().item(), rel=1e-6)
