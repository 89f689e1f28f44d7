"""A module of a fixed number of channels where there are fewer: those that are gone come in as zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Rewired(nn.Module):
    """A module that knows nothing of removed channels; it computes what it did when they were there and zero.

    `inputs` are the channels that are left before it, of the `of` there were; `outputs` those that are left behind it.
    """

    _places: Tensor
    _outputs: Tensor

    def __init__(self, inner: nn.Module, inputs: Sequence[int], outputs: Sequence[int], of: int) -> None:
        super().__init__()
        self.inner = inner
        self.inputs, self.outputs, self.of = tuple(inputs), tuple(outputs), of
        # Each channel's place among those that are left, or behind them, where there are zeros.
        places = torch.full((of,), len(self.inputs), device="cpu")
        places[list(self.inputs)] = torch.arange(len(self.inputs), device="cpu")
        self.register_buffer("_places", places, persistent=False)
        self.register_buffer("_outputs", torch.tensor(self.outputs, dtype=torch.int64, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From [n, inputs, ...] to [n, outputs, ...]."""
        padded = torch.cat([x, torch.zeros_like(x.narrow(1, 0, 1))], 1)
        result: Tensor = self.inner(padded.index_select(1, self._places))
        return result.index_select(1, self._outputs)

    def extra_repr(self) -> str:
        """How many channels are left."""
        return f"{len(self.inputs)} of {self.of} -> {len(self.outputs)}"
