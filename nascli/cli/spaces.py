"""`nascli spaces`: what can be searched, how large it is, and whether a space keeps its promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.flags import layered
from nascli.cli.plugins import described
from nascli.errors import VerifyError

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

app = typer.Typer(name="spaces", help="List, show, sample and check search spaces.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="SPACE", help="A space's name or package.module:Space.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the draw.")]


@app.command("ls")
def ls(as_json: options.Json = False) -> None:
    """List the spaces."""
    from nascli import plugins

    facts = [{"space": n, "what": described("space", n)["what"]} for n in plugins.names("space")]
    if as_json:
        console.document("spaces ls", facts)
    else:
        console.table(["space", "what"], [list(f.values()) for f in facts])


@app.command("show")
def show(
    name: Name,
    preset: options.Preset = None,
    config: options.Config = None,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Show a space: settings, choices, size, and its smallest and largest network counted."""
    from nascli import settings
    from search_spaces import describe

    space = _build(name, preset, config, sets)
    table = space.table
    facts: dict[str, Any] = {
        "space": name,
        "reads": str(space.signature),
        "architectures": table.size,
        "log10": round(math.log10(table.size), 2),
        "fingerprint": table.fingerprint,
        "settings": settings.plain(space),
    }
    if space.signature.kind == "image":
        facts |= {"smallest": _counted(space, str(table.smallest)), "largest": _counted(space, str(table.largest))}
    if as_json:
        console.document("spaces show", {**facts, "choices": describe(table)})
        return
    console.facts("spaces show", facts, as_json=False)
    rows = [[c["choice"], " ".join(c["options"]), c["when"]] for c in describe(table)]  # type: ignore[arg-type]
    console.table(["choice", "options", "when"], rows)


@app.command("sample")
def sample(
    name: Name,
    count: Count = 1,
    seed: Seed = 0,
    preset: options.Preset = None,
    config: options.Config = None,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Draw architectures uniformly over the choices, one string a line."""
    import numpy as np

    table = _build(name, preset, config, sets).table
    rng = np.random.default_rng(seed)
    archs = [str(table.sample(rng)) for _ in range(count)]
    if as_json:
        console.document("spaces sample", archs)
    else:
        for arch in archs:
            console.text(arch)


@app.command("check")
def check(
    name: Name,
    count: Count = 5,
    seed: Seed = 0,
    preset: options.Preset = None,
    config: options.Config = None,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Check on random members that strings, networks and inherited weights agree; exit 8 if they do not."""
    from nascli.engine.check import check_space

    space = _build(name, preset, config, sets)
    results = check_space(space, count=count, seed=seed)
    if as_json:
        console.document("spaces check", results)
    else:
        console.table(["check", "networks", "failure"], [[r["check"], r["networks"], r["failure"]] for r in results])
    broken = [r for r in results if r["failure"]]
    if broken:
        raise VerifyError(f"The space {name!r} breaks {len(broken)} of {len(results)} promises: {broken[0]['failure']}")


def _build(name: str, preset: str | None, config: Sequence[Path] | None, sets: Sequence[str] | None) -> SearchSpace:
    from nascli import plugins, settings

    flags = {"SPACE space.name": name, "--preset space.preset": preset}
    layers = layered(defaults={}, config=list(config or ()), flags=flags, sets=sets)
    values = {k: v for k, v in layers.values["space"].items() if k != "name"}
    found: SearchSpace = settings.build(
        plugins.load("space", name), values, where=f"space {name!r}", origins=layers.under("space"), table="space"
    )
    return found


def _counted(space: SearchSpace, arch: str) -> dict[str, Any]:
    import torch

    from nascli.engine.evaluate import Subject
    from nascli.engine.network import Network
    from nascli.engine.task import Task

    with torch.inference_mode():
        cost = Subject(Network(space.table.parse(arch)), Task(space)).cost
    return {"arch": arch, "macs": cost.macs, "params": cost.params, "size_bytes": cost.size_bytes}
