"""A network that learns from another one: from its outputs (Hinton et al. 2015, arXiv:1503.02531) and its features."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nascli import training
from nascli.compressors.features import Features
from nascli.engine.network import Edit
from nascli.recipes.schedule import Schedule
from nascli.recipes.session import Losses, Moment
from search_spaces.keep import Keep
from search_spaces.space import Batch


@dataclass(frozen=True, kw_only=True)
class Taught(Schedule, ABC):
    """A budget in which a small network is trained by labels and by the dense one that it came from."""

    distil: float = 0.9
    """How much of the loss comes from the dense network's outputs instead of the labels, from 0 to 1."""
    temperature: float = 4.0
    """By which both networks' logits are divided when the one teaches the other."""
    features: float = 5.0
    """How much is added to the loss for what is left in the network's normalisation layers: the square difference to
    what the dense network has there, relative to that. 0: nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.distil <= 1:
            raise ValueError(f"distil={self.distil!r} must lie between 0 and 1: it is a share of the loss")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature!r} must be more than 0")
        if not 0 <= self.features < math.inf:
            raise ValueError(f"features={self.features!r} must be at least 0; 0 leaves features alone")

    def watched(self, model: nn.Module, teacher: nn.Module, edit: Edit) -> Features | None:
        """What is left in the model's layers beside what the teacher has there, if that is to be learnt from."""
        return Features(model, teacher, edit) if self.features and isinstance(edit, Keep) else None

    def losses(self, model: nn.Module, teacher: nn.Module, features: Features | None = None) -> Losses:
        """What the model learns from: labels, the teacher's outputs, its features if there are some; one loss []."""

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            logits = model(*batch.inputs)
            loss = (1 - self.distil) * batch.losses(logits, smoothing=self.smoothing).mean()
            if self.distil or features is not None:
                with torch.no_grad():
                    answer = teacher(*batch.inputs)
            if self.distil:
                # By the square of the temperature, as gradients of softened outputs are smaller by it.
                soft = training.distilled(batch, logits, answer, temperature=self.temperature).mean()
                loss = loss + self.distil * self.temperature**2 * soft
            if features is not None:
                loss = loss + self.features * features.loss()
            yield loss

        return losses
