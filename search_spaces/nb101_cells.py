"""The cells of NAS-Bench-101 as architectures, and as their own field writes them (Ying et al. 2019, arXiv:1902.09635).

A vertex is there or not, has inputs, and feeds the output if it feeds nothing else. Every architecture is thus a cell
of the benchmark, and every cell is in the table. With a bit for each possible edge a quarter of the table would be no
cells, and of the others one in five hundred would keep seven vertices.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from search_spaces.cells import Adjacency, edges_of, pruned
from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.errors import ArchitectureError
from search_spaces.nb101_net import OPERATIONS

VERTICES, EDGES = 7, 9
"""The most of each that a cell may have."""

INPUT, OUTPUT = "input", "output"

Cell = tuple[Adjacency, Sequence[str]]
"""Adjacency [vertices, vertices] and operations [vertices], the first "input" and the last "output"."""

_INNER = range(1, VERTICES - 1)
_OUTPUT = VERTICES - 1
_ABSENT = "absent"


# -- architectures ---------------------------------------------------------------------------------------------------


def _table() -> ChoiceTable:
    ends = ("0", "1")
    choices = [Choice("input.ends", ends)]
    for vertex in _INNER:
        name = f"vertex{vertex}"
        there = ((f"{name}.operation", frozenset(OPERATIONS)),)
        choices.append(Choice(f"{name}.operation", (_ABSENT, *OPERATIONS)))
        if vertex > 1:
            sets = (s for size in range(1, vertex + 1) for s in itertools.combinations(range(vertex), size))
            choices.append(Choice(f"{name}.inputs", tuple(_joined(sources) for sources in sets), there))
        if vertex < _INNER[-1]:
            choices.append(Choice(f"{name}.ends", ends, there))
    return ChoiceTable("nb101", tuple(choices))


def _joined(sources: Sequence[int]) -> str:
    return "+".join(str(source or "in") for source in sources)


def _sources(option: str) -> list[int]:
    return [0 if source == "in" else int(source) for source in option.split("+")]


def _ends(vertex: int) -> str:
    return f"vertex{vertex}.ends" if vertex else "input.ends"


TABLE = _table()
"""Of each inner vertex the operation, if it is there, the earlier vertices that feed it, and whether it feeds the
output although it feeds others too, as the cell's input may."""


def cell(arch: Architecture) -> Cell:
    """What matters of the cell of an architecture. Raises ArchitectureError for one of another space.

    Each vertex has the last of its inputs, or the cell's input where that is absent. Other edges are made while there
    are fewer than nine: the other inputs, but one edge fewer, then the ends of vertices that feed no other, from the
    last to the first, then the ends of those that are to feed the output too.
    """
    values = TABLE.values(arch)
    there = [0, *(vertex for vertex in _INNER if values[f"vertex{vertex}.operation"] != _ABSENT)]
    inputs = {vertex: _sources(values.get(f"vertex{vertex}.inputs", "in")) for vertex in there[1:]}
    edges = {(sources[-1] if sources[-1] in there else 0, vertex) for vertex, sources in inputs.items()}
    others = [(source, vertex) for vertex, sources in inputs.items() for source in sources[:-1] if source in there]
    for edge in others:
        if len(edges) < EDGES - 1:
            edges.add(edge)
    feeding = {source for source, _ in edges}
    loose = [vertex for vertex in reversed(there) if vertex not in feeding]
    ending = [vertex for vertex in there if vertex in feeding and values.get(_ends(vertex)) == "1"]
    edges |= {(vertex, _OUTPUT) for vertex in (loose + ending)[: EDGES - len(edges)]}
    adjacency = [[int((i, j) in edges) for j in range(VERTICES)] for i in range(VERTICES)]
    return pruned(adjacency, [INPUT, *(values[f"vertex{v}.operation"] for v in _INNER), OUTPUT])


