"""Image: the cells of NAS-Bench-101 as real networks (Ying et al. 2019, arXiv:1902.09635)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from torch import Tensor, nn

from search_spaces.cells import CellGraph, cell_graph, edges_of, graph_hash
from search_spaces.choices import Architecture, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.nb101_cells import INPUT, OUTPUT, TABLE, architecture, cell, read, write
from search_spaces.nb101_net import OPERATIONS, Nb101Network
from search_spaces.space import Drawing, SearchSpace, Signature

_HASHED = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The operations in the order by which the benchmark's hash numbers them."""

_PARTS: Mapping[str, Literal["input", "inner", "output"]] = {INPUT: "input", OUTPUT: "output"}

_ALONE = (
    "The nb101 space has no supernet, as the width of every operation depends on the whole cell; "
    "take nb201, which has one, or train networks by themselves."
)


@dataclass(frozen=True)
class Nb101Space(SearchSpace):
    """NAS-Bench-101: cells of up to five operations and nine edges between them (Ying et al. 2019, arXiv:1902.09635).

    Architectures are written "nb101:...", as the benchmark's JSON with module_adjacency and module_operations, or as
    the bits above the diagonal, row by row, with the inner vertices' operations: "101 maxpool3x3".
    """

    signature: Signature = Signature("image", (3, 32, 32), 10)
    channels: int = 128
    """Those of the first stack; each further one doubles them."""
    stacks: int = 3
    modules: int = 3
    """Cells in a stack."""

    def __post_init__(self) -> None:
        shape = self.signature.shape
        if self.signature.kind != "image" or len(shape) != 3 or min(*shape, self.signature.classes) < 1:
            raise ValueError(f"this space needs images (channels, height, width), but the data are {self.signature}")
        # Five vertices may share a cell's channels, and each needs one.
        for field, least in (("channels", 5), ("stacks", 1), ("modules", 1)):
            if (value := getattr(self, field)) < least:
                raise ValueError(f"{field}={value!r} must be at least {least}")

    @property
    def table(self) -> ChoiceTable:
        """See `search_spaces.nb101_cells.TABLE`; every member is a cell of the benchmark."""
        return TABLE

    def parse(self, text: str) -> Architecture:
        """The architecture that "nb101:...", the benchmark's JSON, or bits and operations name.

        Vertices on no path from input to output do not matter. Raises ArchitectureError.
        """
        found = read(text.strip())
        return self.table.parse(text) if found is None else architecture(found)

    def field(self, arch: Architecture) -> str:
        """The benchmark's JSON: {"module_adjacency": [[0, 1], [0, 0]], "module_operations": ["input", "output"]}."""
        return write(cell(arch))

    def equivalent(self, arch: Architecture) -> Architecture:
        """The architecture that stands for all of the very same cell; isomorphic ones stay apart, see `isomorphism`."""
        return architecture(cell(arch))

    def isomorphism(self, arch: Architecture) -> str:
        """The benchmark's hash of the cell, equal for isomorphic ones; 423,624 differ."""
        adjacency, operations = cell(arch)
        return graph_hash(adjacency, [-1, *(_HASHED.index(o) for o in operations[1:-1]), -2])

    def graph(self, arch: Architecture) -> CellGraph:
        """Two to seven nodes: the input, the inner vertices with their operations, the output."""
        return cell_graph(*cell(arch), (INPUT, *OPERATIONS, OUTPUT))

    def drawings(self, arch: Architecture) -> tuple[Drawing, ...]:
        """The cell: operations on its nodes, nothing on its edges."""
        adjacency, operations = cell(arch)
        nodes = tuple((operation, _PARTS.get(operation, "inner")) for operation in operations)
        return (Drawing("cell", nodes, tuple((i, j, "") for i, j in edges_of(adjacency))),)

    def build(self, arch: Architecture) -> nn.Module:
        """See `SearchSpace.build`."""
        adjacency, operations = cell(arch)
        sizes = {"channels": self.channels, "stacks": self.stacks, "modules": self.modules}
        return Nb101Network(adjacency, operations, self.signature, **sizes)

    def supernet(self) -> NoReturn:
        """Nothing: raises SpaceError."""
        raise SpaceError(_ALONE)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """Nothing: raises SpaceError."""
        raise SpaceError(_ALONE)
