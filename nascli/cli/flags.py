"""Flags laid over settings files: which flag sets which key, and that a flag beats a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nascli.settings import Layers


def layered(
    *, defaults: Mapping[str, Any], config: Sequence[Path] | None, flags: Mapping[str, Any], sets: Sequence[str] | None
) -> Layers:
    """Settings in order of precedence: defaults, files, flags, --set. A flag that was not given (None) sets nothing.

    `flags` maps "--space space.name" (flag and dotted key) to its value.
    """
    layers = Layers()
    for key, value in defaults.items():
        layers.put(key, value, origin="default")
    for path in config or ():
        layers.file(path)
    for names, value in flags.items():
        if value is not None and value != []:
            flag, key = names.split(" ")
            layers.put(key, value, origin=flag)
    for text in sets or ():
        layers.assign(text)
    return layers
