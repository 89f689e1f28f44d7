"""A network's operations, and what each call of a module computes (torch.fx, Reed et al. 2022, arXiv:2112.08429)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from search_spaces.errors import SpaceError

ADDITIONS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one module."""

    module: str
    nodes: frozenset[fx.Node]
    """What it computes."""
    plain: bool
    """Whether one tensor goes in and one comes out, as far as can be seen."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A network's operations in their order, and all calls, inner ones before those around them."""

    nodes: tuple[fx.Node, ...]
    calls: tuple[Call, ...]

    def additions(self) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
        """Each sum of two results: (sum, one, other)."""
        found = []
        for node in self.nodes:
            adds = node.op == "call_function" and node.target in ADDITIONS
            if adds or (node.op == "call_method" and node.target in ("add", "add_")):
                one, other = (*node.args, None, None)[:2]
                if len(node.args) == 2 and isinstance(one, fx.Node) and isinstance(other, fx.Node) and not node.kwargs:
                    found.append((node, one, other))
        return found

    def between(self, first: fx.Node, last: fx.Node) -> frozenset[fx.Node] | None:
        """All that is computed on the way from `first` (not included) to `last`; None if that has other inputs too."""
        found: set[fx.Node] = set()
        reached, stack = False, [last]
        while stack:
            node = stack.pop()
            reached = reached or node is first
            if node is first or node in found:
                continue
            if node.op == "placeholder":
                return None
            found.add(node)
            stack += node.all_input_nodes
        return frozenset(found) if reached else None


def trace(model: nn.Module) -> Trace:
    """What the model does. Raises SpaceError if torch.fx can't follow it, as where it depends on its inputs' values."""
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except (fx.proxy.TraceError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SpaceError(f"torch.fx can't follow it ({reason[:160].rstrip('.')}).") from error
    owner = fx.GraphModule(model, graph)  # which knows the modules that may have effects besides their results
    graph = owner.graph
    graph.eliminate_dead_code()
    alive = frozenset(graph.nodes)
    return Trace(tuple(graph.nodes), tuple(Call(name, nodes & alive, plain) for name, nodes, plain in tracer.calls))


class _Tracer(fx.Tracer):
    """Remembers the operations of each call, not only those of the innermost one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, frozenset[fx.Node], bool]] = []
        self._open: list[set[fx.Node]] = []

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """See fx.Tracer."""
        node = super().create_node(*args, **kwargs)
        for nodes in self._open:
            nodes.add(node)
        return node

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """See fx.Tracer."""
        nodes: set[fx.Node] = set()
        self._open.append(nodes)
        result = super().call_module(m, forward, tuple(args), kwargs)
        self._open.pop()
        plain = len(args) == 1 and not kwargs and isinstance(args[0], fx.Proxy) and isinstance(result, fx.Proxy)
        self.calls.append((self.path_of_module(m), frozenset(nodes), plain))
        return result
