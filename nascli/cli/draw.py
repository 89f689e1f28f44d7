"""`nascli draw`: what found networks look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.flags import layered
from nascli.cli.front import chosen
from nascli.errors import SettingsError, UnsupportedError

if TYPE_CHECKING:
    from nascli.settings import Layers
    from search_spaces.space import SearchSpace

RunPath = Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run directory; or give --space and --arch.")]
Member = Annotated[int | None, typer.Option("--member", "-m", help="Number of the front member; default: all of them.")]
Arch = Annotated[str | None, typer.Option("--arch", help="Draw this network of --space instead.")]
Formats = Annotated[
    list[str] | None, typer.Option("--to", help="svg, dot: one or several, by commas. Repeat; default: svg.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder to write; default RUN/drawings, with --arch this one.")
]


def draw(
    run: RunPath = None,
    member: Member = None,
    space: options.Space = None,
    preset: options.Preset = None,
    arch: Arch = None,
    config: options.Config = None,
    sets: options.Set = None,
    to: Formats = None,
    out: Out = None,
    as_json: options.Json = False,
) -> None:
    """Draw the members of a run's front, or one given network, as SVG or DOT.

    For spaces of cells, whose networks are small graphs.
    """
    from nascli import plugins

    if (run is None) == (arch is None):
        raise SettingsError("Give either a run, to draw the members of its front, or --space and --arch.")
    if run is None and member is not None:
        raise SettingsError("--member needs RUN, the run whose member is meant.")
    if run is not None and (space, preset, config or None, sets or None) != (None,) * 4:
        raise SettingsError("A run has its own space; give --space, --preset, --config and --set with --arch only.")
    brought, networks = _of_run(run, member) if run else ({}, [(None, str(arch))])
    flags = {"--space space.name": space, "--preset space.preset": preset}
    built = _built(layered(defaults=brought, config=config, flags=flags, sets=sets))
    _refuse_shapeless(built)
    folder = out or (run / "drawings" if run else Path())
    formats = [name.strip() for text in to or ["svg"] for name in text.split(",") if name.strip()]
    write = plugins.attribute("nascli.report.drawing:write", what="drawings")
    drawn: list[dict[str, Any]] = []
    for n, text in networks:
        network = built.parse(text)
        files = write(built, network, folder, built.table.name if n is None else str(n), formats)
        drawn.append({"n": n, "arch": str(network), "files": [str(file) for file in files]})
    if as_json:
        console.document("draw", drawn)
        return
    for file in (file for facts in drawn for file in facts["files"]):
        console.text(file)


def _of_run(path: Path, member: int | None) -> tuple[dict[str, Any], list[tuple[int | None, str]]]:
    """The space's settings of a run, and its front members, or one of them: number and architecture."""
    from nascli.engine.runs import Run

    run = Run.open(path)
    first = chosen(run, member)
    members = run.front["members"] if member is None else [first]
    return {f"space.{k}": v for k, v in run.settings["space"].items()}, [(m["n"], m["arch"]) for m in members]


def _built(layers: Layers) -> SearchSpace:
    from nascli import plugins, settings

    values = dict(layers.values.get("space", {}))
    if "name" not in values:
        raise SettingsError("No space is given; name the one that --arch is of: --space NAME (see nascli spaces ls).")
    name = values.pop("name")
    found: SearchSpace = settings.build(
        plugins.load("space", name), values, where=f"space {name!r}", origins=layers.under("space"), table="space"
    )
    return found


def _refuse_shapeless(space: SearchSpace) -> None:
    """Raise UnsupportedError, naming spaces that can be drawn, if this one can't."""
    from nascli import plugins

    drawable = plugins.attribute("search_spaces.space:Drawable", what="drawings")
    if isinstance(space, drawable):
        return
    able = [name for name in plugins.BUILT_IN["space"] if issubclass(plugins.load("space", name), drawable)]
    raise UnsupportedError(f"Networks of the space {space.table.name!r} can't be drawn; those of {_listed(able)} can.")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
