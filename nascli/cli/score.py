"""`nascli score`: networks judged without training them, and how well that would have foretold what they reach."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.carry_out import carry_out
from nascli.cli.flags import layered
from nascli.cli.log import be_verbose
from nascli.cli.scoreboard import print_made, print_proxies
from nascli.cli.scoring import DEFAULTS, brought, complete
from nascli.errors import SettingsError, UnsupportedError
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from search_spaces import Architecture

log = logging.getLogger(__name__)

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


# Its length is its surface: an option and the setting that it stands for, one line each, and nothing else.
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
    layers = layered(defaults=DEFAULTS | brought(from_run), config=config, flags=flags, sets=sets)
    complete(layers, [name.strip() for text in proxy or () for name in text.split(",") if name.strip()])
    if dry_run:
        console.facts("score", _rehearsed(*_prepared(layers)), as_json=as_json)
    else:
        run_score(layers, out=out, as_json=as_json, workers=workers)


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
