from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nascli.engine.evaluate import measure
from nascli.engine.network import Network
from nascli.errors import DataError, UnsupportedError
from nascli.recipes.plain import Plain
from search_spaces import ArchitectureError
from tests.toy_images import RESNET, Single, corners, image_task, same


def test_plain_learns_and_hands_the_network_over() -> None:
    task = image_task(Single(), data=corners(192, noise=100))
    *_, complete, last = Plain(steps=100, batch=24).search(task)
    (network,) = last.candidates
    assert network.key == "single:it@step100" and network.tensors is not None and complete.state is not None
    assert same(dict(network.tensors), dict(complete.state()["model"]))
    assert measure(network, task).values["accuracy"] > 90
    assert measure(Network(network.arch), task).values["accuracy"] < 70


def test_plain_trains_the_architecture_it_is_given_else_the_largest() -> None:
    for text, arch in (("", RESNET.table.largest), (str(RESNET.table.smallest), RESNET.table.smallest)):
        *_, last = Plain(arch=text, steps=2).search(image_task())
        assert last.candidates[0].arch == arch
    with pytest.raises(ArchitectureError, match="nonsense"):
        next(Plain(arch="nonsense").search(image_task()))


def test_going_on_from_any_state_gives_the_same_bits() -> None:
    task, recipe = image_task(Single()), Plain(steps=9, batch=20, report_steps=1)
    *steps, last = [(s.state() if s.state else s.candidates[0]) for s in recipe.search(task)]
    for state in steps:
        *_, again = recipe.search(task, state)
        assert same(dict(again.candidates[0].tensors), dict(last.tensors))


def test_fresh_weights_follow_the_seed_and_not_torchs_generator() -> None:
    ends = []
    for seed, ambient in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(ambient)
        before = torch.get_rng_state()
        *_, last = Plain(steps=1).search(image_task(Single(), seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(dict(last.candidates[0].tensors))
    assert same(ends[0], ends[1]) and not same(ends[0], ends[2])


def test_inherited_weights_are_the_supernets(tmp_path: Path) -> None:
    torch.manual_seed(3)
    supernet = RESNET.supernet()
    path = tmp_path / "supernet.safetensors"
    save_file(supernet.state_dict(), path)
    task, arch = replace(image_task(), supernet=path), RESNET.table.smallest
    recipe = Plain(arch=str(arch), steps=1, lr=1e-12)
    inherited, fresh = (
        list(replace(recipe, weights=weights).search(task))[-1].candidates[0].tensors
        for weights in ("inherit", "fresh")
    )
    cut = RESNET.inherit(supernet, arch)
    trained = [name for name in cut if "running" not in name and "tracked" not in name]
    assert all(torch.allclose(inherited[name], cut[name], atol=1e-6) for name in trained)
    assert not torch.allclose(fresh["stem.conv.weight"], cut["stem.conv.weight"], atol=1e-2)


def test_inheriting_needs_a_supernet() -> None:
    with pytest.raises(UnsupportedError, match="--supernet"):
        next(Plain(weights="inherit").search(image_task()))


def test_training_starts_from_a_checkpoint(tmp_path: Path) -> None:
    model = Single().build(Single().table.largest)
    save_file(
        {name: torch.full_like(t, 1) for name, t in model.state_dict().items()}, path := tmp_path / "a.safetensors"
    )
    before = torch.get_rng_state()
    *_, last = Plain(weights=str(path), steps=1, lr=1e-12).search(image_task(Single()))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.allclose(last.candidates[0].tensors["0.weight"], torch.ones(6, 1, 3, 3))
    save_file({"0.weight": torch.ones(2)}, path)
    with pytest.raises(DataError, match="no weights of this network"):
        next(Plain(weights=str(path)).search(image_task(Single())))
    with pytest.raises(DataError, match="'inhert' does not exist"):
        next(Plain(weights="inhert").search(image_task(Single())))


def test_fit_goes_on_with_a_networks_own_tensors() -> None:
    task = image_task(Single())
    model = Single().build(Single().table.largest)
    given = {name: torch.full_like(tensor, 0.5) for name, tensor in model.state_dict().items()}
    recipe = Plain(steps=1, lr=1e-12)
    fitting = recipe.fit(Network(Single().table.largest, tensors=given), task)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(fitting)
    network: Network = ended.value.value
    assert network.tag == "step1" and network.tensors is not None
    assert torch.allclose(network.tensors["0.weight"], given["0.weight"])
    assert same(given["0.weight"], torch.full_like(given["0.weight"], 0.5))
