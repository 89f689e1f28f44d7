"""What every command that makes a run has in common: drive, finish, and say how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli import plugins
from nascli.cli import console
from nascli.cli.interrupt import interruption
from nascli.cli.log import to_file
from nascli.errors import Interrupted, NascliError, SettingsError

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.runs import Run
    from nascli.engine.writer import Writer

log = logging.getLogger(__name__)

After = Callable[["Prepared", "Writer", "Sequence[Trial]", Callable[[], bool]], None]
"""What a command does with the front before the run is finished."""


def carry_out(
    command: str,
    prepared: Prepared,
    *,
    out: Path | None,
    after: After,
    workers: int = 1,
    total: int | None = None,
) -> Run:
    """The finished run of a command; marks it interrupted or failed on the way out if it comes to that.

    `total` is how many networks there are to measure, where no budget says so. Raises SettingsError if the workers
    would falsify what they measure.
    """
    from nascli.engine import plan, runs
    from nascli.engine.writer import Writer

    _check_workers(prepared, workers)
    names = [prepared.resolved["strategy"]["name"], prepared.resolved["space"]["name"]]
    path = out or Path("runs") / runs.name(command, *(n.rpartition(":")[2] for n in names))
    with (
        interruption() as stop,
        Writer(path, command=command, resolved=prepared.resolved, header=plan.header(prepared.task)) as run,
        to_file(path / "log.txt"),
    ):
        console.note(f"{command}: writing {path}")
        log.info("%s, %.1f s into the run", command, run.elapsed_s)
        try:
            _drive(command, prepared, run, after, stop, workers=workers, total=total)
        except (Interrupted, KeyboardInterrupt) as error:
            _end(run, "interrupted", error)
            raise Interrupted(f"{str(error) or 'Stopped at once.'} Go on with: nascli resume {path}") from None
        except BaseException as error:  # whatever ends a run is written down, and goes on its way
            _end(run, "failed", error)
            raise
        _end(run, "finished")
    return runs.Run.open(path)


def rehearse(prepared: Prepared) -> dict[str, Any]:
    """The facts of a dry run: everything resolved, the space sized, its smallest and largest network measured once."""
    table, evaluations = prepared.task.space.table, prepared.budget.evaluations
    probes = _probes(prepared) if prepared.task.objectives else []
    mean_s = sum(p["seconds"] for p in probes) / len(probes) if probes else None
    return {
        "architectures": table.size,
        **dict(zip(("smallest", "largest"), probes, strict=False)),
        "seconds_estimated": mean_s * evaluations if mean_s and evaluations else prepared.budget.seconds,
        "settings": prepared.resolved,
    }


def _probes(prepared: Prepared) -> list[dict[str, Any]]:
    from nascli.engine.evaluate import measure
    from nascli.engine.network import Network

    table = prepared.task.space.table
    # Without limits, so that everything is measured and timed.
    task = replace(prepared.task, objectives=tuple(replace(o, limit=None) for o in prepared.task.objectives))
    # The first one pays for reading the supernet and warming up, and is not timed.
    _, *trials = (measure(Network(arch), task) for arch in (table.smallest, table.smallest, table.largest))
    for trial in trials:
        if trial.error:
            raise NascliError(f"{trial.network.arch} could not be measured: {trial.error}.")
    return [{"arch": t.key, **t.values, "seconds": round(t.seconds, 6)} for t in trials]


def _check_workers(prepared: Prepared, workers: int) -> None:
    named = plugins.target("latency", prepared.resolved["latency"]["name"])
    timed = any(o.name == "latency_ms" for o in (*prepared.task.objectives, *prepared.task.recorded))
    if workers > 1 and timed and named == plugins.target("latency", "measured"):
        raise SettingsError(
            f"--workers {workers}: networks that run side by side slow each other down, so that latency_ms can't be "
            "timed; give --workers 1, or another latency model: --latency roofline or table."
        )


def _drive(
    command: str,
    prepared: Prepared,
    run: Writer,
    after: After,
    stop: Callable[[], bool],
    *,
    workers: int,
    total: int | None,
) -> None:
    from nascli.engine.drive import drive
    from nascli.engine.executors import executor

    budget = prepared.budget
    with (
        console.progress(command, total=budget.evaluations or total, limit_s=budget.seconds) as observe,
        executor(workers) as evaluate,
    ):
        front = drive(prepared.strategy, prepared.task, run, evaluate, budget=budget, observe=observe, stop=stop)
    after(prepared, run, front, stop)


def _end(run: Writer, status: str, error: BaseException | None = None) -> None:
    run.mark(status)
    log.info("%s after %.1f s", status, run.elapsed_s, exc_info=error if status == "failed" else None)
