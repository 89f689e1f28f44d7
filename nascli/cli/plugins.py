"""`nascli plugins`: the names that flags and settings understand."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from nascli.cli import console, options
from nascli.errors import NascliError

app = typer.Typer(name="plugins", help="List what can be named in flags and settings.", no_args_is_help=True)

Kind = Annotated[str | None, typer.Argument(metavar="[KIND]", help="space, strategy, recipe, data, objective, ...")]


@app.command("ls")
def ls(kind: Kind = None, as_json: options.Json = False) -> None:
    """List plugins by kind: name, where it lives, its settings, and what it is. A broken one is a line, not a crash."""
    from nascli import plugins

    kinds = [kind] if kind else plugins.kinds()
    facts = [described(k, n) for k in kinds for n in plugins.names(k)]
    if as_json:
        console.document("plugins ls", facts)
        return
    rows = [[f["kind"], f["name"], f["target"], " ".join(f["settings"]), f["what"]] for f in facts]
    console.table(["kind", "name", "target", "settings", "what"], rows)


def described(kind: str, name: str) -> dict[str, Any]:
    """What there is to say of a plugin; one that does not load says why instead."""
    from nascli import plugins

    facts = {"kind": kind, "name": name, "target": plugins.target(kind, name), "settings": [], "what": ""}
    try:
        found = plugins.load(kind, name)
    except (NascliError, ImportError) as error:
        return {**facts, "what": f"broken: {error}"}
    if dataclasses.is_dataclass(found) and isinstance(found, type):
        facts["settings"] = [f.name for f in dataclasses.fields(found) if f.init]
    # An objective is a value: what it says of itself stands in its measure.
    about = found if isinstance(found, type) else getattr(found, "measure", found)
    lines = (about.__doc__ or "").strip().splitlines()
    return {**facts, "what": lines[0] if lines else ""}
