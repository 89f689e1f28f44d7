"""How many architectures a table has, and which: counted without listing, listed without repeating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search_spaces.choices import ChoiceTable


def size(table: ChoiceTable) -> int:
    """The exact number of architectures, by dynamic programming over the choices that later ones still refer to."""
    last_use = {p: i for i, parents in enumerate(table.parents) for p, _ in parents}
    states: dict[tuple[tuple[int, int], ...], int] = {(): 1}
    for i, choice in enumerate(table.choices):
        following: dict[tuple[tuple[int, int], ...], int] = {}
        for state, count in states.items():
            known = dict(state)
            on = all(known.get(p, -1) in allowed for p, allowed in table.parents[i])
            for option in range(len(choice.options)) if on else (-1,):
                now = {**known, i: option}
                key = tuple((p, o) for p, o in sorted(now.items()) if last_use.get(p, -1) > i)
                following[key] = following.get(key, 0) + count
        states = following
    return sum(states.values())


def positions(table: ChoiceTable, prefix: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The option positions [choices] of every architecture that begins with `prefix`, in ascending order."""
    if len(prefix) == len(table.choices):
        yield prefix
        return
    on = table.active([*prefix, 0])[-1]
    for option in range(len(table.choices[len(prefix)].options)) if on else (0,):
        yield from positions(table, (*prefix, option))
