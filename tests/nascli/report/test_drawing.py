from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nascli.errors import SettingsError, UnsupportedError
from nascli.report.drawing import dot, svg, write
from search_spaces.darts import DartsSpace
from search_spaces.nb201 import Nb201Space
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Drawing
from tests.toy_drawings import FULL, seen, two_inputs_each

NB201, DARTS = Nb201Space(), DartsSpace()
NASTY = Drawing('a "b" <c> & d\\n', (('in "1"', "input"), ("out\\", "output")), ((0, 1, "a<b&c\nd"),))


def test_drawings_lie_below_each_other_with_their_titles() -> None:
    first, second = two_inputs_each(1), two_inputs_each(2)
    alone, both = seen(svg([first], title="t")), seen(svg([first, second], title="t"))
    assert both.texts[0] == "t" and both.texts.index(first.title) < both.texts.index(second.title)
    upper, lower = both.nodes[:7], both.nodes[7:]
    assert upper == alone.nodes
    assert max(box[3] for _, box in upper) < min(box[1] for _, box in lower)
    assert both.size[0] >= alone.size[0] and both.size[1] > alone.size[1]


def test_the_whole_title_is_there_in_lines_that_fit() -> None:
    title = "darts:" + ",".join(f"operation{i}" for i in range(40)) + "/" + "x" * 200
    text = svg([FULL], title=title)
    root = ElementTree.fromstring(text)
    assert root[0].text == title
    lines = seen(text).texts[: seen(text).texts.index(FULL.title)]
    assert "".join(lines) == title and len(lines) > 3
    assert max(map(len, lines)) * 6.7 <= seen(text).size[0] - 48


def test_texts_are_shown_and_not_obeyed() -> None:
    picture = seen(svg([NASTY], title="<script>&\x07"))
    assert picture.texts[0] == "<script>&\ufffd"
    assert {label for label, _ in picture.nodes} == {'in "1"', "out\\"}


def test_an_svg_needs_nothing_else() -> None:
    text = svg([FULL], title="t")
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "<style" not in text and "<image" not in text and "href" not in text


def test_dot_names_nodes_edges_and_operations() -> None:
    lines = [line.strip() for line in dot(FULL).splitlines()]
    assert lines[0] == 'digraph "full cell" {' and lines[-1] == "}" and "rankdir=LR" in lines[1]
    nodes = dict(re.findall(r'^"(\d)" \[label="(\w+)", fillcolor="#\w{6}"', dot(FULL).replace("\n  ", "\n"), re.M))
    assert nodes == {"0": "0", "1": "1", "2": "2", "3": "3"}
    edges = [re.fullmatch(r'"(\d)" -> "(\d)" \[label="(\w+)"\];', line) for line in lines if "->" in line]
    assert [(int(e[1]), int(e[2]), e[3]) for e in edges if e] == list(FULL.edges)
    assert len({re.findall(r'fillcolor="(#\w+)"', line)[0] for line in lines if "fillcolor" in line}) == 3
    joined = dot(two_inputs_each(0))
    assert '  "2" -> "6";\n' in joined


def test_dot_quotes_what_would_mean_something() -> None:
    text = dot(NASTY)
    assert text.startswith('digraph "a \\"b\\" <c> & d\\\\n" {')
    assert '"0" [label="in \\"1\\""' in text and '"1" [label="out\\\\"' in text
    assert '"0" -> "1" [label="a<b&c\\nd"];' in text


def test_files_of_one_drawing(tmp_path: Path) -> None:
    arch = NB201.table.largest
    files = write(NB201, arch, tmp_path / "new" / "folder", "7", ["svg", "dot", "svg"])
    assert files == [tmp_path / "new/folder/7.svg", tmp_path / "new/folder/7.dot"]
    picture = seen(files[0].read_text())
    assert [label for label, _ in picture.labels] == ["nor_conv_3x3"] * 6 and "".join(picture.texts[:2])[:5] == "nb201"
    assert files[1].read_text() == dot(NB201.drawings(arch)[0])


def test_files_of_several_drawings(tmp_path: Path) -> None:
    files = write(DARTS, DARTS.table.largest, tmp_path, "cells", ["dot", "svg"])
    assert [f.name for f in files] == ["cells-normal-cell.dot", "cells-reduce-cell.dot", "cells.svg"]
    assert len(seen(files[2].read_text()).nodes) == 14
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(f.name for f in files)


def test_cells_in_which_little_is_computed() -> None:
    nothing = NB201.table.canonical(["none"] * 6)
    picture = seen(svg(NB201.drawings(nothing), title="none"))
    assert len(picture.nodes) == 4 and picture.edges == []


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no format 'sgv' of drawings. Did you mean 'svg'"):
        write(NB201, NB201.table.largest, tmp_path / "a", "x", ["dot", "sgv"])
    resnet = ResNetSpace()
    with pytest.raises(UnsupportedError, match="'resnet' has no way to draw"):
        write(resnet, resnet.table.largest, tmp_path / "a", "x", ["svg"])
    assert list(tmp_path.iterdir()) == []
