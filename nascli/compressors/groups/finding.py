"""The groups of a network: the kinds and layers that are asked for, proven to be removable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nascli.compressors.groups.branches import blocks as blocks_of
from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.heads import heads
from nascli.compressors.groups.patterns import filter_shapes, n_of_m, tiles, weights
from nascli.compressors.groups.removal import verified
from nascli.errors import SettingsError, UnsupportedError, did_you_mean
from search_spaces.groups import Groups, joined

log = logging.getLogger(__name__)

N_OF_M = "n-of-m"
KINDS = ("filters", "channels", "neurons", "heads", "blocks", "filter-shapes", "weights", "tiles", N_OF_M)


class Asked(NamedTuple):
    """Which groups are meant."""

    kinds: tuple[str, ...]
    layers: tuple[str, ...] = ("*",)
    """Globs of axes' names."""
    ignore: tuple[str, ...] = ()
    tiles: str = ""
    """The file of the tiles' sizes."""
    block: int = 4
    """The m of n of m."""

    def admits(self, axis: str) -> bool:
        """Whether groups of this axis are asked for."""
        return any(fnmatchcase(axis, g) for g in self.layers) and not any(fnmatchcase(axis, g) for g in self.ignore)


class Found(NamedTuple):
    """The groups, and their numbers in blocks of which each keeps as many [blocks, m]; None if they compete freely."""

    groups: Groups
    blocks: Tensor | None


def find(model: nn.Module, example: tuple[Tensor, ...], asked: Asked) -> Found:
    """The groups that are asked for, proven to be removable where they can be taken out at all.

    "channels" are filters whose norm is taken over all that goes with them, the next layers' columns too. The log says
    what is left out and why. Raises UnsupportedError if nothing is left, SettingsError for kinds that there are not or
    that do not go together.
    """
    blocks = None
    if N_OF_M in asked.kinds:
        if len(asked.kinds) > 1:
            raise SettingsError(
                f"Each block of {N_OF_M} has a level of its own, so it goes with no other kind of groups."
            )
        every, blocks = n_of_m(model, asked.block)
    else:
        every = joined([_of_kind(kind, model, example, asked) for kind in asked.kinds])
    chosen = [axis for axis, name in enumerate(every.names) if asked.admits(name)]
    groups = every.only(chosen, {})
    if blocks is not None:
        kept = torch.isin(every.axis, torch.tensor(chosen, dtype=torch.int64))
        blocks = (torch.cumsum(kept, 0) - 1)[blocks[kept[blocks[:, 0]]]]
    groups = verified(groups, model, example)
    # A layer may have no groups of one kind because it has those of another: heads, not neurons.
    touched = {part.tensor.rpartition(".")[0] for part in groups.parts}
    for layer, reason in groups.left_out.items():
        if layer not in touched:
            log.warning("%s stays as it is: %s", layer, reason)
    if not len(groups):
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in list(groups.left_out.items())[:3])
        raise UnsupportedError(
            f"This network has no groups of the kinds {', '.join(asked.kinds)}{f' ({reasons})' if reasons else ''}; "
            "give others: --set compressor.NAME.groups=[...]"
        )
    return Found(groups, blocks)


def _of_kind(kind: str, model: nn.Module, example: tuple[Tensor, ...], asked: Asked) -> Groups:
    finders: Mapping[str, Callable[[], Groups]] = {
        "filters": partial(channels, model, example, kind="filters"),
        "channels": partial(channels, model, example, kind="filters", norm="coupled"),
        "neurons": partial(channels, model, example, kind="neurons"),
        "heads": partial(heads, model, example),
        "blocks": partial(blocks_of, model, example),
        "filter-shapes": partial(filter_shapes, model),
        "weights": partial(weights, model),
        "tiles": partial(tiles, model, asked.tiles),
    }
    if kind not in finders:
        raise SettingsError(f"There are no groups called {kind!r}.{did_you_mean(kind, KINDS)}")
    return finders[kind]()
