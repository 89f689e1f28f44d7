"""What we care about: each objective says its direction, unit and price, and measures one network.

Prices order the measurements, so that a broken limit on something counted saves a pass over the data:
0 counted or looked up, 1 a few batches, 2 a pass over data, 3 training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nascli import plugins
from nascli.errors import SettingsError, UnsupportedError, did_you_mean
from search_spaces.tabulated import Tabulated

if TYPE_CHECKING:
    from nascli.engine.evaluate import Subject
    from nascli.engine.task import Task
    from search_spaces.space import SearchSpace

Measure = Callable[["Subject", "Task"], "float | Mapping[str, float | np.ndarray]"]
"""The value in the objective's unit, or several named ones of which the objective's own is one; arrays are vectors."""


@dataclass(frozen=True)
class Objective:
    """One thing to minimise or maximise, perhaps within a limit."""

    name: str
    goal: Literal["min", "max"]
    unit: str
    price: int
    measure: Measure
    limit: float | None = None
    """The worst value allowed, in the objective's unit."""

    def cost(self, value: float) -> float:
        """The value as something to minimise."""
        return value if self.goal == "min" else -value

    def violation(self, value: float) -> float:
        """How far the value is beyond the limit, relative to the limit; 0 within it."""
        if self.limit is None:
            return 0.0
        excess = self.cost(value) - self.cost(self.limit)
        return max(0.0, excess / (abs(self.limit) or 1.0))

    def __str__(self) -> str:
        sign = "<=" if self.goal == "min" else ">="
        return f"{self.name}:{self.goal}" + ("" if self.limit is None else f"{sign}{self.limit:g}")


def accuracy(subject: Subject, task: Task) -> float:
    """Top-1 accuracy on the validation split, per cent."""
    return subject.quality("val")["accuracy"]


def loss(subject: Subject, task: Task) -> float:
    """Mean cross-entropy on the validation split, nats."""
    return subject.quality("val")["loss"]


def macs(subject: Subject, task: Task) -> float:
    """Multiply-adds of one example, of convolutions and matrix products; normalisation is not counted."""
    return float(subject.cost.macs)


def params(subject: Subject, task: Task) -> float:
    """Trainable numbers."""
    return float(subject.cost.params)


def size_bytes(subject: Subject, task: Task) -> float:
    """Bytes of the state dict as it would be stored: parameters and buffers."""
    return float(subject.cost.size_bytes)


def nonzero(subject: Subject, task: Task) -> float:
    """Trainable numbers that are not zero: what is left of them where pruning leaves zeros behind."""
    return float(sum(int(p.count_nonzero()) for p in subject.structure.parameters()))


def latency_ms(subject: Subject, task: Task) -> Mapping[str, float]:
    """Milliseconds of a forward pass of one example, by the run's latency model; with its spread where measured."""
    if task.latency is None:
        raise UnsupportedError("latency_ms needs a latency model; give --latency measured, roofline or table.")
    reading = task.latency(subject.structure, subject.example)
    return {"latency_ms": reading.ms, "latency_ms_iqr": reading.iqr_ms}


def judge(
    values: Mapping[str, float],
    objectives: Sequence[Objective],
    error: str = "",
    missing: Mapping[str, str] | None = None,
) -> tuple[tuple[float, ...], str, float]:
    """Costs, error and violation of a network by what was measured of it, now or when it was journalled.

    `missing` says why an objective has no value.
    """
    for objective in objectives:
        if objective.name in values and (violation := objective.violation(values[objective.name])):
            reading = f"{objective.name}={values[objective.name]:.6g} {objective.unit}".rstrip()
            return (), error or f"{reading} breaks the limit {objective}", violation
    if not error and (absent := [o.name for o in objectives if o.name not in values]):
        reason = (missing or {}).get(absent[0], "")
        error = f"{absent[0]}: {reason}" if reason else f"{', '.join(absent)} was not measured"
    if error:
        return (), error, float("inf")
    return tuple(o.cost(values[o.name]) for o in objectives), "", 0.0


ACCURACY = Objective("accuracy", "max", "%", 2, accuracy)
LOSS = Objective("loss", "min", "nats", 2, loss)
MACS = Objective("macs", "min", "MACs", 0, macs)
PARAMS = Objective("params", "min", "parameters", 0, params)
SIZE_BYTES = Objective("size_bytes", "min", "bytes", 0, size_bytes)
NONZERO = Objective("nonzero", "min", "parameters", 0, nonzero)
LATENCY_MS = Objective("latency_ms", "min", "ms", 1, latency_ms)

_SPEC = re.compile(r"(?P<name>[^<>=]+?)(?::(?P<goal>min|max))?\s*(?:(?P<sign><=|>=)\s*(?P<limit>[^<>=]+))?$")


def column(name: str, goal: Literal["min", "max"], unit: str) -> Objective:
    """An objective that looks its value up in the space's own table."""
    return Objective(name, goal, unit, 0, partial(_looked_up, name))


def _looked_up(name: str, subject: Subject, task: Task) -> float:
    return subject.look_up(name)


def parse(text: str, space: SearchSpace, proxies: Mapping[str, Mapping[str, Any]] | None = None) -> Objective:
    """The objective that "accuracy", "latency_ms<=5", "gradsign" or "package.module:OBJECTIVE:min" means.

    A measured space's own columns come before the built-in objectives, and those before proxies, whose settings are in
    `proxies`. Raises SettingsError for unknown names, and for a limit on the wrong side ("accuracy<=70": the limit is
    the worst value allowed).
    """
    found = _SPEC.fullmatch(text.strip())
    if not found:
        raise SettingsError(f"{text!r} is no objective; write NAME, NAME:min, NAME<=LIMIT or NAME>=LIMIT.")
    goal: Literal["min", "max"] | None = found["goal"]  # type: ignore[assignment]
    objective = _named(found["name"], space, proxies or {})
    objective = replace(objective, goal=goal or objective.goal)
    return objective if found["limit"] is None else replace(objective, limit=_limit(text, objective, found))


def _named(name: str, space: SearchSpace, proxies: Mapping[str, Mapping[str, Any]]) -> Objective:
    columns = space.columns if isinstance(space, Tabulated) else {}
    if name in columns:
        return column(name, *columns[name])
    networks = space.signature.kind != "table"
    if columns and not networks and ":" not in name:
        raise SettingsError(f"The table has no column {name!r}.{did_you_mean(name, columns)}")
    known = plugins.names("objective")
    if ":" not in name and name not in known and networks:
        scores = plugins.names("proxy")
        if name not in scores:
            raise SettingsError(f"No objective is called {name!r}.{did_you_mean(name, [*known, *scores, *columns])}")
        from nascli.engine.scores import of_proxy

        return of_proxy(name, proxies.get(name, {}))
    objective = plugins.load("objective", name)
    if isinstance(objective, type):
        from nascli.engine.scores import of_proxy

        return of_proxy(name, proxies.get(name, {}))
    if not isinstance(objective, Objective):
        raise SettingsError(f"{name!r} is a {type(objective).__name__}, neither an Objective nor a proxy.")
    return objective


def _limit(text: str, objective: Objective, found: re.Match[str]) -> float:
    right = "<=" if objective.goal == "min" else ">="
    if found["sign"] != right:
        word = "minimised" if objective.goal == "min" else "maximised"
        raise SettingsError(
            f"{text!r}: {objective.name} is {word}, so its limit is written {objective.name}{right}VALUE."
        )
    try:
        limit = float(found["limit"])
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise SettingsError(f"{text!r}: the limit {found['limit']!r} is not a number.")
    return limit
