"""TOML, flags and defaults become frozen dataclasses; every refusal says which key, where it was written, what to do.

pydantic converts and checks each field's value; the classes themselves stay plain dataclasses.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from nascli.errors import SettingsError, did_you_mean

T = TypeVar("T")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def build(
    cls: type[T], values: Mapping[str, Any], *, where: str, origins: Mapping[str, str] | None = None, table: str = ""
) -> T:
    """An instance of the dataclass with these field values, converted and checked.

    `where` names the settings in messages ("strategy 'evolution'"), `origins` says where single fields were written,
    `table` is the TOML table that they belong to.
    Raises SettingsError for unknown fields, values of the wrong type, and what `__post_init__` refuses.
    """
    from pydantic import TypeAdapter, ValidationError

    if not dataclasses.is_dataclass(cls):
        raise SettingsError(f"{where} takes no settings: {cls!r} is not a dataclass.")
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    written = origins or {}
    for name in values:
        if name not in known:
            raise SettingsError(f"{_at(written, name)}{where} has no setting {name!r}.{did_you_mean(name, known)}")
    hints = get_type_hints(cls)
    converted: dict[str, Any] = {}
    for name, value in values.items():
        try:
            converted[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            inner = "".join(f".{part}" for part in first["loc"] if isinstance(part, str) and part.isidentifier())
            text = f"{_at(written, name)}{where}: {name}{inner}={first['input']!r}: {first['msg']}."
            raise SettingsError(text) from None
    missing = [
        n
        for n, f in known.items()
        if n not in converted and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        prefix = f"{table}." if table else ""
        how = " ".join(f"--set {prefix}{name}=..." for name in missing)
        raise SettingsError(f"{where} needs {', '.join(missing)}; give {how}")
    try:
        return cls(**converted)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def _at(origins: Mapping[str, str], name: str) -> str:
    found = next((place for key, place in origins.items() if key == name or key.startswith(f"{name}.")), "")
    return f"{found}: " if found else ""


def plain(value: Any) -> Any:
    """A dataclass, tuple or path as TOML and JSON values; None fields are left out, as TOML has no null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        return {k: plain(v) for k, v in pairs if v is not None}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def to_toml(values: Mapping[str, Any]) -> str:
    """The settings as a TOML document."""
    import tomli_w

    return tomli_w.dumps(plain(values))


def seconds(text: str | float) -> float:
    """A duration in seconds: 90, "90s", "30m", "1h30m"; raises SettingsError."""
    if isinstance(text, int | float):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if parts and "".join(n + u for n, u in parts) == re.sub(r"\s", "", text):
        return sum(float(n) * _UNITS[u] for n, u in parts)
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no duration; write 90s, 30m or 1h30m.") from None


@dataclass
class Layers:
    """Settings laid one over another, and where each value was written."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """Dotted key -> "search.toml:12", "--seed"."""

    def file(self, path: Path) -> None:
        """Lay a TOML file over what is there; raises SettingsError with file and line."""
        try:
            text = path.read_text(encoding="utf-8")
            values = tomllib.loads(text)
        except FileNotFoundError:
            raise SettingsError(f"There is no settings file {str(path)!r}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} can't be read: {error}.") from None
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            at = f"{path}:{line[1]}" if line else str(path)
            raise SettingsError(f"{at}: {str(error).split(' (at')[0]}; see https://toml.io for the syntax.") from None
        lines = _lines(text)
        for key, value in _leaves(values):
            self.put(key, value, origin=f"{path}:{lines[key]}" if key in lines else str(path))

    def put(self, key: str, value: Any, *, origin: str) -> None:
        """Set one dotted key, forgetting the other settings of a plugin whose name changes."""
        *parents, last = key.split(".")
        node = self.values
        for i, parent in enumerate(parents):
            inner = node.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{origin}: {'.'.join(parents[: i + 1])!r} is a value, so {key!r} can't be set.")
            node = inner
        if last == "name" and node.get("name", value) != value:
            node.clear()
        node[last] = value
        self.origins[key] = origin

    def assign(self, text: str) -> None:
        """Lay one `--set a.b=value` over what is there; the value is TOML, or else a plain string."""
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key.strip()):
            raise SettingsError(f"--set {text!r}: write KEY=VALUE, as in --set strategy.population=20.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        self.put(key.strip(), parsed, origin=f"--set {text}")

    def under(self, prefix: str) -> dict[str, str]:
        """The origins of the keys below a prefix, without it."""
        return {k.removeprefix(prefix + "."): v for k, v in self.origins.items() if k.startswith(prefix + ".")}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _lines(text: str) -> dict[str, int]:
    """The line on which each dotted key of plain `[table]` / `key = value` TOML is written."""
    lines, table = {}, ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = header[1].strip() + "."
        elif pair := re.match(r"\s*([\w.-]+)\s*=", line):
            lines[table + pair[1]] = number
    return lines
