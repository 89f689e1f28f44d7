import copy
import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors import torch_pruning_scores
from nascli.compressors.groups.dependencies import channels
from nascli.errors import DataError, NascliError, SettingsError, UnsupportedError
from search_spaces.groups import NOBODY, Cut, Groups, Part, joined
from search_spaces.space import Batch
from tests.toy_prunable import toy

EXAMPLE = (torch.zeros(1, 3, 6, 6),)
FROM_WEIGHTS = ("magnitude", "bn_scale", "lamp", "fpgm")


class Residual(nn.Module):
    """Two axes: the stream, that stem and conv2 write, and what is inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        stream = F.relu(self.bn(self.stem(images)))
        inner = F.relu(self.bn1(self.conv1(stream)))
        return self.linear(F.relu(stream + self.bn2(self.conv2(inner))).mean((2, 3)))


def rows(owners: Iterable[int], dims: int) -> Tensor:
    return torch.tensor(list(owners)).view(-1, *[1] * (dims - 1))


def parts(layers: dict[str, int], owners: Iterable[int]) -> tuple[Part, ...]:
    owners = list(owners)
    return tuple(Part(name, rows(owners, dims)) for name, dims in layers.items())


def residual_groups() -> Groups:
    """The stream's channels are the groups 13 to 6 in this order, those inside the block 0 to 5."""
    stream, inner = range(13, 5, -1), range(6)
    outer = {"stem.weight": 4, "bn.weight": 1, "bn.bias": 1, "conv2.weight": 4, "bn2.weight": 1, "bn2.bias": 1}
    return Groups(
        torch.tensor([0] * 6 + [1] * 8),
        ("conv1", "stem"),
        (*parts({"conv1.weight": 4, "bn1.weight": 1, "bn1.bias": 1}, inner), *parts(outer, stream)),
        (Cut("conv1.weight", 0, torch.arange(6)), Cut("conv2.weight", 1, torch.arange(6))),
    )


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    net = Residual()
    with torch.no_grad():
        for tensor in (*net.parameters(), net.bn1.running_mean):
            tensor.add_(0.3 * torch.randn_like(tensor))
    return net.train()


def batches(*sizes: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    return [Batch((torch.randn(n, 3, 6, 6, generator=draw),), torch.randint(4, (n,), generator=draw)) for n in sizes]


def own_numbers(model: nn.Module, scorer: tp.importance.Importance) -> dict[str, Tensor]:
    """What the library says of the channels of each root layer, if one follows its manual."""
    graph = tp.DependencyGraph().build_dependency(model, EXAMPLE[0])
    names = {module: name for name, module in model.named_modules()}
    return {names[group[0].dep.target.module]: scorer(group) for group in graph.get_all_groups()}


# -- the library's numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", FROM_WEIGHTS)
def test_scores_from_weights_are_the_librarys_own(model: nn.Module, importance: str) -> None:
    found = torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [], importance=importance)
    own = own_numbers(model, torch_pruning_scores.IMPORTANCES[importance]())
    torch.testing.assert_close(found[:6], own["conv1"].double())
    torch.testing.assert_close(found[6:].flip(0), own["conv2"].double())


def test_taylor_scores_are_those_after_backward(model: nn.Module) -> None:
    given = batches(5, 5)
    found = torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, given, importance="taylor")
    model.eval()
    for batch in given:
        F.cross_entropy(model(*batch.inputs), batch.targets).backward()
    own = own_numbers(model, tp.importance.GroupTaylorImportance())
    torch.testing.assert_close(found[:6], own["conv1"].double(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[6:].flip(0), own["conv2"].double(), atol=1e-5, rtol=1e-4)


def test_hessian_scores_of_one_example_are_the_librarys_own(model: nn.Module) -> None:
    (batch,) = batches(1)
    found = torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [batch], importance="hessian")
    scorer = tp.importance.GroupHessianImportance()
    F.cross_entropy(model.eval()(*batch.inputs), batch.targets).backward()
    scorer.accumulate_grad(model)
    own = own_numbers(model, scorer)
    torch.testing.assert_close(found[:6], own["conv1"].double(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[6:].flip(0), own["conv2"].double(), atol=1e-5, rtol=1e-4)


def test_hessian_scores_read_all_examples(model: nn.Module) -> None:
    """Squared gradients, averaged over examples, times squared weights; averaged over layers, divided by the mean."""
    given = batches(4, 3)
    found = torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, given, importance="hessian")
    model.eval()
    curvature = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in given:
        for image, target in zip(batch.inputs[0], batch.targets, strict=True):
            model.zero_grad()
            F.cross_entropy(model(image[None]), target[None]).backward()
            for name, p in model.named_parameters():
                assert p.grad is not None
                curvature[name] += p.grad.square() / 7
    worth = {name: p.detach().square() * curvature[name] for name, p in model.named_parameters()}
    layers = worth["conv1.weight"].sum((1, 2, 3)), worth["bn1.weight"], worth["conv2.weight"].sum((0, 2, 3))
    inner = torch.stack(layers).mean(0)
    torch.testing.assert_close(found[:6], (inner / inner.mean()).double(), atol=1e-5, rtol=1e-4)


