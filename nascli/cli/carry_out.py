"""What every command that makes a run has in common: prepare, drive, finish, and say how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli import console
from nascli.cli.interrupt import interruption
from nascli.errors import Interrupted, NascliError
from nascli.settings import Layers

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.runs import Run, Writer

After = Callable[["Prepared", "Writer", "Sequence[Trial]", Callable[[], bool]], None]
"""What a command does with the front before the run is finished."""


def carry_out(command: str, layers: Layers, *, kind: str, out: Path | None, after: After) -> tuple[Prepared, Run]:
    """The finished run of a command; marks it interrupted or failed on the way out if it comes to that."""
    from nascli.engine import plan, runs
    from nascli.engine.drive import drive
    from nascli.engine.executors import inline

    prepared = plan.prepare(layers, kind=kind)
    task = prepared.task
    names = [prepared.resolved["strategy"]["name"], prepared.resolved["space"]["name"]]
    path = out or Path("runs") / runs.name(command, *(n.rpartition(":")[2] for n in names))
    with (
        interruption() as stop,
        runs.Writer(path, command=command, resolved=prepared.resolved, header=plan.header(task)) as run,
    ):
        console.note(f"{command}: writing {path}")
        try:
            total, limit_s = prepared.budget.evaluations, prepared.budget.seconds
            with console.progress(command, total=total, limit_s=limit_s) as observe:
                front = drive(
                    prepared.strategy, task, run, inline, budget=prepared.budget, observe=observe, stop=stop
                )
            after(prepared, run, front, stop)
        except (Interrupted, KeyboardInterrupt) as error:
            run.mark("interrupted")
            raise Interrupted(f"{error or 'Stopped at once.'} Go on with: nascli resume {path}") from None
        except BaseException:
            run.mark("failed")
            raise
        run.mark("finished")
    return prepared, runs.Run.open(path)


def rehearse(command: str, layers: Layers, *, kind: str) -> dict[str, Any]:
    """The facts of a dry run: everything resolved, the space sized, its largest network measured once."""
    from nascli.engine import plan
    from nascli.engine.evaluate import measure
    from nascli.engine.network import Network

    prepared = plan.prepare(layers, kind=kind)
    table = prepared.task.space.table
    probe = measure(Network(table.largest), prepared.task) if prepared.task.objectives else None
    if probe is not None and probe.error and probe.violation == float("inf"):
        raise NascliError(f"The largest network could not be measured: {probe.error}.")
    evaluations = prepared.budget.evaluations
    return {
        "architectures": table.size,
        "probe": None if probe is None else {"arch": str(table.largest), "values": dict(probe.values)},
        "seconds_per_evaluation": None if probe is None else probe.seconds,
        "seconds_estimated": probe.seconds * evaluations if probe and evaluations else prepared.budget.seconds,
        "settings": prepared.resolved,
    }
