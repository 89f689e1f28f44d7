"""Settings of a command, resolved: which space, data, strategy and objectives by name, and the task they make."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nascli import plugins, settings
from nascli.engine.drive import Budget
from nascli.engine.task import Probing, Task
from nascli.errors import DataError, SettingsError, UnsupportedError
from nascli.settings import Layers

Values = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a settings file may say; each table names a plugin and gives its settings."""

    space: Values = field(default_factory=dict)
    data: Values = field(default_factory=dict)
    strategy: Values = field(default_factory=dict)
    latency: Values = field(default_factory=lambda: {"name": "measured"})
    budget: Values = field(default_factory=dict)
    objectives: tuple[str, ...] = ()
    record: tuple[str, ...] = ()
    """What else is measured and journalled, though no objective."""
    probe: Values = field(default_factory=dict)
    """How proxies look at networks: examples, repeats."""
    proxy: Values = field(default_factory=dict)
    """By a proxy's name, its settings."""
    compressor: Values = field(default_factory=dict)
    """By a compressor's name, its settings."""
    supernet: str = ""
    seed: int = 0
    device: str = "auto"
    calibration: int = 2000
    batch_size: int = 256
    parent: str = ""
    """The run that this one goes on from."""
    report: Values = field(default_factory=dict)
    """What `nascli score` and `nascli compress` make of their runs; other commands pass it over."""


@dataclass(frozen=True)
class Prepared:
    """A plan whose every name has become an object, and the settings that repeat it."""

    task: Task
    strategy: Any
    budget: Budget
    resolved: Mapping[str, Any]


def prepare(layers: Layers, *, kind: str) -> Prepared:
    """The task and strategy that the settings describe; `kind` is the strategies' plugin kind (strategy, recipe,
    sweep).

    Raises SettingsError, DataError, UnsupportedError: nothing is written before all names have become objects.
    """
    plan = settings.build(Plan, layers.values, where="nascli", origins=layers.origins)
    device = torch_device(plan.device)
    strategy = _plugin(kind, plan.strategy, layers, "strategy")
    budget = budget_of(plan.budget, layers)
    data = None
    if plan.data:
        from nascli.data.source import read

        data = read(_name(plan.data, "data"), _without_name(plan.data), origins=layers.under("data"))
    space = _space(plan.space, layers, data)
    latency = _plugin("latency", plan.latency, layers, "latency")
    from nascli.engine.objectives import parse
    from nascli.engine.scores import of_record

    proxies = _proxies(plan.proxy)
    compressors = dict(_compressors(plan.compressor))
    objectives = tuple(parse(text, space, proxies) for text in plan.objectives)
    if len({o.name for o in objectives}) < len(objectives):
        raise SettingsError(f"An objective is given twice in {', '.join(plan.objectives)}; give each once.")
    recorded = [of_record(text, space, proxies) for text in plan.record]
    supernet = Path(plan.supernet).resolve() if plan.supernet else None
    if supernet is not None and not supernet.exists():
        raise DataError(f"There is no supernet {plan.supernet!r}; train one with nascli train --out {plan.supernet}.")
    task = Task(
        space=space,
        data=data,
        objectives=objectives,
        recorded=tuple(o for o in recorded if o.name not in {named.name for named in objectives}),
        device=device,
        seed=plan.seed,
        supernet=supernet,
        latency=latency,
        calibration=plan.calibration,
        batch_size=plan.batch_size,
        probing=settings.build(Probing, plan.probe, where="probe", origins=layers.under("probe"), table="probe"),
        proxies=proxies,
        compressors=compressors,
    )
    resolved = settings.plain(replace(plan, device=device, supernet=str(supernet or "")))
    for part, made, name in (
        ("space", space, plan.space.get("name")),
        ("strategy", strategy, plan.strategy.get("name")),
        ("latency", latency, plan.latency.get("name")),
    ):
        resolved[part] = {"name": name, **settings.plain(made)}
    return Prepared(task, strategy, budget, resolved)


