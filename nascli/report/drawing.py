"""Architectures as pictures: SVG that any browser shows, and DOT for those who have graphviz; text alone makes both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nascli.engine.files import explained, write_text
from nascli.errors import SettingsError, UnsupportedError, did_you_mean
from nascli.report.panel import COLOURS, LINE_HEIGHT, MUTED, SMALL, Panel, escaped, px, text
from search_spaces import Architecture
from search_spaces.space import Drawable, Drawing, SearchSpace

FORMATS = ("svg", "dot")
MARGIN, GAP = 24.0, 40.0
"""Around a picture, and between the drawings in it; in pixels."""
NARROWEST = 360.0
"""As wide as a picture is at least, so that its title has room."""


def write(space: SearchSpace, arch: Architecture, folder: Path, stem: str, formats: Sequence[str]) -> list[Path]:
    """The files that show the architecture: STEM.svg, and a STEM.dot, or one for each of several drawings.

    The folder is made if it is missing. Raises SettingsError for a format other than "svg" and "dot", UnsupportedError
    for a space that cannot be drawn (see `Drawable`), RunError if the disk refuses.
    """
    for name in formats:
        if name not in FORMATS:
            raise SettingsError(f"There is no format {name!r} of drawings.{did_you_mean(name, FORMATS)}")
    if not isinstance(space, Drawable):
        raise UnsupportedError(f"The space {space.table.name!r} has no way to draw its networks.")
    drawings = space.drawings(arch)
    made: dict[Path, str] = {}
    for name in dict.fromkeys(formats):
        if name == "svg":
            made[folder / f"{stem}.svg"] = svg(drawings, title=str(arch))
        else:
            stems = [stem] if len(drawings) == 1 else [f"{stem}-{end}" for end in _endings(drawings)]
            made |= {folder / f"{s}.dot": dot(drawing) for s, drawing in zip(stems, drawings, strict=True)}
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in made.items():
        write_text(path, content)
    return list(made)


def svg(drawings: Sequence[Drawing], *, title: str) -> str:
    """A picture of the drawings, one below the other, as a document of its own."""
    panels = [Panel.of(drawing) for drawing in drawings]
    width = max([NARROWEST, *(panel.width for panel in panels)])
    head = _wrapped(title, int(width / SMALL))
    body = [text(line, MARGIN, MARGIN + LINE_HEIGHT * (i + 0.75), 12, MUTED) for i, line in enumerate(head)]
    y = MARGIN + LINE_HEIGHT * len(head) + GAP / 2
    for panel in panels:
        body += [f'<g transform="translate({px(MARGIN)} {px(y)})">', *panel.elements(), "</g>"]
        y += panel.height + GAP
    width, height = width + 2 * MARGIN, y - GAP * bool(panels) + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{px(width)}" height="{px(height)}" '
            f'viewBox="0 0 {px(width)} {px(height)}" role="img" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escaped(title)}</title>",
            f'<rect width="{px(width)}" height="{px(height)}" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )


def dot(drawing: Drawing) -> str:
    """The drawing in graphviz's language, from left to right."""
    lines = [
        f"digraph {_quoted(drawing.title)} {{",
        f'  rankdir=LR; labelloc=t; fontname="Helvetica"; label={_quoted(drawing.title)};',
        '  node [shape=box, style="rounded,filled", fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=11];',
    ]
    for number, (label, part) in enumerate(drawing.nodes):
        fill, border = COLOURS[part]
        lines.append(f'  "{number}" [label={_quoted(label)}, fillcolor="{fill}", color="{border}"];')
    for source, target, label in drawing.edges:
        lines.append(f'  "{source}" -> "{target}"' + (f" [label={_quoted(label)}]" if label else "") + ";")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    """The text as graphviz shows it: neither its quotes nor what follows a backslash mean anything."""
    for mark, written in (("\\", "\\\\"), ('"', '\\"'), ("\r\n", "\\n"), ("\n", "\\n")):
        text = text.replace(mark, written)
    return f'"{text}"'


def _endings(drawings: Sequence[Drawing]) -> list[str]:
    """What tells the files of several drawings apart: their titles, or their numbers where these do not."""
    found = [re.sub(r"[^a-z0-9]+", "-", drawing.title.lower()).strip("-") for drawing in drawings]
    return found if all(found) and len(set(found)) == len(found) else [str(i + 1) for i in range(len(drawings))]


def _wrapped(text: str, letters: int) -> list[str]:
    """The text in lines of at most so many letters, broken after marks where there are any."""
    lines = [""]
    for piece in re.findall(rf"[^\s,;/|+]{{1,{letters - 1}}}[\s,;/|+]?|[\s,;/|+]", text):
        if len(lines[-1]) + len(piece.rstrip()) > letters:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]
