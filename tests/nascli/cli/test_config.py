from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nascli.cli.config import _about

Nascli = Callable[..., Any]


def test_show_says_where_each_value_comes_from(nascli: Nascli, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 1\n[strategy]\nname = 'evolution'\npopulation = 8\n")
    (tmp_path / "b.toml").write_text("seed = 2\n")
    left = nascli("config", "show", "-c", "a.toml", "-c", "b.toml", "--set", "strategy.population=9")
    assert left.code == 0
    rows = [line.split("\t") for line in left.out.splitlines()]
    assert ["seed", "2", "b.toml:1"] in rows and ["strategy.name", "evolution", "a.toml:3"] in rows
    assert ["strategy.population", "9", "--set strategy.population=9"] in rows
    assert ["latency.name", "measured", "default"] in rows


def test_another_strategy_forgets_the_settings_of_the_first(nascli: Nascli, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[strategy]\nname = 'evolution'\npopulation = 8\n")
    answer = json.loads(nascli("config", "show", "-c", "a.toml", "--set", "strategy.name=random", "--json").out)
    found = {row["key"]: row["value"] for row in answer["data"]}
    assert found["strategy.name"] == "random" and "strategy.population" not in found


def test_show_refuses_what_no_command_would_take(nascli: Nascli) -> None:
    left = nascli("config", "show", "--set", "sed=1")
    assert left.code == 2 and "--set sed=1: nascli has no setting 'sed'. Did you mean 'seed'?" in left.err


def test_schema_lists_settings_with_type_default_and_meaning(nascli: Nascli) -> None:
    rows = [line.split("\t") for line in nascli("config", "schema", "strategy", "evolution").out.splitlines()]
    assert rows[0] == ["setting", "type", "default", "what"]
    by_name = {row[0]: row for row in rows}
    assert by_name["crossover"] == ["crossover", "float", "0.9", "Probability that a child has two parents."]
    assert by_name["algorithm"][1].startswith("auto | nsga2")


def test_schema_as_json_schema(nascli: Nascli) -> None:
    schema = json.loads(nascli("config", "schema", "recipe", "sandwich", "--json").out)["data"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["nets"]["type"] == "integer"
    assert schema["properties"]["lr"]["description"].startswith("The highest learning rate")


def test_every_plugin_has_a_schema_or_says_that_it_has_none(nascli: Nascli) -> None:
    from nascli import plugins

    for kind in ("space", "strategy", "recipe", "data", "latency"):
        for name in plugins.names(kind):
            assert nascli("config", "schema", kind, name, "--json").code == 0
    left = nascli("config", "schema", "objective", "accuracy")
    assert left.code == 2 and "objective 'accuracy' has no settings" in left.err


@dataclass
class First:
    a: int = 1
    """What a is."""
    b: int = 2


@dataclass
class Second(First):
    a: int = 3
    """What a is
    here."""
    "no field above this one"


def test_texts_below_fields_are_found_and_the_last_class_wins() -> None:
    assert _about(First) == {"a": "What a is."}
    assert _about(Second) == {"a": "What a is\nhere."}
