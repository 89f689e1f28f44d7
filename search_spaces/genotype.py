"""Genotypes: how cells of DARTS are exchanged, as the text of a named tuple (Liu et al. 2019, arXiv:1806.09055).

    Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))

The lists hold two (operation, source) pairs for each of the nodes 2 to 5 in turn; their order within a node means
nothing. The text is Python, but it is never run: only the literals in it are read.
"""

from __future__ import annotations

import ast
import json
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from search_spaces.darts_cells import KINDS, NODES, Cell, Cells, Kind
from search_spaces.errors import ArchitectureError

FIELDS = tuple(name for kind in KINDS for name in (kind, f"{kind}_concat"))
"""In the order of the named tuple."""

_PYTHON = re.compile(r"(\w+\s*=\s*)?([\w.]*\.)?Genotype\s*\(")
_PAIRS = 2 * len(NODES)
_FORM = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], ...)"


def write(cells: Cells) -> str:
    """The genotype's text, on one line, as Python shows the named tuple."""
    parts = []
    for kind in KINDS:
        pairs = [(cells[kind][edge], edge[0]) for edge in sorted(cells[kind], key=lambda e: (e[1], e[0]))]
        parts.append(f"{kind}={pairs!r}, {kind}_concat=range({NODES[0]}, {NODES[-1] + 1})")
    return f"Genotype({', '.join(parts)})"


def read(text: str) -> Cells | None:
    """The cells that a genotype's text or its JSON describes; None for a text that is neither.

    The text may assign the tuple to a name, and give its fields by name or in order; the JSON is an object with the
    same four fields. Operations may have any name. Raises ArchitectureError for what is no such pair of cells.
    """
    text = text.strip()
    if text.startswith("{"):
        fields = _from_json(text)
    elif _PYTHON.match(text):
        fields = _from_python(text)
    else:
        return None
    if wrong := [name for name in fields if name not in FIELDS]:
        raise ArchitectureError(f"A genotype has no field {wrong[0]!r}; its fields are {', '.join(FIELDS)}.")
    if missing := [name for name in FIELDS if name not in fields]:
        raise ArchitectureError(f"The genotype lacks {missing[0]!r}; its fields are {', '.join(FIELDS)}.")
    for kind in KINDS:
        _check_concat(f"{kind}_concat", fields[f"{kind}_concat"])
    return {kind: _cell(kind, fields[kind]) for kind in KINDS}


# -- what the cells are ----------------------------------------------------------------------------------------------


def _cell(kind: Kind, listed: Any) -> Cell:
    if not isinstance(listed, list) or len(listed) != _PAIRS:
        got = f"{len(listed)} entries" if isinstance(listed, list) else reprlib.repr(listed)
        raise ArchitectureError(f"{kind} must list {_PAIRS} pairs, two for each of the nodes 2 to 5, but has {got}.")
    found: dict[tuple[int, int], str] = {}
    for i, entry in enumerate(listed):
        node = NODES[i // 2]
        if not (isinstance(entry, list) and [type(e) for e in entry] == [str, int]):
            raise ArchitectureError(
                f"{kind}[{i}] is {reprlib.repr(entry)}; it should be an operation and its source, as in "
                "('sep_conv_3x3', 0)."
            )
        operation, source = entry
        if not 0 <= source < node:
            raise ArchitectureError(
                f"{kind}[{i}] reads {source!r}, but node {node} can read 0 to {node - 1} only: 0 and 1 are the cell's "
                f"inputs, the nodes count from 2."
            )
        if (source, node) in found:
            raise ArchitectureError(f"{kind}: node {node} reads {source} twice; its two sources must differ.")
        found[source, node] = operation
    return {edge: found[edge] for edge in sorted(found, key=lambda e: (e[1], e[0]))}


def _check_concat(name: str, listed: Any) -> None:
    if listed != list(NODES):
        raise ArchitectureError(
            f"{name} is {reprlib.repr(listed)}, but the cells here give out all of their nodes, range(2, 6)."
        )


# -- what is written -------------------------------------------------------------------------------------------------


def _from_json(text: str) -> Mapping[str, Any]:
    try:
        fields: Mapping[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f"The genotype is no JSON: {error}.") from None
    return fields


def _from_python(text: str) -> Mapping[str, Any]:
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error) or type(error).__name__
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ArchitectureError(f"The genotype is no Python ({reason}{where}); it is written {_FORM}.") from None
    call = statements[0].value if isinstance(statements[0], ast.Assign | ast.Expr) else None
    if len(statements) != 1 or not isinstance(call, ast.Call):
        raise ArchitectureError(f"The text must be one genotype and nothing else, written {_FORM}.")
    if len(call.args) > len(FIELDS):
        raise ArchitectureError(f"A genotype has {len(FIELDS)} fields, {', '.join(FIELDS)}, but got {len(call.args)}.")
    fields = {name: _literal(value) for name, value in zip(FIELDS, call.args, strict=False)}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in fields:
            given = "**" if keyword.arg is None else f"{keyword.arg!r} twice"
            raise ArchitectureError(f"The genotype gives {given}; it is written {_FORM}.")
        fields[keyword.arg] = _literal(keyword.value)
    return fields


def _literal(node: ast.expr) -> Any:
    """Strings, integers, and lists of such things; tuples and `range(a, b)` are lists. Nothing is evaluated."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        bounds = [a.value for a in node.args if isinstance(a, ast.Constant) and type(a.value) is int]
        if len(bounds) == len(node.args) == 2 and bounds[1] - bounds[0] <= _PAIRS:
            return list(range(*bounds))
    raise ArchitectureError(f"A genotype holds no {reprlib.repr(ast.unparse(node))}; it is written {_FORM}.")
