"""A space of one: a user's own model, named by "package.module:callable", takes the same road as all other networks."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor, nn

from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.space import SearchSpace, Signature


@dataclass(frozen=True)
class ModuleSpace(SearchSpace):
    """The one network that a callable of the user's returns; its only architecture is called module:only.

    `path` is "package.module:callable" (a class or a function; the working directory is searched too), `arguments` are
    its keyword arguments.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    signature: Signature = Signature("image", (3, 32, 32), 10)

    def __post_init__(self) -> None:
        module, _, attribute = self.path.partition(":")
        if not all(part.isidentifier() for dotted in (module, attribute) for part in dotted.split(".")):
            raise ValueError(f"path={self.path!r} is not of the form 'package.module:callable'")

    @cached_property
    def table(self) -> ChoiceTable:
        """One choice with one option: "module:only"."""
        return ChoiceTable("module", (Choice("network", ("only",)),))

    def build(self, arch: Architecture) -> nn.Module:
        """What the callable returns, called anew; raises SpaceError if that is no module, or there is no callable.

        Errors inside the user's code pass through.
        """
        self.table.positions(arch)
        make = self._callable()
        try:
            inspect.signature(make).bind(**self.arguments)
        except TypeError as error:
            raise SpaceError(
                f"{self.path!r} can't be called with arguments={dict(self.arguments)!r}: {error}."
            ) from None
        except ValueError:  # No signature is known, as of some callables written in C: calling it will tell.
            pass
        model = make(**self.arguments)
        if not isinstance(model, nn.Module):
            raise SpaceError(f"{self.path!r} returned a {type(model).__name__}; it must return a torch.nn.Module.")
        return model

    def supernet(self) -> NoReturn:
        """Nothing: raises SpaceError."""
        raise SpaceError(f"{self.path!r} is a single network and has no supernet; train it with --arch module:only.")

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        """Nothing: raises SpaceError."""
        raise SpaceError(f"{self.path!r} is a single network and inherits from none; load its own checkpoint instead.")

    def _callable(self) -> Callable[..., object]:
        module_name, _, attribute = self.path.partition(":")
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or module_name
            if not f"{module_name}.".startswith(f"{missing}."):
                raise SpaceError(f"{module_name} needs the module {missing!r}, which is not installed.") from None
            raise SpaceError(f"There is no module {missing!r} in {here} or among the installed packages.") from None
        for part in attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise SpaceError(f"The module {module_name} has no {attribute!r}; path={self.path!r}.") from None
        if not callable(found):
            raise SpaceError(f"{self.path!r} is a {type(found).__name__}; it must be a callable that returns a module.")
        make: Callable[..., object] = found
        return make
