from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor, nn

from nascli.engine.check import check_space
from search_spaces import Architecture, ChoiceTable
from search_spaces.resnet import ResNetSpace
from search_spaces.space import SearchSpace, Signature
from search_spaces.table import TableSpace
from tests.toy_images import MOBILE, RESNET, SIGNATURE, Single
from tests.toys import TABLE, ToySpace

STRINGS, EDITS = "a string names one network", "edits stay in the space"
OUTPUTS, INHERITED = "networks give one output a class", "inherited weights do the same"


def failures(space: SearchSpace, count: int = 3) -> dict[str, str]:
    return {row["check"]: row["failure"] for row in check_space(space, count=count, seed=0)}


@pytest.mark.parametrize("space", [RESNET, MOBILE, Single(), ToySpace()], ids=lambda s: s.table.name)
def test_our_spaces_keep_their_promises(space: SearchSpace) -> None:
    assert failures(space) == {STRINGS: "", EDITS: "", OUTPUTS: "", INHERITED: ""}


def test_the_digits_presets_keep_theirs() -> None:
    assert set(failures(ResNetSpace(Signature("image", (1, 8, 8), 10)), count=1).values()) == {""}


def test_how_many_are_looked_at() -> None:
    rows = check_space(RESNET, count=5, seed=0)
    assert [row["networks"] for row in rows] == [7] * 4
    assert {row["networks"] for row in check_space(Single(), count=5, seed=0)} == {1}, "each network once"


def test_a_table_has_no_networks_to_check(tmp_path: Any) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("choice.width,accuracy\n8,60\n16,70\n")
    assert failures(TableSpace(str(path))) == {STRINGS: "", EDITS: ""}


def test_the_global_generator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # type: ignore[union-attr, index] # noqa: NPY002
    check_space(RESNET, count=2, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()  # type: ignore[index] # noqa: NPY002


class Misread(ChoiceTable):
    def parse(self, text: str) -> Architecture:
        return self.smallest


class Straying(ChoiceTable):
    def mutate(self, arch: Architecture, rng: Generator, rate: float) -> Architecture:
        return Architecture(self.name, arch.options, "toy:9/1,plain/-/-")


@dataclass(frozen=True)
class Tabled(ToySpace):
    kind: type[ChoiceTable] = ChoiceTable

    @property
    def table(self) -> ChoiceTable:
        return self.kind(TABLE.name, TABLE.choices)


@dataclass(frozen=True)
class Wrong(SearchSpace):
    """A residual space with one promise broken."""

    promise: str

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @cached_property
    def table(self) -> ChoiceTable:
        return RESNET.table

    def build(self, arch: Architecture) -> nn.Module:
        model = RESNET.build(arch)
        return nn.Sequential(model, nn.Linear(4, 5)) if self.promise == OUTPUTS else model

    def supernet(self) -> nn.Module:
        return RESNET.supernet()

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        state = RESNET.inherit(supernet, arch)
        if self.promise == "a tensor is missing":
            state.pop("classifier.bias")
        if self.promise == INHERITED and arch != self.table.smallest:
            state["classifier.weight"] = state["classifier.weight"] + 0.1
        return state


def test_a_string_that_is_misread() -> None:
    found = failures(Tabled(kind=Misread))
    assert found[STRINGS] == f"{TABLE.largest} does not read back as itself"
    assert found[OUTPUTS] == ""


def test_an_edit_that_strays() -> None:
    assert "net.depth='9' is not in toy" in failures(Tabled(kind=Straying))[EDITS]


def test_outputs_of_another_number() -> None:
    assert failures(Wrong(OUTPUTS))[OUTPUTS] == f"{RESNET.table.smallest} gives (4, 5) for 4 inputs; expected (4, 4)"


def test_inherited_weights_that_do_something_else() -> None:
    found = failures(Wrong(INHERITED))
    assert found[INHERITED].startswith(f"{RESNET.table.largest}: outputs differ by ")
    assert found[OUTPUTS] == ""


def test_inherited_weights_that_do_not_fit() -> None:
    found = failures(Wrong("a tensor is missing"))[INHERITED]
    assert found.startswith(f"{RESNET.table.smallest}: ") and "classifier.bias" in found and "\n" not in found


def test_outputs_that_are_no_numbers() -> None:
    class Overflowing(Wrong):
        def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
            return {k: v * float("nan") if "weight" in k else v for k, v in super().inherit(supernet, arch).items()}

    assert "outputs differ by nan" in failures(Overflowing(""))[INHERITED]