def test_examples_that_do_not_count_are_not_read(model: nn.Module) -> None:
    (batch,) = batches(4)
    masked = Batch(batch.inputs, batch.targets, torch.tensor([True, False, True, True]))
    counted = Batch((batch.inputs[0][masked.mask],), batch.targets[masked.mask])
    found, expected = (
        torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [b], importance="hessian")
        for b in (masked, counted)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_frozen_networks_have_the_same_scores(model: nn.Module, importance: str) -> None:
    frozen = copy.deepcopy(model).requires_grad_(False)
    found, expected = (
        torch_pruning_scores.scores(m, residual_groups(), EXAMPLE, batches(3), importance=importance)
        for m in (frozen, model)
    )
    assert torch.equal(found, expected)


def test_magnitude_by_hand() -> None:
    """Channel i: squares of its filter, its scale and the next layer's column, averaged, over the mean channel."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]]).view(2, 3, 1, 1))
        model[1].weight.copy_(torch.tensor([3.0, 1.0]))
        model[3].weight.copy_(torch.tensor([[-1.0, 2.0]]).view(1, 2, 1, 1))
    groups = Groups(torch.tensor([0, 0]), ("0",), (Part("0.weight", rows([0, 1], 4)),))
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    assert found.tolist() == pytest.approx([(3 + 9 + 1) / 11, (4 + 1 + 4) / 11])


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_what_the_librarys_pruner_removes_is_what_scores_lowest(model: nn.Module, ratio: float) -> None:
    groups = residual_groups()
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    pruned = copy.deepcopy(model).eval()
    tp.pruner.BasePruner(
        pruned,
        EXAMPLE[0],
        importance=tp.importance.GroupMagnitudeImportance(),
        global_pruning=False,
        pruning_ratio=ratio,
        ignored_layers=[pruned.get_submodule("linear")],
    ).step()
    # No two channels have the same bias, so biases tell which are left.
    for norm, owners in {"bn": list(range(13, 5, -1)), "bn1": list(range(6)), "bn2": list(range(13, 5, -1))}.items():
        before, after = (m.get_parameter(f"{norm}.bias").tolist() for m in (model, pruned))
        assert len(after) == int(len(before) * (1 - ratio))
        best = found[owners].argsort(descending=True)[: len(after)].tolist()
        assert {before.index(value) for value in after} == set(best)


# -- to our groups -----------------------------------------------------------------------------------------------------


def test_a_group_of_several_channels_has_their_mean(model: nn.Module) -> None:
    """As heads: channels 0 and 3 of the inner axis are one group, 1 and 2 another, 4 and 5 nobody's."""
    owners = [0, 1, 1, 0, NOBODY, NOBODY]
    groups = Groups(torch.tensor([0, 0]), ("conv1",), (Part("conv1.weight", rows(owners, 4)),))
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    own = own_numbers(model, tp.importance.GroupMagnitudeImportance())["conv1"]
    assert found.tolist() == pytest.approx([(own[0] + own[3]).item() / 2, (own[1] + own[2]).item() / 2])


def test_a_layer_with_two_kinds_of_groups_scores_both(model: nn.Module) -> None:
    whole = Part("conv1.weight", torch.zeros(6, 1, 1, 1, dtype=torch.int64))
    groups = Groups(
        torch.tensor([0, *[1] * 6]), ("block", "conv1"), (whole, Part("conv1.weight", rows(range(1, 7), 4)))
    )
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    own = own_numbers(model, tp.importance.GroupMagnitudeImportance())["conv1"]
    torch.testing.assert_close(found[1:], own.double())
    assert found[0].item() == pytest.approx(1)


