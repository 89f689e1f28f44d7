from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nascli import plugins
from search_spaces import Architecture, ArchitectureError
from search_spaces.resnet import ResNetSpace
from tests.toys import TABLE, ToySpace

Nascli = Callable[..., Any]


def test_ls_names_every_space(nascli: Nascli) -> None:
    answer = json.loads(nascli("spaces", "ls", "--json").out)["data"]
    assert [f["space"] for f in answer] == plugins.names("space") and all(f["what"].endswith(".") for f in answer)
    assert nascli("spaces", "ls").out.splitlines()[0] == "space\twhat"


def test_show_counts_and_lists_choices(nascli: Nascli) -> None:
    answer = json.loads(nascli("spaces", "show", "resnet", "--preset", "digits", "--json").out)["data"]
    space = ResNetSpace(preset="digits")
    assert answer["architectures"] == space.table.size and answer["fingerprint"] == space.table.fingerprint
    assert answer["smallest"]["arch"] == str(space.table.smallest) and answer["settings"]["preset"] == "digits"
    assert 0 < answer["smallest"]["macs"] < answer["largest"]["macs"]
    assert answer["largest"]["params"] == sum(p.numel() for p in space.build(space.table.largest).parameters())
    assert [c["choice"] for c in answer["choices"]] == [c.name for c in space.table.choices]
    lines = nascli("spaces", "show", "tests.toys:ToySpace").out.splitlines()
    assert "reads: image 1x2x2 -> 3 classes" in lines
    assert "block3.kind\tplain wide\tnet.depth in {3}" in lines


def test_sample_is_repeatable_and_in_the_space(nascli: Nascli) -> None:
    one, again, other = (nascli("spaces", "sample", "tests.toys:ToySpace", "-n", 5, "--seed", s).out for s in (1, 1, 2))
    assert one == again != other and len(one.splitlines()) == 5
    assert [str(TABLE.parse(line)) for line in one.splitlines()] == one.splitlines()
    assert json.loads(nascli("spaces", "sample", "tests.toys:ToySpace", "--json").out)["data"][0].startswith("toy:")


def test_settings_reach_the_space(nascli: Nascli) -> None:
    left = nascli("spaces", "show", "resnet", "--set", "space.depths=[1,5]", "--json")
    assert json.loads(left.out)["data"]["settings"]["depths"] == [1, 5]
    left = nascli("spaces", "show", "resnet", "--set", "space.depth=[1,5]")
    assert left.code == 2 and "space 'resnet' has no setting 'depth'. Did you mean 'depths'?" in left.err


def test_check_passes_for_ours(nascli: Nascli) -> None:
    left = nascli("spaces", "check", "resnet", "--preset", "digits", "-n", 1, "--json")
    results = json.loads(left.out)["data"]
    assert left.code == 0 and len(results) == 4 and not any(r["failure"] for r in results)
    assert nascli("spaces", "check", "tests.toys:ToySpace").code == 0


@dataclass(frozen=True)
class Broken(ToySpace):
    """A space whose networks have one output too few."""

    def build(self, arch: Architecture) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        raise ArchitectureError("not reached")


def test_check_finds_a_broken_promise(nascli: Nascli, monkeypatch: Any) -> None:
    found = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: Broken if name == "broken" else found(kind, name))
    left = nascli("spaces", "check", "broken")
    assert left.code == 8
    assert "The space 'broken' breaks 1 of 4 promises: toy:" in left.err and "expected (4, 3)" in left.err
    assert left.out.count("expected (4, 3)") == 1
