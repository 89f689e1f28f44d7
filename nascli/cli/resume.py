"""`nascli resume`: go on with a run that was interrupted, or give it a larger budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from nascli.cli import options
from nascli.cli.flags import layered
from nascli.cli.log import be_verbose
from nascli.cli.score import run_score
from nascli.cli.search import run_search
from nascli.cli.train import run_training
from nascli.errors import RunFormatError, SettingsError

COMMANDS: Mapping[str, Callable[..., None]] = {"score": run_score, "search": run_search, "train": run_training}
Epochs = Annotated[float | None, typer.Option("--epochs", help="Train for so many passes over the images in all.")]


def resume(
    run: options.RunPath,
    evaluations: options.Evaluations = None,
    epochs: Epochs = None,
    time_limit: options.TimeLimit = None,
    workers: options.Workers = 1,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Continue a run with the settings it was started with; only its budget may be changed.

    A run that has finished prints its result again and does no work.
    """
    from nascli.engine.runs import Run
    from nascli.settings import seconds

    be_verbose(verbose)
    command = Run.open(run).header["command"]
    if command not in COMMANDS:
        raise RunFormatError(f"{run} is a run of nascli {command}, which this nascli can't continue.")
    limit_s = None if time_limit is None else seconds(time_limit)
    if command == "train":
        flags: dict[str, Any] = {"--epochs strategy.epochs": epochs, "--time-limit strategy.time_limit_s": limit_s}
        strange = "--evaluations" if evaluations is not None else ""
        if workers > 1:
            raise SettingsError("--workers measures networks side by side, but nascli train has one in hand.")
    else:
        flags = {"--evaluations budget.evaluations": evaluations, "--time-limit budget.seconds": limit_s}
        strange = "--epochs" if epochs is not None else ""
    if strange:
        raise SettingsError(
            f"{strange} is no budget of nascli {command}; give {' or '.join(f.split()[0] for f in flags)}."
        )
    layers = layered(defaults={}, config=[run / "settings.toml"], flags=flags, sets=None)
    more = {} if command == "train" else {"workers": workers}
    COMMANDS[command](layers, out=run, as_json=as_json, asked="resume", **more)
