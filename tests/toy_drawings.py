"""Cells to be drawn, and what a picture of them shows, read off the SVG alone."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import zip_longest
from xml.etree import ElementTree

import numpy as np

from search_spaces.space import Drawing

SVG = "{http://www.w3.org/2000/svg}"
OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "skip_connect", "max_pool_3x3")
FULL = Drawing(
    "full cell",
    (("0", "input"), ("1", "inner"), ("2", "inner"), ("3", "output")),
    tuple((i, j, f"operation_{i}_{j}") for j in range(4) for i in range(j)),
)
"""Four nodes, each joined to all later ones."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def two_inputs_each(seed: int) -> Drawing:
    """A cell like those of DARTS: four nodes with two inputs each, all of them joined in the end."""
    rng = random.Random(seed)
    edges = [(s, n, rng.choice(OPERATIONS)) for n in range(2, 6) for s in sorted(rng.sample(range(n), 2))]
    nodes = (("c_{k-2}", "input"), ("c_{k-1}", "input"), *((str(n), "inner") for n in range(4)), ("c_{k}", "output"))
    return Drawing(f"cell {seed}", nodes, (*edges, *((n, 6, "") for n in range(2, 6))))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Seen:
    """What is in a picture, in pixels from its top left corner."""

    size: tuple[float, float]
    nodes: list[tuple[str, Box]]
    labels: list[tuple[str, Box]]
    edges: list[np.ndarray]
    """Points along each [points, 2]."""
    tips: list[tuple[float, float]]
    texts: list[str]


def seen(svg: str) -> Seen:
    """The parts of a picture, once it is known to be XML."""
    root = ElementTree.fromstring(svg)
    found = Seen((float(root.get("width", 0)), float(root.get("height", 0))), [], [], [], [], [])
    _walk(root, 0.0, 0.0, found)
    return found


def _walk(element: ElementTree.Element, x: float, y: float, found: Seen) -> None:
    if moved := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
        x, y = x + float(moved[1]), y + float(moved[2])
    children = list(element)
    for child, after in zip_longest(children, children[1:]):
        if child.tag == f"{SVG}rect" and after is not None and after.tag == f"{SVG}text" and child.get("x"):
            left, top, width, height = (float(child.get(k, 0)) for k in ("x", "y", "width", "height"))
            box = (x + left, y + top, x + left + width, y + top + height)
            (found.nodes if child.get("rx") else found.labels).append((str(after.text), box))
        if child.tag == f"{SVG}path":
            found.edges.append(_points(child.get("d", "")) + (x, y))
        if child.tag == f"{SVG}polygon":
            tip = [float(v) for v in child.get("points", "").split(" ")[0].split(",")]
            found.tips.append((x + tip[0], y + tip[1]))
        if child.tag == f"{SVG}text":
            found.texts.append(str(child.text))
        _walk(child, x, y, found)


def _points(path: str) -> np.ndarray:
    """Points along a path of M, C and H commands."""
    points: list[np.ndarray] = []
    t = np.linspace(0, 1, 60)[:, None]
    for command, text in re.findall(r"([MCH])([^MCH]*)", path):
        numbers = np.array([float(v) for v in text.split()])
        if command == "M":
            points.append(numbers[None])
            continue
        here = points[-1][-1]
        a, b, end = numbers.reshape(3, 2) if command == "C" else (here, here, np.array([numbers[0], here[1]]))
        if command == "H":
            points.append(here + t * (end - here))
        else:
            points.append((1 - t) ** 3 * here + 3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 * end)
    return np.concatenate(points)


def within(points: np.ndarray, box: Box) -> np.ndarray:
    """Which of the points [points, 2] are in the box, bool [points]."""
    x, y = points.T
    return (x > box[0] + 0.2) & (x < box[2] - 0.2) & (y > box[1] + 0.2) & (y < box[3] - 0.2)


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have more than a border in common."""
    return a[0] < b[2] - 0.2 and b[0] < a[2] - 0.2 and a[1] < b[3] - 0.2 and b[1] < a[3] - 0.2
