"""`nascli export`: a found network as files that load without nascli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nascli.cli import console, options
from nascli.errors import RunError

Member = Annotated[int | None, typer.Option("--arch", "--member", help="Number of the front member; default: the first.")]
Formats = Annotated[list[str] | None, typer.Option("--to", help="torch, onnx. Repeat; default both.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default RUN/export/N.")]


def export(
    run: options.RunPath, member: Member = None, to: Formats = None, out: Out = None, as_json: options.Json = False
) -> None:
    """Write a member of a run's front as safetensors + JSON + Python source, and as ONNX, each verified.

    The files need torch or onnxruntime, and nothing of nascli.
    """
    from nascli.cli.flags import layered
    from nascli.engine import plan
    from nascli.engine.evaluate import Subject
    from nascli.engine.export import export as write
    from nascli.engine.runs import Run

    found = Run.open(run)
    members = {m["n"]: m for m in found.front["members"]} if (run / "front.json").exists() else {}
    if not members:
        raise RunError(f"{run} has no front to export from; continue it with: nascli resume {run}")
    number = next(iter(members)) if member is None else member
    if number not in members:
        raise RunError(f"{run} has no front member {number}; it has {', '.join(map(str, members))}.")
    layers = layered(defaults={}, config=[run / "settings.toml"], flags={}, sets=None)
    kind = "recipe" if found.header["command"] == "train" else "strategy"
    task = plan.prepare(layers, kind=kind).task
    network = found.network(number, task.space)
    if network.tensors is None:
        raise RunError(f"Member {number} of {run} has no trained weights; train it: nascli train --from {run} --member {number}")
    subject = Subject(network, task)
    description = {**network.describe(), "values": members[number]["values"], "run": str(run)}
    folder = out or run / "export" / str(number)
    files = write(subject.model, subject.example, folder, description, formats=to or ["torch", "onnx"])
    if as_json:
        console.document("export", {"arch": str(network.arch), "files": [str(f) for f in files]})
        return
    for file in files:
        console.text(str(file))
