"""A forward pass in training mode and what passed through it: outputs of layers and of rectifiers, and their gradients.

References to what autograd keeps anyway cost no memory; products of activations and gradients are reduced to one number
a channel as soon as both are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.layers import Weighted, fan_in, weighted
from predictors.passes import forward
from predictors.protocol import Examples

Rectifier = nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.PReLU | nn.Hardswish | nn.GELU | nn.SiLU
"""Activations whose pattern of positive outputs says which linear piece an example lies on."""


@dataclass(frozen=True)
class Call:
    """One use of a part of the network."""

    name: str
    part: nn.Module
    output: Tensor
    version: int
    """The output's version when it was returned: a later one means that something has worked on it in place."""

    @property
    def intact(self) -> bool:
        """Whether the output is still what the part returned."""
        return self.output._version == self.version


@dataclass(frozen=True)
class ChannelProduct:
    """Half the mean over examples of (sum over positions of activation times gradient) squared, [channels].

    Turner et al. 2020, arXiv:1906.04113, eq. 2, at the output of a layer with weights; of the mean loss.
    """

    name: str
    values: Tensor
    fan_in: int


class _Meter:
    """Products of activations and gradients; holds nothing of the graph, for hooks in the graph hold it."""

    def __init__(self) -> None:
        self.on = False
        self.products: dict[str, list[ChannelProduct]] = {}
        self.in_place: list[str] = []

    def read(self, call: Call, gradient: Tensor) -> None:
        """Take in the gradient at one output."""
        if not self.on:
            return
        if not call.intact:
            self.in_place.append(call.name)
            return
        product = call.output * gradient
        # The channels are the second dimension of what convolutions return, and the last of what linear maps do.
        if isinstance(call.part, nn.Linear):
            summed = product.reshape(len(product), -1, product.shape[-1]).sum(1)
        else:
            summed = product.flatten(2).sum(2)
        found = ChannelProduct(call.name, summed.square().mean(0) / 2, fan_in(call.part))  # type: ignore[arg-type]
        self.products.setdefault(call.name, []).append(found)


class Trace:
    """A copy of a network, the outputs of its layers and rectifiers on a batch, and gradients of the same pass."""

    def __init__(self, net: nn.Module, batch: Examples) -> None:
        """Run the forward pass; raises ScoreError if the network fails on the batch."""
        self.net = net
        self.rectified: list[Call] = []
        """The outputs of rectifiers, in the order of the pass."""
        self._meter = _Meter()
        self.products = self._meter.products
        """Layer -> one entry a use; filled by `weight_gradients`."""
        self.in_place = self._meter.in_place
        """Layers whose products are not counted, as their output was changed in place afterwards."""
        self._inputs = tuple(x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in batch.inputs)
        hooks = [layer.register_forward_hook(partial(self._layer, name)) for name, layer in weighted(net)]
        for name, part in net.named_modules():
            if isinstance(part, Rectifier):
                hooks.append(part.register_forward_hook(partial(self._rectifier, name)))
        self.logits: Tensor = forward(net, self._inputs)
        # Graph -> gradient hook -> layer -> forward hook -> this -> graph: no collector would see through that circle.
        for hook in hooks:
            hook.remove()
        self._losses = batch.losses(self.logits)

    def weight_gradients(self) -> Sequence[Tensor]:
        """Gradients of the mean loss at the weights of the layers, in their order; zeros where none arrives."""
        weights = [layer.weight for _, layer in weighted(self.net)]
        if not self._losses.requires_grad:
            return [torch.zeros_like(w) for w in weights]
        self._meter.on = True
        found = torch.autograd.grad(self._losses.mean(), weights, retain_graph=True, materialize_grads=True)
        self._meter.on = False
        return found

    def input_gradients(self) -> Tensor:
        """Gradients of the summed outputs at the first input, [examples, numbers]."""
        x = self._inputs[0]
        if not x.requires_grad:
            raise ScoreError("The input holds whole numbers, so there are no gradients at it.")
        if not self.logits.requires_grad:
            return torch.zeros_like(x).flatten(1)
        (found,) = torch.autograd.grad(self.logits.sum(), x, retain_graph=True, materialize_grads=True)
        return found.detach().flatten(1)

    def _layer(self, name: str, layer: Weighted, inputs: tuple[Any, ...], output: Tensor) -> None:
        if output.requires_grad:
            listen = partial(self._meter.read, Call(name, layer, output.detach(), output._version))
            output.register_hook(listen)  # type: ignore[no-untyped-call]

    def _rectifier(self, name: str, part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.rectified.append(Call(name, part, output.detach(), output._version))
