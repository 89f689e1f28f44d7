"""`nascli config`: settings as they would be used, and what may be set."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from nascli.cli import console, options
from nascli.cli.flags import layered
from nascli.cli.search import DEFAULTS

app = typer.Typer(name="config", help="Show settings and what may be set.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(metavar="KIND", help="space, strategy, recipe, data or latency.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A plugin's name.")]


@app.command("show")
def show(config: options.Config = None, sets: options.Set = None, as_json: options.Json = False) -> None:
    """Show the settings that files and --set make, and where each value comes from."""
    from nascli import settings
    from nascli.engine.plan import Plan

    layers = layered(defaults=DEFAULTS, config=config, flags={}, sets=sets)
    settings.build(Plan, layers.values, where="nascli", origins=layers.origins)
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
    hints, about = get_type_hints(cls), _about(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    if as_json:
        properties = {
            f.name: TypeAdapter(hints[f.name]).json_schema() | {"description": about.get(f.name, "")} for f in fields
        }
        console.document("config schema", {"type": "object", "additionalProperties": False, "properties": properties})
        return
    rows = [
        [f.name, _type(hints[f.name], str(f.type)), settings.plain(_default(f)), about.get(f.name, "")] for f in fields
    ]
    console.table(["setting", "type", "default", "what"], rows, title=f"[{kind}] name = {name!r}")


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


def _type(hint: Any, written: str) -> str:
    return " | ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else written


def _about(cls: type) -> Mapping[str, str]:
    """Field name -> the string that stands below it in the source, which Python itself forgets."""
    found: dict[str, str] = {}
    for owner in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        except (OSError, TypeError, SyntaxError):
            # A class without source, made at run time, has nothing more to say.
            continue
        below = getattr(body, "body", [])
        for pair in zip(below, below[1:], strict=False):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found
