from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.removal import difference, keep, remove, silence_, verified
from search_spaces.groups import NOBODY, Border, Branch, Cut, Groups, Heads, Part, joined
from search_spaces.keep import Keep
from tests.toy_prunable import NETS, Stubborn, toy, used


def all_groups(model: nn.Module, example: tuple[Tensor, ...]) -> Groups:
    return joined([channels(model, example, kind="filters"), channels(model, example, kind="neurons")])


def some(groups: Groups, seed: int) -> Tensor:
    """Random groups live; on each axis at least one does and one does not."""
    draw = torch.Generator().manual_seed(seed)
    alive = torch.rand(len(groups), generator=draw) < 0.5
    for axis in range(len(groups.names)):
        mine = (groups.axis == axis).nonzero().flatten()
        one, other = mine[torch.randperm(len(mine), generator=draw)[:2]]
        alive[one], alive[other] = True, False
    return alive


def tiny() -> Groups:
    return Groups(
        torch.tensor([0, 0, 0, 1]),
        ("a", "b"),
        (Part("w", torch.tensor([[0], [1], [2]])),),
        (Cut("w", 0, torch.tensor([0, 1, 2])), Cut("v", 1, torch.tensor([2, NOBODY, 1, 0]))),
        (
            Border("pad", torch.tensor([0, 1]), torch.tensor([NOBODY, 0, 1])),
            Border("same", torch.tensor([2]), torch.tensor([2])),
        ),
        (Heads("attention", torch.tensor([1, 3, NOBODY])),),
        (Branch(("x", "y"), 3), Branch(("z",), 2)),
    )


def test_what_is_kept_by_hand() -> None:
    edit = keep(tiny(), torch.tensor([True, False, True, False]), nn.Identity())
    assert edit == Keep(
        cuts={"w": {0: (0, 2)}, "v": {1: (0, 1, 3)}},
        borders={"pad": {"inputs": (0,), "outputs": (0, 1), "of": (2,)}},
        heads={"attention": (2,)},
        branches=(("x", "y"),),
    )
    assert keep(tiny(), torch.ones(4, dtype=torch.bool), nn.Identity()) == Keep()


def test_silence_by_hand() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.ones(3, 2))
    model.norm = nn.BatchNorm1d(3, affine=False)
    model.norm.running_mean.fill_(5)
    owners = torch.tensor([0, 1, NOBODY])
    groups = Groups(
        torch.zeros(2, dtype=torch.int64), ("a",), (Part("w", owners[:, None]),), (Cut("norm.running_mean", 0, owners),)
    )
    silence_(model, groups, torch.tensor([False, True]))
    assert model.w.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert model.norm.running_mean.tolist() == [0, 5, 5] and model.norm.running_var.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", NETS)
