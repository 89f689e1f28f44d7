"""`nascli runs`: what there is, what a run found, how two runs differ."""

from __future__ import annotations

import logging
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
    changes = differences(_result(a), _result(b))
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


def _result(run: Run) -> dict[str, Any]:
    if not (run.path / "front.json").exists():
        return {}
    front = run.front
    return {"front.size": len(front["members"]), "trials": front["trials"], "hypervolume": front["hypervolume"]}


def _status(path: Path, status: str) -> str:
    """The status, or "dead" where a run says running and nobody holds its lock."""
    if status != "running":
        return status
    from nascli.engine.files import is_locked

    try:
        return status if is_locked(path) else "dead"
    except OSError as error:
        raise RunFormatError(f"{path}/lock can't be read: {error}.") from None
