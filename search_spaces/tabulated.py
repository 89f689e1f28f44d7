"""Spaces whose architectures somebody measured already: their values are looked up, not computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from search_spaces.choices import Architecture


@runtime_checkable
class Tabulated(Protocol):
    """A space with a table of measured values; each column can be an objective."""

    @property
    def columns(self) -> Mapping[str, tuple[Literal["min", "max"], str]]:
        """Column name -> ("min" or "max", unit)."""
        ...

    def look_up(self, arch: Architecture, column: str) -> float:
        """The value of an architecture. Raises SpaceError for an unknown column, or where it was not measured."""
        ...
