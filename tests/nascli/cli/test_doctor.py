from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli import __version__, plugins

Nascli = Callable[..., Any]


def facts(nascli: Nascli) -> dict[str, Any]:
    left = nascli("doctor", "--json")
    assert left.code == 0
    found: dict[str, Any] = json.loads(left.out)["data"]
    return found


def test_the_installation_as_it_is(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASCLI_DATA", "/some/where")
    found = facts(nascli)
    assert found["nascli"] == __version__ and all(found["packages"].values())
    assert found["broken plugins"] == "none" and found["data"] == "/some/where" and found["runs"] == "writable"
    assert found["machine"]["cores"] >= 1
    assert "packages.torch: " in nascli("doctor").out


def test_what_is_missing_is_named(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASCLI_DATA", raising=False)
    monkeypatch.setattr("nascli.cli.doctor.EXTRAS", {"no-such-package": "export"})
    found = facts(nascli)
    assert "NASCLI_DATA is not set" in found["data"]
    assert found["extras"] == {"no-such-package": 'missing: pip install "nascli[export]"'}


def test_a_broken_plugin_is_a_line(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**plugins.BUILT_IN, "strategy": {"mine": "no_such_module:Mine"}}
    monkeypatch.setattr(plugins, "BUILT_IN", table)
    plugins._table.cache_clear()
    try:
        (line,) = facts(nascli)["broken plugins"]
    finally:
        plugins._table.cache_clear()
    assert line.startswith("strategy mine: broken: ") and "no_such_module" in line


def test_a_folder_that_can_not_be_written(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nascli.cli.doctor.os.access", lambda path, mode: False)
    Path("runs").mkdir()
    assert facts(nascli)["runs"] == "'runs' can't be written"
