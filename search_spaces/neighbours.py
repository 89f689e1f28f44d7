"""The neighbourhood of an architecture: everything that is one changed choice away."""

from __future__ import annotations

from collections.abc import Iterator

from numpy.random import Generator

from search_spaces.choices import Architecture, ChoiceTable


def neighbours(table: ChoiceTable, arch: Architecture, *, rng: Generator) -> Iterator[Architecture]:
    """Each active choice set to each of its other options, in random order, all different, made as they are asked for.

    Choices that the change makes active are drawn uniformly, as in `ChoiceTable.mutate`; those that it switches off
    are forgotten. Raises ArchitectureError if the architecture is of another space.
    """
    before = table.indices(arch)
    counts = [len(choice.options) for choice in table.choices]
    active = table.active(before)
    edits = [(i, o) for i, on in enumerate(active) if on for o in range(counts[i]) if o != before[i]]
    for edit in rng.permutation(len(edits)):
        changed, option = edits[edit]
        drawn = before if all(active) else rng.integers(counts).tolist()
        after = [old if on else new for old, on, new in zip(before, active, drawn, strict=True)]
        after[changed] = option
        yield table.from_indices(after)
