"""Architectures as values: a space is a table of named choices, a network a tuple of options with one canonical string.

Randomness is an argument everywhere; nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from search_spaces import counting
from search_spaces.errors import ArchitectureError
from search_spaces.notation import INACTIVE, read, write


@dataclass(frozen=True)
class Choice:
    """One decision of a space: its options in ascending cost, and when it applies.

    `name` groups the string by the part before the last dot ("stage2.block1.kernel"). `when` makes the choice
    conditional: it is active iff every named earlier choice is active and has one of the given options.
    """

    name: str
    options: tuple[str, ...]
    when: tuple[tuple[str, frozenset[str]], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options) or not self.options:
            raise ValueError(f"{self.name}: options must be distinct and at least one, but got {self.options!r}")
        if bad := [o for o in self.options if o in ("", INACTIVE) or any(c in o for c in ",/:") or o != o.strip()]:
            raise ValueError(
                f"{self.name}: an option may not be empty or '-', begin or end with a space, or hold ',', '/' or ':', "
                f"but got {bad!r}"
            )

    @property
    def group(self) -> str:
        """The part of the name that choices printed side by side share."""
        return self.name.rpartition(".")[0]

    @cached_property
    def ordered(self) -> bool:
        """Whether the options are numbers in ascending order, so that nearby options are alike."""
        try:
            numbers = [float(o) for o in self.options]
        except ValueError:
            return False
        return numbers == sorted(numbers)


@dataclass(frozen=True, order=True)
class Architecture:
    """One network of a space; canonical: an inactive choice rests on its first option. Made by a `ChoiceTable`."""

    space: str
    options: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ChoiceTable:
    """The choices of a space in order, and everything that follows from them: strings, samples, edits, encodings."""

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name or self.name != self.name.strip():
            raise ValueError(f"a table's name may not be empty, hold ':' or begin or end with a space: {self.name!r}")
        if not self.choices:
            raise ValueError(f"the table {self.name!r} has no choices; a single network is one choice of one option")
        earlier: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in earlier:
                raise ValueError(f"{self.name} has two choices called {choice.name!r}")
            for parent, options in choice.when:
                if parent not in earlier or not options <= set(earlier[parent].options):
                    raise ValueError(f"{choice.name} depends on {parent!r}={sorted(options)}, no earlier choice")
            earlier[choice.name] = choice

    def canonical(self, options: Sequence[str]) -> Architecture:
        """The architecture with these options, one a choice; options of inactive choices are forgotten.

        Raises ArchitectureError naming the choice and its options.
        """
        if len(options) != len(self.choices):
            raise ArchitectureError(f"{self.name} has {len(self.choices)} choices, but got {len(options)} options.")
        for choice, option in zip(self.choices, options, strict=True):
            if option not in choice.options:
                raise ArchitectureError(
                    f"{choice.name}={option!r} is not in {self.name}; the options are {', '.join(choice.options)}."
                )
        return self._architecture([c.options.index(o) for c, o in zip(self.choices, options, strict=True)])

    def parse(self, text: str) -> Architecture:
        """The architecture that `str` wrote; raises ArchitectureError: which choice is wrong and what it may be."""
        return self._architecture(read(self, text))

    @cached_property
    def groups(self) -> list[tuple[str, list[int]]]:
        """What is printed between slashes: (the choices' common prefix, their positions in the table)."""
        runs = itertools.groupby(range(len(self.choices)), key=lambda i: self.choices[i].group)
        return [(label, list(members)) for label, members in runs]

    def indices(self, arch: Architecture) -> list[int]:
        """The position of each option among its choice's options, [choices].

        Raises ArchitectureError if the architecture is of another space, or of this one set otherwise.
        """
        options = arch.options if arch.space == self.name else ()
        try:
            return [c.options.index(o) for c, o in zip(self.choices, options, strict=True)]
        except ValueError:
            raise ArchitectureError(f"{str(arch)!r} is no architecture of {self.name} as it is set here.") from None

    def positions(self, arch: Architecture) -> dict[str, int]:
        """Choice name -> position of its option, 0 for inactive choices; raises like `indices`."""
        return dict(zip((c.name for c in self.choices), self.indices(arch), strict=True))

    def from_indices(self, indices: Sequence[int]) -> Architecture:
        """The architecture with these option positions, [choices]; those of inactive choices are forgotten.

        Raises ArchitectureError if there are too few or too many, or one is out of range.
        """
        counts = [len(c.options) for c in self.choices]
        if len(indices) != len(counts) or not all(0 <= i < n for i, n in zip(indices, counts, strict=True)):
            raise ArchitectureError(f"{self.name} has no member {list(indices)!r}; the option counts are {counts}.")
        return self._architecture([int(i) for i in indices])

    def values(self, arch: Architecture) -> dict[str, str]:
        """Choice name -> option, active choices only."""
        active = self.active(self.indices(arch))
        return {c.name: o for c, o, on in zip(self.choices, arch.options, active, strict=True) if on}

    def active(self, indices: Sequence[int]) -> list[bool]:
        """Whether each of the first choices applies under their option positions, [choices]."""
        on: list[bool] = []
        for parents in self.parents[: len(indices)]:
            on.append(all(on[p] and indices[p] in allowed for p, allowed in parents))
        return on

    @cached_property
    def parents(self) -> list[list[tuple[int, frozenset[int]]]]:
        """For each choice, what makes it active: (position of an earlier choice, positions of its options allowed)."""
        where = {c.name: i for i, c in enumerate(self.choices)}
        return [
            [(where[n], frozenset(self.choices[where[n]].options.index(o) for o in allowed)) for n, allowed in c.when]
            for c in self.choices
        ]

    def sample(self, rng: Generator) -> Architecture:
        """A member with every choice drawn uniformly."""
        return self._architecture(list(rng.integers(self._counts)))

    def mutate(self, arch: Architecture, rng: Generator, rate: float) -> Architecture:
        """A member with each active choice reset to another of its options with probability `rate`.

        Choices that the change makes active are drawn uniformly: resting on their first option would make every
        newly grown block the smallest one.
        """
        before = self.indices(arch)
        active = self.active(before)
        after = list(rng.integers(self._counts))
        shift = rng.integers(1, np.maximum(self._counts, 2))
        reset = rng.random(len(before)) < rate
        for i, on in enumerate(active):
            if on:
                after[i] = (before[i] + int(shift[i])) % self._counts[i] if reset[i] else before[i]
        return self._architecture(after)

    def crossover(self, a: Architecture, b: Architecture, rng: Generator) -> Architecture:
        """A member that takes each choice from either parent with equal odds (uniform crossover).

        Where only one parent has the choice active its option is taken; where neither has, it is drawn uniformly.
        """
        parents = [(self.indices(p), self.active(self.indices(p))) for p in (a, b)]
        picks = rng.integers(2, size=len(self.choices))
        child = list(rng.integers(self._counts))
        for i, pick in enumerate(picks):
            for options, active in (parents[pick], parents[1 - pick]):
                if active[i]:
                    child[i] = options[i]
                    break
        return self._architecture(child)

    def encode(self, arch: Architecture) -> np.ndarray:
        """One-hot encoding [sum of option counts]; the block of an inactive choice is zero."""
        indices = self.indices(arch)
        code = np.zeros(int(self._counts.sum()))
        starts = np.concatenate(([0], np.cumsum(self._counts)[:-1]))
        for start, index, on in zip(starts, indices, self.active(indices), strict=True):
            code[start + index] = float(on)
        return code

    @cached_property
    def fingerprint(self) -> str:
        """8 hex digits of the table; stored with every run, so that old strings are refused and not misread."""
        rows = [[c.name, c.options, [[n, sorted(o)] for n, o in c.when]] for c in self.choices]
        return hashlib.sha256(json.dumps([self.name, rows]).encode()).hexdigest()[:8]

    @cached_property
    def size(self) -> int:
        """How many architectures there are, exactly: by dynamic programming over the choices still referred to."""
        return counting.size(self)

    def members(self) -> Iterator[Architecture]:
        """All architectures, each once, in the order of their option positions."""
        return (self._architecture(indices) for indices in counting.positions(self))

    @cached_property
    def smallest(self) -> Architecture:
        """The member with every choice on its first option."""
        return self._architecture([0] * len(self.choices))

    @cached_property
    def largest(self) -> Architecture:
        """The member with every choice on its last option."""
        return self._architecture([len(c.options) - 1 for c in self.choices])

    @cached_property
    def _counts(self) -> np.ndarray:
        return np.array([len(c.options) for c in self.choices], dtype=np.int64)

    def _architecture(self, indices: Sequence[int]) -> Architecture:
        active = self.active(indices)
        options = tuple(c.options[i if on else 0] for c, i, on in zip(self.choices, indices, active, strict=True))
        return Architecture(self.name, options, write(self, options, active))


def describe(table: ChoiceTable) -> list[Mapping[str, object]]:
    """One row a choice, for tables and JSON: name, options, and the condition in words."""
    return [
        {
            "choice": c.name,
            "options": list(c.options),
            "when": " and ".join(f"{n} in {{{', '.join(sorted(o))}}}" for n, o in c.when),
        }
        for c in table.choices
    ]
