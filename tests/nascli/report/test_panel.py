from __future__ import annotations

import itertools

import numpy as np
import pytest

from nascli.report.drawing import svg
from nascli.report.panel import Panel, escaped, px
from search_spaces.space import Drawing
from tests.toy_drawings import FULL, overlap, seen, two_inputs_each, within

CELLS = [FULL, *(two_inputs_each(seed) for seed in range(10))]
each = pytest.mark.parametrize("drawing", CELLS, ids=lambda d: d.title)


@each
def test_edges_run_through_no_node_and_no_label_of_another(drawing: Drawing) -> None:
    picture = seen(svg([drawing], title=""))
    assert len(picture.edges) == len(drawing.edges) and len(picture.nodes) == len(drawing.nodes)
    labelled = [i for i, (_, _, label) in enumerate(drawing.edges) if label]
    for i, points in enumerate(picture.edges):
        for _, box in picture.nodes:
            assert not within(points, box).any()
        for number, (_, box) in zip(labelled, picture.labels, strict=True):
            assert within(points, box).any() == (number == i)


@each
def test_labels_and_nodes_lie_apart(drawing: Drawing) -> None:
    picture = seen(svg([drawing], title=""))
    boxes = [box for _, box in picture.nodes + picture.labels]
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert [label for label, _ in picture.nodes] == [label for label, _ in drawing.nodes]
    assert [label for label, _ in picture.labels] == [label for *_, label in drawing.edges if label]


@each
def test_edges_lead_from_node_to_node_and_to_the_right(drawing: Drawing) -> None:
    picture = seen(svg([drawing], title=""))
    for points, tip, (source, target, _) in zip(picture.edges, picture.tips, drawing.edges, strict=True):
        (_, start), (_, end) = picture.nodes[source], picture.nodes[target]
        assert points[0][0] == pytest.approx(start[2], abs=0.15) and start[1] < points[0][1] < start[3]
        assert tip[0] == pytest.approx(end[0], abs=0.15) and end[1] < tip[1] < end[3]
        assert points[-1] == pytest.approx(np.array([tip[0] - 7, tip[1]]), abs=0.15)
        assert (np.diff(points[:, 0]) >= -1e-9).all()


@each
def test_all_is_within_the_picture(drawing: Drawing) -> None:
    picture = seen(svg([drawing], title=""))
    for _, (left, top, right, bottom) in picture.nodes + picture.labels:
        assert left >= 20 and top >= 20 and right <= picture.size[0] - 20 and bottom <= picture.size[1] - 20


def test_edges_at_a_node_do_not_meet() -> None:
    picture = seen(svg([FULL], title=""))
    assert len({(round(x), round(y)) for x, y in picture.tips}) == len(FULL.edges)
    assert len({(round(p[0][0]), round(p[0][1])) for p in picture.edges}) == len(FULL.edges)


def test_a_drawing_without_edges_or_nodes() -> None:
    apart = Drawing("apart", (("in", "input"), ("a", "inner"), ("out", "output")), ())
    assert [label for label, _ in seen(svg([apart], title="")).nodes] == ["in", "a", "out"]
    assert Panel.of(Drawing("nothing", (), ())).height > 0


def test_numbers_are_short_and_texts_are_safe() -> None:
    assert [px(v) for v in (1.0, 1.25, 1 / 3, -0.01)] == ["1", "1.2", "0.3", "0"]
    assert escaped('<a href="x">&\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;\ufffd"
