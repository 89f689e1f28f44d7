from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nascli import plugins
from nascli.cli.plugins import described

Nascli = Callable[..., Any]


def test_all_kinds_and_one(nascli: Nascli) -> None:
    everything = json.loads(nascli("plugins", "ls", "--json").out)["data"]
    assert {(f["kind"], f["name"]) for f in everything} == {(k, n) for k in plugins.kinds() for n in plugins.names(k)}
    assert json.loads(nascli("plugins", "ls", "recipe", "--json").out)["data"] == [
        f for f in everything if f["kind"] == "recipe"
    ]
    for facts in everything:
        assert facts["what"] and not facts["what"].startswith("broken"), facts


def test_the_table_names_settings(nascli: Nascli) -> None:
    rows = [line.split("\t") for line in nascli("plugins", "ls", "strategy").out.splitlines()]
    assert rows[0] == ["kind", "name", "target", "settings", "what"]
    (random,) = [row for row in rows if row[1] == "random"]
    assert random[2:4] == ["nascli.strategies.random:Random", "batch proxy candidates warm_up"]


def test_an_unknown_kind_is_refused_with_a_suggestion(nascli: Nascli) -> None:
    left = nascli("plugins", "ls", "stratgy")
    assert left.code == 2 and "There is no kind of plugin called 'stratgy'. Did you mean 'strategy'?" in left.err


def test_an_objective_is_described_by_what_it_measures() -> None:
    assert described("objective", "loss")["what"].startswith("Mean cross-entropy")


def test_a_broken_plugin_says_why() -> None:
    facts = described("strategy", "no_such_module:Thing")
    assert facts["what"].startswith("broken: ") and "no_such_module" in facts["what"] and facts["settings"] == []
