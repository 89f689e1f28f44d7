from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nascli.errors import SettingsError, UnsupportedError
from nascli.report import pictures
from nascli.report.board import Board
from nascli.report.pictures import check, correlations, draw, panels
from nascli.report.ranking import Figures, figures
from tests.toy_board import NAN, board, reached

RNG = np.random.default_rng(0)
COUNT = 40
REACHED = np.sort(RNG.random(COUNT)) * 50 + 40
SCORES = {
    "jacov": -np.exp(8 * RNG.random(COUNT)),
    "snip": np.exp(3 * RNG.standard_normal(COUNT)),
    "dead": np.full(COUNT, NAN),
    "log_rank:jacov,params": REACHED + RNG.standard_normal(COUNT),
    "params": np.repeat([1e5, 1e6], COUNT // 2),
}


@pytest.fixture
def found() -> Board:
    return board({name: list(values) for name, values in SCORES.items()}, reached(list(REACHED)))


@pytest.fixture
def said(found: Board) -> list[Figures]:
    return figures(found, reached(list(REACHED)), every(), k=5, rng=lambda: np.random.default_rng(0))


def every() -> np.ndarray:
    return np.ones(COUNT, dtype=bool)


def test_three_pictures_are_written_as_their_ending_says(found: Board, said: list[Figures], tmp_path: Path) -> None:
    for ending in (".png", ".svg"):
        files = draw(tmp_path / "new" / f"a{ending}", found, reached(list(REACHED)), said, every())
        assert [f.name for f in files] == [f"a{ending}", f"a-values{ending}", f"a-ranks{ending}"]
        assert all(f.exists() for f in files)
    with Image.open(tmp_path / "new" / "a-ranks.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(10**6)) > 50
    drawn = [(tmp_path / "new" / name).read_text() for name in ("a.svg", "a-values.svg", "a-ranks.svg")]
    assert all("<svg" in text and not re.search(r"<dc:date>", text) for text in drawn)


def test_the_best_bar_is_on_top_and_as_long_as_its_correlation(said: list[Figures]) -> None:
    axes = correlations(said, reached(list(REACHED))).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[-1] == "log_rank:jacov,params" and "dead" not in names and len(names) == 4
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    by_name = {f.score: f for f in said}
    assert widths[:4] == pytest.approx([by_name[n].rho for n in names])
    assert widths[4:] == pytest.approx([by_name[n].tau for n in names])
    # Whiskers: two ends for each of the bars.
    ends = [tuple(line.get_xdata()) for line in axes.lines[:4]]  # type: ignore[arg-type]
    assert np.array(ends) == pytest.approx(np.array([by_name[n].rho_interval for n in names]))
    assert "accuracy" in axes.get_xlabel()


def test_a_panel_has_a_point_a_network(found: Board, said: list[Figures]) -> None:
    known = every()
    known[:5] = False
    figure = panels(found, reached(list(REACHED)), said, known, turned=pictures._as_ranks)
    shown = [a for a in figure.axes if a.get_visible() and a.collections and a.get_title(loc="left")]
    assert [a.get_title(loc="left").strip() for a in shown] == ["jacov", "snip", "log_rank:jacov,params", "params"]
    points = np.asarray(shown[1].collections[0].get_offsets())
    assert sorted(points[:, 0]) == list(range(1, COUNT - 4)) and list(points[:, 1]) == list(range(1, COUNT - 4))
    colours = np.asarray(shown[0].collections[0].get_array())
    assert list(colours) == list(SCORES["params"][5:])


def test_lower_truths_rank_higher_where_less_is_better(found: Board, said: list[Figures]) -> None:
    loss = reached(list(REACHED), goal="min", column="loss", unit="nats")
    ranks = panels(found, loss, said, every(), turned=pictures._as_ranks).axes[0].collections[0].get_offsets()
    assert list(np.asarray(ranks)[:, 1]) == list(range(COUNT, 0, -1))
    values = panels(found, loss, said, every(), turned=pictures._as_measured).axes[0].collections[0].get_offsets()
    assert list(np.asarray(values)[:, 1]) == pytest.approx(list(REACHED))


def test_few_huge_scores_do_not_press_the_others_together(found: Board, said: list[Figures]) -> None:
    figure = panels(found, reached(list(REACHED)), said, every(), turned=pictures._as_measured)
    scales = {a.get_title(loc="left").strip(): a.get_xscale() for a in figure.axes}
    assert (scales["jacov"], scales["snip"], scales["params"]) == ("symlog", "log", "linear")


def test_boards_without_counts_are_drawn_in_one_colour(found: Board, said: list[Figures], tmp_path: Path) -> None:
    bare = replace(found, scores=found.scores[:2])
    assert len(draw(tmp_path / "a.png", bare, reached(list(REACHED)), said, every())) == 3


def test_what_can_not_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check("a.png")
    with pytest.raises(SettingsError, match=r"--plot 'a.pdf': its ending is none of .png, .svg"):
        check("a.pdf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="pip install matplotlib"):
        check("a.png")
