"""One drawing as the elements of an SVG: nodes as boxes, edges as smooth arrows, labels with a white ground."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from nascli.report.graph_layout import Lane, Layout, lay_out, layers
from search_spaces.space import Drawing

Part = Literal["input", "inner", "output"]

COLOURS: dict[Part, tuple[str, str]] = {
    "input": ("#dcefdc", "#3f8a4d"),
    "inner": ("#dde8f6", "#3a6ea5"),
    "output": ("#fbeec5", "#b5871b"),
}
"""Of a node by its part: fill and border."""
INK, MUTED, LINE = "#22252a", "#6b7280", "#7b8594"
LETTER, SMALL = 7.6, 6.7
"""About how wide a letter is in a node, and in a label."""
LINE_HEIGHT = 16.0
BEND = 38.0
"""The least width in which an edge gets from one height to another."""
PORT, TALL, HEAD = 9.0, 32.0, 7.0
"""Between two edges at a node; a node's least height; an arrow's length."""


@dataclass(frozen=True)
class Panel:
    """One drawing, its columns placed from left to right."""

    drawing: Drawing
    layers: Sequence[int]
    sizes: Sequence[float]
    """The heights of the nodes."""
    layout: Layout
    lefts: Sequence[float]
    rights: Sequence[float]
    """Where each column begins and ends: a layer with its nodes, a gap with its labels."""

    @classmethod
    def of(cls, drawing: Drawing) -> Panel:
        """The drawing, laid out."""
        edges = [(source, target) for source, target, _ in drawing.edges]
        parts = [part for _, part in drawing.nodes]
        ends = [frozenset(i for i, part in enumerate(parts) if part == wanted) for wanted in ("input", "output")]
        placed = layers(len(parts), edges, first=ends[0], last=ends[1])
        busy = [max(sum(node == edge[side] for edge in edges) for side in (0, 1)) for node in range(len(parts))]
        sizes = [max(TALL, PORT * (count + 1)) for count in busy]
        labelled = [bool(label) for *_, label in drawing.edges]
        layout = lay_out(placed, edges, sizes=[size + 16 for size in sizes], labelled=labelled)
        panel = cls(drawing, placed, sizes, layout, [], [])
        return cls(drawing, placed, sizes, layout, *panel._columns())

    @property
    def width(self) -> float:
        """In pixels."""
        return max(self.rights[-1] if self.rights else 0.0, LETTER * len(self.drawing.title))

    @property
    def height(self) -> float:
        """In pixels, the title included."""
        return self.layout.height + 1.75 * LINE_HEIGHT

    def elements(self) -> Iterator[str]:
        """Title, edges, labels and nodes, in the order in which they cover each other."""
        yield text(self.drawing.title, 0, 0.75 * LINE_HEIGHT, 14, INK, weight="bold")
        yield f'<g transform="translate(0 {px(1.75 * LINE_HEIGHT)})">'
        for number in range(len(self.drawing.edges)):
            yield from self._edge(number)
        for number, (_, _, label) in enumerate(self.drawing.edges):
            if label:
                yield from self._label(number, label)
        for node, (label, part) in enumerate(self.drawing.nodes):
            yield from self._node(node, label, part)
        yield "</g>"

    def _columns(self) -> tuple[list[float], list[float]]:
        lefts, rights, x = [], [], 0.0
        wide = [0.0] * self.layout.columns
        for layer, (label, _) in zip(self.layers, self.drawing.nodes, strict=True):
            wide[2 * layer] = max(wide[2 * layer], _node_width(label))
        for column, (_, _, label) in zip(self.layout.labels, self.drawing.edges, strict=True):
            wide[column] = max(wide[column], SMALL * len(label) + 12 * bool(label))
        for column, width in enumerate(wide):
            x += self._bend(column) if column else 0.0
            lefts.append(x)
            rights.append(x := x + width)
        return lefts, rights

    def _bend(self, column: int) -> float:
        """The width before a column, more where edges climb far."""
        heights = self.layout.heights
        climbs = [
            abs(heights[b] - heights[a])
            for number in range(len(self.drawing.edges))
            for a, b in pairwise(self._way(number))
            if b[0] == column
        ]
        return min(BEND + 0.2 * max(climbs, default=0.0), 2 * BEND)

    def _way(self, number: int) -> list[Lane]:
        """The lanes of an edge, its two nodes included."""
        source, target, _ = self.drawing.edges[number]
        start, end = 2 * self.layers[source], 2 * self.layers[target]
        between: list[Lane] = [(column, "edge", number) for column in range(start + 1, end)]
        return [(start, "node", source), *between, (end, "node", target)]

    def _port(self, number: int, side: Literal[0, 1]) -> tuple[float, float]:
        """Where an edge leaves its first node (side 0) or reaches its last one (side 1)."""
        node = self.drawing.edges[number][side]
        here = [n for n, edge in enumerate(self.drawing.edges) if edge[side] == node]
        here.sort(key=lambda n: self.layout.heights[self._way(n)[-2 if side else 1]])
        column = 2 * self.layers[node]
        half = _node_width(self.drawing.nodes[node][0]) / 2
        x = (self.lefts[column] + self.rights[column]) / 2 + (-half if side else half)
        y = self.layout.heights[column, "node", node] + PORT * (here.index(number) - (len(here) - 1) / 2)
        return x, y

    def _edge(self, number: int) -> Iterator[str]:
        (x, y), (end, end_y) = self._port(number, 0), self._port(number, 1)
        path = f"M{px(x)} {px(y)}"
        for lane in self._way(number)[1:-1]:
            left, right = self.lefts[lane[0]], self.rights[lane[0]]
            if right > left:  # in a gap without labels an edge goes its own way
                path += _curve(x, y, left, y := self.layout.heights[lane]) + f"H{px(right)}"
                x = right
        path += _curve(x, y, end - HEAD, end_y)
        yield f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.4"/>'
        back = end - HEAD - 1
        tip = f"{px(end)},{px(end_y)} {px(back)},{px(end_y - 3.5)} {px(back)},{px(end_y + 3.5)}"
        yield f'<polygon points="{tip}" fill="{LINE}"/>'

    def _label(self, number: int, label: str) -> Iterator[str]:
        column = self.layout.labels[number]
        x, y = (self.lefts[column] + self.rights[column]) / 2, self.layout.heights[column, "edge", number]
        half = SMALL * len(label) / 2 + 3
        yield f'<rect x="{px(x - half)}" y="{px(y - 8)}" width="{px(2 * half)}" height="16" fill="#ffffff"/>'
        yield text(label, x, y + 4, 12, INK, anchor="middle")

    def _node(self, node: int, label: str, part: Part) -> Iterator[str]:
        column = 2 * self.layers[node]
        x, y = (self.lefts[column] + self.rights[column]) / 2, self.layout.heights[column, "node", node]
        width, height = _node_width(label), self.sizes[node]
        fill, border = COLOURS[part]
        yield (
            f'<rect x="{px(x - width / 2)}" y="{px(y - height / 2)}" width="{px(width)}" height="{px(height)}" '
            f'rx="7" fill="{fill}" stroke="{border}" stroke-width="1.4"/>'
        )
        yield text(label, x, y + 4.5, 13, INK, anchor="middle")


def _node_width(label: str) -> float:
    return max(TALL, LETTER * len(label) + 18)


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    """Level at both ends, so that curves join smoothly."""
    middle = px((x + to_x) / 2)
    return f"C{middle} {px(y)} {middle} {px(to_y)} {px(to_x)} {px(to_y)}"


def text(
    text: str,
    x: float,
    y: float,
    size: int,
    colour: str,
    *,
    anchor: Literal["start", "middle"] = "start",
    weight: Literal["normal", "bold"] = "normal",
) -> str:
    """A line of text; `x` is where it starts or has its middle, `y` its base line, `size` that of the font."""
    look = f' text-anchor="{anchor}"' * (anchor != "start") + f' font-weight="{weight}"' * (weight != "normal")
    return f'<text x="{px(x)}" y="{px(y)}" font-size="{size}" fill="{colour}"{look}>{escaped(text)}</text>'


def escaped(text: str) -> str:
    """The text as XML holds it; what no XML can hold is replaced."""
    return html.escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def px(value: float) -> str:
    """A length to a tenth of a pixel."""
    return f"{value:z.1f}".removesuffix(".0")
