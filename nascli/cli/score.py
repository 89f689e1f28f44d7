"""`nascli score`: networks judged without training them, and how well that would have foretold what they reach."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.carry_out import carry_out
from nascli.cli.flags import layered
from nascli.cli.log import be_verbose
from nascli.cli.scoreboard import print_made, print_proxies
from nascli.errors import SettingsError, UnsupportedError, did_you_mean
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from search_spaces import Architecture

log = logging.getLogger(__name__)

DEFAULTS = {
    "strategy.name": "listed",
    "strategy.equivalents": "once",
    "latency.name": "measured",
    # The list itself says how far to go: neither thousands of known networks in a row nor of dead ones end it.
    "budget.patience": 1_000_000,
    "budget.failures": 200,
}
PROXIES = ("jacov", "synflow", "nwot", "gradsign")
WITHOUT_DATA = ("synflow",)
"""What is scored by if nobody says: proxies that read different things."""
COUNTS = ("params", "macs")
NODES = "nodes"
"""The statistics of layers that predictors are fitted to: recorded, and no score."""

Model = Annotated[str | None, typer.Option("--model", help="Score your own model: package.module:callable.")]
Arch = Annotated[list[str] | None, typer.Option("--arch", help="Score this network. Repeat.")]
File = Annotated[Path | None, typer.Option("--file", help="Score the networks of this file, one a line.")]
Sample = Annotated[int | None, typer.Option("--sample", min=1, help="Score so many drawn at random.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Score the networks of this run, and hold them against its values.")
]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", help="What to score by: one or several, by commas. Repeat.")
]
Against = Annotated[
    str | None, typer.Option("--against", help="What networks reached: a table or run, TABLE_OR_RUN[:COLUMN].")
]
Aggregates = Annotated[
    list[str] | None, typer.Option("--aggregate", help="A ranking made of several: log_rank:jacov,params. Repeat.")
]
Fit = Annotated[str | None, typer.Option("--fit", help="Fit a predictor on some of the networks: parzc.")]
Train = Annotated[int | None, typer.Option("--train", min=2, help="How many networks it is fitted on (default 156).")]
Save = Annotated[Path | None, typer.Option("--save", help="Where the fitted predictor goes.")]
Predictor = Annotated[Path | None, typer.Option("--predictor", help="Score by a predictor that was fitted before.")]
Top = Annotated[int | None, typer.Option("--top", min=0, help="How many of the best networks to print (default 10).")]
Plot = Annotated[list[Path] | None, typer.Option("--plot", help="Draw the ranking: FILE.png or FILE.svg. Repeat.")]
Output = Annotated[
    list[Path] | None, typer.Option("--output", help="Write all scores to FILE.csv, .json or .parquet. Repeat.")
]
List = Annotated[bool, typer.Option("--list", help="List the proxies: goal, cost, what they need, their paper.")]


def score(
    space: options.Space = None,
    preset: options.Preset = None,
    data: options.Data = None,
    data_path: options.DataPath = None,
    model: Model = None,
    arch: Arch = None,
    file: File = None,
    sample: Sample = None,
    from_run: From = None,
    proxy: Proxies = None,
    against: Against = None,
    aggregate: Aggregates = None,
    fit: Fit = None,
    train: Train = None,
    save: Save = None,
    predictor: Predictor = None,
    top: Top = None,
    plot: Plot = None,
    output: Output = None,
    workers: options.Workers = 1,
    time_limit: options.TimeLimit = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: options.Out = None,
    config: options.Config = None,
    sets: options.Set = None,
    listing: List = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Score untrained networks by zero-cost proxies, and hold the rankings against what networks reached.

    Networks that compute the same function are scored once. The run directory holds scores.csv.
    """
    be_verbose(verbose)
    if listing:
        print_proxies(as_json=as_json)
        return
    flags: dict[str, Any] = {
        "--space space.name": "module" if model else space,
        "--model space.path": model,
        "--preset space.preset": preset,
        "--data data.name": data,
        "--data-path data.path": data_path,
        "--arch strategy.archs": arch,
        "--file strategy.file": None if file is None else str(file),
        "--sample strategy.sample": sample,
        "--against report.against": against,
        "--aggregate report.aggregate": aggregate,
        "--fit report.fit": fit,
        "--train report.train": train,
        "--save report.save": None if save is None else str(save),
        "--predictor report.predictor": None if predictor is None else str(predictor),
        "--top report.top": top,
        "--plot report.plot": [str(path) for path in plot or ()],
        "--output report.output": [str(path) for path in output or ()],
        "--time-limit budget.seconds": time_limit,
        "--seed seed": seed,
        "--device device": device,
    }
    layers = layered(defaults=DEFAULTS | _start(from_run), config=config, flags=flags, sets=sets)
    complete(layers, [name.strip() for text in proxy or () for name in text.split(",") if name.strip()])
    if dry_run:
        console.facts("score", _rehearsed(*_prepared(layers)), as_json=as_json)
    else:
        run_score(layers, out=out, as_json=as_json, workers=workers)


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
        layers.put("objectives", [*scores[:1], *COUNTS], origin="--proxy")
        layers.put("record", [*scores[1:], *([NODES] if NODES in names else [])], origin="--proxy")
    return layers


