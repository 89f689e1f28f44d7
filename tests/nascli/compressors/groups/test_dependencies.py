"""The mathematics of what is coupled, on networks whose groups were counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nascli.compressors.groups.dependencies import channels
from search_spaces.groups import NOBODY, Groups
from tests.toy_prunable import NETS, Stubborn, toy, used


def found(name: str, kind="filters", norm="produced") -> Groups:
    model, example = toy(name)
    return channels(model, example, kind=kind, norm=norm)


def sizes(groups: Groups) -> dict[str, int]:
    return dict(zip(groups.names, groups.sizes().tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "filters", "neurons"),
    [
        ("residual", {"stem": 6, "a": 5}, {}),
        ("grouped", {"a": 2, "b": 3}, {}),
        ("inverted", {"stem": 4, "expand": 6, "squeeze": 3}, {}),
        ("multiplied", {"stem": 4, "expand": 6, "squeeze": 3}, {}),
        ("joined", {"left": 4, "right": 5}, {"fc1": 7}),
        ("mixer", {}, {"up": 9}),
        ("sequence", {"a": 6, "b": 4}, {}),
        (
            "padded",
            {
                "conv1": 4,
                "layer1.0.conv1": 4,
                "layer2.0.conv1": 8,
                "layer2.0.conv2": 4,
                "layer3.0.conv1": 16,
                "layer3.0.conv2": 8,
            },
            {},
        ),
    ],
)
def test_groups_as_counted_by_hand(name: str, filters: dict[str, int], neurons: dict[str, int]) -> None:
    assert sizes(found(name)) == filters
    assert sizes(found(name, "neurons")) == neurons


def owners(groups: Groups) -> dict[tuple[str, int], list[int]]:
    cut = {(c.tensor, c.dim): c.owners.tolist() for c in groups.cuts}
    assert len(cut) == len(groups.cuts)
    return cut


def test_owners_of_a_residual_network() -> None:
    groups, stem, inner = found("residual"), list(range(6)), list(range(6, 11))
    assert owners(groups) == {
        ("stem.weight", 0): stem, ("stem.bias", 0): stem, ("b.weight", 0): stem, ("b.bias", 0): stem,
        ("scale", 0): stem, ("a.weight", 1): stem, ("head.weight", 1): stem,
        ("a.weight", 0): inner, ("a.bias", 0): inner, ("bn.weight", 0): inner, ("bn.bias", 0): inner,
        ("bn.running_mean", 0): inner, ("bn.running_var", 0): inner, ("act.weight", 0): inner,
        ("b.weight", 1): inner,
    }  # fmt: skip
    parts = {p.tensor for p in groups.parts}
    assert parts == {"stem.weight", "stem.bias", "b.weight", "b.bias", "scale", "a.weight", "a.bias", "bn.weight",
                     "bn.bias"}  # fmt: skip


def test_sizes_of_groups() -> None:
    """Stem: 27 + 1 and 5 + 1 numbers that make a channel, and its scale; inner: 54 + 1 and two of the normalisation."""
    model, example = toy("residual")
    tensors = dict(model.named_parameters())
    assert found("residual").counts(tensors).tolist() == [28 + 6 + 1] * 6 + [55 + 2] * 5
    # With what is read: 5 times 9 columns and 4 of the head; 6 of the second convolution.
    coupled = channels(model, example, kind="filters", norm="coupled").counts(tensors)
    assert coupled.tolist() == [35 + 45 + 4] * 6 + [57 + 6] * 5


def test_option_a_shortcuts_join_stages() -> None:
    """Channel c of stage 1 is channel c + 2 of stage 2 and c + 6 of stage 3."""
    groups = found("padded")
    cut = owners(groups)
    first = cut["conv1.weight", 0]
    assert cut["layer2.0.conv2.weight", 0][2:6] == first == cut["layer3.0.conv2.weight", 0][6:10]
    second = cut["layer2.0.conv2.weight", 0]
    assert cut["layer3.0.conv2.weight", 0][4:12] == second
    assert {groups.names[groups.axis[g]] for g in second[:2] + second[6:]} == {"layer2.0.conv2"}
    own = cut["layer3.0.conv2.weight", 0][:4] + cut["layer3.0.conv2.weight", 0][12:]
    assert {groups.names[groups.axis[g]] for g in own} == {"layer3.0.conv2"}
    borders = {b.module: (b.inputs.tolist(), b.outputs.tolist()) for b in groups.borders}
    assert borders == {
        "layer2.0.shortcut": (first, second),
        "layer3.0.shortcut": (second, cut["layer3.0.conv2.weight", 0]),
    }


def test_grouped_convolutions_lose_the_same_places() -> None:
    cut = owners(found("grouped"))
    assert cut["a.weight", 0] == [0, 1] * 4 and cut["b.weight", 1] == [0, 1]
    assert cut["b.weight", 0] == [2, 3, 4] * 4 == cut["c.weight", 1]


def test_depthwise_convolutions_follow() -> None:
    cut = owners(found("multiplied"))
    wide = [4 + k // 2 for k in range(12)]
    assert cut["expand.weight", 0] == [4, 5, 6, 7, 8, 9]
    assert cut["depthwise.weight", 0] == wide == cut["excite.weight", 0] == cut["project.weight", 1]
    assert ("depthwise.weight", 1) not in cut


def test_flattened_channels_own_their_places() -> None:
    cut = owners(found("joined"))
    assert cut["fc1.weight", 1] == [k // 4 for k in range(36)]
    assert cut["fc1.weight", 1][16:20] == [4] * 4 and cut["right.weight", 0] == [4, 5, 6, 7, 8]


def test_bare_normalisations_are_borders() -> None:
    (border,) = found("sequence").borders
    assert border.module == "norm" and border.inputs.tolist() == border.outputs.tolist() == list(range(6))


def test_what_is_left_out_says_why() -> None:
    assert set(found("mixer", "neurons").left_out) == {"embed", "down"}  # the outputs can't go, of course
    assert "normalised together" in found("mixer", "neurons").left_out["embed"]
    assert found("residual").left_out == {}


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.single, self.c = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 1, 1),
            nn.Conv2d(1, 2, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.single(self.a(x)))


def test_layers_without_use_or_choice_are_left_out() -> None:
    groups = channels(Unused(), (torch.randn(2, 3, 4, 4),), kind="filters")
    assert groups.names == ("a",)
    assert "does not depend on it" in groups.left_out["b"] and "only go together" in groups.left_out["single"]


class Sorted(nn.Module):
    """Fails in the pass."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such luck\nat all")


