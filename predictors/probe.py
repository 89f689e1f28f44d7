"""One untrained network under the probe: each pass through it is run when a proxy first reads it, and only once.

The passes differ in what they do to the network, so each works on a copy of its own: training-mode BatchNorm on a
labelled batch, gradients of single examples, a data-free pass, a second batch, a double backward pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.layers import Weighted, isolated, replace_norms, uncounted, weighted
from predictors.passes import forward
from predictors.per_example import Caveats, Precision, per_example_gradients
from predictors.protocol import Examples
from predictors.tracing import Trace

T = TypeVar("T")


@dataclass(frozen=True)
class LayerGradient:
    """A layer's weight and the gradient that one pass left at it; zeros where none arrived."""

    name: str
    weight: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Agreement:
    """How far the examples' gradients of one layer's weights agree in sign (Zhang & Jia 2022, Algorithm 1)."""

    name: str
    total: float
    """Sum over the weights of |sum over the examples of sign(gradient)|."""
    weights: int
    live: int
    """Weights at which some example's gradient is not zero."""
    examples: int


@dataclass(frozen=True)
class Cell:
    """The architecture as a graph, for predictors that read it: adjacency [nodes, nodes], operations [nodes, kinds]."""

    adjacency: np.ndarray
    operations: np.ndarray


