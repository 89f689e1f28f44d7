"""`nascli config`: settings as they would be used, and what may be set."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, get_type_hints

import typer

from nascli.cli import console, options
from nascli.cli.flags import layered
from nascli.cli.search import DEFAULTS

app = typer.Typer(name="config", help="Show settings and their schema.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(metavar="KIND", help="space, strategy, recipe, data or latency.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A plugin's name.")]


@app.command("show")
def show(config: options.Config = None, sets: options.Set = None, as_json: options.Json = False) -> None:
    """Show the settings that files and --set make, and where each value comes from."""
    layers = layered(defaults=DEFAULTS, config=config, flags={}, sets=sets)
    rows = [{"key": key, "value": _value(layers.values, key), "from": origin} for key, origin in layers.origins.items()]
    rows = [row for row in rows if row["value"] is not None]
    if as_json:
        console.document("config show", rows)
    else:
        console.table(["key", "value", "from"], [[r["key"], str(r["value"]), r["from"]] for r in rows])


@app.command("schema")
def schema(kind: Kind, name: Name, as_json: options.Json = False) -> None:
    """Show what a plugin's table may hold; with --json as JSON Schema."""
    from pydantic import TypeAdapter

    from nascli import plugins, settings
    from nascli.errors import SettingsError

    cls = plugins.load(kind, name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise SettingsError(f"{kind} {name!r} has no settings.")
    hints = get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    if as_json:
        properties = {f.name: TypeAdapter(hints[f.name]).json_schema() for f in fields}
        console.document("config schema", {"type": "object", "additionalProperties": False, "properties": properties})
        return
    rows = [[f.name, f.type, "" if (d := _default(f)) is None else str(settings.plain(d))] for f in fields]
    console.table(["setting", "type", "default"], rows, title=f"[{kind}] name = {name!r}")


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default
