"""What holds for every name in the table, and for third parties' by entry point."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nascli import plugins, settings
from nascli.engine.objectives import Objective

EVERY = [(kind, name) for kind in plugins.kinds() for name in plugins.names(kind)]
SETTINGS = [(kind, name) for kind, name in EVERY if kind != "objective" and (kind, name) != ("proxy", "parzc")]
"""ParZC reads the file that it is given at once; its own tests have one."""
GIVEN: dict[tuple[str, str], dict[str, Any]] = {
    ("space", "module"): {"path": "torch.nn:Identity"},
    ("space", "table"): {"path": "table.csv"},
    ("latency", "table"): {"path": "layers.json"},
    ("latency", "roofline"): {"gflops": 50.0, "gbytes_per_s": 10.0},
    ("data", "folder"): {"path": "images"},
    ("data", "npz"): {"path": "images.npz"},
    ("strategy", "listed"): {"sample": 3},
}
OF_NO_PAPER = {
    ("strategy", "random"),
    ("strategy", "listed"),
    ("recipe", "plain"),
    ("space", "module"),
    ("space", "table"),
}


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_loads_and_says_what_it_is(kind: str, name: str) -> None:
    found = plugins.load(kind, name)
    described = found.measure if isinstance(found, Objective) else found
    assert (described.__doc__ or "").strip() and "(self" not in described.__doc__


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_settings_survive_toml(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("choice.width,accuracy\n1,80\n2,90\n")
    (tmp_path / "layers.json").write_text('{"format": 1, "machine": {}, "layers": []}')
    cls = plugins.load(kind, name)
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    plugin = settings.build(cls, GIVEN.get((kind, name), {}), where=name)
    values = tomllib.loads(settings.to_toml(settings.plain(plugin)))
    assert settings.build(cls, values, where=name) == plugin


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, n in SETTINGS if k in ("space", "strategy", "recipe", "proxy")]
)
def test_names_its_paper(kind: str, name: str) -> None:
    if (kind, name) not in OF_NO_PAPER:
        assert re.search(r"\b(19|20)\d\d\b|arXiv", plugins.load(kind, name).__doc__)
