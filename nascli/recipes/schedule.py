"""How long to train and how fast: a budget of epochs, steps or seconds, a learning rate that follows how much of it
is spent, so that one schedule serves all three, and what makes a step of a gradient.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nascli import training
from nascli.engine.protocol import Search
from nascli.engine.task import Task
from nascli.recipes.precision import Precision

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Span:
    """A part of the budget, from one share of it to another, with its own rise and fall of the learning rate."""

    start: float = 0.0
    end: float = 1.0
    scale: float = 1.0
    """The part's highest learning rate, relative to the recipe's."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What all ways of training have in common: budget, batches, optimiser."""

    epochs: float = 30.0
    """Passes over the training examples; `steps` or `time_limit_s` overrule it."""
    steps: int | None = None
    """Optimiser steps."""
    time_limit_s: float | None = None
    """Seconds of training, those before a resume included; the learning rate then follows the clock."""
    batch: int = 64
    """Examples a step. What is left over at the end of an epoch is left out: all steps are alike."""
    lr: float = 0.2
    """The highest learning rate: reached after the ramp, then falling to 0 along a cosine."""
    ramp: float = 0.05
    """The share of the budget over which the learning rate rises."""
    weight_decay: float = 3e-5
    smoothing: float = 0.1
    """Label smoothing."""
    clip: float = 1.0
    """Gradients are clipped by value to this; inf: not at all."""
    precision: Precision = "single"
    """Of the passes: bfloat16 is faster where processors have instructions for it, and slower elsewhere."""
    report_steps: int = 50
    """Steps between two reports, unless two seconds pass first."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.time_limit_s is not None:
            raise ValueError(f"steps={self.steps} and time_limit_s={self.time_limit_s:g} exclude each other; give one")
        for name in ("epochs", "steps", "time_limit_s", "batch", "lr", "clip", "report_steps"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r} must be more than 0")
        for name in ("ramp", "smoothing"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value!r} must be at least 0 and less than 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay={self.weight_decay!r} must not be negative")

    def optimiser(self, model: nn.Module) -> Optimizer:
        """What makes the steps: SGD with Nesterov's momentum of 0.9; vectors do not decay."""
        return training.sgd(model, lr=self.lr, weight_decay=self.weight_decay)

    def step(self, optimiser: Optimizer, losses: Iterable[Tensor]) -> Tensor:
        """The mean of the losses [] after one step, see `training.step`; gradients are clipped by value."""
        return training.step(optimiser, losses, clip=self.clip)

    def spent(self, step: int, elapsed_s: float, *, steps_an_epoch: int) -> float:
        """The share of the budget used up after `step` steps and `elapsed_s` seconds of training; 1 is all."""
        if self.time_limit_s is not None:
            return elapsed_s / self.time_limit_s
        return step / (self.steps or math.ceil(self.epochs * steps_an_epoch))

    def rate(self, spent: float, span: Span) -> float:
        """The learning rate at this share of the budget: a line from a tenth of the peak to it, then a cosine to 0."""
        local = min(1.0, (spent - span.start) / (span.end - span.start))
        peak = self.lr * span.scale
        if local < self.ramp:
            return peak * (0.1 + 0.9 * local / self.ramp)
        return peak * 0.5 * (1 + math.cos(math.pi * (local - self.ramp) / (1 - self.ramp)))


@dataclass(frozen=True, kw_only=True)
class Recipe(Schedule, ABC):
    """A way of training that is a strategy: it ends by proposing what it has trained."""

    @abstractmethod
    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`."""
