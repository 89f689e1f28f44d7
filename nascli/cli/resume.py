"""`nascli resume`: go on with a run that was interrupted, or give it a larger budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from nascli.cli import options
from nascli.cli.compress import levels, run_compress
from nascli.cli.flags import layered
from nascli.cli.log import be_verbose
from nascli.cli.score import run_score
from nascli.cli.search import run_search
from nascli.cli.train import run_training
from nascli.errors import RunFormatError, SettingsError

COMMANDS: Mapping[str, Callable[..., None]] = {
    "compress": run_compress,
    "score": run_score,
    "search": run_search,
    "train": run_training,
}
BUDGETS: Mapping[str, Mapping[str, str]] = {
    "compress": {"--level": "strategy.levels"},
    "train": {"--epochs": "strategy.epochs", "--time-limit": "strategy.time_limit_s"},
    "search": {"--evaluations": "budget.evaluations", "--time-limit": "budget.seconds"},
}
"""By command, the flags that may be given and the settings behind them; others have those of a search."""
ONE_IN_HAND = ("compress", "train")
"""Commands that have one network in hand at a time."""

Epochs = Annotated[float | None, typer.Option("--epochs", help="Train for so many passes over the images in all.")]
Level = Annotated[list[str] | None, typer.Option("--level", help="Of a compression: further levels, by commas.")]


def resume(
    run: options.RunPath,
    evaluations: options.Evaluations = None,
    epochs: Epochs = None,
    time_limit: options.TimeLimit = None,
    level: Level = None,
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
    given: dict[str, Any] = {
        "--evaluations": evaluations,
        "--epochs": epochs,
        "--time-limit": limit_s,
        "--level": levels(level),
    }
    keys = BUDGETS.get(command, BUDGETS["search"])
    for flag, value in given.items():
        # A flag that may be repeated is empty where it was not given.
        if value not in (None, []) and flag not in keys:
            raise SettingsError(f"{flag} is no budget of nascli {command}; give {' or '.join(keys)}.")
    if workers > 1 and command in ONE_IN_HAND:
        raise SettingsError(f"--workers measures networks side by side, but nascli {command} has one in hand.")
    layers = layered(
        defaults={},
        config=[run / "settings.toml"],
        flags={f"{flag} {key}": given[flag] for flag, key in keys.items() if flag != "--level"},
        sets=None,
    )
    if more := given["--level"]:
        layers.put("strategy.levels", _with(layers.values["strategy"]["levels"], more), origin="--level")
    measuring = {} if command in ONE_IN_HAND else {"workers": workers}
    COMMANDS[command](layers, out=run, as_json=as_json, asked="resume", **measuring)


def _with(old: Sequence[float], more: Sequence[str]) -> list[Any]:
    """The levels there were, and those that are new; what is no number is left to be refused."""
    known = {f"{level:g}" for level in old}
    return [*old, *(text for text in more if text not in known)]
