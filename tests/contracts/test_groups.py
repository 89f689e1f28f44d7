"""What channel groups promise, for networks of every space: without dead ones, a network computes the same."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.removal import difference, keep, remove, silence_, verified
from search_spaces.choices import Architecture
from search_spaces.groups import joined
from search_spaces.space import SearchSpace
from tests.contracts.test_spaces import SPACES
from tests.toy_prunable import used

NETWORKS = [
    (name, which) for name in SPACES if SPACES[name].signature.kind == "image" and name != "module"
    for which in ("smallest", "random")
]  # fmt: skip


def member(space: SearchSpace, which: str) -> Architecture:
    return space.table.smallest if which == "smallest" else space.table.sample(np.random.default_rng(1))


@pytest.mark.parametrize(("name", "which"), NETWORKS)
def test_channels_of_every_space_can_be_removed(name: str, which: str) -> None:
    space = SPACES[name]
    torch.manual_seed(0)
    model = used(space.build(member(space, which)))
    example = (torch.randn(2, *space.signature.shape, generator=torch.Generator().manual_seed(2)),)
    kinds: tuple[Literal["filters", "neurons"], ...] = ("filters", "neurons")
    found = joined([channels(model, example, kind=kind) for kind in kinds])
    groups = verified(found, model, example)
    assert groups.names == found.names, groups.left_out
    if not len(groups):  # a cell of no operation: what comes before it does not matter
        assert which == "smallest" and "the network's output does not depend on it" in groups.left_out.values()
        return
    draw = torch.Generator().manual_seed(3)
    alive = torch.rand(len(groups), generator=draw) < 0.6
    for axis in range(len(groups.names)):
        mine = (groups.axis == axis).nonzero().flatten()
        alive[mine[int(torch.randint(len(mine), (), generator=draw))]] = True
    smaller, edit, reason = remove(model, groups, alive, example)
    assert edit == keep(groups, alive, model) and reason == ""
    silence_(model, groups, alive)
    assert difference(model, smaller, example) < 1e-5
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
