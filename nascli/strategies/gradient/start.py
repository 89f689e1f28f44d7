"""Where a relaxed search starts: a fresh supernet with open weights, or a saved one with those it was left with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from nascli import training
from nascli.engine.evaluate import fill
from nascli.engine.files import read_json
from nascli.engine.task import Task
from nascli.errors import DataError, SettingsError, UnsupportedError
from nascli.strategies.gradient.gated_net import option_macs
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.rows import Rows, padded
from search_spaces.errors import SpaceError
from search_spaces.space import PartialChannels

if TYPE_CHECKING:
    from nascli.strategies.gradient.relaxed import Relaxed


@dataclass(frozen=True)
class Beginning:
    """A supernet, its architecture weights, and what its options cost."""

    supernet: nn.Module
    mixture: Mixture
    macs: tuple[float, Tensor] | None
    """See `option_macs`; None if nothing is to be limited."""
    trained: bool
    """Whether the supernet came trained."""


def beginning(settings: Relaxed, task: Task) -> Beginning:
    """The start that the settings and the task describe.

    Raises UnsupportedError if the space has no supernet or no partial channels, DataError for a file that is no
    supernet of the space, SettingsError for a limit that no network can keep.
    """
    rows = Rows.of(task.space)
    supernet = new_supernet(settings.partial_channels, task)
    rng = task.rng("gradient/alpha")
    scale = settings.alpha_noise if settings.alpha == "learnt" else 0.0
    logits = _noise(rng, rows.valid.shape, scale) * rows.valid
    edges = _noise(rng, (len(rows.names),), scale) if settings.edge_weights == "learnt" else None
    if task.supernet is not None:
        logits, edges = _load(task.supernet, supernet, rows, task, logits=logits, edges=edges)
    mixture = Mixture(rows, logits, relaxation=settings.relaxation, edges=edges, device=task.device)
    macs = None
    if settings.max_macs is not None:
        macs = _costs(settings.max_macs, supernet.to(task.device), mixture, task)
    return Beginning(supernet, mixture, macs, task.supernet is not None)


def ready(supernet: nn.Module, task: Task) -> nn.Module:
    """The supernet on the task's device, in training mode, its tensors laid out for speed."""
    moved: nn.Module = supernet.to(task.device).train()
    moved.to(memory_format=training.memory_format(moved))  # type: ignore[call-overload]
    return moved


def new_supernet(parts: int, task: Task) -> nn.Module:
    """A fresh supernet by the run's seed, mixed on one of so many parts of the channels; raises UnsupportedError."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(task.entropy("init"))
            if parts == 1:
                return task.space.supernet()
            if not isinstance(task.space, PartialChannels):
                raise UnsupportedError(
                    f"The space {task.space.table.name!r} has no supernet of partial channels; leave "
                    "strategy.partial_channels at 1, or take darts or nb201."
                )
            return task.space.partial_supernet(parts)
    except SpaceError as error:
        raise UnsupportedError(f"There is no supernet to search ({error})") from None


def _load(
    path: Path, supernet: nn.Module, rows: Rows, task: Task, *, logits: Tensor, edges: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Put the saved weights into the supernet; the saved logits, or even ones if the file has none."""
    file = fill(supernet, task.space, path)
    beside = file.with_suffix(".json")
    saved: Any = read_json(beside) if beside.is_file() else {}
    alpha = saved.get("alpha") if isinstance(saved, dict) else None
    if alpha is None:
        return torch.zeros_like(logits), None if edges is None else torch.zeros_like(edges)
    found = [alpha.get(name, []) for name in rows.names]
    if tuple(map(len, found)) != rows.counts:
        raise DataError(f"{beside} has architecture weights of other choices than {task.space.table.name!r} has.")
    into = saved.get("edges") or {}
    if edges is not None:
        edges = torch.tensor([float(into.get(name, 0.0)) for name in rows.names])
    return padded(found, width=logits.shape[1]), edges


def _costs(limit: float, supernet: nn.Module, mixture: Mixture, task: Task) -> tuple[float, Tensor]:
    shape = (1, *task.space.signature.shape)
    inputs = (torch.zeros(shape, device=task.device),)
    base, costs = option_macs(supernet.eval(), mixture, inputs)
    supernet.train()
    if base > limit:
        raise SettingsError(
            f"max_macs={limit:g} can't be kept: the supernet with its cheapest options takes {base:,.0f} MACs."
        )
    return base, costs


def described(mixture: Mixture) -> dict[str, Any]:
    """Architecture weights as JSON, by choice: "alpha" with the logits of its options, "edges" with its own."""
    rows = mixture.rows
    alpha = {n: row[:c].tolist() for n, row, c in zip(rows.names, mixture.logits.detach(), rows.counts, strict=True)}
    if mixture.edges is None:
        return {"alpha": alpha}
    return {"alpha": alpha, "edges": dict(zip(rows.names, mixture.edges.tolist(), strict=True))}


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Tensor:
    return torch.from_numpy(scale * rng.standard_normal(shape)).float()
