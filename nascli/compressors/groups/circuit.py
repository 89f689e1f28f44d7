"""A network's pass as a graph: layers, the operations between them, and what happens to channels on every edge.

Torch-Pruning (Fang et al. 2023, arXiv:2301.12900) traces the pass and says which layer an operation belongs to; what
happens to a channel's index is read off torch's record (`wires`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nascli.compressors.groups import members, wires
from nascli.compressors.groups.wires import Wire

TRACE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a pass may fail with on a network that was not made for it."""


OUTPUTS = "its channels are the network's outputs"
"""What bars the channels of the last layers."""


@dataclass(eq=False)
class Node:
    """A layer or an operation of the pass."""

    name: str
    """The layer's or parameter's name, "" for operations between them."""
    layer: nn.Module | Tensor
    kind: str
    """Torch-Pruning's word for it."""
    grad_fn: Any
    inputs: list[tuple[int, int]]
    """The number of each node that it reads, and which of its results."""
    barred: str
    """Why channels that come here can't go, "" if they can."""
    end: str
    """Why channels that leave here can't go."""
    width: int | None = None
    """How many channels leave here; None if unknown."""
    ties: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of channels of an operation that can only go together."""


Edge = tuple[int, int, Wire]
"""From node, to node, and what happens on the way."""


def traced(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[list[Node], list[Edge]]:
    """The graph of a model's pass; the model must be a copy, as its parameters are made to require gradients.

    Raises what the pass or Torch-Pruning raises, see TRACE_ERRORS.
    """
    import torch_pruning

    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    # Inputs that are the result of an operation have a node of their own.
    inputs = tuple(x.detach().requires_grad_().clone() if x.is_floating_point() else x for x in example)
    ends = {x.grad_fn: "its channels are the network's inputs" for x in inputs if x.grad_fn is not None}

    def returned(out: Any) -> Any:
        for tensor in torch_pruning.utils.flatten_as_list(out):
            ends[tensor.grad_fn] = OUTPUTS
        return out

    graph = torch_pruning.DependencyGraph()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Torch-Pruning warns of is checked by removing it
        try:
            graph.build_dependency(
                model, inputs, forward_fn=lambda m, x: m(*x), output_transform=returned, verbose=False
            )
        except TRACE_ERRORS:
            # After tracing it works out maps of indices, which are not used here, and does not get far with some.
            if not hasattr(graph, "module2node"):
                raise
    nodes = list(_nodes(model, list(graph.module2node.values()), ends))
    return nodes, _edges(nodes)


def _nodes(model: nn.Module, found: Sequence[Any], ends: Mapping[Any, str]) -> Iterator[Node]:
    names: dict[Any, str] = {m: n for n, m in model.named_modules()}
    names |= {p: n for n, p in model.named_parameters()}
    number = {id(node): i for i, node in enumerate(found)}
    parameters = {id(node.module) for node in found if isinstance(node.module, nn.Parameter)}
    for node in found:
        name, barred = names.get(node.module, ""), members.mixes(node.module)
        if isinstance(node.module, nn.Parameter):
            barred = members.mixes(model.get_submodule(name.rpartition(".")[0]))
        functions = getattr(node.grad_fn, "next_functions", ())
        parts = [part for function, part in functions if _counted(function, parameters)]
        if len(parts) != len(node.inputs):
            # A layer that is used again has the inputs of all its uses, but the record of one.
            parts = [0] * len(node.inputs)
        inputs = [(number[id(i)], part) for i, part in zip(node.inputs, parts, strict=True)]
        yield Node(name, node.module, node.type.name, node.grad_fn, inputs, barred, ends.get(node.grad_fn, ""))


def _counted(function: Any, parameters: set[int]) -> bool:
    """Whether Torch-Pruning gives a function of torch's record a node."""
    if function is None or "accumulategrad" not in function.name().lower():
        return function is not None
    return id(function.variable) in parameters


def _edges(nodes: Sequence[Node]) -> list[Edge]:
    """All edges; the number of channels that leave each node is worked out on the way."""
    edges: list[Edge] = []
    for at in _sources_first(nodes):
        node = nodes[at]
        firsts = [_leaving(nodes[source], part) for source, part in node.inputs]
        thens = [_entering(node, i, [w.width for w in firsts]) for i in range(len(firsts))]
        for (source, _), first, then in zip(node.inputs, firsts, thens, strict=True):
            node.barred = node.barred or first.broken or then.broken
            edges.append((source, at, wires.after(first, then)))
            if node.kind == "SLICE":
                nodes[source].ties += wires.repeated(then, first.width)
        own = members.width(node.layer, "out")
        node.width = own or max((w.width for w in thens if w.width is not None), default=None)
    return edges


def _leaving(node: Node, part: int) -> Wire:
    if node.kind != "SPLIT":
        return Wire(node.width)
    wire = wires.chunk(node.grad_fn, part, node.width)
    node.ties += wires.repeated(wire, node.width)
    return wire


def _entering(node: Node, index: int, channels: Sequence[int | None]) -> Wire:
    """What becomes of the channels that enter a node at one of its inputs."""
    own, most = channels[index], max((c for c in channels if c is not None), default=None)
    match node.kind:
        case "CONCAT" if len(channels) < sum(f is not None for f, _ in node.grad_fn.next_functions):
            return Wire(None, broken="its channels are joined with something that could not be traced")
        case "CONCAT":
            return wires.concatenated(node.grad_fn, index, channels)
        case "RESHAPE":
            return wires.view(node.grad_fn, own)
        case "SLICE":
            return wires.window(node.grad_fn, own)
        case "IN":
            return wires.folded(own, members.width(node.layer, "both"))
        case "ELEMENTWISE" if "GluBackward" in node.grad_fn.name():
            return wires.gated(node.grad_fn, own)
        case "ELEMENTWISE" if own == 1 != most:
            return wires.spread(most)
    return Wire(own)


def _sources_first(nodes: Sequence[Node]) -> list[int]:
    """The nodes in an order in which those that are read come first, as far as there is one."""
    order: list[int] = []
    visited: set[int] = set()
    for root in range(len(nodes)):
        if root in visited:
            continue
        visited.add(root)
        stack = [(root, iter(nodes[root].inputs))]
        while stack:
            at, rest = stack[-1]
            following = next((i for i, _ in rest if i not in visited), None)
            if following is None:
                order.append(at)
                stack.pop()
            else:
                visited.add(following)
                stack.append((following, iter(nodes[following].inputs)))
    return order