def header(task: Task) -> dict[str, Any]:
    """What run.json says of a task: space, objectives, seed, versions, machine."""
    import numpy
    import torch

    from predictors.latency import fingerprint

    objectives = [{"name": o.name, "goal": o.goal, "unit": o.unit, "limit": o.limit} for o in task.objectives]
    return {
        "seed": task.seed,
        "space": task.space.table.name,
        "fingerprint": task.space.table.fingerprint,
        "objectives": objectives,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
        "device": {"torch_device": task.device, **fingerprint(task.device)},
    }


def torch_device(name: str) -> str:
    """The torch device that a --device value means; raises UnsupportedError if it is not on this machine."""
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"{name!r} is no device; give auto, cpu or cuda:0.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UnsupportedError(
            f"This machine has {torch.cuda.device_count()} CUDA devices that torch can use, so there is no {name!r}; "
            "give --device cpu or auto."
        )
    if device.type not in ("cpu", "cuda"):
        raise UnsupportedError(f"Device {name!r} is not supported; give auto, cpu or cuda:0.")
    return str(device) if device.type == "cpu" else f"cuda:{device.index or 0}"


def budget_of(values: Mapping[str, Any], layers: Layers) -> Budget:
    """The budget that the settings give; durations may be written "30m"."""
    values = dict(values)
    if "seconds" in values:
        values["seconds"] = settings.seconds(values["seconds"])
    return settings.build(Budget, values, where="budget", origins=layers.under("budget"))


def _proxies(values: Mapping[str, Any]) -> Mapping[str, Values]:
    for name, given in values.items():
        plugins.target("proxy", name)
        if not isinstance(given, dict):
            raise SettingsError(f"proxy.{name}={given!r} is no table of settings; write proxy.{name}.SETTING=VALUE.")
    return values


def _compressors(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Values]]:
    """Name and settings of each; the dots of a "package.module:Class" have made tables within tables of it."""
    for key, given in values.items():
        name = above + key
        if not isinstance(given, dict):
            plugins.target("compressor", name)
            raise SettingsError(
                f"compressor.{name}={given!r} is no table of settings; write compressor.{name}.SETTING=VALUE."
            )
        if ":" in name or name in plugins.names("compressor"):
            yield name, given
        elif any(isinstance(inner, dict) for inner in given.values()):
            yield from _compressors(given, f"{name}.")
        else:
            plugins.target("compressor", name)


def _plugin(kind: str, values: Mapping[str, Any], layers: Layers, part: str) -> Any:
    name = _name(values, part)
    where = f"{kind} {name!r}"
    cls, given = plugins.load(kind, name), _without_name(values)
    return settings.build(cls, given, where=where, origins=layers.under(part), table=part)


def _space(values: Mapping[str, Any], layers: Layers, data: Any) -> Any:
    """The space, reading what the data give unless the settings say otherwise; refused if the two disagree."""
    name = _name(values, "space")
    cls = plugins.load("space", name)
    given = _without_name(values)
    if data is not None and "signature" not in given and any(f.name == "signature" for f in fields(cls)):
        given["signature"] = settings.plain(data.signature)
    space = settings.build(cls, given, where=f"space {name!r}", origins=layers.under("space"), table="space")
    if data is not None and space.signature.kind != "table" and space.signature != data.signature:
        raise DataError(
            f"The space {name!r} reads {space.signature}, but the data are {data.signature}; "
            "leave space.signature out to take the data's."
        )
    return space


def _name(values: Mapping[str, Any], part: str) -> str:
    if "name" not in values:
        raise SettingsError(f"No {part} is given; name one: --{part} NAME (see nascli plugins ls).")
    return str(values["name"])


def _without_name(values: Mapping[str, Any]) -> Values:
    return {k: v for k, v in values.items() if k != "name"}
