"""A front as a table, and what to say when it is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nascli.cli import console
from nascli.errors import InfeasibleError, RunError

if TYPE_CHECKING:
    from nascli.engine.runs import Run
    from nascli.engine.task import Task


def rows(front: Mapping[str, Any]) -> int:
    """How many members a front has."""
    return len(front["members"])


def chosen(run: Run, number: int | None) -> dict[str, Any]:
    """The member of a run's front with this number, or its first; raises RunError saying which there are."""
    members = {m["n"]: m for m in run.front["members"]} if (run.path / "front.json").exists() else {}
    if not members:
        raise RunError(f"{run.path} has no front yet; go on with it: nascli resume {run.path}")
    if number is not None and number not in members:
        raise RunError(f"{run.path} has no front member {number}; it has {', '.join(map(str, sorted(members)))}.")
    member: dict[str, Any] = members[next(iter(members)) if number is None else number]
    return member


def print_front(front: Mapping[str, Any]) -> None:
    """Print the members, best first objective first, with units, test accuracy and the network."""
    objectives = [o["name"] for o in front["objectives"]]
    found = dict.fromkeys(name for m in front["members"] for name in m["values"])
    extra = [name for name in found if name not in objectives]
    units = {o["name"]: o["unit"] for o in front["objectives"]}
    columns = [*objectives, *extra]
    heads = ["n", *(f"{c} ({units[c]})" if units.get(c) else c for c in columns), "network"]
    lines = [[m["n"], *(m["values"].get(c) for c in columns), m["arch"]] for m in front["members"]]
    console.table(heads, lines, title="Pareto front")


def check_feasible(run: Run, task: Task) -> None:
    """Raise InfeasibleError with the nearest miss if trials were measured and none has costs."""
    trials = run.trials(task)
    if not trials or any(t.costs for t in trials):
        return
    missed = [t for t in trials if t.violation < float("inf")]
    if not missed:
        raise InfeasibleError(f"None of {len(trials)} networks could be measured; the last error: {trials[-1].error}.")
    nearest = min(missed, key=lambda t: t.violation)
    broken = next(o for o in task.objectives if o.name in nearest.values and o.violation(nearest.values[o.name]))
    value = nearest.values[broken.name]
    limit = str(broken).replace(f":{broken.goal}", "")
    raise InfeasibleError(
        f"No network met {limit}; the nearest of {len(trials)} has {console.shown(value)} {broken.unit} "
        f"({nearest.network.arch}). The front is empty."
    )
