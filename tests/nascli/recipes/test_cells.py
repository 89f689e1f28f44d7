from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascli import settings
from nascli.engine.evaluate import measure
from nascli.engine.network import Network
from nascli.errors import SettingsError, UnsupportedError
from nascli.recipes.cells import Cells, cut_out
from nascli.recipes.schedule import Span
from search_spaces import Architecture
from search_spaces.darts import DartsSpace
from search_spaces.darts_ops import DropPath
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Signature
from tests.toy_images import SIGNATURE, Single, corners, image_task, same

QUIET = Cells(steps=1, batch=24, cutout=0, drop_path=0.0, auxiliary=0.0, clip=math.inf, lr=0.1)
"""One step of what is left when all is switched off that can be."""


class Forked(nn.Module):
    """A trunk, a classifier, and a place for another one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = DropPath()
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(96, 4))
        self.seen: list[tuple[float, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.tapped(x)[0]

    def tapped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append((self.drop.rate, x))
        features = self.trunk(x)
        logits: Tensor = self.classifier(self.drop(features))
        return logits, features

    def auxiliary(self) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


@dataclass(frozen=True)
class ForkedSpace(Single):
    """One network with a place for an auxiliary classifier; `built` are those that were made."""

    built: tuple[list[Forked], ...] = ()

    def build(self, arch: Architecture) -> nn.Module:
        model = Forked()
        for kept in self.built:
            kept.append(model)
        return model


FORKED = image_task(ForkedSpace())


def trained(recipe: Cells, task: Any = FORKED) -> dict[str, Tensor]:
    *_, last = recipe.search(task)
    return dict(last.candidates[0].tensors)


def states(recipe: Cells, task: Any = FORKED) -> list[Mapping[str, Any]]:
    return [step.state() for step in recipe.search(task) if step.state]


# -- cutout ------------------------------------------------------------------------------------------------------------


def test_a_square_whose_centre_may_be_any_pixel_is_cut_out() -> None:
    # By enumeration of all centres: how often each pixel of 5x7 lies in a square of four.
    share = np.zeros((5, 7))
    for y in range(5):
        for x in range(7):
            share[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] += 1 / 35
    cut = cut_out(torch.ones(20_000, 2, 5, 7), 4, rng=np.random.default_rng(0)) == 0
    assert torch.equal(cut[:, 0], cut[:, 1])
    assert cut[:, 0].double().mean(0).numpy() == pytest.approx(share, abs=0.015)
    areas = {(int(c.any(1).sum()), int(c.any(0).sum())) for c in cut[:, 0]}
    assert areas == {(h, w) for h in (2, 3, 4) for w in (2, 3, 4)}
    assert all(int(c.sum()) == int(c.any(1).sum()) * int(c.any(0).sum()) for c in cut[:500, 0])


def test_the_published_cutout_takes_a_fifth_of_a_small_image() -> None:
    # Of 32 rows, centres 0 to 7 cover 8 to 15, 8 to 24 cover 16, 25 to 31 cover 15 to 9: (92 + 272 + 84) / 32^2.
    cut = cut_out(torch.ones(20_000, 1, 32, 32), 16, rng=np.random.default_rng(1))
    assert 1 - cut.mean().item() == pytest.approx(0.4375**2, abs=0.003)


def test_nothing_else_is_changed_and_the_generator_decides_where() -> None:
    images = torch.randn(8, 3, 6, 6)
    before = images.clone()
    first, again, other = (cut_out(images, 3, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(images, before) and torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first[first != 0], images[first != 0])
    assert int((first == 0).sum(dim=(1, 2, 3)).max()) == 27  # an odd side is kept too


def test_training_sees_cut_images_and_measuring_does_not() -> None:
    built: list[Forked] = []
    task = image_task(ForkedSpace(built=(built,)), data=corners(pad=0))
    *_, last = replace(QUIET, cutout=2, steps=3).search(task)
    missing = [(x == 0).sum(dim=(1, 2, 3)) for _, x in built[0].seen]
    assert len(missing) == 3 and all(set(m.tolist()) <= {1, 2, 4} for m in missing)
    assert not torch.equal(missing[0], missing[1])
    measure(last.candidates[0], task)
    assert all(int((x == 0).sum()) == 0 for _, x in built[-1].seen)


def test_only_images_can_be_cut() -> None:
    @dataclass(frozen=True)
    class Words(Single):
        @property
        def signature(self) -> Signature:
            return Signature("sequence", (4,), 4)

    with pytest.raises(UnsupportedError, match=r"strategy\.cutout=0"):
        next(Cells().search(image_task(Words())))


# -- steps -------------------------------------------------------------------------------------------------------------


def moved(recipe: Cells, gradients: list[tuple[float, float]], start: float = 0.0) -> list[float]:
    """Where two parameters, one in a matrix and one in a vector, are after steps with these gradients."""
    model = nn.Linear(1, 1)
    for parameter in model.parameters():
        nn.init.constant_(parameter, start)
    optimiser = recipe.optimiser(model)
    for a, b in gradients:
        recipe.step(optimiser, [a * model.weight.sum() + b * model.bias.sum()])
    return [model.weight.item(), model.bias.item()]


def test_gradients_are_clipped_by_their_norm_or_by_value() -> None:
    recipe = Cells(lr=1.0, momentum=0.0, weight_decay=0.0, clip=1.0)
    assert moved(recipe, [(3.0, -4.0)]) == pytest.approx([-0.6, 0.8], rel=1e-5)
    assert moved(replace(recipe, clip_by="value"), [(3.0, -4.0)]) == [-1.0, 1.0]
    assert moved(replace(recipe, clip=5.1), [(3.0, -4.0)]) == [-3.0, 4.0]
    assert moved(replace(recipe, clip=math.inf), [(3.0, -4.0)]) == [-3.0, 4.0]


def test_both_kinds_of_momentum() -> None:
    # v = 1, then 0.5 * 1 + 1 = 1.5; Nesterov's steps are g + 0.5 * v.
    recipe = Cells(lr=1.0, momentum=0.5, weight_decay=0.0)
    assert moved(recipe, [(1.0, 1.0)] * 2) == [-2.5, -2.5]
    assert moved(replace(recipe, acceleration="nesterov"), [(1.0, 1.0)] * 2) == [-3.25, -3.25]


def test_all_parameters_decay_or_all_but_vectors() -> None:
    recipe = Cells(lr=0.1, weight_decay=0.5)
    assert moved(recipe, [(0.0, 0.0)], start=1.0) == pytest.approx([0.95, 0.95])
    assert moved(replace(recipe, decayed="weights"), [(0.0, 0.0)], start=1.0) == pytest.approx([0.95, 1.0])


def test_the_rate_begins_with_its_highest_and_ends_with_nothing() -> None:
    assert [Cells().rate(spent, Span()) for spent in (0.0, 0.5, 1.0)] == pytest.approx([0.025, 0.0125, 0.0])
    reports = [s.metrics["lr"] for s in Cells(steps=4, batch=24, report_steps=1).search(FORKED) if s.state]
    assert reports == pytest.approx([0.0125 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])


def test_paths_are_dropped_ever_more_often() -> None:
    built: list[Forked] = []
    trained(replace(QUIET, steps=4, drop_path=0.2), image_task(ForkedSpace(built=(built,))))
    assert [rate for rate, _ in built[0].seen] == pytest.approx([0.0, 0.05, 0.1, 0.15])


# -- the auxiliary classifier ------------------------------------------------------------------------------------------


def test_the_auxiliary_classifier_is_trained_and_no_part_of_the_network() -> None:
    recipe = Cells(steps=4, batch=24, cutout=0, report_steps=1)
    first, *_, last = states(recipe)
    heads = [{k: v for k, v in state["model"].items() if k.startswith("auxiliary.")} for state in (first, last)]
    assert heads[0].keys() == heads[1].keys() == {"auxiliary.2.weight", "auxiliary.2.bias"}
    assert not same(heads[0], heads[1])
    tensors = trained(recipe)
    assert tensors.keys() == Forked().state_dict().keys()
    assert same(tensors, {name: last["model"][f"network.{name}"] for name in tensors})


def test_its_loss_moves_the_trunk_in_proportion_and_nothing_behind_it() -> None:
    ends = [trained(replace(QUIET, auxiliary=weight)) for weight in (0.0, 0.4, 0.8)]
    before, once, twice = (end["trunk.0.weight"] for end in ends)
    assert (once - before).abs().max() > 1e-4
    assert torch.allclose(twice - before, 2 * (once - before), atol=1e-6)
    assert all(torch.equal(end["classifier.1.weight"], ends[0]["classifier.1.weight"]) for end in ends)


def test_it_starts_from_weights_by_seed() -> None:
    heads = []
    for seed, ambient in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(ambient)
        state = torch.get_rng_state()
        recipe = Cells(steps=1, batch=24, lr=1e-12)
        heads.append(states(recipe, replace(FORKED, seed=seed))[0]["model"]["auxiliary.2.weight"])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_networks_without_a_place_for_it_are_trained_without() -> None:
    for space in (Single(), Nb201Space(SIGNATURE, channels=2, cells=1)):
        (state,) = states(Cells(steps=2, batch=24), image_task(space))
        assert all(name.startswith("network.") for name in state["model"])


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_going_on_from_any_state_gives_the_same_bits() -> None:
    recipe = Cells(steps=9, batch=20, cutout=2, drop_path=0.5, report_steps=1)
    *steps, last = [(s.state() if s.state else s.candidates[0]) for s in recipe.search(FORKED)]
    assert "auxiliary.2.weight" in steps[0]["model"]
    momenta = steps[0]["optimizer"]["state"]
    assert len(momenta) == len(list(Forked().parameters())) + 2
    for state in steps[:-1]:
        *again, network = recipe.search(FORKED, state)
        assert again[-1].state is not None
        assert same({**again[-1].state(), "elapsed_s": 0}, {**steps[-1], "elapsed_s": 0})
        assert same(dict(network.candidates[0].tensors), dict(last.tensors))


def test_it_learns() -> None:
    task = image_task(ForkedSpace(), data=corners(192, noise=100))
    *_, last = Cells(steps=120, batch=24, cutout=1, lr=0.1).search(task)
    (network,) = last.candidates
    assert network.key == "single:it@step120"
    assert measure(network, task).values["accuracy"] > 90 > 70 > measure(Network(network.arch), task).values["accuracy"]


def test_a_darts_network_is_trained_and_measured() -> None:
    space = DartsSpace(SIGNATURE, channels=2, cells=3)
    task = image_task(space)
    recipe = Cells(arch=str(space.table.smallest), steps=2, batch=24, cutout=2)
    *steps, last = recipe.search(task)
    assert steps[-1].state is not None
    assert any(name.startswith("auxiliary.") for name in steps[-1].state()["model"])
    assert not measure(last.candidates[0], task).error


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"momentum": 1.0}, "momentum=1.0 must be at least 0 and less than 1"),
        ({"drop_path": -0.1}, "drop_path=-0.1 must be at least 0"),
        ({"cutout": -1}, "cutout=-1 must not be negative"),
        ({"auxiliary": float("inf")}, "auxiliary=inf must not be"),
        ({"auxiliary": float("nan")}, "auxiliary=nan must not be"),
        ({"acceleration": "adam"}, "acceleration='adam'"),
        ({"clip_by": "length"}, "clip_by='length'"),
        ({"epochs": 0}, "epochs=0.0 must be more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.build(Cells, values, where="recipe 'cells'")
