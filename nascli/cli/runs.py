"""`nascli runs`: what there is, what a run found, how two runs differ."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import console, options
from nascli.cli.front import print_front
from nascli.errors import RunFormatError

if TYPE_CHECKING:
    from nascli.engine.runs import Run

log = logging.getLogger(__name__)

app = typer.Typer(name="runs", help="List, show and compare runs.", no_args_is_help=True)

Root = Annotated[Path, typer.Option("--root", help="The folder that holds the runs.")]
Other = Annotated[Path, typer.Argument(metavar="OTHER", help="The run to compare with.")]


@app.command("ls")
def ls(root: Root = Path("runs"), as_json: options.Json = False) -> None:
    """List the runs below a folder, oldest first."""
    facts = [
        {
            "run": str(run.path),
            "command": run.header["command"],
            "status": _status(run.path, run.header["status"]),
            "space": run.header["space"],
            "trials": len(run.rows),
            "elapsed_s": run.header["elapsed_s"],
            "created": run.header["created"],
        }
        for run in _listing(root)
    ]
    if as_json:
        console.document("runs ls", facts)
    elif facts:
        console.table(list(facts[0]), [list(f.values()) for f in facts])
    else:
        console.note(f"There are no runs in {root}; make one with nascli train or nascli search.")


@app.command("show")
def show(run: options.RunPath, as_json: options.Json = False) -> None:
    """Show how a run stands, its objectives and its front."""
    from nascli.engine.runs import Run

    found = Run.open(run)
    header = {**found.header, "status": _status(run, found.header["status"]), "trials": len(found.rows)}
    front: dict[str, Any] | None = found.front if (run / "front.json").exists() else None
    if as_json:
        console.document("runs show", {"run": str(run), **header, "front": front})
        return
    plain = {k: v for k, v in header.items() if k not in ("objectives", "schema")}
    console.facts("runs show", plain, as_json=False)
    if front and front["members"]:
        print_front(front)
    failed = [row for row in found.rows if row["error"]]
    if failed:
        console.text(f"{len(failed)} trials without costs, the last: {failed[-1]['error']}")


@app.command("diff")
def diff(run: options.RunPath, other: Other, as_json: options.Json = False) -> None:
    """Show what differs between two runs: settings, then hypervolume and front sizes."""
    from nascli.engine.runs import Run, differences

    a, b = Run.open(run), Run.open(other)
    lines = differences(a.settings, b.settings)
    changes = differences(*_results(a, b))
    if as_json:
        console.document("runs diff", {"settings": lines, "results": changes})
        return
    for line in lines + changes or ["The two runs have the same settings and results."]:
        console.text(line)


def _listing(root: Path) -> list[Run]:
    """The runs below a folder by age; one that can't be read is a warning, and hides no other."""
    from nascli.engine.runs import Run

    found = []
    for path in root.glob("*/run.json"):
        try:
            found.append(Run.open(path.parent))
        except RunFormatError as error:
            log.warning("%s", error)
    return sorted(found, key=lambda run: (str(run.header["created"]), run.path))


def _results(a: Run, b: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two fronts are worth; their hypervolumes are taken against one reference point, the worst of both."""
    from nascli.engine.front import hypervolume, reference_point

    fronts = [run.front if (run.path / "front.json").exists() else None for run in (a, b)]
    results = [{"front.size": len(f["members"]), "trials": f["trials"]} if f else {} for f in fronts]
    goals = [[(o["name"], o["goal"]) for o in f["objectives"]] if f else [] for f in fronts]
    costs = [_costs(f, g) if f else [] for f, g in zip(fronts, goals, strict=True)]
    if goals[0] == goals[1] and all(costs):
        reference = reference_point(costs[0] + costs[1])
        for result, points in zip(results, costs, strict=True):
            result["hypervolume"] = hypervolume(points, reference)
    return results[0], results[1]


def _costs(front: Mapping[str, Any], goals: Sequence[tuple[str, str]]) -> list[list[float]]:
    return [[m["values"][n] * (1 if goal == "min" else -1) for n, goal in goals] for m in front["members"]]


def _status(path: Path, status: str) -> str:
    """The status, or "dead" where a run says running and nobody holds its lock."""
    if status != "running":
        return status
    from nascli.engine.files import is_locked

    try:
        return status if is_locked(path) else "dead"
    except OSError as error:
        raise RunFormatError(f"{path}/lock can't be read: {error}.") from None
