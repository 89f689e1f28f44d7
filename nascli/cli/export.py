"""`nascli export`: a found network as files that load without nascli."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nascli.cli import console, options
from nascli.cli.front import chosen
from nascli.errors import RunError

if TYPE_CHECKING:
    from nascli.engine.runs import Run
    from nascli.engine.task import Task

Member = Annotated[
    int | None, typer.Option("--member", "--arch", "-m", help="Number of the front member; default: the first.")
]
Formats = Annotated[list[str] | None, typer.Option("--to", help="torch, onnx, pt2. Repeat; default: torch and onnx.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default RUN/export/N.")]


def export(
    run: options.RunPath, member: Member = None, to: Formats = None, out: Out = None, as_json: options.Json = False
) -> None:
    """Write a member of a run's front as safetensors + JSON + Python source, and as ONNX, each verified.

    The files need torch or onnxruntime, and nothing of nascli.
    """
    from nascli.engine.evaluate import Subject
    from nascli.engine.export import export as write
    from nascli.engine.runs import Run

    found = Run.open(run)
    row = chosen(found, member)
    task = _task(found)
    network = found.network(row["n"], task.space)
    if network.tensors is None:
        how = f"nascli train --from {run} --member {row['n']}"
        raise RunError(f"Member {row['n']} of {run} has no trained weights; train it: {how}")
    subject = Subject(network, task)
    description = {**network.describe(), "values": row["values"], "run": str(run)}
    folder = out or run / "export" / str(row["n"])
    files = write(subject.model, subject.example, folder, description, formats=to or ["torch", "onnx"])
    if as_json:
        console.document("export", {"arch": str(network.arch), "files": [str(f) for f in files]})
        return
    for file in files:
        console.text(str(file))


def _task(run: Run) -> Task:
    """The run's task on the CPU, without what a network that has its own weights can do without."""
    from nascli.cli.flags import layered
    from nascli.engine import plan

    without = {"--device device": "cpu", "--supernet supernet": ""}
    layers = layered(defaults={}, config=[run.path / "settings.toml"], flags=without, sets=None)
    if run.settings["space"].get("signature", {}).get("kind") == "image":
        # The shape of an image is all that exporting needs; the data may be on another machine.
        layers.values.pop("data", None)
    kind = {"train": "recipe", "compress": "sweep"}.get(run.header["command"], "strategy")
    return plan.prepare(layers, kind=kind).task
