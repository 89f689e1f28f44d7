"""`nascli resume`: go on with a run that was interrupted, or give it a larger budget."""

from __future__ import annotations

from nascli.cli import options
from nascli.cli.flags import layered
from nascli.cli.log import be_verbose
from nascli.cli.search import run_search
from nascli.cli.train import run_training
from nascli.errors import RunFormatError

COMMANDS = {"search": run_search, "train": run_training}


def resume(
    run: options.RunPath,
    evaluations: options.Evaluations = None,
    time_limit: options.TimeLimit = None,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Continue a run with the settings it was started with; only its budget may be changed.

    A run that has finished prints its result again and does no work.
    """
    from nascli.engine.runs import Run

    be_verbose(verbose)
    command = Run.open(run).header["command"]
    if command not in COMMANDS:
        raise RunFormatError(f"{run} is a run of nascli {command}, which this nascli can't continue.")
    budget = "strategy.time_limit_s" if command == "train" else "budget.seconds"
    flags = {"--evaluations budget.evaluations": evaluations, f"--time-limit {budget}": time_limit}
    layers = layered(defaults={}, config=[run / "settings.toml"], flags=flags, sets=None)
    COMMANDS[command](layers, out=run, as_json=as_json)
