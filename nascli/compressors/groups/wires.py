"""Where a channel goes on its way between layers: which index it has before and after an operation.

Most operations leave channels where they are. Those that don't (concatenation, splitting, slicing, reshaping) say
enough in torch's record of the pass, together with the shapes that went in and came out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Move = Callable[[int], Sequence[int]]
"""From a channel's index on one side of an operation to its indices on the other; () if it does not get there."""


@dataclass(frozen=True)
class Wire:
    """What happens to channels that enter an operation at one of its inputs."""

    width: int | None
    """The number of channels that come out; None if unknown."""
    forth: Move | None = None
    """From the index before to those behind; None: unchanged."""
    back: Move | None = None
    broken: str = ""
    """Why channels can't be told apart behind the operation, "" if they can."""


def shifted(start: int, size: int, width: int | None) -> Wire:
    """`size` channels that have `start` others before them afterwards: one part of a concatenation."""
    return Wire(width, lambda i: (i + start,), lambda k: (k - start,) if start <= k < start + size else ())


def sliced(start: int, stop: int, step: int) -> Wire:
    """Every `step`-th channel from `start` to before `stop`, and no others."""
    inside = range(start, stop, step)
    return Wire(len(inside), lambda i: (inside.index(i),) if i in inside else (), lambda k: (start + step * k,))


def after(first: Wire, then: Wire) -> Wire:
    """Two wires as one."""
    if first.forth is None or first.back is None:
        return then
    if then.forth is None or then.back is None:
        return Wire(then.width, first.forth, first.back, first.broken or then.broken)
    forth, back, further, nearer = first.forth, first.back, then.forth, then.back
    return Wire(
        then.width,
        lambda i: [k for j in forth(i) for k in further(j)],
        lambda k: [i for j in nearer(k) for i in back(j)],
        first.broken or then.broken,
    )


def folded(channels: int | None, width: int | None) -> Wire:
    """Several times `width` channels laid upon each other, as when examples and channels shared a dimension."""
    if channels is None or not width or channels == width or channels % width:
        return Wire(channels)
    return Wire(width, lambda i: (i % width,), lambda k: range(k, channels, width))


def reshaped(before: Sequence[int], after: Sequence[int], channels: int) -> Wire:
    """A tensor of one shape read as another; `channels` is how many there are before."""
    places = [d for d in _places(len(before)) if before[d] == channels]
    if not places:
        return Wire(None)
    place = places[0]
    around = _factors(before, after, place)
    outer, inner = math.prod(before[around[0] : place]), math.prod(before[place + 1 : around[1]])
    if [s for s in after[around[2] : around[3]] if s != 1] != [s for s in (outer * channels * inner,) if s != 1]:
        return Wire(None, broken="its channels are taken apart by a reshape")
    if outer == inner == 1:
        return Wire(channels)
    return Wire(
        outer * channels * inner,
        lambda i: [(o * channels + i) * inner + k for o in range(outer) for k in range(inner)],
        lambda k: (k // inner % channels,),
    )


def concatenated(grad_fn: Any, index: int, channels: Sequence[int | None]) -> Wire:
    """The wire of one input of a concatenation; `channels` of each input that torch's record knows."""
    shapes = [_shape(function, part) for function, part in grad_fn.next_functions]
    out = tuple(grad_fn._input_metadata[0].shape)
    dim = _dim(grad_fn._saved_dim, len(out))
    sizes = [shape[dim] if shape else None for shape in shapes]
    known = [(place, size) for place, size in enumerate(sizes) if size is not None]
    if dim not in _places(len(out)) or all(c != size for c, (_, size) in zip(channels, known, strict=True)):
        return Wire(channels[index])
    if sizes.count(None) == 1:
        sizes[sizes.index(None)] = out[dim] - sum(size for _, size in known)
    place, size = known[index]
    before = sizes[:place]
    if None in before:
        return Wire(None, broken="its channels are joined with something of unknown size")
    return shifted(sum(s for s in before if s is not None), size, out[dim])


def chunk(grad_fn: Any, index: int, channels: int | None) -> Wire:
    """The wire to one of the parts that a split makes."""
    parts = [tuple(m.shape) for m in grad_fn._input_metadata]
    rank = len(grad_fn._saved_self_sym_sizes)
    dim = _dim(grad_fn._saved_dim, rank)
    if dim not in _places(rank) or grad_fn._saved_self_sym_sizes[dim] != channels:
        return Wire(channels)
    start = sum(p[dim] for p in parts[:index])
    return sliced(start, start + parts[index][dim], 1)


def window(grad_fn: Any, channels: int | None) -> Wire:
    """The wire through a slice."""
    before = tuple(grad_fn._saved_self_sym_sizes)
    dim = _dim(grad_fn._saved_dim, len(before))
    if dim not in _places(len(before)) or before[dim] != channels:
        return Wire(channels)
    # torch's record is unsigned: a slice from behind or to the end has very large numbers.
    start, stop = (_dim(v, before[dim]) for v in (grad_fn._saved_start, grad_fn._saved_end))
    return sliced(start, min(stop, before[dim]), grad_fn._saved_step)


def repeated(wire: Wire, channels: int | None) -> list[tuple[int, int]]:
    """Pairs of channels that must go together so that parts of equal size stay equal: those at the same place of each.

    `wire` leads to one of the parts of a split or slice of these channels.
    """
    if wire.forth is None or not wire.width or channels is None or channels % wire.width:
        return []
    return [(i % wire.width, i) for i in range(wire.width, channels)]


def gated(grad_fn: Any, channels: int | None) -> Wire:
    """The wire through a gated linear unit, which multiplies the first half of the channels by the second."""
    before = _shape(*grad_fn.next_functions[0])
    if channels is None or before is None:
        return Wire(None)
    dim = _dim(grad_fn._saved_dim, len(before))
    if dim not in _places(len(before)) or before[dim] != channels:
        return Wire(channels)
    return folded(channels, channels // 2)


def spread(width: int | None) -> Wire:
    """The wire of a single channel that is laid over many: it is none of theirs."""
    return Wire(width, lambda i: (), lambda k: ())


def view(grad_fn: Any, channels: int | None) -> Wire:
    """The wire through a reshape."""
    (function, number), *_ = grad_fn.next_functions
    before = _shape(function, number)
    if before is None or channels is None:
        return Wire(None)
    return reshaped(before, tuple(grad_fn._input_metadata[0].shape), channels)


def _places(rank: int) -> Sequence[int]:
    """The dimensions that channels may lie on: the second, or the last one of vectors in a sequence."""
    return {0: (), 1: (), 2: (1,), 3: (2, 1)}.get(rank, (1, rank - 1))


def _factors(before: Sequence[int], after: Sequence[int], place: int) -> tuple[int, int, int, int]:
    """The smallest stretches of both shapes, around a dimension, that hold the same numbers: start and end of each."""
    i = j = 0
    while i < len(before) and j < len(after):
        start, other = i, j
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        if start <= place < i:
            while i == len(before) and j < len(after):  # ones at the end
                j += 1
            return start, i, other, j
    return place, place + 1, len(after), len(after)


def _shape(function: Any, number: int) -> tuple[int, ...] | None:
    if function is None or not hasattr(function, "_input_metadata"):
        return None
    metadata = function._input_metadata
    return tuple(metadata[number].shape) if number < len(metadata) else None


def _dim(value: int, size: int) -> int:
    """A dimension or an index as torch records it, counted from the front."""
    signed = value - 2**64 if value >= 2**63 else value
    return signed + size if signed < 0 else signed
