"""`nascli search`: find the networks that trade the objectives best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nascli.cli import console, options
from nascli.cli.carry_out import carry_out, rehearse
from nascli.cli.flags import layered
from nascli.cli.front import check_feasible, print_front, rows
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.runs import Writer

DEFAULTS = {"strategy.name": "evolution", "latency.name": "measured"}
Strategy = Annotated[str | None, typer.Option("--strategy", help="evolution, random, bayes, listed, or package.module:Class.")]


def search(
    space: options.Space = None,
    preset: options.Preset = None,
    supernet: options.Supernet = None,
    strategy: Strategy = None,
    data: options.Data = None,
    data_path: options.DataPath = None,
    objective: options.Objectives = None,
    evaluations: options.Evaluations = None,
    time_limit: options.TimeLimit = None,
    latency: options.Latency = None,
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
    warnings = console.warn_through_logging(verbose)
    layers = layered(defaults=DEFAULTS, config=config, flags=flags, sets=sets)
    if dry_run:
        console.facts("search", rehearse("search", complete(layers), kind="strategy"), as_json=as_json)
        return
    run_search(complete(layers), out=out, as_json=as_json, warnings=warnings)


def complete(layers: Layers) -> Layers:
    """What a search needs and nobody gave: two objectives, and a budget, without which evolution would not end."""
    if not layers.values.get("objectives"):
        layers.put("objectives", ["accuracy", "macs"], origin="default")
    if not layers.values.get("budget"):
        layers.put("budget.evaluations", 300, origin="default")
    return layers


def run_search(layers: Layers, *, out: Path | None, as_json: bool, warnings: Sequence[str]) -> None:
    """Carry a search out and print its front; raises InfeasibleError if nothing met the limits."""
    prepared, run = carry_out("search", layers, kind="strategy", out=out, after=_finish)
    check_feasible(run, prepared.task)
    if as_json:
        console.document("search", {"run": str(run.path), "front": run.front}, warnings)
        return
    print_front(run.front)
    console.note(f"{rows(run.front)} networks on the front of {run.front['trials']} measured; all in {run.path}")


def _finish(prepared: Prepared, run: Writer, front: Sequence[Trial], stop: Callable[[], bool]) -> None:
    from nascli.engine.final import finalise

    if prepared.task.data is not None and prepared.task.supernet is not None:
        console.note(f"search: measuring the {len(front)} members of the front on the test split")
    finalise(front, prepared.task, run, stop=stop)
    run.write_front(front, {k: v for k, v in run.run.front.items() if k != "members"})