def test_without_its_dead_groups_a_network_computes_the_same(name: str) -> None:
    model, example = toy(name)
    groups = all_groups(model, example)
    assert verified(groups, model, example) is groups
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for seed in range(5):
        alive = some(groups, seed)
        smaller, edit, reason = remove(model, groups, alive, example)
        assert reason == "" and edit == keep(groups, alive, model)
        silenced = copy.deepcopy(model)
        silence_(silenced, groups, alive)
        # Written out here: `difference` is under test as well.
        x = torch.randn(5, *example[0].shape[1:], generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(smaller(x), silenced(x), atol=1e-5, rtol=1e-5)
        sizes = {k: v.numel() for k, v in smaller.state_dict().items()}
        gone = sum(v.numel() for v in before.values()) - sum(sizes.values())
        # What makes the dead groups is gone, and so is what others made of them.
        assert sizes.keys() == before.keys() and gone >= groups.counts(before)[~alive].sum() > 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_smaller_network_can_lose_more() -> None:
    model, example = toy("padded-deep")
    for seed in range(3):
        groups = verified(channels(model, example, kind="filters"), model, example)
        alive = some(groups, seed)
        silenced = copy.deepcopy(model)
        silence_(silenced, groups, alive)
        model, edit, reason = remove(model, groups, alive, example)
        assert edit is not None and not reason
        assert difference(silenced, model, example) < 1e-5


def test_a_network_that_counts_by_heart_keeps_its_channels() -> None:
    model, example = used(Stubborn()), (torch.randn(2, 3, 8, 8),)
    groups = channels(model, example, kind="filters")
    proven = verified(groups, model, example)
    assert proven.names == ("b",) and "fails: RuntimeError" in proven.left_out["a"]
    assert len(proven) == 4 and {c.tensor for c in proven.cuts} == {"b.weight", "b.bias", "c.weight"}
    alive = torch.arange(len(groups)) % 2 == 0
    whole, edit, reason = remove(model, groups, alive, example)
    assert edit is None and "fails" in reason
    assert whole.a.weight.shape == model.a.weight.shape
    assert whole.a.weight[1].abs().sum() == 0 != model.a.weight[1].abs().sum()
    assert torch.equal(whole.a.weight[0], model.a.weight[0])


class Swish(nn.Module):
    """What is zero before the sigmoid is not behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.sigmoid(self.a(x)))))


def test_groups_whose_zeros_speak_are_left_out_unless_nobody_listens() -> None:
    model, example = used(Swish()), (torch.randn(2, 4),)
    groups = verified(channels(model, example, kind="neurons"), model, example)
    assert groups.names == ("b",) and "changes what the network computes" in groups.left_out["a"]
    coupled = channels(model, example, kind="neurons", norm="coupled")
    assert verified(coupled, model, example).names == ("a", "b")
    everything = channels(model, example, kind="neurons")
    whole, edit, reason = remove(model, everything, torch.arange(11) != 0, example)
    assert edit is None and "changes what" in reason and whole.a.weight.shape == (6, 4)


def test_zeros_in_the_network_hide_nothing() -> None:
    """A last scale of zero, as fresh residual branches have, would make any removal look right."""
    model, example = used(Swish()), (torch.randn(2, 4),)
    with torch.no_grad():
        model.c.weight.zero_()
    assert "a" not in verified(channels(model, example, kind="neurons"), model, example).names


def test_one_bad_axis_among_many_is_found() -> None:
    model, example = toy("padded-deep")
    groups = channels(model, example, kind="filters")
    wrong = [
        Cut(c.tensor, c.dim, c.owners.flip(0)) if (c.tensor, c.dim) == ("layer1.1.conv2.weight", 1) else c
        for c in groups.cuts
    ]
    broken = Groups(groups.axis, groups.names, groups.parts, tuple(wrong), groups.borders)
    proven = verified(broken, model, example)
    assert set(groups.names) - set(proven.names) == {"layer1.1.conv1"} == set(proven.left_out)


def test_groups_that_are_not_removable_are_zero() -> None:
    model = nn.Linear(3, 2, bias=False)
    groups = Groups(torch.zeros(6, dtype=torch.int64), ("w",), (Part("weight", torch.arange(6).view(2, 3)),))
    example = (torch.randn(2, 3),)
    assert verified(groups, model, example) is groups
    whole, edit, reason = remove(model, groups, torch.arange(6) < 4, example)
    assert edit is None and "only be zero" in reason
    assert whole.weight.flatten()[4:].tolist() == [0, 0] and whole.weight.shape == (2, 3)


def test_removable_and_other_groups_together() -> None:
    model, example = toy("residual")
    single = Part("head.bias", torch.arange(4))
    groups = joined(
        [channels(model, example, kind="filters"), Groups(torch.zeros(4, dtype=torch.int64), ("bias",), (single,))]
    )
    assert verified(groups, model, example) is groups
    alive = torch.ones(len(groups), dtype=torch.bool)
    alive[[0, 7, len(groups) - 1]] = False
    smaller, edit, reason = remove(model, groups, alive, example)
    assert edit is not None and not reason and smaller.head.bias[3] == 0


def test_difference_by_hand() -> None:
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        a.weight.copy_(torch.eye(2) * 100)
        b.weight.copy_(torch.eye(2) * 101)
    assert difference(a, a, (torch.ones(1, 2),)) == 0
    assert difference(a, b, (torch.full((1, 2), 50.0),)) == pytest.approx(0.01, rel=1e-4)
    with torch.no_grad():
        a.weight.copy_(torch.eye(2) * 1e-6)
        b.weight.zero_()
    assert 1e-6 <= difference(a, b, (torch.ones(1, 2),)) < 1e-5


def test_difference_sees_shapes_and_what_is_no_number() -> None:
    x = (torch.ones(1, 2),)
    assert difference(nn.Linear(2, 2), nn.Linear(2, 3), x) == float("inf")
    bad = nn.Linear(2, 2)
    with torch.no_grad():
        bad.bias.fill_(float("nan"))
    assert difference(bad, bad, x) == float("inf")


def test_difference_compares_in_evaluation_mode_and_leaves_the_modes() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.BatchNorm1d(8)).train()
    net[2].eval()
    mean = net[2].running_mean.clone()
    assert difference(net, copy.deepcopy(net), (torch.randn(3, 2),)) == 0
    assert net.training and not net[2].training and torch.equal(net[2].running_mean, mean)


def test_difference_draws_whole_numbers_from_the_example() -> None:
    table = nn.Embedding(10, 3)
    other = copy.deepcopy(table)
    with torch.no_grad():
        other.weight[9] += 1  # a token that does not come
    tokens = (torch.tensor([[2, 3, 5]]),)
    assert difference(table, other, tokens) == 0
    with torch.no_grad():
        other.weight[2] += 1
    assert difference(table, other, tokens) > 0.1


def test_all_channels_of_a_layer_gone_falls_back() -> None:
    model, example = toy("residual")
    groups = channels(model, example, kind="filters")
    whole, edit, reason = remove(model, groups, groups.axis == 0, example)
    assert edit is None and reason and whole.a.weight.abs().sum() == 0


def test_global_randomness_is_left_alone() -> None:
    model, example = toy("inverted")
    groups, state = channels(model, example, kind="filters"), torch.get_rng_state()
    verified(groups, model, example)
    remove(model, groups, some(groups, 0), example)
    assert torch.equal(torch.get_rng_state(), state)
