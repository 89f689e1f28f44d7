"""How long a forward pass takes: timed here, added up from timed layers, or estimated from its arithmetic and traffic.

All take the network as it is, in evaluation mode: BatchNorm is not folded into convolutions, and nothing is compiled.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.layer_table import LayerTime, Table, build_table, write_table
from predictors.operations import operations
from predictors.passes import evaluating, forward, shape
from predictors.protocol import LatencyModel, Reading

__all__ = [
    "LatencyModel",
    "LayerTime",
    "Measured",
    "Reading",
    "Roofline",
    "Table",
    "build_table",
    "fingerprint",
    "write_table",
]

_FEWEST = 3
"""Passes timed even if they take longer than `max_ms`: fewer have no interquartile range."""


@dataclass(frozen=True)
class Measured:
    """The stop-watch: the median of single forward passes on the device where the model lies, and their spread.

    Each pass is timed alone, on CUDA between two events with nothing else queued, so the result is a latency and not a
    throughput. Every pass counts, so one that was interrupted is an outlier that the median drops. That is why
    `torch.utils.benchmark.Timer` is not used: it times blocks of 10 to 1,000 short passes, which averages interruptions
    into every sample (on a busy machine its medians of small nets came out a third to two thirds higher), queues a
    block's passes on a GPU, and takes a single sample, with a spread of 0, of a pass longer than its time budget.

    One thread is the default: small networks gain little from more, workers beside this one disturb a single thread
    least, and the number means the same on every machine. Measure with no other worker running where it matters.
    """

    threads: int = 1
    """CPU threads of one operation; the process's own number is set again afterwards."""
    warmup: int = 3
    """Passes before timing starts: the first ones allocate memory and choose kernels."""
    repeats: int = 20
    """Passes timed at least."""
    min_ms: float = 100.0
    """Time to go on for at least, so that tiny networks are timed thousands of times."""
    max_ms: float = 3000.0
    """Time after which to stop, once three passes are timed."""
    batch: int = 1
    """Copies of the example in one pass; the result is the time of the whole pass."""

    def __post_init__(self) -> None:
        if min(self.threads, self.warmup, self.repeats, self.batch) < 1:
            raise ValueError("threads, warmup, repeats and batch must be at least 1.")
        if not 0 < self.min_ms <= self.max_ms:
            raise ValueError(f"min_ms must be above 0 and at most max_ms, but got {self.min_ms:g} and {self.max_ms:g}.")

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        """See `LatencyModel`. Raises ScoreError if a pass fails, or for a batch of inputs that are not one example."""
        device = _device(model, inputs)
        ready = tuple(_copies(t, self.batch).to(device) for t in inputs)
        with evaluating(model), torch.inference_mode(), _quiet(self.threads):
            for _ in range(self.warmup):
                forward(model, ready)
            times = self._times(lambda: model(*ready), _stopwatch(device))
        low, median, high = np.percentile(times, (25, 50, 75))
        return Reading(float(median), float(high - low))

    def _times(self, run: Callable[[], Any], stopwatch: Callable[[Callable[[], Any]], float]) -> list[float]:
        times: list[float] = []
        total = 0.0
        while len(times) < self.repeats or total < self.min_ms:
            if total >= self.max_ms and len(times) >= _FEWEST:
                break
            times.append(stopwatch(run))
            total += times[-1]
        return times


@dataclass(frozen=True)
class Roofline:
    """The analytic bound: each operation takes the longer of its arithmetic and its memory traffic, plus an overhead.

    Two FLOPs a multiply-add; every operand comes from memory and every result goes there, as if there were no caches.
    Good for ranking, and for machines that are not at hand (Williams, Waterman & Patterson 2009).
    """

    gflops: float
    """Sustained arithmetic, 1e9 FLOP/s."""
    gbytes_per_s: float
    """Sustained memory traffic, 1e9 bytes/s."""
    overhead_us: float = 0.0
    """What starting one operation costs, microseconds."""

    def __post_init__(self) -> None:
        if self.gflops <= 0 or self.gbytes_per_s <= 0 or self.overhead_us < 0:
            raise ValueError("gflops and gbytes_per_s must be above 0, and overhead_us not below 0.")

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
        """See `LatencyModel`; operations whose MACs can't be counted take their memory time."""
        found = operations(model, tuple(t.to(_device(model, inputs)) for t in inputs))
        seconds = sum(
            max(2 * o.macs / (self.gflops * 1e9), o.moved_bytes / (self.gbytes_per_s * 1e9)) + self.overhead_us / 1e6
            for o in found
        )
        return Reading(1e3 * seconds, 0.0)


def fingerprint(device: str | torch.device = "cpu") -> dict[str, str | int]:
    """What a latency was measured on, as JSON values: processor, cores, threads, versions, accelerator."""
    place = torch.device(device)
    found: dict[str, str | int] = {
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    if place.type == "cuda" and torch.cuda.is_available():
        found |= {"accelerator": torch.cuda.get_device_name(place), "cuda": str(torch.version.cuda)}
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _device(model: nn.Module, inputs: tuple[Tensor, ...]) -> torch.device:
    first = next(chain(model.parameters(), model.buffers(), inputs), None)
    return torch.device("cpu") if first is None else first.device


def _copies(example: Tensor, batch: int) -> Tensor:
    if batch == 1:
        return example
    if example.dim() == 0 or example.shape[0] != 1:
        raise ScoreError(f"A batch of {batch} is made of copies of one example, but the input is {shape(example)}.")
    return example.expand(batch, *example.shape[1:]).contiguous()


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """A fixed number of threads and no garbage collection for a while."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def _stopwatch(device: torch.device) -> Callable[[Callable[[], Any]], float]:
    """What times one call in milliseconds on such a device."""
    if device.type == "cuda":
        return lambda run: _between_events(run, device)
    return _on_cpu if device.type == "cpu" else _on_accelerator


def _on_cpu(run: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _on_accelerator(run: Callable[[], Any]) -> float:
    torch.accelerator.synchronize()
    start = time.perf_counter_ns()
    run()
    torch.accelerator.synchronize()
    return (time.perf_counter_ns() - start) / 1e6


def _between_events(run: Callable[[], Any], device: torch.device) -> float:
    with torch.cuda.device(device):
        start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))