def test_transposed_convolutions_produce_along_their_second_dimension() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1))
    groups = Groups(torch.zeros(4, dtype=torch.int64), ("0",), (Part("0.weight", torch.arange(4).view(1, 4, 1, 1)),))
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    layers = model[0].weight.square().sum((0, 2, 3)), model[2].weight.square().sum((0, 2, 3))
    expected = torch.stack(layers).mean(0)
    torch.testing.assert_close(found, (expected / expected.mean()).detach().double())


@pytest.mark.parametrize(
    "importance, names", [("magnitude", "weight"), ("bn_scale", "conv")], ids=["no channels", "no BatchNorm"]
)
def test_groups_without_importance_are_refused(importance: str, names: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1))
    owners = torch.arange(6).view(2, 3, 1, 1) if names == "weight" else rows([0, 1], 4)
    groups = Groups(torch.zeros(int(owners.max()) + 1, dtype=torch.int64), (names,), (Part("0.weight", owners),))
    with pytest.raises(UnsupportedError, match=f"'{importance}' has no number for the channels of '{names}'"):
        torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance=importance)


def test_a_layer_that_makes_a_part_of_the_coupled_channels_has_their_scores() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.both = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1)
            self.head = nn.Conv2d(5, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(torch.cat([self.one(images), self.two(images)], 1) + self.both(images))

    torch.manual_seed(0)
    model = Beside()
    groups = Groups(torch.zeros(3, dtype=torch.int64), ("two",), (Part("two.weight", rows([2, 1, 0], 4)),))
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    own = own_numbers(model, tp.importance.GroupMagnitudeImportance())["both"]
    torch.testing.assert_close(found.flip(0), own[2:].double())


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_a_layer_without_gradients_scores_zero(model: nn.Module, importance: str) -> None:
    """The library divides its scores by their mean, which is zero, too."""
    nn.init.zeros_(model.get_parameter("bn2.weight"))
    found = torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, batches(3), importance=importance)
    assert found[:6].tolist() == [0] * 6
    assert (found[6:] > 0).all()


def test_weights_that_are_no_numbers_are_refused(model: nn.Module) -> None:
    nn.init.constant_(model.get_parameter("bn1.weight"), math.nan)
    with pytest.raises(UnsupportedError, match="no number for the channels of 'conv1'"):
        torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [], importance="magnitude")


def test_layers_that_the_library_fails_on_are_refused() -> None:
    """Half of the channels go through a BatchNorm: the library makes room for half of them and has indices of all."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            one, two = self.conv(images).chunk(2, 1)
            return self.head(one * self.norm(two))

    groups = Groups(torch.tensor([0, 0]), ("conv",), (Part("conv.weight", rows([0, 1, 0, 1], 4)),))
    assert len(torch_pruning_scores.scores(Gated(), groups, EXAMPLE, [], importance="magnitude")) == 2
    with pytest.raises(UnsupportedError, match="'bn_scale' has no number for the channels of 'conv'"):
        torch_pruning_scores.scores(Gated(), groups, EXAMPLE, [], importance="bn_scale")


# -- with the groups that are found ------------------------------------------------------------------------------------


def found_in(name: str, *kinds: Literal["filters", "neurons"]) -> tuple[nn.Module, tuple[Tensor, ...], Groups]:
    torch.manual_seed(0)
    model, example = toy(name)
    return model, example, joined([channels(model, example, kind=kind) for kind in kinds])


@pytest.mark.parametrize("importance", ["magnitude", "lamp", "fpgm", "taylor", "hessian"])
@pytest.mark.parametrize("name", ["padded", "padded-deep", "residual", "inverted", "mixer", "sequence", "grouped"])
def test_found_channels_have_scores(name: str, importance: str) -> None:
    model, example, groups = found_in(name, "filters", "neurons")
    given = [Batch(example, torch.tensor([0, 1, 0]))]
    if (name, importance) == ("grouped", "fpgm"):
        with pytest.raises(UnsupportedError, match="'fpgm' has no number"):  # it knows no grouped convolutions
            torch_pruning_scores.scores(model, groups, example, given, importance=importance)
        return
    found = torch_pruning_scores.scores(model, groups, example, given, importance=importance)
    assert torch.isfinite(found).all() and len(found) == len(groups) > 4
    for axis in range(len(groups.names)):
        dead = importance in ("taylor", "hessian") and not found[groups.axis == axis].any()
        assert dead or len(found[groups.axis == axis].unique()) > 1, groups.names[axis]


def test_channels_on_both_sides_of_a_shortcut_have_the_mean_of_the_streams() -> None:
    """The library couples each stage's stream for itself; a channel of the first goes on to all three of them."""
    model, example, groups = found_in("padded", "filters")
    generator = torch.get_rng_state()
    found = torch_pruning_scores.scores(model, groups, example, [], importance="magnitude")
    assert torch.equal(torch.get_rng_state(), generator)
    weights = {name: p.detach().square() for name, p in model.named_parameters()}

    def stream(made: list[str], scales: list[str], read: list[str]) -> Tensor:
        layers = [weights[f"{n}.weight"].flatten(1).sum(1) for n in made] + [weights[f"{n}.weight"] for n in scales]
        layers += [weights[f"{n}.weight"].transpose(0, 1).flatten(1).sum(1) for n in read]
        worth = torch.stack(layers).mean(0)
        return worth / worth.mean()

    one = stream(["conv1", "layer1.0.conv2"], ["bn1", "layer1.0.bn2"], ["layer1.0.conv1", "layer2.0.conv1"])
    two = stream(["layer2.0.conv2"], ["layer2.0.bn2"], ["layer3.0.conv1"])
    three = stream(["layer3.0.conv2"], ["layer3.0.bn2"], ["linear"])
    owners = {c.tensor: c.owners for c in groups.cuts if c.dim == 0}
    expected = torch.stack([one, two[2:6], three[6:10]]).mean(0)
    torch.testing.assert_close(found[owners["conv1.weight"]], expected.double(), rtol=1e-5, atol=1e-6)
    outer = [0, 1, 6, 7]
    expected = torch.stack([two, three[4:12]]).mean(0)[outer]
    torch.testing.assert_close(found[owners["layer2.0.conv2.weight"][outer]], expected.double(), rtol=1e-5, atol=1e-6)


