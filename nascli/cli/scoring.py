"""The settings of a score run that nobody wrote out: proxies, what reports need, what a run brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nascli.errors import SettingsError, did_you_mean
from nascli.settings import Layers

DEFAULTS = {
    "strategy.name": "listed",
    "strategy.equivalents": "once",
    "latency.name": "measured",
    # A list may hold many dead networks in a row.
    "budget.failures": 200,
}
PROXIES = ("jacov", "meco", "synflow", "gradsign")
WITHOUT_DATA = ("synflow",)
"""What is scored by if nobody says: proxies that read different things."""
COUNTS = ("params", "macs")
NODES = "nodes"
"""The statistics of layers that predictors are fitted to: recorded, and no score."""


def complete(layers: Layers, proxies: Sequence[str]) -> Layers:
    """Settings in which the proxies are an objective and what is recorded beside it, and in which a network is named.

    The first proxy is traded against size on the run's front. Raises SettingsError.
    """
    report = layers.values.get("report", {})
    if layers.origins.get("report.train") == "--train" and not report.get("fit"):
        raise SettingsError("--train needs a predictor to fit; give --fit parzc.")
    strategy = layers.values["strategy"]
    if layers.values.get("space", {}).get("name") == "module" and not strategy.keys() & {"archs", "file", "sample"}:
        layers.put("strategy.sample", 1, origin="default")
    if proxies or not layers.values.get("objectives"):
        names = [*(proxies or (PROXIES if "data" in layers.values else WITHOUT_DATA)), *_needed(report)]
        _check_names(names, layers)
        scores = [name for name in dict.fromkeys(names) if name not in (*COUNTS, NODES)]
        found = {"objectives": [*scores[:1], *COUNTS], "record": [*scores[1:], *([NODES] if NODES in names else [])]}
        for key, value in found.items():
            # As everywhere, --set is laid over all flags.
            if not layers.origins.get(key, "").startswith("--set "):
                layers.put(key, value, origin="--proxy")
    return layers


def brought(from_run: Path | None) -> dict[str, Any]:
    """The settings that a run brings along: its space, data and networks, and its values to hold them against."""
    if from_run is None:
        return {}
    from nascli.engine.runs import Run

    run = Run.open(from_run)
    start: dict[str, Any] = {f"space.{k}": v for k, v in run.settings["space"].items()}
    start |= {f"data.{k}": v for k, v in run.settings.get("data", {}).items()}
    archs = list(dict.fromkeys(row["arch"] for row in run.rows))
    return {**start, "strategy.archs": archs, "parent": str(from_run), "report.against": str(from_run)}


def _needed(report: dict[str, Any]) -> list[str]:
    """What has to be recorded for the report: the scores that aggregates name, the statistics that predictors read."""
    from nascli import plugins

    parts = plugins.attribute("nascli.report.aggregates:parts", what="the aggregates")
    names = [name for text in report.get("aggregate", ()) for name in parts(text)[1] if name != "parzc"]
    if predictor := report.get("predictor"):
        names += plugins.attribute("nascli.report.fitted:load", what="the predictor")(predictor).score_names
    return [*names, *([NODES] if report.get("fit") or predictor else [])]


def _check_names(names: Sequence[str], layers: Layers) -> None:
    from nascli import plugins

    known = [*plugins.names("proxy"), *plugins.names("objective"), NODES]
    # A space with a table of its own may have further columns, which it knows itself.
    if "path" not in layers.values.get("space", {}):
        for name in names:
            if name not in known and ":" not in name:
                raise SettingsError(f"No proxy is called {name!r}.{did_you_mean(name, plugins.names('proxy'))}")
