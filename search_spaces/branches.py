"""Residual branches that are gone: what is left of them is a zero that is added."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.errors import SpaceError


class Zeros(nn.Module):
    """A module that returns zeros of its input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros, of the shape, type and device of `x`."""
        return torch.zeros_like(x)


def skip(model: nn.Module, modules: Sequence[str]) -> None:
    """Make a residual branch add nothing, in place: these modules of it, in the order in which they run, are replaced.

    The first and the last become `Zeros`, those between nn.Identity. The last alone would do, but what the branch does
    in place besides, as a shared nn.ReLU might, must not reach the values that pass it by. Raises SpaceError where
    there is no such module.
    """
    if not modules:
        raise SpaceError("A branch without modules can't be skipped; name those that it consists of.")
    ends = (modules[0], modules[-1])
    for name, module in [(name, submodule(model, name)) for name in modules]:
        if module is model:
            raise SpaceError("The network as a whole is no residual branch; name a module within it.")
        put_instead(model, module, Zeros() if name in ends else nn.Identity())


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name; "" is the model itself. Raises SpaceError where there is none."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise SpaceError(f"{type(model).__name__} has no module {name!r}; is this the network it was in?") from None


def put_instead(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is in the model: a module may have several names. It takes over the mode."""
    new.train(old.training)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children would tell a module's first name alone
            if child is old:
                parent._modules[name] = new
