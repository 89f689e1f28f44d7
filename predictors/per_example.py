"""Gradients of single examples in one batched pass, layer by layer, each used up at once and never held for all layers.

BatchNorm normalises each example by itself, so that examples do not mix: what one gets from batches of one example.
The weight gradient of each example is a grouped convolution or a batched matrix product of a layer's input and the
gradient at its output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from predictors import ScoreError
from predictors.layers import Weighted, isolated, replace_norms, weighted
from predictors.passes import forward
from predictors.protocol import Examples

Consume = Callable[[str, Tensor], None]
"""Takes a layer's name and its per-example weight gradients [examples, *weight]; keeps nothing of that size."""

Precision = Literal["single", "double"]
"""Of the numbers computed with. Gradients near 0 have the sign of their rounding: sums of signs differ by some 1e-4."""

CHUNK_BYTES = 2 * 2**20
"""At most so much of a layer's per-example gradients is held at a time, which a cache can hold; an example at least."""


class PerExampleNorm(nn.Module):
    """BatchNorm on batches of one: each example [channels, ...] is normalised by its own mean and variance."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.norm = norm
        self.fell_back = False

    def forward(self, x: Tensor) -> Tensor:
        """`x` [n, channels, ...] normalised over all but its first two dimensions.

        A single number a channel has no variance: there, the running statistics are used, and `fell_back` says so.
        """
        if x[0, 0].numel() > 1:
            return F.instance_norm(x, None, None, self.norm.weight, self.norm.bias, eps=self.norm.eps)
        self.fell_back = True
        mean, var = self.norm.running_mean, self.norm.running_var
        if mean is None or var is None:
            mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
        return F.batch_norm(x, mean, var, self.norm.weight, self.norm.bias, training=False, eps=self.norm.eps)


@dataclass(frozen=True)
class Caveats:
    """What was done otherwise than the definition says."""

    running_statistics: tuple[str, ...]
    """Normalisations that saw a single number a channel and took their running statistics instead."""
    one_by_one: bool
    """Whether each example took a backward pass of its own: a layer's first dimension was not the examples."""


def per_example_gradients(
    model: nn.Module,
    batch: Examples,
    consume: Consume,
    *,
    examples: Literal["independent", "coupled"] = "independent",
    precision: Precision = "single",
) -> Caveats:
    """Hand each layer's per-example weight gradients to `consume`, in chunks of examples.

    The layers are those of `layers.weighted`; one that is used several times, or shares its weight, comes once a chunk
    with the sum of its uses. Coupled examples (nodes of a graph) share one forward pass, BatchNorm statistics and all,
    and take a backward pass each. Raises ScoreError if the network fails.
    """
    # Not channels last: normalisation by example is slower there, and its rounding turns more signs near 0.
    dtype = torch.float64 if precision == "double" else torch.float32
    net = isolated(model, dtype=dtype).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if examples == "independent":
        replace_norms(net, PerExampleNorm)
    collector = _Collector(net, consume, len(batch.inputs[0]))
    inputs, leaves = _with_leaves(net, tuple(x.to(dtype) if x.is_floating_point() else x for x in batch.inputs))
    losses = batch.losses(forward(net, inputs))
    separate = examples == "coupled" or collector.mixed or len(losses) != len(batch.inputs[0])
    if separate:
        collector.close()
        _one_by_one(net, losses, consume)
    else:
        if not leaves:
            raise ScoreError(f"Nothing in {type(model).__name__} depends on its input through floating-point numbers.")
        torch.autograd.backward(losses.sum(), inputs=leaves)
        collector.finish()
    fallen = tuple(name for name, part in net.named_modules() if isinstance(part, PerExampleNorm) and part.fell_back)
    return Caveats(fallen, separate)


def _one_by_one(net: nn.Module, losses: Tensor, consume: Consume) -> None:
    named = list({id(layer.weight): (name, layer.weight) for name, layer in reversed(weighted(net))}.values())[::-1]
    for loss in losses:
        found = torch.autograd.grad(loss, [weight for _, weight in named], retain_graph=True, materialize_grads=True)
        for (name, _), gradient in zip(named, found, strict=True):
            consume(name, gradient[None])


