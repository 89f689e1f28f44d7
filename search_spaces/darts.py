"""Image: the cells of DARTS (Liu et al. 2019, arXiv:1806.09055), and of the four reduced spaces of RobustDARTS (Zela et
al. 2020, arXiv:1909.09656).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from search_spaces import darts_cells, genotype
from search_spaces.cells import CellGraph
from search_spaces.choices import Architecture, ChoiceTable
from search_spaces.darts_cells import KINDS, NODES, TABLES, Cells, Preset, edge_choice, inputs_choice, pairs
from search_spaces.darts_net import DartsNetwork
from search_spaces.darts_supernet import DartsSupernet, PartialDartsSupernet
from search_spaces.elastic import copied
from search_spaces.space import Drawing, SearchSpace, Signature


@dataclass(frozen=True)
class DartsSpace(SearchSpace):
    """DARTS: two kinds of cells, each node the sum of operations on two earlier ones (Liu et al. 2019, 1806.09055).

    Architectures are written "darts:...", or as a genotype: the text "Genotype(normal=[('sep_conv_3x3', 0), ...], ..."
    or a JSON object with the same fields. The papers search with 16 channels and 8 cells, and train what they find
    with 36 and 20.
    """

    signature: Signature = Signature("image", (3, 32, 32), 10)
    preset: Preset = "darts"
    """Seven operations; "darts-none" has `none` besides; "s1" to "s4" are those of RobustDARTS (Zela et al. 2020)."""
    channels: int = 16
    """Of the first cells' nodes; the cells a third and two thirds of the way down double them."""
    cells: int = 8
    pool_norm: bool = True
    """Whether pools are normalised, in the supernet and, so that these inherit from it, in networks. As published, the
    supernet's are and a final network's are not."""

    def __post_init__(self) -> None:
        shape = self.signature.shape
        if self.signature.kind != "image" or len(shape) != 3 or min(*shape, self.signature.classes) < 1:
            raise ValueError(f"this space needs images (channels, height, width), but the data are {self.signature}")
        if self.preset not in TABLES:
            raise ValueError(f"preset={self.preset!r} is unknown; there are {', '.join(get_args(Preset))}")
        if self.channels < 2:
            raise ValueError(f"channels={self.channels!r} must be at least 2: two halves of an image make one")
        if self.cells < 3:
            raise ValueError(f"cells={self.cells!r} must be at least 3: two that halve the image and a normal one")

    @property
    def table(self) -> ChoiceTable:
        """See `search_spaces.darts_cells`; each preset's table has a name of its own."""
        return TABLES[self.preset]

    # -- architectures -----------------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """The architecture that "darts:...", a genotype's text or its JSON names. Raises ArchitectureError."""
        cells = genotype.read(text)
        return self.table.parse(text) if cells is None else darts_cells.architecture(self.table, cells)

    def field(self, arch: Architecture) -> str:
        """The genotype's text."""
        return genotype.write(self._cells(arch))

    def equivalent(self, arch: Architecture) -> Architecture:
        """The same function with `none` for what reads a node that nothing reaches, and with the first of the sources
        that `none` may have. The operations replaced take their parameters with them. All else stands for itself.
        """
        if not self.mixed_only:
            return arch
        cells = self._cells(arch)
        return darts_cells.architecture(self.table, {kind: darts_cells.reduced(cell) for kind, cell in cells.items()})

    @property
    def topology(self) -> Mapping[str, tuple[frozenset[str], ...]]:
        """See `SearchSpace.topology`: the pairs of inputs of all nodes but the first."""
        return {
            inputs_choice(kind, node): tuple(
                frozenset(edge_choice(kind, (source, node)) for source in pair) for pair in pairs(node)
            )
            for kind in KINDS
            for node in NODES[1:]
        }

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        """See `SearchSpace.nodes`: all four of both cells."""
        return {
            f"{kind}.node{node}": tuple(edge_choice(kind, (source, node)) for source in range(node))
            for kind in KINDS
            for node in NODES
        }

    @property
    def published(self) -> Mapping[str, int | bool]:
        """See `SearchSpace.published`: the papers' network for CIFAR-10."""
        return {"channels": 36, "cells": 20, "pool_norm": False}

    @property
    def mixed_only(self) -> frozenset[str]:
        """See `SearchSpace.mixed_only`: `none` where there is one."""
        return frozenset({"none"} & {option for choice in self.table.choices for option in choice.options})

    def graph(self, arch: Architecture) -> CellGraph:
        """Both cells as one graph, see `search_spaces.darts_cells.graph`."""
        return darts_cells.graph(self._cells(arch))

    def drawings(self, arch: Architecture) -> tuple[Drawing, ...]:
        """The normal cell and the one that halves the image; edges that compute nothing are left out."""
        ends = len(NODES) + 2
        inner = tuple((str(node - 2), "inner") for node in NODES)
        labelled: Any = (("c_{k-2}", "input"), ("c_{k-1}", "input"), *inner, ("c_{k}", "output"))
        joined = tuple((node, ends, "") for node in NODES)
        return tuple(
            Drawing(f"{kind} cell", labelled, (*((i, j, o) for (i, j), o in cell.items() if o != "none"), *joined))
            for kind, cell in self._cells(arch).items()
        )

    def _cells(self, arch: Architecture) -> Cells:
        return darts_cells.cells(self.table, arch)

    # -- networks ----------------------------------------------------------------------------------------------------

    def build(self, arch: Architecture) -> nn.Module:
        """See `SearchSpace.build`; the network has a place for an auxiliary classifier, see `Tapped`, and drops paths
        in training if told to, see `search_spaces.darts_ops`.
        """
        return DartsNetwork(self._cells(arch), self.signature, **self._sizes)

    def supernet(self) -> DartsSupernet:
        """See `SearchSpace.supernet`."""
        return DartsSupernet(self.preset, self.signature, **self._sizes)

    def partial_supernet(self, parts: int) -> PartialDartsSupernet:
        """See `PartialChannels`."""
        return PartialDartsSupernet(self.preset, self.signature, parts=parts, **self._sizes)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """See `SearchSpace.inherit`; raises SpaceError for the supernet of another space."""
        with torch.device("meta"):
            plain = self.build(arch)
        return copied(supernet, plain)

    @property
    def _sizes(self) -> dict[str, Any]:
        return {"channels": self.channels, "count": self.cells, "pool_norm": self.pool_norm}
