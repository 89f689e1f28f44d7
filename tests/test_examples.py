"""The settings files among the examples are settings, of the strategies that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.cifar_resnet import resnet20, resnet56
from nascli import plugins, settings, training
from nascli.compressors.groups.branches import blocks as blocks_of
from nascli.compressors.groups.heads import heads
from nascli.data.cifar import Cifar10
from nascli.engine.checkpoints import read_for
from predictors.cost import count
from search_spaces.module import ModuleSpace

FOLDER = Path(__file__).parents[1] / "examples"
FILES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_settings_files_are_settings(file: Path, nascli: Callable[..., Any]) -> None:
    left = nascli("config", "show", "--config", file)
    assert left.code == 0, left.err
    layers = settings.Layers()
    layers.file(file)
    for kind in ("space", "strategy"):
        values = dict(layers.values[kind])
        made = settings.build(plugins.load(kind, values.pop("name")), values, where=file.name)
        assert made != type(made)() or not values


def test_each_is_mentioned_where_variations_are() -> None:
    page = (FOLDER.parent / "docs" / "differentiable.md").read_text(encoding="utf-8")
    assert "examples/" in page and FILES


def test_residual_networks_for_cifar_are_those_of_the_paper() -> None:
    """Table 6 there: 20 layers have 0.27 million parameters, 56 layers 0.85; counted by hand where layers end."""
    for make, blocks, params in ((resnet20, 3, 269_722), (resnet56, 9, 853_018)):
        net = make().eval()
        assert count(net, (torch.zeros(1, 3, 32, 32),)).params == params
        assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 6 * blocks + 1
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_their_shortcuts_pick_every_other_pixel_and_pad_on_both_sides() -> None:
    shortcut = resnet20().layer2[0].shortcut
    images = torch.arange(16 * 4 * 4.0).view(1, 16, 4, 4)
    padded = shortcut(images)
    assert padded.shape == (1, 32, 2, 2) and not list(shortcut.parameters())
    assert torch.equal(padded[:, 8:24], images[:, :, ::2, ::2])
    assert not padded[:, :8].any() and not padded[:, 24:].any()


@pytest.mark.data
@pytest.mark.slow
def test_a_checkpoint_of_others_makes_the_errors_that_it_is_known_for(data_root: Path) -> None:
    """8.27 % of the 10,000 test images, when they are normalised as its training images were."""
    net = resnet20()
    read_for(data_root / "ckpt" / "resnet20-12fca82f.th", net)
    data = Cifar10(str(data_root), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).load()
    accuracy = training.evaluate(net, data.test, batch_size=250, device="cpu")["accuracy"]
    assert accuracy == pytest.approx(100 - 8.27, abs=1e-6)
    read_for(data_root / "ckpt" / "resnet56-4bfd9763.th", resnet56())


@pytest.mark.parametrize(
    ("name", "arguments", "branches"),
    [("encoder", {}, 6), ("torch_encoder", {"norm_first": True}, 0), ("torch_encoder", {"norm_first": False}, 0)],
)
def test_encoders_read_digits_and_can_lose_heads(name: str, arguments: dict[str, bool], branches: int) -> None:
    space = ModuleSpace(f"examples.{name}:digits_encoder", arguments)
    model, images = space.build(space.table.parse("module:only")), torch.randn(2, 1, 8, 8)
    assert model(images).shape == (2, 10)
    found = heads(model, (images,))
    assert found.sizes().tolist() == [4, 4, 4] and not found.left_out
    assert len(blocks_of(model, (images,))) == branches