class _Collector:
    """Meets each layer's inputs on the way forwards and the gradients at its outputs on the way back."""

    def __init__(self, net: nn.Module, consume: Consume, examples: int) -> None:
        self._consume, self._examples = consume, examples
        self.mixed = False
        self._handles: list[RemovableHandle] = []
        self._first: dict[int, str] = {}
        self._waiting: dict[int, int] = {}
        self._sums: dict[int, Tensor] = {}
        for name, layer in weighted(net):
            self._first.setdefault(id(layer.weight), name)
            layer.register_forward_hook(self._forward)

    def _forward(self, layer: Weighted, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.mixed = self.mixed or len(inputs[0]) != self._examples
        if output.requires_grad:
            key = id(layer.weight)
            self._waiting[key] = self._waiting.get(key, 0) + 1
            listen = partial(self._backward, layer, inputs[0].detach())
            self._handles.append(output.register_hook(listen))  # type: ignore[no-untyped-call]

    def _backward(self, layer: Weighted, x: Tensor, gradient: Tensor) -> None:
        key = id(layer.weight)
        self._waiting[key] -= 1
        if not self._waiting[key] and key not in self._sums:
            for part in _chunks(layer, x.shape[0]):
                self._consume(self._first[key], weight_gradients(layer, x[part], gradient[part]))
            return
        # Used more than once: signs may only be taken of the sum of all uses.
        found = weight_gradients(layer, x, gradient)
        self._sums[key] = self._sums[key] + found if key in self._sums else found
        if not self._waiting[key]:
            self._consume(self._first[key], self._sums.pop(key))

    def close(self) -> None:
        """Listen to gradients no longer."""
        for handle in self._handles:
            handle.remove()

    def finish(self) -> None:
        """Hand over what waited for uses that no gradient reached."""
        for key, found in self._sums.items():
            self._consume(self._first[key], found)
        self._sums.clear()


def weight_gradients(layer: Weighted, x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of each example's loss with respect to the layer's weight, [examples, *weight].

    `x` is the layer's input [examples, ...], `gradient` that of the sum of the losses at its output.
    """
    if isinstance(layer, nn.Linear):
        rows, columns = gradient.reshape(len(x), -1, gradient.shape[-1]), x.reshape(len(x), -1, x.shape[-1])
        return torch.bmm(rows.transpose(1, 2), columns)
    return _convolution(layer, x, gradient)


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, gradient: Tensor) -> Tensor:
    n, padding = len(x), _padding(layer)
    if layer.padding_mode != "zeros":
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding = (0,) * len(padding)
    pointwise = all(k == 1 for k in layer.kernel_size) and all(s == 1 for s in layer.stride) and not any(padding)
    if pointwise and layer.groups == 1:
        return torch.bmm(gradient.flatten(2), x.flatten(2).transpose(1, 2)).view(n, *layer.weight.shape)
    # The examples as groups of one convolution: each group's weight gradient is one example's.
    weight = layer.weight.new_empty(n * layer.out_channels, *layer.weight.shape[1:])
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient.reshape(1, n * layer.out_channels, *gradient.shape[2:]),
        x.reshape(1, n * layer.in_channels, *x.shape[2:]),
        weight,
        None,
        layer.stride,
        padding,
        layer.dilation,
        False,
        (0,) * len(padding),
        n * layer.groups,
        (False, True, False),
    )[1]
    return found.view(n, *layer.weight.shape)


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...]:
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(t % 2 for t in total):
            raise ScoreError(f"Padding 'same' around a kernel of {layer.kernel_size} is lopsided; pad symmetrically.")
        return tuple(t // 2 for t in total)
    return tuple(int(p) for p in layer.padding)


def _chunks(layer: Weighted, examples: int) -> list[slice]:
    size = max(1, CHUNK_BYTES // (layer.weight.numel() * layer.weight.element_size()))
    return [slice(start, start + size) for start in range(0, examples, size)]


def _with_leaves(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The inputs, and a list of what gradients flow back to: floating-point inputs, and embeddings as they are made."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    for part in net.modules():
        if isinstance(part, nn.Embedding):
            part.register_forward_hook(cut)
    given = tuple(x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs)
    leaves += [x for x in given if x.requires_grad]
    return given, leaves
