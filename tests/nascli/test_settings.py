from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nascli import settings
from nascli.errors import SettingsError
from nascli.settings import Layers


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Toy:
    """A toy."""

    population: int = 50
    rates: tuple[float, ...] = (0.5,)
    inner: Inner = field(default_factory=Inner)
    note: str | None = None

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ValueError(f"population={self.population} is too small; give 2 or more")


def test_values_are_converted() -> None:
    toy = settings.build(Toy, {"population": "20", "rates": [1, 2], "inner": {"width": 7}}, where="strategy 'toy'")
    assert toy == Toy(20, (1.0, 2.0), Inner(7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"populatoin": 3}, "strategy 'toy' has no setting 'populatoin'. Did you mean 'population'?"),
        ({"population": "many"}, r"population='many': Input should be a valid integer"),
        ({"population": 1}, "strategy 'toy': population=1 is too small; give 2 or more"),
        ({"inner": {"width": "x"}}, r"inner.width='x'"),
    ],
)
def test_refusals_are_one_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(").replace("?", r"\?")):
        settings.build(Toy, values, where="strategy 'toy'")


def test_a_refusal_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text("seed = 1\n\n[strategy]\nname = 'toy'\npopulaton = 3\n")
    layers = Layers()
    layers.file(file)
    values = {k: v for k, v in layers.values["strategy"].items() if k != "name"}
    with pytest.raises(SettingsError, match=r"search.toml:5: .*'populaton'.*'population'"):
        settings.build(Toy, values, where="strategy 'toy'", origins=layers.under("strategy"))


def test_malformed_toml_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("seed = 1\n[strategy\n")
    with pytest.raises(SettingsError, match=r"bad.toml:2: "):
        Layers().file(file)


def test_missing_file_and_bad_bytes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file"):
        Layers().file(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(SettingsError, match="can't be read"):
        Layers().file(tmp_path / "latin.toml")


def test_later_layers_win_and_remember_where_from(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[strategy]\nname = 'toy'\npopulation = 3\n")
    layers = Layers()
    layers.put("strategy.population", 9, origin="default")
    layers.file(file)
    layers.assign("strategy.population=4")
    layers.assign("strategy.note=plain text")
    assert layers.values == {"strategy": {"name": "toy", "population": 4, "note": "plain text"}}
    assert layers.origins["strategy.name"] == f"{file}:2"
    assert layers.origins["strategy.population"] == "--set strategy.population=4"


def test_another_plugin_forgets_the_first_ones_settings() -> None:
    layers = Layers()
    layers.put("strategy.name", "evolution", origin="file")
    layers.put("strategy.population", 9, origin="file")
    layers.put("strategy.name", "random", origin="--strategy")
    assert layers.values == {"strategy": {"name": "random"}}


def test_a_value_is_not_a_table() -> None:
    layers = Layers()
    layers.put("seed", 1, origin="file")
    with pytest.raises(SettingsError, match="'seed' is a value"):
        layers.put("seed.more", 1, origin="--set")


@pytest.mark.parametrize("text", ["population", "=3", "a b=3"])
def test_malformed_assignments(text: str) -> None:
    with pytest.raises(SettingsError, match="KEY=VALUE"):
        Layers().assign(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), (7, 7), ("1d", 86400)]
)
def test_seconds(text: str | float, expected: float) -> None:
    assert settings.seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "3 weeks", "m30", ""])
def test_no_seconds(text: str) -> None:
    with pytest.raises(SettingsError, match="is no duration"):
        settings.seconds(text)


def test_settings_survive_toml() -> None:
    toy = Toy(7, (0.25, 1.0), Inner(2))
    values = tomllib.loads(settings.to_toml(settings.plain(toy)))
    assert settings.build(Toy, values, where="toy") == toy