class Probe:
    """A network and its batches, and what the passes found; the network itself is left exactly as it was.

    `second` is another batch of the same kind. `examples` says whether each example goes through the network by itself
    or all at once (nodes of a graph). `seed` seeds whatever proxies draw, `precision` is that of the per-example pass,
    `code` the architecture's encoding.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Examples,
        *,
        second: Examples | None = None,
        examples: Literal["independent", "coupled"] = "independent",
        seed: int = 0,
        precision: Precision = "single",
        code: np.ndarray | None = None,
        cell: Cell | None = None,
    ) -> None:
        self.model, self.batch = model, batch
        self.examples, self.code, self.cell = examples, code, cell
        self._second, self._seed = second, seed
        self._made: dict[str, object] = {}
        self._precision = precision

    def generator(self, stream: str) -> torch.Generator:
        """A CPU generator for a named purpose, the same whenever it is asked for."""
        digest = hashlib.blake2b(f"{self._seed}/{stream}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returns, made when first asked for by this name: for passes that only few proxies share."""
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])

    def copy(self) -> nn.Module:
        """A fresh copy as initialised: training mode, nothing in place, all parameters wanting gradients."""
        return isolated(self.model)

    @cached_property
    def layers(self) -> list[tuple[str, Weighted]]:
        """The model's own layers with weights, by name. Raises ScoreError if there are none."""
        found = weighted(self.model)
        if not found:
            raise ScoreError(f"{type(self.model).__name__} has no convolution or linear layer whose weights count.")
        return found

    @cached_property
    def uncounted(self) -> tuple[str, ...]:
        """The names of matrices and kernels that no proxy over layers counts."""
        return uncounted(self.model)

    @property
    def remarks(self) -> list[str]:
        """Sentences on what is not as the definitions have it: weights left out, and what the passes so far met."""
        said = []
        if self.uncounted:
            named = ", ".join(self.uncounted[:3]) + (" and others" if len(self.uncounted) > 3 else "")
            said.append(f"Proxies count the weights of convolutions and linear layers, which {named} are not.")
        if self.caveats and self.caveats.running_statistics:
            named = ", ".join(self.caveats.running_statistics[:3])
            said.append(f"GradSign took running statistics where one example is one number a channel: {named}.")
        return said

    @cached_property
    def trace(self) -> Trace:
        """The forward pass of the batch in training mode, with what each layer and activation received and returned."""
        return Trace(self.copy(), self.batch)

    @cached_property
    def labelled(self) -> list[LayerGradient]:
        """Weights and gradients of the mean loss, of the traced pass; it also fills the trace's channel products.

        Raises DeadNetworkError if no gradient reaches any weight.
        """
        return _alive(self._gradients(self.trace.net, self.trace.weight_gradients()), "labelled batch")

    @cached_property
    def second(self) -> list[LayerGradient]:
        """As `labelled`, of the second batch. Raises ScoreError if there is none."""
        if self._second is None:
            raise ScoreError("A second batch of examples is needed, and there is none; give more data.")
        net = self.copy()
        loss = self._second.losses(forward(net, self._second.inputs)).mean()
        return _alive(self._gradients(net, _gradients(loss, net)), "second batch")

    @cached_property
    def input_gradients(self) -> Tensor:
        """Gradients of each example's summed outputs at its input, [examples, numbers], of the traced pass.

        With BatchNorm in training mode. Raises ScoreError for inputs that are no floating-point numbers, and
        DeadNetworkError if all are zero.
        """
        found = self.trace.input_gradients()
        if not found.any():
            raise DeadNetworkError("The output does not depend on the input: nothing flows through the network.")
        return found

    @cached_property
    def per_example(self) -> list[Agreement]:
        """How far the single examples' gradients agree in sign, by layer; each example normalised by itself.

        Raises DeadNetworkError if all gradients are zero.
        """
        sums: dict[str, Tensor] = {}
        seen: dict[str, int] = {}
        live: dict[str, Tensor] = {}

        def consume(name: str, gradients: Tensor) -> None:
            signs = gradients.sign_()
            total, moved = signs.sum(0), signs.any(0)
            sums[name] = sums[name] + total if name in sums else total
            live[name] = live[name] | moved if name in live else moved
            seen[name] = seen.get(name, 0) + len(gradients)

        self.caveats = per_example_gradients(
            self.model, self.batch, consume, examples=self.examples, precision=self._precision
        )
        found = [_agreement(name, sums[name], live[name], seen[name]) for name, _ in self.layers if name in sums]
        if not any(layer.live for layer in found):
            raise DeadNetworkError("No example's gradient reaches any weight: nothing flows through the network.")
        return found

    caveats: Caveats | None = None
    """What the per-example pass had to do otherwise; None before it has run."""

    @cached_property
    def data_free(self) -> list[LayerGradient]:
        """Weights and gradients of the summed output for an input of ones, under absolute parameters.

        BatchNorm is bypassed, in double precision, one example (Tanaka et al. 2020, arXiv:2006.05467). Raises
        DeadNetworkError if the output does not depend on any weight.
        """
        net = isolated(self.model, dtype=torch.float64)
        replace_norms(net, lambda norm: nn.Identity())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.abs_()
        # The nodes of a graph stay together; of independent examples one is enough.
        given = self.batch.inputs if self.examples == "coupled" else tuple(x[:1] for x in self.batch.inputs)
        inputs = tuple(torch.ones_like(x, dtype=torch.float64) if x.is_floating_point() else x for x in given)
        total = forward(net, inputs).sum()
        return _alive(self._gradients(net, _gradients(total, net)), "data-free pass")

    @cached_property
    def curvature(self) -> list[LayerGradient]:
        """Weights and Hessian-gradient products H g of the mean loss (Wang et al. 2020, arXiv:2002.07376, eq. 8)."""
        net = self.copy()
        weights = [layer.weight for _, layer in weighted(net)]
        loss = self.batch.losses(forward(net, self.batch.inputs)).mean()
        gradients = _gradients(loss, net, create_graph=True)
        _alive(self._gradients(net, gradients), "labelled batch")
        product = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
        return self._gradients(net, torch.autograd.grad(product, weights, materialize_grads=True))

    def _gradients(self, net: nn.Module, gradients: Sequence[Tensor]) -> list[LayerGradient]:
        pairs = zip(weighted(net), gradients, strict=True)
        return [LayerGradient(name, layer.weight.detach(), gradient.detach()) for (name, layer), gradient in pairs]


def _agreement(name: str, sums: Tensor, live: Tensor, examples: int) -> Agreement:
    total = float(sums.abs().sum(dtype=torch.float64))
    return Agreement(name, total, sums.numel(), int(live.sum()), examples)


def finite(value: float | Tensor) -> float:
    """The number, if it is one. Raises ScoreError for NaN and infinity."""
    number = float(value)
    if not np.isfinite(number):
        raise ScoreError(f"The score is {number}, no finite number.")
    return number


def _gradients(total: Tensor, net: nn.Module, *, create_graph: bool = False) -> Sequence[Tensor]:
    weights = [layer.weight for _, layer in weighted(net)]
    if not total.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    return torch.autograd.grad(total, weights, create_graph=create_graph, materialize_grads=True)


def _alive(found: list[LayerGradient], where: str) -> list[LayerGradient]:
    if not found:
        raise ScoreError("There is no convolution or linear layer whose weights count.")
    if not all(bool(layer.gradient.isfinite().all()) for layer in found):
        raise ScoreError(f"The gradients of the {where} are not finite.")
    if not any(bool(layer.gradient.any()) for layer in found):
        raise DeadNetworkError(f"No gradient of the {where} reaches any weight: nothing flows through the network.")
    return found
