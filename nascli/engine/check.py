"""What a space promises, checked on random members: for `nascli spaces check` and anyone who writes a space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from search_spaces import Architecture, ArchitectureError
from search_spaces.errors import SpaceError
from search_spaces.gated import one_hot
from search_spaces.space import SearchSpace

TOLERANCE = 1e-4
"""How far a sub-network's outputs in the supernet and on its own may lie apart, relative to the outputs."""


def check_space(space: SearchSpace, *, count: int, seed: int) -> list[dict[str, Any]]:
    """One row a promise: its name, how many networks were looked at, and the first failure, "" if there was none."""
    rng = np.random.default_rng(seed)
    table = space.table
    archs = list(
        {str(a): a for a in (table.smallest, table.largest, *(table.sample(rng) for _ in range(count)))}.values()
    )
    checks: list[tuple[str, Callable[[SearchSpace, list[Architecture]], Iterator[str]]]] = [
        ("a string names one network", _strings),
        ("edits stay in the space", _edits),
    ]
    if space.signature.kind == "image":
        checks += [("networks give one output a class", _outputs), ("inherited weights do the same", _inherited)]
    return [{"check": name, "networks": len(archs), "failure": next(check(space, archs), "")} for name, check in checks]


def _strings(space: SearchSpace, archs: list[Architecture]) -> Iterator[str]:
    for arch in archs:
        if space.table.parse(str(arch)) != arch or space.table.canonical(arch.options) != arch:
            yield f"{arch} does not read back as itself"


def _edits(space: SearchSpace, archs: list[Architecture]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for arch in archs:
        for child in (space.table.mutate(arch, rng, 0.5), space.table.crossover(arch, archs[0], rng)):
            try:
                space.table.parse(str(child))
            except ArchitectureError as error:
                yield str(error)


def _outputs(space: SearchSpace, archs: list[Architecture]) -> Iterator[str]:
    inputs = _noise(space)
    for arch in archs:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            shape = tuple(space.build(arch)(inputs).shape)
        if shape != (len(inputs), space.signature.classes):
            yield f"{arch} gives {shape} for {len(inputs)} inputs; expected {(len(inputs), space.signature.classes)}"


def _inherited(space: SearchSpace, archs: list[Architecture]) -> Iterator[str]:
    inputs = _noise(space)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        try:
            supernet = space.supernet().eval()
        except SpaceError:
            # A space without a supernet has no weights to inherit, and so nothing to promise.
            return
        for arch in archs:
            model = space.build(arch).eval()
            try:
                model.load_state_dict(space.inherit(supernet, arch), strict=True)
            except RuntimeError as error:
                yield f"{arch}: {str(error).splitlines()[-1].strip()}"
                continue
            expected = supernet(inputs, gates=one_hot(space.table, arch))
            difference = (model(inputs) - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
            if not difference <= TOLERANCE:
                yield f"{arch}: outputs differ by {difference:.2g} from those of the supernet"


def _noise(space: SearchSpace) -> torch.Tensor:
    return torch.randn(4, *space.signature.shape, generator=torch.Generator().manual_seed(0))
