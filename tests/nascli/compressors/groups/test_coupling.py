from __future__ import annotations

import copy

import torch
from torch import nn

from nascli.compressors.groups.coupling import Channel, coupled
from tests.toy_prunable import toy


def found(name: str) -> dict[frozenset, Channel]:
    model, example = toy(name)
    return {frozenset(c.places): c for c in coupled(copy.deepcopy(model), example, {}, {})}


def test_channels_of_a_sum_are_one() -> None:
    channels = found("residual")
    sums = [c for places, c in channels.items() if ("stem", "out", 2) in places]
    assert [set(c.places) for c in sums] == [
        {("stem", "out", 2), ("b", "out", 2), ("scale", "both", 2), ("a", "in", 2), ("head", "in", 2)}
    ]
    assert sums[0].barred == ""
    inner = next(c for c in channels.values() if ("a", "out", 1) in c.places)
    assert set(inner.places) == {("a", "out", 1), ("bn", "both", 1), ("act", "both", 1), ("b", "in", 1)}


def test_every_channel_is_found_once() -> None:
    for name in ("residual", "grouped", "inverted", "joined", "mixer"):
        places = [p for c in found(name).values() for p in c.places]
        assert len(places) == len(set(places))


def test_flattening_multiplies_places() -> None:
    left = next(c for c in found("joined").values() if ("right", "out", 1) in c.places)
    # Channel 1 of the right is the sixth of all; each has 2x2 places.
    assert set(left.places) == {("right", "out", 1), *(("fc1", "in", 20 + k) for k in range(4))}


def test_outputs_and_normalised_channels_are_barred() -> None:
    barred = {p[0]: c.barred for c in found("mixer").values() for p in c.places if p[1] == "out"}
    assert barred["up"] == "" and "outputs" in barred["head"]
    assert "normalised together" in barred["embed"] and "normalised together" in barred["down"]


class Attended(nn.Module):
    """A convolution reads the mean and the largest of all channels; a single map is laid over them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.map, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(2, 1, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        both = torch.stack([x.mean(1), x.amax(1)], 1)
        return self.b(x * self.map(both).sigmoid())


def test_channels_that_get_where_there_are_none_are_barred_and_the_walk_ends() -> None:
    channels = coupled(Attended(), (torch.randn(2, 3, 4, 4),), {}, {})
    made = [c for c in channels if any(p[:2] == ("a", "out") for p in c.places)]
    assert len(made) == 6 or any(c.barred for c in made)
    assert all(c.barred for c in made if ("a", "out", 5) in c.places)
    assert not any(("map", "out", 0) in c.places for c in made)


def test_recurrent_layers_are_barred_and_the_walk_ends() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.rnn, self.b = nn.Linear(3, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.rnn(self.a(x))[0])

    channels = coupled(Net(), (torch.randn(2, 4, 3),), {}, {})
    assert all("recurrent" in c.barred for c in channels if any(p[:2] == ("a", "out") for p in c.places))


def test_stand_ins_tie_and_bar_what_they_are_told_to() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 2, 1))
    ties = {"1": [(0, 3), (1, 2), (2, 1)]}
    channels = coupled(model, (torch.randn(2, 3, 4, 4),), ties, {"1": {2: "for a reason"}})
    whole = {frozenset(p[:3] for p in c.places): c.barred for c in channels}
    assert whole[frozenset({("0", "out", 0), ("1", "in", 0), ("1", "out", 3), ("2", "in", 3)})] == ""
    assert whole[frozenset({("0", "out", 1), ("1", "in", 1), ("1", "out", 2), ("2", "in", 2)})] == "for a reason"
    assert whole[frozenset({("1", "out", 0), ("2", "in", 0)})] == ""
