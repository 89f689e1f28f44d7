"""Compressors by name, with the settings that a task has for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nascli import plugins, settings
from nascli.engine.task import Task
from nascli.errors import SettingsError


def made(name: str, task: Task, *, origins: Mapping[str, str] | None = None) -> Any:
    """The compressor of that name with the task's settings for it; `origins` says where single ones were written.

    Raises SettingsError for unknown names and settings, and for what is no compressor.
    """
    cls = plugins.load("compressor", name)
    if not (dataclasses.is_dataclass(cls) and isinstance(cls, type) and callable(getattr(cls, "compress", None))):
        raise SettingsError(
            f"{name!r} is no compressor: a frozen dataclass with a method compress(network, level, task, state)."
        )
    given = task.compressors.get(name, {})
    found: Any = settings.build(cls, given, where=f"compressor {name!r}", origins=origins, table=f"compressor.{name}")
    return found
