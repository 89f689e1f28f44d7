"""Architecture strings, "mobile:28/2,1/5,4/-": options in the table's order, a slash between groups, "-" where a choice
does not apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.errors import ArchitectureError

if TYPE_CHECKING:
    from search_spaces.choices import ChoiceTable

INACTIVE = "-"
"""What stands in an architecture string for a choice that does not apply."""


def write(table: ChoiceTable, options: Sequence[str], active: Sequence[bool]) -> str:
    """The string of these options, [choices]; a group of which nothing applies is one "-"."""
    parts = []
    for _, members in table.groups:
        shown = [options[m] if active[m] else INACTIVE for m in members]
        parts.append(",".join(shown) if any(active[m] for m in members) else INACTIVE)
    return f"{table.name}:{'/'.join(parts)}"


def read(table: ChoiceTable, text: str) -> list[int]:
    """The option positions, [choices], of what `write` wrote; raises ArchitectureError."""
    space, colon, body = text.strip().partition(":")
    if not colon:
        raise ArchitectureError(
            f"{text!r} is no architecture: it must begin with the space's name, {table.name + ':'!r}."
        )
    if space != table.name:
        raise ArchitectureError(f"{text!r} is an architecture of {space!r}; the space here is {table.name!r}.")
    groups = body.split("/")
    if len(groups) != len(table.groups):
        raise ArchitectureError(
            f"{text!r} has {len(groups)} parts between slashes; one of {table.name} has {len(table.groups)}."
        )
    indices: list[int] = []
    for (label, members), group in zip(table.groups, groups, strict=True):
        given = group.split(",")
        if given == [INACTIVE]:
            given *= len(members)
        if len(given) != len(members):
            raise ArchitectureError(
                f"{table.name}: {label or 'the architecture'} has {len(members)} choices "
                f"({', '.join(table.choices[m].name for m in members)}), but {group!r} gives {len(given)}."
            )
        for option in given:
            indices.append(_index(table, option, indices))
    return indices


def _index(table: ChoiceTable, option: str, before: Sequence[int]) -> int:
    """The position of the next choice's option, given those before it."""
    choice = table.choices[len(before)]
    if option in choice.options:
        return choice.options.index(option)
    listed = ", ".join(choice.options)
    if option != INACTIVE:
        raise ArchitectureError(f"{choice.name}={option!r} is not in {table.name}; the options are {listed}.")
    if table.active([*before, 0])[-1]:
        names = [c.name for c in table.choices]
        parents = {n: table.choices[i].options[before[i]] for n, _ in choice.when for i in [names.index(n)]}
        because = f" (as {', '.join(f'{n}={v}' for n, v in parents.items())})" if parents else ""
        raise ArchitectureError(f"{table.name} needs {choice.name}{because}; the options are {listed}.")
    return 0
