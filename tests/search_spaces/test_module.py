from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.mobile import MobileSpace
from search_spaces.module import ModuleSpace

ARGUMENTS = {"in_features": 4, "out_features": 3}
SPACE = ModuleSpace("torch.nn:Linear", ARGUMENTS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_there_is_one_architecture() -> None:
    assert [str(a) for a in SPACE.table.members()] == ["module:only"]
    assert SPACE.table.parse("module:only") == SPACE.table.smallest == SPACE.table.largest


def test_build_calls_the_callable_anew() -> None:
    first, second = SPACE.build(SPACE.table.smallest), SPACE.build(SPACE.table.smallest)
    assert isinstance(first, nn.Linear) and first.weight.shape == (3, 4)
    assert first is not second and not torch.equal(first.weight, second.weight)


def test_modules_in_the_working_directory_are_found(here: Path) -> None:
    (here / "my_model_a.py").write_text("class Nets:\n    from torch.nn import Linear as make\n")
    built = ModuleSpace("my_model_a:Nets.make", {"in_features": 5, "out_features": 1}).build(SPACE.table.smallest)
    assert isinstance(built, nn.Linear) and built.in_features == 5


@pytest.mark.parametrize("path", ["torch.nn.Linear", "torch.nn:", ":Linear", "a b:c", "a:b:c", "../a:b", ""])
def test_malformed_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form 'package\.module:callable'"):
        ModuleSpace(path)


@pytest.mark.parametrize(
    "path, arguments, message",
    [
        ("no_such_module:make", {}, "There is no module 'no_such_module'"),
        ("torch.no_such_part:make", {}, "There is no module 'torch.no_such_part'"),
        ("torch.nn:Linnear", {}, "The module torch.nn has no 'Linnear'"),
        ("torch:__version__", {}, "it must be a callable"),
        ("builtins:dict", {}, "returned a dict"),
        ("torch.nn:Linear", {}, "can't be called with arguments={}: missing a required argument: 'in_features'"),
        ("torch.nn:Linear", ARGUMENTS | {"depth": 3}, "got an unexpected keyword argument 'depth'"),
    ],
)
def test_what_is_no_model_is_refused(path: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as refused:
        ModuleSpace(path, arguments).build(SPACE.table.smallest)
    assert message in str(refused.value)


def test_a_module_that_needs_another_says_which(here: Path) -> None:
    (here / "my_model_b.py").write_text("import no_such_library\n")
    with pytest.raises(SpaceError, match="my_model_b needs the module 'no_such_library'"):
        ModuleSpace("my_model_b:make").build(SPACE.table.smallest)


def test_errors_inside_the_model_pass_through(here: Path) -> None:
    (here / "my_model_c.py").write_text("def make():\n    return {}['width']\n")
    with pytest.raises(KeyError, match="width"):
        ModuleSpace("my_model_c:make").build(SPACE.table.smallest)


def test_there_is_no_supernet() -> None:
    with pytest.raises(SpaceError, match=r"single network.*--arch module:only"):
        SPACE.supernet()
    with pytest.raises(SpaceError, match="single network"):
        SPACE.inherit(nn.Linear(4, 3), SPACE.table.smallest)


def test_architectures_of_other_spaces_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="mobile:"):
        SPACE.build(MobileSpace().table.smallest)


def test_spaces_with_arguments_can_be_keys() -> None:
    assert len({SPACE, ModuleSpace("torch.nn:Linear", dict(ARGUMENTS))}) == 1
    assert ModuleSpace("torch.nn:Linear") != SPACE
