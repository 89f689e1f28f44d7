"""From a network to a trial: build it, give it weights, measure cheap things first, stop at a broken limit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nascli import training
from nascli.data import Data, Split
from nascli.engine import checkpoints
from nascli.engine.network import Network
from nascli.engine.objectives import judge
from nascli.engine.probing import probe
from nascli.engine.protocol import Trial
from nascli.engine.task import Task
from nascli.errors import DataError, NascliError, UnsupportedError
from predictors import DeadNetworkError, ScoreError
from predictors.cost import Cost, count
from predictors.probe import Probe
from search_spaces.errors import SpaceError
from search_spaces.space import SearchSpace
from search_spaces.tabulated import Tabulated

log = logging.getLogger(__name__)


class Subject:
    """A network under measurement. Each thing about it is made when an objective first reads it, and only once."""

    def __init__(self, network: Network, task: Task) -> None:
        self.network = network
        self.task = task
        self._quality: dict[str, Mapping[str, float]] = {}

    @cached_property
    def structure(self) -> nn.Module:
        """The network with its weights, on the device, in evaluation mode; BatchNorm statistics are not re-estimated.

        Enough for what does not depend on the statistics: cost and latency.
        """
        return assemble(self.network, self.task).eval()

    @cached_property
    def model(self) -> nn.Module:
        """The network as it would be used: evaluation mode, statistics re-estimated if its weights are inherited."""
        model = self.structure
        if self.task.supernet is not None and self.network.tensors is None:
            head = _data(self.task).train.head(self.task.calibration)
            with _draws(self.task, f"calibrate/{self.network.key}"):
                training.calibrate(model, head.batches(self.task.batch_size, device=self.task.device))
        return model

    @cached_property
    def example(self) -> tuple[Tensor, ...]:
        """The inputs of one example on the device: real data, or noise of the space's shape where there are none."""
        if self.task.data is not None:
            return next(self.task.data.val.head(1).batches(1, device=self.task.device)).inputs
        signature = self.task.space.signature
        if signature.kind != "image":
            raise UnsupportedError(f"Measuring a {signature.kind} network needs data; give --data.")
        return (torch.zeros(1, *signature.shape, device=self.task.device),)

    @cached_property
    def probes(self) -> list[Probe]:
        """The network as initialised, under the probe: one for each fresh initialisation that the task asks for."""
        task = self.task
        models = [self.structure, *(assemble(self.network, task, again=i) for i in range(1, task.probing.repeats))]
        return [probe(self.network.arch, model, task) for model in models]

    @cached_property
    def cost(self) -> Cost:
        """Parameters, MACs and bytes, counted."""
        return count(self.structure, self.example)

    def quality(self, split: str) -> Mapping[str, float]:
        """Accuracy in per cent and mean loss on "val" or "test"; the one road to them, so never uncalibrated.

        A network that draws numbers, as cells with noise do, draws the same ones whenever it is measured.
        """
        if split not in self._quality:
            examples: Split = {"val": _data(self.task).val, "test": _data(self.task).test}[split]
            size, device = self.task.batch_size, self.task.device
            model = self.model
            with _draws(self.task, f"evaluate/{split}/{self.network.key}"):
                self._quality[split] = training.evaluate(model, examples, batch_size=size, device=device)
        return self._quality[split]

    def look_up(self, column: str) -> float:
        """What the space's own table says of the architecture."""
        if not isinstance(self.task.space, Tabulated):
            raise UnsupportedError(f"The space {self.task.space.table.name!r} has no table to look {column!r} up in.")
        return self.task.space.look_up(self.network.arch, column)


def assemble(network: Network, task: Task, *, again: int = 0) -> nn.Module:
    """The module on the task's device: with its own tensors, else the supernet's, else fresh ones by seed and key.

    `again` tells further fresh initialisations apart.
    """
    stream = f"init/{network.key}" + (f"/{again}" if again else "")
    # Networks are made on the CPU; torch.manual_seed would also reset the generators of all GPUs.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(task.entropy(stream))
        if network.tensors is None and task.supernet is not None:
            source = supernet(task.space, task.supernet, task.device)
            inherited = task.space.inherit(source, network.arch)
            network = replace(network, tensors=inherited)
        return network.build(task.space).to(task.device)


@lru_cache(maxsize=1)
def supernet(space: SearchSpace, path: Path, device: str) -> nn.Module:
    """The space's supernet with a checkpoint's weights; read once a process. Raises DataError if they don't fit."""
    model = space.supernet()
    fill(model, space, path)
    return model.to(device).eval()


def fill(model: nn.Module, space: SearchSpace, path: Path) -> Path:
    """The file whose weights the space's supernet now has: `path`, or in a run. Raises DataError if they don't fit."""
    file = path / "supernet.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise DataError(f"{path} holds no trained supernet (supernet.safetensors); train one with nascli train.")
    tensors = checkpoints.read_tensors(file)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        detail = lines[1].strip() if len(lines) > 1 else lines[0]
        raise DataError(
            f"{file} is no supernet of this {space.table.name!r} space ({detail[:160]}); "
            "search with the space settings it was trained with, or train another."
        ) from None
    return file


def measure(network: Network, task: Task) -> Trial:
    """The trial of one network: objectives by price, none after the first broken limit; a failure is a trial too."""
    subject = Subject(network, task)
    values: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    missing: dict[str, str] = {}
    error = ""
    started = time.perf_counter()
    try:
        for objective in sorted((*task.objectives, *task.recorded), key=lambda o: o.price):
            try:
                reading = objective.measure(subject, task)
            except ScoreError as unscored:
                # What one proxy cannot score, another one may: the reason is kept and the rest measured.
                missing[objective.name] = f"{'dead: ' * isinstance(unscored, DeadNetworkError)}{unscored}"
                continue
            found = dict(reading) if isinstance(reading, Mapping) else {objective.name: reading}
            vectors |= {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
            numbers = {name: float(value) for name, value in found.items() if name not in vectors}
            values |= {name: value for name, value in numbers.items() if math.isfinite(value)}
            if objective.name not in values:
                error = f"{objective.name} is {numbers.get(objective.name, 'missing')}"
                break
            if objective in task.objectives and objective.violation(values[objective.name]):
                break
    except NascliError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        error = "out of memory"
    except SpaceError as refused:
        error = str(refused)
    except Exception as failure:
        # One network must not end the search: the trial says what happened, the log has the traceback.
        log.debug("measuring %s failed", network.key, exc_info=True)
        first = str(failure).strip().partition("\n")[0][:200]
        said = f"{type(failure).__name__}: {first}" if first else type(failure).__name__
        error = "out of memory" if "allocate memory" in str(failure) else said
    costs, error, violation = judge(values, task.objectives, error, missing)
    seconds = time.perf_counter() - started
    return Trial(-1, network.key, network, values, costs, error, violation, seconds, missing, vectors)


@contextmanager
def _draws(task: Task, stream: str) -> Iterator[None]:
    """Inside, what is drawn from torch's generators is the named stream's; afterwards they are as they were."""
    device = torch.device(task.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(task.entropy(stream))
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(task.entropy(stream))
        yield


def _data(task: Task) -> Data:
    if task.data is None:
        raise UnsupportedError("Accuracy needs data; give --data NAME.")
    return task.data
