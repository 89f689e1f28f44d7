"""The loops everyone shares: one optimiser step, BatchNorm statistics estimated anew, accuracy and loss of a split.

A network cut from a supernet has no statistics of its own. Without an estimate from data its accuracy says next to
nothing, and a few hundred examples already mend that (Yu & Huang 2019, arXiv:1903.05134).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.hooks import RemovableHandle

from nascli.errors import DataError, NascliError
from search_spaces.space import Batch, Gates

if TYPE_CHECKING:
    from nascli.data import Split


ONEDNN_BLOCK = 16
"""Channels that oneDNN's convolutions work on at once with AVX-512; 8 with AVX2."""


class DivergedError(NascliError):
    """Training came to a loss that is no number."""

    code: ClassVar[str] = "DIVERGED"


# -- measuring ---------------------------------------------------------------------------------------------------------


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    batch_size: int,
    device: str,
    gates: Gates | None = None,
    normalised_by: Literal["statistics", "batch"] = "statistics",
) -> dict[str, float]:
    """Accuracy in per cent ("accuracy") and mean cross-entropy in nats ("loss") of a whole split, in evaluation mode.

    A supernet needs gates, and has no statistics that fit them: cut a network from it and calibrate that, or let the
    batches themselves normalise, which is training mode. Raises DataError if the split is empty. The model is left in
    the modes it was in, and its buffers as they were.
    """
    named = {} if gates is None else {"gates": gates}
    loss, right = torch.zeros(2, dtype=torch.float64, device=device)
    examples = targets = 0
    # Not inference mode: what a foreign model keeps from a pass (a mask, a table) must still be usable in training.
    with torch.no_grad(), _kept_modes(model), _kept_buffers(model if normalised_by == "batch" else None):
        model.train(normalised_by == "batch")
        for batch in split.batches(batch_size, device=device):
            logits = model(*batch.inputs, **named)
            losses, correct = batch.losses(logits), batch.correct(logits)
            loss += losses.sum(dtype=torch.float64)
            right += correct.sum()
            examples += len(losses)
            targets += len(correct)
    if not examples:
        raise DataError("There are no examples to evaluate on; give a split of at least one.")
    return {"accuracy": 100 * right.item() / targets, "loss": loss.item() / examples}


def calibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Nothing; afterwards every BatchNorm's running statistics are those of the data, averaged over the batches.

    While the data run through, each layer normalises with the statistics of the batch, as in training; the averages
    weigh a batch by its size, and the variance is the biased one that normalising uses. A single example after the
    first batch is left out: it has no spread. All else, modes included, is as before; a model without such layers is
    not run. Raises DataError if there are no batches.
    """
    layers = [m for m in model.modules() if isinstance(m, BatchNorm) and m.running_mean is not None]
    if not layers:
        return
    with torch.no_grad(), _kept_modes(model):
        model.eval()
        readings = [_Reading(layer) for layer in layers]
        seen = 0
        try:
            for batch in batches:
                if not seen or len(batch.inputs[0]) > 1:
                    model(*batch.inputs)
                    seen += 1
        finally:
            for reading in readings:
                reading.end()
        for reading in readings:
            reading.apply()
    if not seen:
        raise DataError("There are no examples to estimate BatchNorm statistics from; give at least one.")


class _Reading:
    """The statistics of one layer's inputs, read off its own running statistics: with momentum 1 they are a batch's."""

    def __init__(self, layer: BatchNorm) -> None:
        self._layer = layer
        self._momentum = layer.momentum
        self._before = [t.clone() for t in self._buffers()]
        self._count = 0
        mean, *_ = self._buffers()
        self._sums = torch.zeros(2, len(mean), dtype=torch.float64, device=mean.device)
        layer.reset_running_stats()  # momentum 1 forgets numbers, but not NaN
        layer.momentum, layer.training = 1.0, True
        self._hook: RemovableHandle = layer.register_forward_hook(self._read)

    def end(self) -> None:
        """Put everything back as it was."""
        self._hook.remove()
        self._layer.momentum = self._momentum
        for buffer, value in zip(self._buffers(), self._before, strict=True):
            buffer.copy_(value)

    def apply(self) -> None:
        """Make the averages the layer's running statistics, unless it was never reached."""
        if self._count:
            for buffer, value in zip(self._buffers(), self._sums / self._count, strict=False):
                buffer.copy_(value)

    def _read(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        mean, variance, *_ = self._buffers()
        count = inputs[0].numel() // len(mean)
        # torch keeps the unbiased variance; (count - 1) / count makes it the biased one.
        self._sums += torch.stack((mean.double() * count, variance.double() * (count - 1)))
        self._count += count

    def _buffers(self) -> list[Tensor]:
        buffers = (self._layer.running_mean, self._layer.running_var, self._layer.num_batches_tracked)
        return [b for b in buffers if b is not None]


@contextmanager
def _kept_modes(model: nn.Module) -> Iterator[None]:
    """Gives every module its mode back, frozen parts of a model in training too."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _kept_buffers(model: nn.Module | None) -> Iterator[None]:
    """Gives every buffer its values back; training mode writes running statistics."""
    kept = [] if model is None else [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, values in kept:
            buffer.copy_(values)


# -- training ----------------------------------------------------------------------------------------------------------


def sgd(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    acceleration: Literal["heavy-ball", "nesterov"] = "nesterov",
    decayed: Literal["all", "weights"] = "weights",
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum, Nesterov's or the older one.

    Of decayed "weights", vectors (biases, normalisation) do not decay.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": weight_decay if decayed == "all" else 0.0},
    ]
    nesterov = acceleration == "nesterov" and momentum > 0
    return torch.optim.SGD([g for g in groups if g["params"]], lr=lr, momentum=momentum, nesterov=nesterov)


def memory_format(model: nn.Module) -> torch.memory_format:
    """How the model's tensors should lie while it trains: channels last, or as they are where that is not safe.

    Channels last, depth-wise convolutions train more than twice as fast on CPUs, others a little faster. But the
    gradient of a strided 1x1 convolution of few channels then writes beyond its memory (oneDNN's issue 6035).
    """
    pointwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    strided = [m for m in pointwise if max(m.stride) > 1]
    unsafe = any(m.in_channels // m.groups < ONEDNN_BLOCK for m in strided)
    return torch.contiguous_format if unsafe else torch.channels_last


def step(
    optimiser: torch.optim.Optimizer,
    losses: Iterable[Tensor],
    *,
    clip: float = math.inf,
    clip_by: Literal["value", "norm"] = "value",
) -> Tensor:
    """The mean of the losses [], still on the device, after one step down the sum of their gradients.

    Each loss is differentiated before the next is asked for, so that only one network's activations are held at a
    time. Gradients are clipped by value, to [-clip, clip], or all together by their norm.
    """
    optimiser.zero_grad()
    values = []
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
        values.append(loss.detach())
    if clip < math.inf:
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        if clip_by == "norm":
            nn.utils.clip_grad_norm_(trained, clip)
        else:
            nn.utils.clip_grad_value_(trained, clip)
    optimiser.step()
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def distilled(batch: Batch, logits: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Cross-entropies to a teacher's answer [examples that count]; both are logits, [n, classes] or [n, t, classes],
    and divided by the temperature (Hinton et al. 2015, arXiv:1503.02531).
    """
    # In mixed precision logits may come in half, in which probabilities are too coarse.
    exact = teacher.to(torch.promote_types(teacher.dtype, torch.float32))
    answer = (exact / temperature).softmax(-1).flatten(0, -2)
    flat = F.cross_entropy(logits.flatten(0, -2) / temperature, answer, reduction="none").view(logits.shape[:-1])
    losses = flat.flatten(1).mean(1) if flat.dim() > 1 else flat
    return losses if batch.mask is None else losses[batch.mask]


def finite(loss: float, *, step: int) -> float:
    """The loss; raises DivergedError if it is no number. `step` is the last one that it is a mean over."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"The loss became {loss} by step {step}: training diverged; give a lower lr, or a longer ramp."
        )
    return loss
