"""What relaxed searches bring to the command line: selecting from a trained supernet again, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli import plugins
from nascli.cli import console
from nascli.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.runs import Run
    from nascli.engine.writer import Writer

SELECT = {"magnitude": "darts", "perturbation": "darts-pt"}
"""How to select -> the strategy that does."""
_SUPERNETS_OWN = ("edge_weights", "relaxation")
"""Settings of the search that a supernet cannot be read without."""


def reselection(select: str | None, supernet: str | None, strategy: str | None) -> dict[str, Any]:
    """The settings with which --select begins: the strategy, and what the run that trained the supernet has to say.

    Raises SettingsError for an unknown way to select, without a supernet, and beside another strategy.
    """
    if select is None:
        return {}
    if select not in SELECT:
        raise SettingsError(f"There is no --select {select!r}.{did_you_mean(select, SELECT)}")
    if supernet is None:
        raise SettingsError(f"--select {select} needs --supernet RUN, whose supernet a search by darts has trained.")
    if strategy not in (None, SELECT[select]):
        raise SettingsError(f"--select {select} is strategy {SELECT[select]!r}; leave --strategy {strategy} out.")
    start: dict[str, Any] = {"strategy.name": SELECT[select]}
    if not (Path(supernet) / "run.json").exists():
        return start
    from nascli.engine.files import read_json
    from nascli.engine.runs import Run

    before = Run.open(Path(supernet)).settings
    for part in ("space", "data", "latency"):
        start |= {f"{part}.{k}": v for k, v in before.get(part, {}).items()}
    start |= {f"strategy.{k}": v for k, v in before["strategy"].items() if k in _SUPERNETS_OWN}
    described = Path(supernet) / "supernet.json"
    if described.exists():
        # It may have become wider than the search began with.
        start["strategy.partial_channels"] = read_json(described).get("parts", 1)
    return start | {"parent": supernet, "objectives": before["objectives"]}


def trains(prepared: Prepared) -> bool:
    """Whether the strategy trains a supernet of its own."""
    return "epochs" in prepared.resolved["strategy"]


def keep(prepared: Prepared, run: Writer) -> None:
    """Store what a relaxed search has come to: genotypes, drawings, the supernet with its architecture weights."""
    if not trains(prepared):
        return
    space = prepared.task.space
    state = run.state() or {}
    if searched := dict(state.get("notes", {}).get("searched", {})):
        tensors = searched.pop("tensors")
        description = {"space": prepared.resolved["space"], "fingerprint": space.table.fingerprint, **searched}
        run.save_tensors(run.path / "supernet.safetensors", tensors, description)
    for member in run.run.front["members"]:
        arch = space.table.parse(member["arch"])
        run.save_text(f"genotype-{member['n']}.txt", f"{space.field(arch)}\n")
        if isinstance(space, plugins.attribute("search_spaces.space:Drawable", what="drawing")):
            draw = plugins.attribute("nascli.report.drawing:write", what="drawing")
            draw(space, arch, run.path / "drawings", str(member["n"]), ("svg", "dot"))


def describe(prepared: Prepared, run: Run) -> None:
    """Say what was found and how to train it; nothing if the strategy trains no supernet."""
    if not trains(prepared):
        return
    members = run.front["members"]
    if not members:
        console.note(
            f"The time was over before a network was proposed; go on: nascli resume {run.path} --time-limit LONGER"
        )
    for member in members:
        genotype = run.path / f"genotype-{member['n']}.txt"
        if genotype.exists():
            console.note(f"genotype: {genotype.read_text(encoding='utf-8').strip()}")
        console.note(f"train it from scratch: {retraining(prepared, run, member['n'])}")


def retraining(prepared: Prepared, run: Run, number: int) -> str:
    """The command that trains a member as networks of its space are trained to be compared."""
    space, resolved = prepared.task.space, prepared.resolved["space"]
    # As TOML writes them, false and not False.
    sizes = [f"--set space.{k}={str(v).lower()}" for k, v in space.published.items() if resolved.get(k) != v]
    start = ["nascli train --recipe cells --from", str(run.path), "--set strategy.weights=fresh"]
    return " ".join([*start, *([f"--member {number}"] if number else []), *sizes])