def test_a_linear_layer_behind_a_picture_does_not_lengthen_the_scores() -> None:
    """The library starts at the depthwise layer, skips it, and makes room for all 144 inputs of the linear one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.Flatten(), nn.Linear(144, 2))
    groups = channels(model, EXAMPLE, kind="filters")
    found = torch_pruning_scores.scores(model, groups, EXAMPLE, [], importance="magnitude")
    made = model[0].weight.square().sum((1, 2, 3)), model[3].weight.square().sum(0).view(4, 36).sum(1)
    worth = torch.stack(made).sum(0).detach().double()
    torch.testing.assert_close(found / found.mean(), worth / worth.mean(), rtol=1e-5, atol=1e-6)


def test_a_network_that_cannot_be_traced_is_refused(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="can't trace the network.*prune by magnitude or taylor"):
        torch_pruning_scores.scores(model, residual_groups(), (torch.zeros(1, 5, 6, 6),), [], importance="magnitude")


# -- manners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", torch_pruning_scores.IMPORTANCES)
def test_the_network_is_left_as_it_was(model: nn.Module, importance: str) -> None:
    model.get_parameter("conv1.weight").requires_grad_(False)
    model.get_submodule("bn1").eval()
    kept = model.get_parameter("stem.weight")
    kept.grad = torch.full_like(kept, 7.0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    generator = torch.get_rng_state()
    with torch.no_grad():
        found = torch_pruning_scores.scores(
            model, residual_groups(), EXAMPLE, batches(3), importance=importance, rng=np.random.default_rng(0)
        )
    assert torch.isfinite(found).all() and (found >= 0).all() and found.dtype == torch.float64
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name
    assert [m.training for m in model.modules()] == modes
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["stem.weight"]
    assert torch.equal(kept.grad, torch.full_like(kept, 7.0))
    assert torch.equal(torch.get_rng_state(), generator)


def test_random_scores_follow_their_generator(model: nn.Module) -> None:
    def draw(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        return torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [], importance="random", rng=rng)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    with pytest.raises(ValueError, match="give the generator rng"):
        torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [], importance="random")


@pytest.mark.parametrize(
    "importance, error", [("taylor", DataError), ("hessian", DataError), ("talyor", SettingsError)]
)
def test_what_is_missing_is_said(model: nn.Module, importance: str, error: type[NascliError]) -> None:
    with pytest.raises(error, match="give at least one batch|Did you mean 'taylor'"):
        torch_pruning_scores.scores(model, residual_groups(), EXAMPLE, [], importance=importance)
