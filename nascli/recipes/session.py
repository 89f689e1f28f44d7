"""A model in training, from one report to the next: what every recipe does around its own way to compute a loss.

All randomness is named after the step or epoch it belongs to, so that training goes on from a saved state exactly as if
it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nascli import training
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import DataError, UnsupportedError
from nascli.recipes.precision import run_in
from nascli.recipes.randomness import generators, seeded
from nascli.recipes.schedule import Schedule, Span
from nascli.recipes.stream import Stream
from search_spaces.space import Batch

REPORT_S = 2.0
"""Seconds after which a report is due, however few steps were made."""


@dataclass(frozen=True)
class Moment:
    """Where training stands when a batch is used."""

    step: int
    spent: float
    """The share of the budget used up so far, in [0, 1)."""


Losses = Callable[[Batch, Moment], Iterable[Tensor]]
"""What to learn from a batch: one loss [] a network; each is differentiated before the next is asked for."""

After = Callable[[Moment], None]
"""What is done to the model after an optimiser step; the moment's step counts those made."""


class Session:
    """A model, its optimiser, and how far they have come; `notes` are the recipe's own and saved with the state."""

    def __init__(
        self, recipe: Schedule, task: Task, *, model: nn.Module, state: Mapping[str, Any] | None = None
    ) -> None:
        if task.data is None:
            raise UnsupportedError("Training needs data; give --data NAME.")
        self._recipe, self._task, self._examples = recipe, task, task.data.train
        if not len(self._examples):
            raise DataError("There are no training examples; give data with at least one.")
        self.notes: dict[str, Any] = {}
        self._step, self._elapsed_s = 0, 0.0
        self.exchange(model)
        if state is not None:
            self.model.load_state_dict(state["model"])
            # The optimiser would otherwise work on the state's own tensors.
            self._optimiser.load_state_dict(at_rest(state["optimizer"]))
            self._step, self._elapsed_s = int(state["step"]), float(state["elapsed_s"])
            self.notes = dict(state["notes"])
        self._batches = Stream(self._examples, recipe.batch, task, name="train")
        self._batches.seek(self._step)

    @property
    def spent(self) -> float:
        """The share of the budget used up."""
        return self._recipe.spent(self._step, self._elapsed_s, steps_an_epoch=self._steps_an_epoch)

    @property
    def tag(self) -> str:
        """What tells a network trained so far from the same one trained further: "step400"."""
        return f"step{self._step}"

    def restart(self) -> None:
        """Forget the optimiser's momentum, because the weights have changed their meaning."""
        self._optimiser = self._recipe.optimiser(self.model)

    def exchange(self, model: nn.Module) -> None:
        """Go on with another model, from the same place in the budget and in the data; momentum is forgotten."""
        self.model = model.to(self._task.device)
        self.model.to(memory_format=training.memory_format(model))  # type: ignore[call-overload]
        self.model.train()
        self.restart()

    def run(
        self, losses: Losses, span: Span = Span(), *, until: float | None = None, after: After | None = None
    ) -> Search:
        """Steps that report and offer the state, until this part of the budget is spent. Raises DivergedError.

        With `until`, only so much of the whole budget is spent now, while the learning rate goes by the span all the
        same. `after` is called after every optimiser step, with the learning rate still set.
        """
        end = span.end if until is None else until
        while self.spent < end:
            metrics = self._advance(losses, span, end, after)
            yield Step(metrics=metrics, state=self.state)

    def state(self) -> dict[str, Any]:
        """Copies on the CPU of all that training goes on from; readable by torch.load(weights_only=True)."""
        parts = {"model": self.model.state_dict(), "optimizer": self._optimiser.state_dict(), "notes": self.notes}
        return {**at_rest(parts), "step": self._step, "elapsed_s": self._elapsed_s}

    @property
    def optimiser(self) -> Optimizer:
        """What makes the steps of the present model."""
        return self._optimiser

    def _advance(self, losses: Losses, span: Span, end: float, after: After | None) -> dict[str, float]:
        """Train until a report is due; the report."""
        recipe, task, first, before = self._recipe, self._task, self._step, self._elapsed_s
        started = time.perf_counter()
        rate = 0.0
        examples = 0
        total = torch.zeros((), device=task.device)
        with torch.random.fork_rng(devices=generators(task.device)):
            while True:
                batch = self._batches.next()
                rate = recipe.rate(self.spent, span)
                for group in self._optimiser.param_groups:
                    group["lr"] = rate
                # For what draws from torch's own generators: dropout, mostly.
                seeded(task.entropy(f"train/torch/{self._step}"), task.device)
                at = Moment(self._step, self.spent)
                found = run_in(recipe.precision, task.device, partial(losses, batch, at))
                # Added up on the device: to read a loss would wait for the step to end.
                total += recipe.step(self._optimiser, found)
                self._step += 1
                if after is not None:
                    after(Moment(self._step, self.spent))
                examples += len(batch.inputs[0])
                self._elapsed_s = before + time.perf_counter() - started
                late = self._elapsed_s - before >= REPORT_S
                if late or self._step - first >= recipe.report_steps or self.spent >= end:
                    break
        loss = training.finite(total.item() / (self._step - first), step=self._step)
        self._elapsed_s = before + time.perf_counter() - started
        return {
            "loss": loss,
            "lr": rate,
            "step": float(self._step),
            "epoch": self._step / self._steps_an_epoch,
            "progress": min(1.0, self.spent),
            "images_per_s": examples / (self._elapsed_s - before),
            "seconds": self._elapsed_s,
        }

    @property
    def _steps_an_epoch(self) -> int:
        return self._batches.steps_an_epoch


def at_rest(value: Any) -> Any:
    """The value with every tensor in it copied to the CPU; dicts, lists and tuples are walked."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {k: at_rest(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [at_rest(v) for v in value]
    return value
