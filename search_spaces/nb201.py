"""Image: the cells of NAS-Bench-201 as real networks, and as measured ones where its table is given (Dong & Yang 2020,
arXiv:2001.00326).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from search_spaces.cells import CellGraph, cell_graph, line_graph, on_paths, structure
from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.elastic import copied
from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.measured_files import Goal, locate, read
from search_spaces.nb201_net import EDGES, NODES, OPERATIONS, Nb201Network, Nb201Supernet, PartialNb201Supernet
from search_spaces.space import Drawing, SearchSpace, Signature
from search_spaces.table import TableSpace

_TABLE = ChoiceTable("nb201", tuple(Choice(f"edge.{i}-{j}", OPERATIONS) for i, j in EDGES))
_EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"


@dataclass(frozen=True)
class Nb201Space(SearchSpace):
    """NAS-Bench-201: cells of four nodes, one of five operations on each edge (Dong & Yang 2020, arXiv:2001.00326).

    `path` is the benchmark's table as an npz; with it the columns can be objectives. Architectures are written
    "nb201:...", in the benchmark's own way, "|nor_conv_3x3~0|+...", or as its index, which needs the table.
    """

    signature: Signature = Signature("image", (3, 32, 32), 10)
    channels: int = 16
    """Those of the first stage; each of the other two doubles them."""
    cells: int = 5
    """In each of the three stages."""
    path: str = ""
    """The table; a relative path is looked for here, then in NASCLI_DATA, then in NASCLI_DATA/nas. Empty: none."""
    also: tuple[str, ...] = ()
    """Files with further columns for the same architectures in the same row order (HW-NAS-Bench)."""

    def __post_init__(self) -> None:
        shape = self.signature.shape
        if self.signature.kind != "image" or len(shape) != 3 or min(*shape, self.signature.classes) < 1:
            raise ValueError(f"this space needs images (channels, height, width), but the data are {self.signature}")
        for field, value in (("channels", self.channels), ("cells", self.cells)):
            if value < 1:
                raise ValueError(f"{field}={value!r} must be at least 1")
        if self.also and not self.path:
            raise ValueError(f"also={self.also!r} adds columns to a table; give its path as well")
        if self.path:
            TableSpace(self.path, also=self.also)  # refuses files that are nowhere

    @property
    def table(self) -> ChoiceTable:
        """One choice an edge, named and ordered as by `TableSpace`."""
        return _TABLE

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        """See `SearchSpace.nodes`: the three nodes after the input."""
        return {f"node{n}": tuple(f"edge.{i}-{n}" for i in range(n)) for n in range(1, NODES)}

    @property
    def published(self) -> Mapping[str, int | bool]:
        """See `SearchSpace.published`: the benchmark's own sizes."""
        return {"channels": 16, "cells": 5}

    # -- architectures -----------------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """The architecture that "nb201:...", the benchmark's own string or its index names; raises ArchitectureError.

        The benchmark numbers its cells in the order in which they were drawn: an index can only be looked up.
        """
        text = text.strip()
        if text.startswith("|"):
            return self.table.canonical(_operations(text))
        if not re.fullmatch(r"[+-]?\d+", text):
            return self.table.parse(text)
        if not self.path:
            raise ArchitectureError(
                f"{text} is an index of NAS-Bench-201, which only its table can resolve: set the space's path to the "
                f"npz, or write the cell out, {_EXAMPLE!r}."
            )
        rows = _rows(self._measured.path)
        if not 0 <= int(text) < len(rows):
            raise ArchitectureError(
                f"NAS-Bench-201 has no index {text}; those of {self.path!r} are 0 to {len(rows) - 1}."
            )
        return self.table.canonical(rows[int(text)])

    def field(self, arch: Architecture) -> str:
        """The benchmark's own string: the operations into each node, with the node that each comes from."""
        operations = self._by_edge(arch)
        return "+".join(f"|{'|'.join(f'{operations[i, node]}~{i}' for i in range(node))}|" for node in range(1, NODES))

    def equivalent(self, arch: Architecture) -> Architecture:
        """The same function with `none` for every operation on no path from input to output.

        9,445 architectures stand for all 15,625. The operations replaced take their parameters with them.
        """
        operations = self._by_edge(arch)
        used = on_paths([edge for edge, operation in operations.items() if operation != "none"], NODES)
        return self.table.canonical([o if edge in used else "none" for edge, o in operations.items()])

    def isomorphism(self, arch: Architecture) -> str:
        """A text equal for cells that the benchmark counts as one, see `cells.structure`; 6,466 differ."""
        return structure(self._by_edge(arch), NODES, nothing="none", identity="skip_connect")

    def graph(self, arch: Architecture) -> CellGraph:
        """Eight nodes: the input, the operations of the six edges, the output."""
        operations = ["input", *self._by_edge(arch).values(), "output"]
        return cell_graph(line_graph(EDGES, NODES), operations, ("input", *OPERATIONS, "output"))

    def drawings(self, arch: Architecture) -> tuple[Drawing, ...]:
        """The cell; edges that compute nothing are left out."""
        edges = tuple((i, j, operation) for (i, j), operation in self._by_edge(arch).items() if operation != "none")
        return (Drawing("cell", (("0", "input"), ("1", "inner"), ("2", "inner"), ("3", "output")), edges),)

    def _by_edge(self, arch: Architecture) -> dict[tuple[int, int], str]:
        self.table.indices(arch)
        return dict(zip(EDGES, arch.options, strict=True))

    # -- networks ----------------------------------------------------------------------------------------------------

    def build(self, arch: Architecture) -> nn.Module:
        """See `SearchSpace.build`; operations that do not matter to the output are there but are not computed."""
        return Nb201Network(self._by_edge(arch), self.signature, channels=self.channels, cells=self.cells)

    def supernet(self) -> Nb201Supernet:
        """See `SearchSpace.supernet`."""
        return Nb201Supernet(self.signature, channels=self.channels, cells=self.cells)

    def partial_supernet(self, parts: int) -> PartialNb201Supernet:
        """See `PartialChannels`."""
        return PartialNb201Supernet(self.signature, channels=self.channels, cells=self.cells, parts=parts)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """See `SearchSpace.inherit`; raises SpaceError for the supernet of another space."""
        with torch.device("meta"):
            plain = self.build(arch)
        return copied(supernet, plain)

    # -- the table ---------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> Mapping[str, tuple[Goal, str]]:
        """Column name -> ("min" or "max", unit); none without a table."""
        return self._measured.columns if self.path else {}

    def look_up(self, arch: Architecture, column: str) -> float:
        """What the table says. Raises SpaceError without one, for an unknown column, or where nothing was measured."""
        if not self.path:
            raise SpaceError(f"This nb201 space has no table to look {column!r} up in; set its path to the npz.")
        return self._measured.look_up(arch, column)

    @cached_property
    def _measured(self) -> TableSpace:
        measured = TableSpace(self.path, also=self.also, name=self.table.name)
        if measured.table != self.table:
            raise SpaceError(f"{self.path!r} is no table of NAS-Bench-201: its choices or operations are others.")
        return measured


@lru_cache(maxsize=4)
def _rows(path: str) -> list[tuple[str, ...]]:
    """The options of each architecture in the table's order, which is the benchmark's index."""
    return list(read(locate(path), also=(), name="nb201", choices=(), maximise=()).rows)


def _operations(text: str) -> list[str]:
    """The operations in the order of the edges, read from the benchmark's own string. Raises ArchitectureError."""
    nodes = text.split("+")
    if len(nodes) != NODES - 1:
        raise ArchitectureError(f"{text!r} describes {len(nodes)} nodes; a cell has {NODES - 1}, as in {_EXAMPLE!r}.")
    found: list[str] = []
    for node, part in enumerate(nodes, 1):
        inputs = re.findall(r"([^|~]+)~(\d+)(?=\|)", part)
        sources = [int(source) for _, source in inputs]
        if sources != list(range(node)) or part != f"|{'|'.join(f'{o}~{i}' for o, i in inputs)}|":
            wanted = "".join(f"|OPERATION~{i}" for i in range(node)) + "|"
            raise ArchitectureError(f"{part!r} in {text!r} should be of the form {wanted}.")
        found += [operation for operation, _ in inputs]
    return found
