"""The settings files among the examples are settings, of the strategies that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli import plugins, settings

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
