"""The blocks of a network: what stands in its chains (nn.Sequential, nn.ModuleList), and the layers beside them.

The rule, from the network downwards: a layer with weights is a block; a list is looked into; a Sequential is a block if
it holds a single layer with weights (convolution, normalisation, activation), and is looked into otherwise; any other
part with weights is a block if it stands in a chain, or holds no chain of such parts itself. In NAS-Bench-201 these are
the stem, the cells and the residual blocks between them; in residual and mobile networks the stem, each residual block
and the head. What returns the network's own output is no block.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from predictors.layers import Weighted
from predictors.passes import forward

_Chain = nn.Sequential | nn.ModuleList


class Feature(NamedTuple):
    """What one use of a block returned."""

    name: str
    part: nn.Module
    output: Tensor


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks by name, in the order in which they are registered."""
    return list(_inside(model, "", chained=isinstance(model, _Chain)))


def features(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[Feature]:
    """What the blocks return for the inputs, in the order of the pass and with its graph."""
    found: list[Feature] = []

    def listen(name: str, part: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1:
            found.append(Feature(name, part, output))

    handles = [part.register_forward_hook(partial(listen, name)) for name, part in blocks(net)]
    result = forward(net, inputs)
    for handle in handles:
        handle.remove()
    return [feature for feature in found if feature.output is not result]


def channels_last(feature: Feature, values: Tensor) -> Tensor:
    """`values` of the feature's kind as [examples, positions..., channels].

    Channels are the second dimension of maps, and the last of tokens [examples, tokens, channels] unless the block
    convolves in one dimension.
    """
    second = values.dim() > 3 or (values.dim() == 3 and any(isinstance(m, nn.Conv1d) for m in feature.part.modules()))
    return values.movedim(1, -1) if second else values


def _inside(module: nn.Module, prefix: str, *, chained: bool) -> Iterator[tuple[str, nn.Module]]:
    for own, child in module.named_children():
        name = f"{prefix}{own}"
        if not _weighs(child):
            continue
        if isinstance(child, Weighted) or _is_unit(child):
            yield name, child
        elif isinstance(child, _Chain):
            yield from _inside(child, f"{name}.", chained=True)
        elif chained or not any(isinstance(part, _Chain) and _links_parts(part) for part in child.modules()):
            yield name, child
        else:
            yield from _inside(child, f"{name}.", chained=False)


def _weighs(module: nn.Module) -> bool:
    return any(isinstance(part, Weighted) for part in module.modules())


def _is_unit(module: nn.Module) -> bool:
    """Whether it is a Sequential around a single layer with weights."""
    heavy = [child for child in module.children() if _weighs(child)]
    return isinstance(module, nn.Sequential) and len(heavy) == 1 and isinstance(heavy[0], Weighted)


def _links_parts(chain: nn.Module) -> bool:
    """Whether something of one's own with weights stands in the chain, neither a layer nor a chain itself."""
    return any(_weighs(child) and not isinstance(child, Weighted | _Chain) for child in chain.children())