def test_a_network_that_cannot_be_traced_has_no_groups() -> None:
    groups = channels(Sorted(), (torch.randn(2, 3, 4, 4),), kind="filters")
    assert len(groups) == 0 and groups.left_out == {"a": "the network can't be traced (no such luck)"}


@pytest.mark.parametrize("name", NETS)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, example = toy(name)
    model.train()
    model.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modules = list(model.modules())
    with torch.no_grad():
        groups = channels(model, example, kind="filters")
    assert model.training and not any(p.requires_grad for p in model.parameters())
    assert list(model.modules()) == modules
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    state, tensors = torch.get_rng_state(), dict(model.state_dict())
    again = channels(model, example, kind="filters", norm="coupled")
    assert torch.equal(torch.get_rng_state(), state)
    assert again.names == groups.names and len(again) == len(groups)
    for cut in groups.cuts:
        assert len(cut.owners) == tensors[cut.tensor].shape[cut.dim]
    for part in (*groups.parts, *again.parts):
        shape = tensors[part.tensor].shape
        assert torch.broadcast_shapes(part.owners.shape, shape) == shape and part.owners.dim() == len(shape)
        assert int(part.owners.max()) < len(groups) and int(part.owners.min()) >= NOBODY


def test_names_of_axes_are_distinct() -> None:
    class Twice(nn.Module):
        """Half of the channels are read by one layer, all of them by another."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.a(x))
            return self.b(x) + self.c(x[:, :5])

    assert channels(used(Twice()), (torch.randn(2, 3, 4, 4),), kind="filters").names == ("a", "a (2)")


def test_hard_coded_counts_are_not_seen_here() -> None:
    """That is what verification is for."""
    assert channels(used(Stubborn()), (torch.randn(2, 3, 8, 8),), kind="filters").names == ("a", "b")
