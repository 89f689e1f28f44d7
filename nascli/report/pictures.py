"""Pictures of a ranking: correlations with their intervals, and every score against what was measured."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from nascli.engine.files import explained, replacing
from nascli.errors import SettingsError, UnsupportedError
from nascli.report.aggregates import is_aggregate
from nascli.report.board import COUNTS, FITTED, Board, Score
from nascli.report.ranking import Figures
from nascli.report.truth import Truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg")
PANELS_A_ROW = 4
WIDE = 20.0
"""Scores of which the largest is so many times a middling one, sign aside, are drawn on a logarithmic axis."""

INK, MUTED, GRID = "#22252a", "#6b7280", "#e5e7eb"
COUNTED, SCORED, MADE = "#9aa3ad", "#2f6aa8", "#c2553a"
"""Colours of counts, of proxies, and of what is made of several or was fitted."""


def check(path: str) -> None:
    """Refuse, with SettingsError or UnsupportedError, a picture that could not be drawn in the end."""
    if Path(path).suffix not in ENDINGS:
        raise SettingsError(f"--plot {path!r}: its ending is none of {', '.join(ENDINGS)}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("Pictures need matplotlib: pip install matplotlib, or leave --plot out.")


def draw(path: Path, board: Board, truth: Truth, figures: Sequence[Figures], rows: np.ndarray) -> list[Path]:
    """The files written: FILE with the correlations, FILE-values and FILE-ranks with a panel a score.

    `rows` (bool [networks]) says which networks the figures are of. Raises RunError if a file can't be written.
    """
    known = rows & ~np.isnan(truth.values)
    made = {
        path: correlations(figures, truth),
        path.with_stem(f"{path.stem}-values"): panels(board, truth, figures, known, turned=_as_measured),
        path.with_stem(f"{path.stem}-ranks"): panels(board, truth, figures, known, turned=_as_ranks),
    }
    for file, figure in made.items():
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            kind = file.suffix[1:]
            figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return list(made)


# -- correlations ------------------------------------------------------------------------------------------------------


def correlations(figures: Sequence[Figures], truth: Truth) -> Figure:
    """A bar a score for rho and one for tau, the best on top, with their intervals."""
    from matplotlib.figure import Figure

    shown = sorted((f for f in figures if f.rho is not None), key=lambda f: f.rho or 0.0)
    figure = Figure(figsize=(7.5, 1.3 + 0.42 * max(len(shown), 3)), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(shown))
    for name, shift, height, alpha in (("rho", 0.17, 0.42, 1.0), ("tau", -0.25, 0.26, 0.45)):
        values = np.array([getattr(f, name) for f in shown], dtype=np.float64)
        ends = np.array([getattr(f, f"{name}_interval") or (v, v) for f, v in zip(shown, values, strict=True)])
        colours = [_colour(f.score) for f in shown]
        axes.barh(at + shift, values, height=height, color=colours, alpha=alpha, zorder=2)
        for y, (low, high) in zip(at + shift, ends.reshape(-1, 2), strict=True):
            axes.plot([low, high], [y, y], color=INK, linewidth=1.0, solid_capstyle="butt", zorder=3)
        for y, value in zip(at + shift, values, strict=True):
            axes.text(
                1.01, y, f"{value:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED
            )
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=3)
    axes.set_xlabel(f"rank correlation with {truth.column}, 95 % intervals", fontsize=9, color=INK)
    networks = max((f.networks for f in figures), default=0)
    title = f"{networks:,} networks. Broad bars: Spearman's rho; narrow: Kendall's tau-b"
    axes.set_title(title, fontsize=9, color=MUTED, loc="left")
    axes.margins(y=0.02)
    _tidy(axes)
    axes.set_yticks(at, [f.score for f in shown], fontsize=9, color=INK)
    axes.grid(axis="y", visible=False)
    return figure


def _colour(name: str) -> str:
    if name in COUNTS:
        return COUNTED
    return MADE if is_aggregate(name) or name == FITTED else SCORED


# -- scores against truth ----------------------------------------------------------------------------------------------

Turned = Callable[[np.ndarray], np.ndarray]


def panels(board: Board, truth: Truth, figures: Sequence[Figures], known: np.ndarray, *, turned: Turned) -> Figure:
    """A panel a score: a point a network, its colour the parameters; `turned` makes values or ranks of both."""
    from matplotlib.figure import Figure

    by_name = {f.score: f for f in figures}
    shown = [score for score in board.scores if by_name[score.name].rho is not None]
    columns = min(PANELS_A_ROW, max(1, len(shown)))
    lines = math.ceil(max(1, len(shown)) / columns)
    figure = Figure(figsize=(2.7 * columns + 1.1, 2.5 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    points = None
    for axes, score in zip(grid.flat, shown, strict=False):
        points = _panel(axes, score, truth, known, board, turned) or points
        found = by_name[score.name]
        axes.set_title(f"{score.name}\n", fontsize=9, color=INK, loc="left", fontweight="bold")
        axes.text(
            0, 1.02, f"rho {found.rho:.3f}   tau {found.tau:.3f}", transform=axes.transAxes, fontsize=8, color=MUTED
        )
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    ranked = turned is _as_ranks
    figure.supylabel(f"rank by {truth.column}" if ranked else truth.label, fontsize=9, color=INK)
    figure.supxlabel("rank by score, 1 the worst" if ranked else "score", fontsize=9, color=INK)
    if points is not None:
        bar = figure.colorbar(points, ax=grid, shrink=0.6, aspect=30, pad=0.01)
        bar.set_label("parameters", fontsize=8, color=INK)
        bar.ax.tick_params(labelsize=7, colors=MUTED)
        bar.outline.set_visible(False)
    return figure


def _panel(
    axes: Axes, score: Score, truth: Truth, known: np.ndarray, board: Board, turned: Turned
) -> PathCollection | None:
    """The points of a panel, for the colour bar."""
    from matplotlib.colors import LogNorm

    there = known & ~np.isnan(score.values)
    size = board.params
    coloured = not np.isnan(size[there]).any()
    look = {"c": size[there], "cmap": "viridis", "norm": LogNorm(*_span(size[known]))} if coloured else {}
    dot = float(np.clip(4000 / max(1, int(there.sum())), 2, 16))
    points = axes.scatter(
        turned(score.rising[there] if turned is _as_ranks else score.values[there]),
        turned(truth.values[there] if truth.goal == "max" or turned is _as_measured else -truth.values[there]),
        s=dot,
        alpha=0.75,
        linewidths=0,
        rasterized=True,
        **look,
    )
    _scale(axes, score.values[there] if turned is _as_measured else np.arange(3.0))
    _tidy(axes)
    return points if coloured else None


def _scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where a few values would else press all others against one end."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

    usual = float(np.median(np.abs(values)))
    wide = usual > 0 and float(np.abs(values).max()) > WIDE * usual
    if wide and values.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
    elif wide:
        axes.set_xscale("symlog", linthresh=usual)
        ticks = SymmetricalLogLocator(base=10, linthresh=usual)
        ticks.set_params(numticks=4)
        axes.xaxis.set_major_locator(ticks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="x", scilimits=(-3, 5))
        axes.xaxis.get_offset_text().set(fontsize=7.5, color=MUTED)
    axes.xaxis.set_minor_locator(NullLocator())


def _as_measured(values: np.ndarray) -> np.ndarray:
    return values


def _as_ranks(values: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = stats.rankdata(values)
    return ranks


def _span(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest, told apart even where all are the same."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    low = max(low, 1.0)
    return low, max(high, low * 1.01)


def _tidy(axes: Axes) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7.5, colors=MUTED)
