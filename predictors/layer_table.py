"""Latency as the sum of its layers' latencies, each timed once on the machine in question and looked up ever after.

A layer is a module without parts, or one of torch's own (attention, an encoder layer). What a network does between its
layers (additions, `torch.relu`, reshaping) is not in the sum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.passes import evaluating, forward, shape
from predictors.protocol import LatencyModel, Reading

FORMAT = 1

_HOW = "docs/latency.md shows how to build one"


class LayerTime(NamedTuple):
    """One row of a table: a layer with its settings, the shapes that go in, and how long it takes."""

    layer: str
    """As torch prints it: "Conv2d(16, 32, kernel_size=(3, 3), stride=(1, 1), bias=False)"."""
    inputs: str
    """Shapes in the order of the arguments, with the type unless it is float32: "1x16x32x32", "1x64:int64"."""
    ms: float
    iqr_ms: float = 0.0


@dataclass(frozen=True)
class Table:
    """The look-up: the sum of the layers' latencies in a JSON file that `write_table` wrote.

    The file holds {"format": 1, "machine": {...}, "layers": [{"layer", "inputs", "ms", "iqr_ms"}, ...]}. Raises
    ScoreError for a file that is no table.
    """

    path: str

    def __post_init__(self) -> None:
        # Read at once: a table that is none would otherwise fail every network of a search, one by one.
        self._times()

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        """See `LatencyModel`. Raises ScoreError naming a layer that the table lacks."""
        known = self._times()
        keys = [call.key for call in _calls(model, inputs, known=known)]
        missing = sorted({key for key in keys if key not in known})
        if missing:
            more = f" (nor {len(missing) - 1} others of this network)" if len(missing) > 1 else ""
            layer, given = missing[0]
            raise ScoreError(
                f"The latency table {self.path!r} has no {layer} on {given}{more}; "
                "time it with predictors.latency.build_table on a network that has it (docs/latency.md)."
            )
        return Reading(math.fsum(known[key] for key in keys), 0.0)

    def _times(self) -> Mapping[tuple[str, str], float]:
        path = Path(self.path)
        try:
            return _read(path, path.stat().st_mtime_ns)
        except OSError as error:
            raise ScoreError(f"The latency table {self.path!r} can't be read ({error.strerror}); {_HOW}.") from None


def build_table(
    networks: Iterable[tuple[nn.Module, tuple[Tensor, ...]]],
    stopwatch: LatencyModel,
    *,
    known: Iterable[LayerTime] = (),
) -> list[LayerTime]:
    """The rows for all layers of these networks, each distinct one timed once; after the `known` rows.

    Layers are timed with the very inputs that reach them, one example or a batch. Raises ScoreError.
    """
    rows = {(row.layer, row.inputs): row for row in known}
    for model, inputs in networks:
        for call in _calls(model, inputs, known=rows):
            if call.key not in rows:
                ms, iqr_ms = stopwatch(_Replay(call), ())
                rows[call.key] = LayerTime(*call.key, ms, iqr_ms)
    return list(rows.values())


def write_table(path: str | Path, rows: Iterable[LayerTime], *, machine: Mapping[str, str | int]) -> None:
    """Write the rows and the `fingerprint` of the machine they were timed on."""
    document = {"format": FORMAT, "machine": dict(machine), "layers": [row._asdict() for row in rows]}
    Path(path).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_table(path: str | Path) -> list[LayerTime]:
    """The rows of a table, to add to. Raises ScoreError for a file that is no table."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] > FORMAT:
            raise ScoreError(f"The latency table {str(path)!r} was written by a newer version; update this one.")
        rows = [
            LayerTime(r["layer"], r["inputs"], float(r["ms"]), float(r.get("iqr_ms", 0))) for r in document["layers"]
        ]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ScoreError(f"{str(path)!r} is no latency table ({type(error).__name__}: {error}); {_HOW}.") from None
    if bad := next((r for r in rows if not (math.isfinite(r.ms) and r.ms >= 0)), None):
        raise ScoreError(f"The latency table {str(path)!r} says {bad.layer} takes {bad.ms} ms; time it again.")
    return rows


@lru_cache(maxsize=8)
def _read(path: Path, changed_ns: int) -> Mapping[tuple[str, str], float]:
    return {(row.layer, row.inputs): row.ms for row in read_table(path)}


# -- the layers of a pass ----------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """A layer at work; what went in is kept only where the layer is still to be timed."""

    key: tuple[str, str]
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _Replay(nn.Module):
    """A layer with its inputs, for a stop-watch that knows only networks."""

    def __init__(self, call: _Call) -> None:
        super().__init__()
        self.layer, self.args, self.kwargs = call.module, call.args, call.kwargs

    def forward(self) -> Any:
        return self.layer(*self.args, **self.kwargs)


def _calls(model: nn.Module, inputs: tuple[Tensor, ...], *, known: Mapping[tuple[str, str], Any]) -> list[_Call]:
    """The layers of one forward pass, in the order in which they are called."""
    calls: list[_Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        key = (describe(module), " ".join(map(_given, given)))
        if key in known:
            args, kwargs = (), {}
        else:  # copies, as a layer may work in place
            args, kwargs = tuple(map(_copied, args)), {name: _copied(value) for name, value in kwargs.items()}
        calls.append(_Call(key, module, args, kwargs))

    with evaluating(model), torch.no_grad(), _hooked(_layers(model), note):
        forward(model, inputs)
    return calls


def describe(layer: nn.Module) -> str:
    """A layer's type and settings, as torch prints them; one that prints none shows its fields and parameters."""
    settings = layer.extra_repr()
    if not settings:
        fields = ((k, v) for k, v in vars(layer).items() if not k.startswith("_") and k != "training")
        plain = [f"{k}={v!r}" for k, v in fields if isinstance(v, int | float | str | tuple)]
        settings = ", ".join([*plain, *(f"{name} {shape(p)}" for name, p in layer.named_parameters())])
    return f"{type(layer).__name__}({settings})"


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The modules to time whole; each once, however often it is called."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        parts = list(module.children())
        holders = nn.Sequential | nn.ModuleList | nn.ModuleDict
        if not parts or (type(module).__module__.startswith("torch.nn.") and not isinstance(module, holders)):
            yield module
        else:
            waiting += parts


@contextmanager
def _hooked(layers: Iterable[nn.Module], note: Any) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _given(tensor: Tensor) -> str:
    kind = "" if tensor.dtype == torch.float32 else f":{str(tensor.dtype).removeprefix('torch.')}"
    return shape(tensor) + kind


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
