"""What came of a compression: the files of its networks, and a table of before and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nascli.cli import console
from nascli.errors import UnsupportedError

if TYPE_CHECKING:
    from nascli.engine.plan import Prepared
    from nascli.engine.protocol import Trial
    from nascli.engine.runs import Run
    from nascli.engine.task import Task
    from nascli.engine.writer import Writer

log = logging.getLogger(__name__)

ACCURACIES = ("accuracy", "test_accuracy")
COUNTS = ("macs", "params", "nonzero", "size_bytes", "latency_ms")
DENSE = "dense"
"""How the tags of networks end that are as they came."""


def finish(
    prepared: Prepared, run: Writer, front: Sequence[Trial], *, to: Sequence[str], stop: Callable[[], bool]
) -> None:
    """Measure the front, and the dense networks, on the test split; export the members of the front."""
    from nascli.engine.evaluate import Subject
    from nascli.engine.final import finalise

    task = prepared.task
    finalise(front, task, run, stop=stop)
    for network in prepared.strategy.sources(task) if task.data is not None else ():
        # What all others are compared with, even where one of them beats it in everything.
        if network.key not in run.run.finals:
            found = Subject(network, task).quality("test")
            run.record_final(network.key, {f"test_{name}": value for name, value in found.items()})
    _time(prepared, run, front)
    run.write_front(front, {k: v for k, v in run.run.front.items() if k != "members"})
    for member in run.run.front["members"]:
        if run.run.has_network(member["n"]):
            _export(run, member, task, ["torch", *(name for name in to if name != "torch")])


def _time(prepared: Prepared, run: Writer, front: Sequence[Trial]) -> None:
    """Time the front and the dense networks again, in turns: what was timed when it came up can't be compared."""
    from nascli.engine.evaluate import Subject
    from nascli.engine.timing import side_by_side

    task, finals = prepared.task, run.run.finals
    stored = [run.run.network(t.number, task.space) for t in front if run.run.has_network(t.number)]
    networks = {n.key: n for n in (*prepared.strategy.sources(task), *stored)}
    if "latency_ms" not in {o.name for o in (*task.objectives, *task.recorded)} or all(
        "latency_ms" in finals.get(key, {}) for key in networks
    ):
        return
    subjects = [Subject(network, task) for network in networks.values()]
    readings = side_by_side([s.structure for s in subjects], subjects[0].example, task.latency)
    for key, reading in zip(networks, readings, strict=True):
        run.record_final(key, {"latency_ms": reading.ms, "latency_ms_iqr": reading.iqr_ms})


def rows(prepared: Prepared, run: Run) -> list[dict[str, Any]]:
    """One row a network that was measured: those of one source together, the dense one first."""
    finals, front = run.finals, {m["n"] for m in run.front["members"]}
    found = []
    for prefix in prepared.strategy.prefixes():
        trials = [row for row in run.rows if row["tag"].startswith(prefix)]
        trials.sort(key=lambda row: row["tag"] != prefix + DENSE)
        dense = _values(trials[0], finals) if trials and trials[0]["tag"] == prefix + DENSE else {}
        for row in trials:
            values = _values(row, finals)
            folder = run.path / "export" / str(row["n"])
            facts = {"n": row["n"], "network": row["tag"], "arch": row["arch"], "on_front": row["n"] in front}
            facts |= {"values": values, "of_dense": _shares(values, dense), "points": _points(values, dense)}
            facts |= {"export": str(folder) if (folder / "model.safetensors").exists() else None, "error": row["error"]}
            found.append(facts | {"dense": prefix + DENSE})
    return found


def warn(found: Sequence[Mapping[str, Any]]) -> None:
    """Log a warning for each network that has no costs, or did not become faster by more than the timing's spread."""
    dense = {row["network"]: row["values"] for row in found if row["network"] == row["dense"]}
    for row in found:
        if row["error"]:
            log.warning("%s is not on the front: %s", row["network"], row["error"])
        values, before = row["values"], dense.get(row["dense"], {})
        if row["network"] == row["dense"] or "latency_ms" not in values or "latency_ms" not in before:
            continue
        spread = max(v.get("latency_ms_iqr", 0.0) for v in (values, before))
        if before["latency_ms"] - values["latency_ms"] <= spread:
            shown = [f"{console.shown(v['latency_ms'])} ms" for v in (values, before)]
            log.warning(
                "%s is not measurably faster here: it takes %s, and the dense network %s (spread %s ms)",
                row["network"],
                *shown,
                console.shown(spread),
            )


def print_rows(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the networks as a table: accuracies in per cent, the rest with its share of the dense network's."""
    units = {"accuracy": "%", "test_accuracy": "%", "macs": "MACs", "size_bytes": "bytes", "latency_ms": "ms"}
    columns = [c for c in (*ACCURACIES, *COUNTS) if any(c in row["values"] for row in found)]
    others = dict.fromkeys(name for row in found for name in row["values"])
    columns += [c for c in others if c not in columns and not c.endswith(("_iqr", "_loss"))]
    heads = ["n", "network", "front", *(f"{c} ({units[c]})" if c in units else c for c in columns)]
    lines = [
        [row["n"], row["network"], "yes" if row["on_front"] else "no", *(_cell(row, column) for column in columns)]
        for row in found
    ]
    console.table(heads, lines, title="Compressed networks")


def _export(run: Writer, member: Mapping[str, Any], task: Task, formats: Sequence[str]) -> None:
    """Write a member's files, as many of the forms as it can have; nothing if they are there."""
    from nascli.engine.evaluate import Subject
    from nascli.engine.export import export

    folder = run.path / "export" / str(member["n"])
    files = ["model.safetensors", *({"torch": "model.py"}.get(name, f"model.{name}") for name in formats)]
    # The weights are moved into the folder last.
    if all((folder / name).exists() for name in files):
        return
    network = run.run.network(member["n"], task.space)
    subject = Subject(network, task)
    description = {**network.describe(), "values": member["values"], "run": str(run.path)}
    for fewer in dict.fromkeys((tuple(formats), ("torch",), ())):
        try:
            export(subject.model, subject.example, folder, description, formats=fewer)
        except UnsupportedError as refused:
            console.note(f"compress: {member['tag']} was not exported as {', '.join(fewer)}: {refused}")
            continue
        return


def _values(row: Mapping[str, Any], finals: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {**row["values"], **finals.get(row["key"], {})}


def _shares(values: Mapping[str, float], dense: Mapping[str, float]) -> dict[str, float]:
    """What is left of each thing, as a share of the dense network's."""
    return {name: values[name] / dense[name] for name in (*ACCURACIES, *COUNTS) if name in values and dense.get(name)}


def _points(values: Mapping[str, float], dense: Mapping[str, float]) -> dict[str, float]:
    """How many percentage points the accuracies are above the dense network's."""
    return {name: values[name] - dense[name] for name in ACCURACIES if name in values and name in dense}


def _cell(row: Mapping[str, Any], column: str) -> str:
    """A value, with its spread if it has one, and what became of it."""
    if column not in row["values"]:
        return ""
    text = console.shown(row["values"][column])
    if spread := row["values"].get(f"{column}_iqr"):
        text += f" ± {console.shown(spread)}"
    if row["network"] == row["dense"]:
        return text
    if column in row["points"]:
        return f"{text} ({row['points'][column]:+.2f})"
    return f"{text} ({100 * row['of_dense'][column]:.1f} %)" if column in row["of_dense"] else text
