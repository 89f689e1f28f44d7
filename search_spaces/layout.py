"""What the settings of the image spaces have in common: presets by image size, and what is no sensible setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from search_spaces.choices import Choice
from search_spaces.space import Signature

L = TypeVar("L")

_SIDES = {12: "digits", 30: "28", 64: "32"}


def preset(presets: Mapping[str, L], name: str, signature: Signature) -> L:
    """The layout called `name`; "auto" takes that for the images' shorter side. Raises ValueError for another name."""
    if signature.kind != "image" or len(signature.shape) != 3 or min(*signature.shape, signature.classes) < 1:
        raise ValueError(f"this space needs images (channels, height, width), but the data are {signature}")
    if name == "auto":
        side = min(signature.shape[1:])
        name = next((preset for limit, preset in _SIDES.items() if side <= limit), "imagenet")
    if name not in presets:
        raise ValueError(f"preset={name!r} is unknown; there are auto, {', '.join(presets)}")
    return presets[name]


def check_ascending(field: str, values: Sequence[float]) -> None:
    """Nothing, or ValueError unless the values are positive and ascend, as options do from cheap to costly."""
    if not values or not all(a < b for a, b in pairwise((0, *values, math.inf))):  # nan is less than nothing
        raise ValueError(f"{field}={tuple(values)!r} must be positive numbers in ascending order, at least one")


def check_stages(**fields: Sequence[object]) -> None:
    """Nothing, or ValueError unless every field has one entry a stage."""
    counts = {name: len(values) for name, values in fields.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        listed = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise ValueError(f"the number of stages must be the same everywhere, but there are {listed}")


def check_positive(field: str, values: Sequence[int]) -> None:
    """Nothing, or ValueError unless all values are at least 1."""
    if any(value < 1 for value in values):
        raise ValueError(f"{field}={tuple(values)!r} must all be at least 1")


def rounded(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, at least one of it, and never more than a tenth below."""
    nearest = max(divisor, math.floor(channels / divisor + 0.5) * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def texts(values: Sequence[float]) -> tuple[str, ...]:
    """Numbers as options are written: "0.25", "1"."""
    return tuple(f"{value:g}" for value in values)


def block_choice(stage: int, block: int, what: str, options: Sequence[float], depths: Sequence[int]) -> Choice:
    """The choice `stage<s>.block<b>.<what>`, active where the stage is at least that deep; both count from 1."""
    deep_enough = frozenset(texts([d for d in depths if d >= block]))
    when = () if len(deep_enough) == len(depths) else ((f"stage{stage}.depth", deep_enough),)
    return Choice(f"stage{stage}.block{block}.{what}", texts(options), when)