def run_score(layers: Layers, *, out: Path | None, as_json: bool, asked: str = "score", workers: int = 1) -> None:
    """Carry a scoring out and print what came of it; `asked` is the command that was typed."""
    report, prepared = _prepared(layers)
    networks = len(_measured(prepared))
    run = carry_out("score", prepared, out=out, after=_nothing, workers=workers, total=networks)
    made = report.make(run, prepared.task, prepared.strategy)
    for sentence in made.warnings:
        log.warning("%s", sentence)
    if as_json:
        console.document(asked, {"run": str(run.path), **made.facts()})
        return
    print_made(made)
    console.note(f"{len(made.board.asked):,} networks, {networks:,} of them different; all in {run.path}")


def _prepared(layers: Layers) -> tuple[Any, Prepared]:
    """The report and the run that the settings describe, once it is known that both can be made."""
    from nascli import plugins, settings
    from nascli.engine.plan import prepare

    wanted = plugins.attribute("nascli.report.scored:Report", what="the report of a score run")
    given = layers.values.pop("report", {})
    report = settings.build(wanted, given, where="report", origins=layers.under("report"), table="report")
    prepared = prepare(layers, kind="strategy")
    if prepared.task.space.signature.kind == "table":
        raise UnsupportedError(
            "A table has numbers and no networks that could be scored; give --space nb201, and the table as --against."
        )
    if not isinstance(prepared.strategy, plugins.load("strategy", "listed")):
        raise SettingsError("nascli score takes the strategy 'listed' alone; to search by a proxy: nascli search.")
    report.check(prepared.task, prepared.strategy)
    return report, replace(prepared, resolved={**prepared.resolved, "report": settings.plain(report)})


def _measured(prepared: Prepared) -> list[Architecture]:
    """What is measured: of the networks asked for, one of all that compute the same."""
    strategy, task = prepared.strategy, prepared.task
    return list(dict.fromkeys(strategy.measured(arch, task) for arch in strategy.asked(task)))


def _start(from_run: Path | None) -> dict[str, Any]:
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
    return [*names, *([NODES] if report.get("fit") or report.get("predictor") else [])]


def _check_names(names: Sequence[str], layers: Layers) -> None:
    from nascli import plugins

    known = [*plugins.names("proxy"), *plugins.names("objective"), NODES]
    # A space with a table of its own may have further columns, which it knows itself.
    if "path" not in layers.values.get("space", {}):
        for name in names:
            if name not in known and ":" not in name:
                raise SettingsError(f"No proxy is called {name!r}.{did_you_mean(name, plugins.names('proxy'))}")


def _rehearsed(report: Any, prepared: Prepared) -> dict[str, Any]:
    """The facts of a dry run: how many networks, how long one takes, what could not be scored of the first two."""
    from nascli.engine.evaluate import measure
    from nascli.engine.network import Network

    archs = _measured(prepared)
    trials: list[Trial] = [measure(Network(arch), prepared.task) for arch in (archs[0], *archs[:2])]
    mean_s = sum(t.seconds for t in trials[1:]) / len(trials[1:])
    return {
        "networks": len(prepared.strategy.asked(prepared.task)),
        "different": len(archs),
        "first": {"arch": trials[0].key, **trials[0].values, "missing": dict(trials[0].missing)},
        "seconds_each": round(mean_s, 4),
        "seconds_estimated": round(mean_s * len(archs), 1),
        "settings": prepared.resolved,
    }


def _nothing(*_: object) -> None:
    """What is left to do before the run is finished: nothing."""
