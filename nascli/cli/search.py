"""`nascli search`: find the networks that trade the objectives best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nascli.cli import console, options, relaxed
from nascli.cli.carry_out import carry_out, rehearse
from nascli.cli.flags import layered
from nascli.cli.front import check_feasible, print_front, rows
from nascli.cli.log import be_verbose
from nascli.errors import SettingsError
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.writer import Writer

log = logging.getLogger(__name__)

DEFAULTS = {"strategy.name": "evolution", "latency.name": "measured"}
Strategy = Annotated[
    str | None, typer.Option("--strategy", help="evolution, bayes, darts, darts-pt, ..., or package.module:Class.")
]
Select = Annotated[
    str | None,
    typer.Option("--select", help="Only select from a trained --supernet: by magnitude, or by perturbation."),
]


def search(
    space: options.Space = None,
    preset: options.Preset = None,
    supernet: options.Supernet = None,
    strategy: Strategy = None,
    select: Select = None,
    data: options.Data = None,
    data_path: options.DataPath = None,
    objective: options.Objectives = None,
    evaluations: options.Evaluations = None,
    time_limit: options.TimeLimit = None,
    latency: options.Latency = None,
    workers: options.Workers = 1,
    seed: options.Seed = None,
    device: options.Device = None,
    out: options.Out = None,
    config: options.Config = None,
    sets: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Search a space for the networks that trade the objectives best, and print the Pareto front.

    Sub-networks inherit the supernet's weights and get their BatchNorm statistics re-estimated. Decisions are made on
    the validation split; the test split is looked at once, for the members of the final front.
    """
    flags = {
        "--space space.name": space,
        "--preset space.preset": preset,
        "--supernet supernet": supernet,
        "--strategy strategy.name": strategy,
        "--data data.name": data,
        "--data-path data.path": data_path,
        "--objective objectives": objective,
        "--evaluations budget.evaluations": evaluations,
        "--time-limit budget.seconds": time_limit,
        "--latency latency.name": latency,
        "--seed seed": seed,
        "--device device": device,
    }
    be_verbose(verbose)
    start = relaxed.reselection(select, supernet, strategy)
    layers = complete(layered(defaults=DEFAULTS | start, config=config, flags=flags, sets=sets))
    if dry_run:
        console.facts("search", rehearse(_prepared(layers)), as_json=as_json)
    else:
        run_search(layers, out=out, as_json=as_json, workers=workers)


def complete(layers: Layers) -> Layers:
    """What a search needs and nobody gave: two objectives, and a budget, without which evolution would not end."""
    if not layers.values.get("objectives"):
        layers.put("objectives", ["accuracy", "macs"], origin="default")
    # Relaxed searches end by themselves, with one network.
    if not layers.values.get("budget") and layers.values.get("strategy", {}).get("name") not in relaxed.SELECT.values():
        layers.put("budget.evaluations", 300, origin="default")
    return layers


def run_search(layers: Layers, *, out: Path | None, as_json: bool, asked: str = "search", workers: int = 1) -> None:
    """Carry a search out and print its front; `asked` is the command that was typed.

    Raises InfeasibleError if nothing met the limits.
    """
    prepared = _prepared(layers)
    run = carry_out("search", prepared, out=out, after=_finish, workers=workers)
    check_feasible(run, prepared.task)
    if as_json:
        console.document(asked, {"run": str(run.path), "front": run.front})
        return
    print_front(run.front)
    relaxed.describe(prepared, run)
    console.note(f"{rows(run.front)} networks on the front of {run.front['trials']} measured; all in {run.path}")


def _prepared(layers: Layers) -> Prepared:
    """The search that the settings describe, once it is known that its objectives can be measured."""
    from nascli.engine.plan import prepare

    prepared = prepare(layers, kind="strategy")
    task = prepared.task
    learnt = [o.name for o in task.objectives if o.name in ("accuracy", "loss") and o.price]
    if learnt and task.data is None:
        raise SettingsError(
            f"{learnt[0]} is measured on data: give --data NAME, or other objectives: -O macs -O params."
        )
    if learnt and task.supernet is None and not relaxed.trains(prepared):
        log.warning(
            "%s will be that of random weights: give --supernet RUN, made by nascli train with the same space and data",
            learnt[0],
        )
    return prepared


def _finish(prepared: Prepared, run: Writer, front: Sequence[Trial], stop: Callable[[], bool]) -> None:
    from nascli.engine.final import finalise

    if prepared.task.data is not None and prepared.task.supernet is not None:
        console.note(f"search: measuring the {len(front)} members of the front on the test split")
    finalise(front, prepared.task, run, stop=stop)
    relaxed.keep(prepared, run)
    run.write_front(front, {k: v for k, v in run.run.front.items() if k != "members"})
