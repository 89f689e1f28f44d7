"""A space of architectures whose values somebody measured: nothing is built or trained, everything is looked up.

Read are the arrays of NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326) with further columns such as HW-NAS-Bench
(Li et al. 2021, arXiv:2103.10584), and any CSV whose columns are choices and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor, nn

from search_spaces.choices import Architecture, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.measured_files import Content, Goal, locate, read
from search_spaces.space import SearchSpace, Signature


@dataclass(frozen=True)
class TableSpace(SearchSpace):
    """Architectures with measured values: a NAS-Bench-201 npz, or a CSV (plain or gzip) of choices and numbers."""

    path: str
    """The file; a relative path is looked for here, then in NASCLI_DATA, then in NASCLI_DATA/nas."""
    also: tuple[str, ...] = ()
    """Files with further columns for the same architectures in the same row order (HW-NAS-Bench for NAS-Bench-201)."""
    name: str = "table"
    """What the space is called: architectures are written "name:option,option"."""
    choices: tuple[str, ...] = ()
    """CSV only: the columns that tell architectures apart; without it, those whose name begins with "choice."."""
    maximise: tuple[str, ...] = ()
    """Columns of which more is better, where the file does not say."""

    def __post_init__(self) -> None:
        for path in (self.path, *self.also):
            locate(path)

    @property
    def table(self) -> ChoiceTable:
        """The choices in the file, each option in ascending cost where that is known."""
        return _content(self).table

    @property
    def signature(self) -> Signature:
        """Of kind "table": there are no networks, only as many choices as the shape says."""
        return Signature("table", (len(self.table.choices),), 0)

    @property
    def columns(self) -> Mapping[str, tuple[Goal, str]]:
        """Column name -> ("min" or "max", unit)."""
        return {name: (column.goal, column.unit) for name, column in _content(self).columns.items()}

    def look_up(self, arch: Architecture, column: str) -> float:
        """What the file says. Raises SpaceError for an unknown column, or an architecture that was not measured."""
        content = _content(self)
        if column not in content.columns:
            raise SpaceError(f"{self.path!r} has no column {column!r}; there are {', '.join(sorted(content.columns))}.")
        row = content.rows.get(arch.options)
        value = math.nan if row is None else float(content.columns[column].values[row])
        if math.isnan(value):
            raise SpaceError(
                f"{column} of {arch} was not measured in {self.path!r}; take another architecture or column."
            )
        return value

    def build(self, arch: Architecture) -> nn.Module:
        """Always raises SpaceError."""
        raise SpaceError(self._no("networks"))

    def supernet(self) -> nn.Module:
        """Always raises SpaceError."""
        raise SpaceError(self._no("supernet"))

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """Always raises SpaceError."""
        raise SpaceError(self._no("weights"))

    def _no(self, what: str) -> str:
        return (
            f"The table {self.path!r} has no {what}, only numbers; search it with the objectives "
            f"{', '.join(sorted(self.columns))}."
        )


@lru_cache(maxsize=8)
def _content(space: TableSpace) -> Content:
    """What the space's files say, read once a process: a space that travels to a worker is a few strings."""
    return read(
        locate(space.path),
        also=[locate(path) for path in space.also],
        name=space.name,
        choices=space.choices,
        maximise=space.maximise,
    )