def architecture(cell: Cell) -> Architecture:
    """The architecture of what matters of a cell. Raises ArchitectureError if there is no path, or too much of it."""
    adjacency, operations = pruned(*cell)
    if not operations:
        raise ArchitectureError("The cell has no path from its input to its output; add the edges of one.")
    edges, output = edges_of(adjacency), len(operations) - 1
    if len(edges) > EDGES or len(operations) > VERTICES:
        raise ArchitectureError(
            f"The cell has {len(operations)} vertices and {len(edges)} edges that matter; a cell of NAS-Bench-101 has "
            f"at most {VERTICES} and {EDGES}."
        )
    options = {}
    for vertex in range(output):
        feeds_others = any(source == vertex and target != output for source, target in edges)
        options[_ends(vertex)] = str(int((vertex, output) in edges and feeds_others))
        options[f"vertex{vertex}.operation"] = operations[vertex]
        options[f"vertex{vertex}.inputs"] = _joined([source for source, target in edges if target == vertex])
    return TABLE.canonical([options.get(choice.name, choice.options[0]) for choice in TABLE.choices])


# -- the field's own texts -------------------------------------------------------------------------------------------


def write(cell: Cell) -> str:
    """The benchmark's JSON of a cell."""
    return json.dumps({"module_adjacency": cell[0], "module_operations": list(cell[1])})


def read(text: str) -> Cell | None:
    """The cell that the benchmark's JSON, or bits and operations, describe; None if the text is of neither form.

    The bits are those above the diagonal of the matrix, row by row, followed by the operations of the inner vertices.
    Raises ArchitectureError.
    """
    if text.startswith("{"):
        return _from_json(text)
    if re.match(r"[01]+([\s,]|$)", text):
        bits, *operations = re.split(r"[\s,]+", text)
        return _from_bits(bits, operations)
    return None


def _from_bits(bits: str, operations: Sequence[str]) -> Cell:
    vertices = len(operations) + 2
    if len(bits) != math.comb(vertices, 2):
        raise ArchitectureError(
            f"{bits!r} should have {math.comb(vertices, 2)} bits, one for each pair of the {vertices} vertices that "
            f"{len(operations)} operations make with input and output, but it has {len(bits)}."
        )
    adjacency = [[0] * vertices for _ in range(vertices)]
    for (source, target), bit in zip(itertools.combinations(range(vertices), 2), bits, strict=True):
        adjacency[source][target] = int(bit)
    return adjacency, [INPUT, *_known(operations), OUTPUT]


def _from_json(text: str) -> Cell:
    keys = ("module_adjacency", "module_operations")
    try:
        adjacency, operations = (json.loads(text)[key] for key in keys)
    except json.JSONDecodeError as error:
        raise ArchitectureError(f"{text!r} is no JSON: {error}.") from None
    except KeyError as error:
        raise ArchitectureError(f"{text!r} lacks {error}; a cell of NAS-Bench-101 has {' and '.join(keys)}.") from None
    if not _is_list(operations, str) or len(operations) < 2 or [operations[0], operations[-1]] != [INPUT, OUTPUT]:
        raise ArchitectureError(f"module_operations should run from {INPUT!r} to {OUTPUT!r}, but is {operations!r}.")
    size = len(operations)
    square = _is_list(adjacency, list) and all(_is_list(row, int) and len(row) == size for row in adjacency)
    if not square or len(adjacency) != size:
        raise ArchitectureError(f"module_adjacency should be {size} rows of {size} numbers, as there are operations.")
    if any(value not in (0, 1) or (value and j <= i) for i, row in enumerate(adjacency) for j, value in enumerate(row)):
        raise ArchitectureError("module_adjacency should hold 1 or 0 above its diagonal and 0 elsewhere.")
    return adjacency, [INPUT, *_known(operations[1:-1]), OUTPUT]


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _known(operations: Sequence[str]) -> Sequence[str]:
    """The operations; raises ArchitectureError unless the benchmark has them all."""
    for operation in operations:
        if operation not in OPERATIONS:
            raise ArchitectureError(f"{operation!r} is not in nb101; the operations are {', '.join(OPERATIONS)}.")
    return operations
