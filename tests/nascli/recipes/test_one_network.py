"""What holds for every recipe that trains one network; `test_plain` has more of it by example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nascli.engine.checkpoints import write_tensors
from nascli.errors import DataError, UnsupportedError
from nascli.recipes.cells import Cells
from nascli.recipes.one_network import OneNetwork
from nascli.recipes.plain import Plain
from search_spaces import ArchitectureError
from tests.toy_images import RESNET, image_task

each = pytest.mark.parametrize("recipe", [Plain(steps=1, batch=24, lr=1e-12), Cells(steps=1, batch=24, lr=1e-12)])


def test_it_is_abstract() -> None:
    with pytest.raises(TypeError):
        OneNetwork()  # type: ignore[abstract]


@each
def test_the_architecture_is_the_one_named_else_the_largest(recipe: OneNetwork) -> None:
    for text, arch in (("", RESNET.table.largest), (str(RESNET.table.smallest), RESNET.table.smallest)):
        *_, last = replace(recipe, arch=text).search(image_task())
        assert last.candidates[0].arch == arch and last.candidates[0].tag == "step1"
    with pytest.raises(ArchitectureError, match="nonsense"):
        next(replace(recipe, arch="nonsense").search(image_task()))


@each
def test_weights_are_fresh_inherited_or_read(recipe: OneNetwork, tmp_path: Path) -> None:
    torch.manual_seed(3)
    supernet, arch = RESNET.supernet(), RESNET.table.smallest
    save_file(supernet.state_dict(), path := tmp_path / "supernet.safetensors")
    save_file(RESNET.inherit(supernet, arch), own := tmp_path / "own.safetensors")
    task = replace(image_task(), supernet=path)
    cut = RESNET.inherit(supernet, arch)["stem.conv.weight"]
    near = {}
    for weights in ("fresh", "inherit", str(own)):
        *_, last = replace(recipe, arch=str(arch), weights=weights).search(task)
        near[weights] = torch.allclose(last.candidates[0].tensors["stem.conv.weight"], cut, atol=1e-6)
    assert near == {"fresh": False, "inherit": True, str(own): True}


@each
def test_weights_that_are_not_there_are_refused(recipe: OneNetwork, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--supernet"):
        next(replace(recipe, weights="inherit").search(image_task()))
    save_file({"other": torch.ones(2)}, path := tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="no weights of this network"):
        next(replace(recipe, weights=str(path)).search(image_task()))


@each
def test_a_network_that_was_made_smaller_is_trained_as_small_as_it_is(recipe: OneNetwork, tmp_path: Path) -> None:
    from nascli.compressors.oneshot import Magnitude
    from nascli.compressors.protocol import Level
    from tests.toy_compression import compressed, task

    _, small = compressed(Magnitude(steps=1, batch=32, floor=0.0), Level(0.5))
    write_tensors(path := tmp_path / "7.safetensors", dict(small.tensors or {}), small.describe())
    *_, last = replace(recipe, arch=str(small.arch), weights=str(path)).search(task())
    (found,) = last.candidates
    assert found.edits == small.edits and len(found.edits) == 1
    shapes = {name: t.shape for name, t in dict(small.tensors or {}).items()}
    assert {name: t.shape for name, t in dict(found.tensors or {}).items()} == shapes
