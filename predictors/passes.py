"""Forward passes that leave the network as it was, and say what went in when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from predictors import ScoreError


def forward(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """What the model returns. Raises ScoreError with the inputs' shapes for whatever a foreign model
    raises, which may be anything; running out of memory passes as it is.
    """
    try:
        return model(*inputs)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        given = ", ".join(shape(t) for t in inputs)
        what = f"{type(model).__name__} fails on inputs of shape {given} ({first})"
        raise ScoreError(f"{what}; give examples of the shape that it reads.") from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while; each part gets its own mode back, as parts may differ."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def shape(tensor: Tensor) -> str:
    """A tensor's shape as "1x3x32x32"; "scalar" for none."""
    return "x".join(map(str, tensor.shape)) or "scalar"
