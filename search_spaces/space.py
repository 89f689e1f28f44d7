"""A space builds networks: plain ones, the supernet that holds them all, and the weights that one inherits from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.cells import CellGraph
from search_spaces.choices import Architecture, ChoiceTable

Gates = Mapping[str, Tensor]
"""Choice name -> weights of its options [options], non-negative; 0 means "not computed"."""


@dataclass(frozen=True)
class Signature:
    """What goes into a network and what comes out.

    `shape` is that of one example without the batch: image (channels, height, width), sequence (tokens,),
    graph (features,). `classes` is the number of outputs.
    """

    kind: Literal["image", "sequence", "graph", "table"]
    shape: tuple[int, ...]
    classes: int

    def __str__(self) -> str:
        return f"{self.kind} {'x'.join(map(str, self.shape))} -> {self.classes} classes"


@dataclass(frozen=True)
class Batch:
    """Some examples: images [n, c, h, w], tokens [n, t], or nodes [n, f] with edges [2, e]; targets [n]; mask [n]."""

    inputs: tuple[Tensor, ...]
    targets: Tensor
    mask: Tensor | None = None

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(tuple(t.to(device) for t in self.inputs), self.targets.to(device), mask)

    def with_inputs(self, *inputs: Tensor) -> Batch:
        """The same targets with other inputs."""
        return replace(self, inputs=inputs)

    def losses(self, logits: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropies [examples that count]; logits are [n, classes] or [n, t, classes] (averaged over t)."""
        flat = F.cross_entropy(
            logits.flatten(0, -2), self.targets.flatten(), reduction="none", label_smoothing=smoothing
        )
        losses = flat.view(self.targets.shape).flatten(1).mean(1) if self.targets.dim() > 1 else flat
        return losses if self.mask is None else losses[self.mask]

    def correct(self, logits: Tensor) -> Tensor:
        """Whether each target that counts is predicted, bool [targets that count]."""
        right = logits.argmax(-1) == self.targets
        return right.flatten() if self.mask is None else right[self.mask].flatten()


@dataclass(frozen=True)
class Drawing:
    """A graph to be looked at: nodes in an order in which every edge leads to a later one."""

    title: str
    nodes: tuple[tuple[str, Literal["input", "inner", "output"]], ...]
    """Label and part of each node."""
    edges: tuple[tuple[int, int, str], ...]
    """From node, to node (positions in `nodes`), and what is computed on the way; "" for nothing."""


class SearchSpace(ABC):
    """A family of networks. Concrete spaces are frozen dataclasses whose fields are their settings."""

    @property
    @abstractmethod
    def table(self) -> ChoiceTable:
        """The choices that tell the networks apart."""

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What the networks read and return."""

    def parse(self, text: str) -> Architecture:
        """The architecture that a text names: what `str` wrote, or what `field` did. Raises ArchitectureError."""
        return self.table.parse(text)

    def field(self, arch: Architecture) -> str:
        """The architecture as its own field writes it; `str` where there is no such custom."""
        return str(arch)

    def equivalent(self, arch: Architecture) -> Architecture:
        """The architecture that stands for all that compute the same function; most stand for themselves alone."""
        return arch

    @property
    def topology(self) -> Mapping[str, tuple[frozenset[str], ...]]:
        """The choices of which edges lead into a node: for each of their options, the names of the choices of what is
        computed on the edges that it lets through. Methods that relax a space keep all edges until they decide.
        """
        return {}

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        """The nodes whose value is a sum over edges: for each, the names of the choices of what is computed on them."""
        return {}

    @property
    def mixed_only(self) -> frozenset[str]:
        """Options that a supernet may mix in, but that no network which a method settles on should have."""
        return frozenset()

    @property
    def published(self) -> Mapping[str, int | bool]:
        """Settings of the space under which its networks are usually trained and compared; {}: as they are."""
        return {}

    @abstractmethod
    def build(self, arch: Architecture) -> nn.Module:
        """A plain network with fresh weights, `forward(*inputs)`; it knows nothing of the space."""

    @abstractmethod
    def supernet(self) -> nn.Module:
        """The network that holds all others, `forward(*inputs, gates=Gates)`. Raises SpaceError where there is none."""

    @abstractmethod
    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """The state dict for `build(arch)`, cut from the supernet; tensors are copies on the supernet's device."""


@runtime_checkable
class CellSpace(Protocol):
    """A space whose architectures are small graphs, which predictors can read as such."""

    def graph(self, arch: Architecture) -> CellGraph:
        """The cell: who feeds whom, and what each node computes."""
        ...


@runtime_checkable
class PartialChannels(Protocol):
    """A space whose supernets can mix operations on a part of the channels (PC-DARTS, Xu et al. 2020, 1907.05737)."""

    def partial_supernet(self, parts: int) -> nn.Module:
        """A supernet whose mixed operations see one of `parts` equal parts of the channels; the others pass by them.

        Networks cannot inherit from it. Raises SpaceError if the channels cannot be divided so.
        """
        ...


@runtime_checkable
class Drawable(Protocol):
    """A space whose architectures can be drawn as graphs."""

    def drawings(self, arch: Architecture) -> tuple[Drawing, ...]:
        """What there is to see of the architecture: a graph for each kind of cell."""
        ...


@runtime_checkable
class Tapped(Protocol):
    """A network with a place for an auxiliary classifier, which helps to train it and is no part of it."""

    def tapped(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, classes], and what the auxiliary classifier reads."""
        ...

    def auxiliary(self) -> nn.Module:
        """A new auxiliary classifier: from what `tapped` gives to logits [n, classes]."""
        ...


@runtime_checkable
class ChannelSorting(Protocol):
    """A space whose supernets can have their channels put in order of importance (Cai et al. 2020, section 3.1)."""

    def sort_channels(self, supernet: nn.Module) -> None:
        """Put each block's middle channels in order, the most important first, in place.

        The largest network computes what it did before. Networks that are narrower do not: sort once the largest is
        trained, before the first narrower ones are.
        """
        ...
