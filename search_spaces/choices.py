"""Architectures as values: a space is a table of named choices, a network is a tuple of options with one canonical string.

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

INACTIVE = "-"
"""What stands in an architecture string for a choice that does not apply."""


class ArchitectureError(ValueError):
    """An architecture string that does not name a member of the space."""


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
        if bad := [o for o in self.options if o == INACTIVE or any(c in o for c in ",/:") or not o]:
            raise ValueError(f"{self.name}: an option may not be empty, '-' or hold ',', '/' or ':', but got {bad!r}")

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
        earlier: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in earlier:
                raise ValueError(f"{self.name} has two choices called {choice.name!r}")
            for parent, options in choice.when:
                if parent not in earlier or not options <= set(earlier[parent].options):
                    raise ValueError(f"{self.name}.{choice.name} depends on {parent!r}={sorted(options)}, no earlier choice")
            earlier[choice.name] = choice

    # -- canonical form and strings ------------------------------------------------------------------------------

    def canonical(self, options: Sequence[str]) -> Architecture:
        """The architecture with these options, one a choice; options of inactive choices are forgotten.

        Raises ArchitectureError naming the choice and its options.
        """
        if len(options) != len(self.choices):
            raise ArchitectureError(f"{self.name} has {len(self.choices)} choices, but {len(options)} options were given")
        for choice, option in zip(self.choices, options, strict=True):
            if option not in choice.options:
                raise ArchitectureError(
                    f"{choice.name}={option!r} is not in {self.name}; the options are {', '.join(choice.options)}."
                )
        return self._architecture([c.options.index(o) for c, o in zip(self.choices, options, strict=True)])

    def parse(self, text: str) -> Architecture:
        """The architecture that `str` wrote; raises ArchitectureError saying which choice is wrong and what it may be."""
        space, colon, body = text.strip().partition(":")
        if colon and space != self.name:
            raise ArchitectureError(f"{text!r} is an architecture of {space!r}; the space here is {self.name!r}.")
        if not colon:
            raise ArchitectureError(f"{text!r} is no architecture: it must begin with the space's name, {self.name + ':'!r}.")
        groups = body.split("/")
        if len(groups) != len(self._groups):
            raise ArchitectureError(
                f"{text!r} has {len(groups)} parts between slashes; an architecture of {self.name} has {len(self._groups)}."
            )
        indices: list[int] = []
        for (label, members), group in zip(self._groups, groups, strict=True):
            given = group.split(",")
            if given == [INACTIVE]:
                given *= len(members)
            if len(given) != len(members):
                raise ArchitectureError(
                    f"{self.name}: {label or 'the architecture'} has {len(members)} choices "
                    f"({', '.join(self.choices[m].name for m in members)}), but {group!r} gives {len(given)}."
                )
            indices += [self._index(member, option, indices) for member, option in zip(members, given, strict=True)]
        return self._architecture(indices)

    def indices(self, arch: Architecture) -> list[int]:
        """The position of each option among its choice's options, [choices]."""
        return [c.options.index(o) for c, o in zip(self.choices, arch.options, strict=True)]

    def from_indices(self, indices: Sequence[int]) -> Architecture:
        """The architecture with these option positions, [choices]; those of inactive choices are forgotten."""
        return self._architecture([int(i) for i in indices])

    def values(self, arch: Architecture) -> dict[str, str]:
        """Choice name -> option, active choices only."""
        active = self.active(self.indices(arch))
        return {c.name: o for c, o, on in zip(self.choices, arch.options, active, strict=True) if on}

    def active(self, indices: Sequence[int]) -> list[bool]:
        """Whether each choice applies under these option positions, [choices]."""
        on: list[bool] = []
        for parents in self._parents:
            on.append(all(on[p] and indices[p] in allowed for p, allowed in parents))
        return on

    # -- random members and edits --------------------------------------------------------------------------------

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

    # -- numbers -------------------------------------------------------------------------------------------------

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
        """How many architectures there are, exactly: counted by dynamic programming over the choices still referred to."""
        last_use = {p: i for i, parents in enumerate(self._parents) for p, _ in parents}
        states: dict[tuple[tuple[int, int], ...], int] = {(): 1}
        for i, choice in enumerate(self.choices):
            following: dict[tuple[tuple[int, int], ...], int] = {}
            for state, count in states.items():
                known = dict(state)
                on = all(known.get(p, -1) in allowed for p, allowed in self._parents[i])
                for option in range(len(choice.options)) if on else (-1,):
                    now = {**known, i: option}
                    key = tuple((p, o) for p, o in sorted(now.items()) if last_use.get(p, -1) > i)
                    following[key] = following.get(key, 0) + count
            states = following
        return sum(states.values())

    def members(self) -> Iterator[Architecture]:
        """All architectures, each once, in the order of their option positions."""
        return (self._architecture(indices) for indices in self._extend([]))

    @cached_property
    def smallest(self) -> Architecture:
        """The member with every choice on its first option."""
        return self._architecture([0] * len(self.choices))

    @cached_property
    def largest(self) -> Architecture:
        """The member with every choice on its last option."""
        return self._architecture([len(c.options) - 1 for c in self.choices])

    # -- workings ------------------------------------------------------------------------------------------------

    @cached_property
    def _counts(self) -> np.ndarray:
        return np.array([len(c.options) for c in self.choices], dtype=np.int64)

    @cached_property
    def _parents(self) -> list[list[tuple[int, frozenset[int]]]]:
        where = {c.name: i for i, c in enumerate(self.choices)}
        return [
            [(where[n], frozenset(self.choices[where[n]].options.index(o) for o in allowed)) for n, allowed in c.when]
            for c in self.choices
        ]

    @cached_property
    def _groups(self) -> list[tuple[str, list[int]]]:
        runs = itertools.groupby(range(len(self.choices)), key=lambda i: self.choices[i].group)
        return [(label, list(members)) for label, members in runs]

    def _architecture(self, indices: list[int]) -> Architecture:
        active = self.active(indices)
        options = tuple(c.options[i if on else 0] for c, i, on in zip(self.choices, indices, active, strict=True))
        parts = []
        for _, members in self._groups:
            shown = [options[m] if active[m] else INACTIVE for m in members]
            parts.append(",".join(shown) if any(active[m] for m in members) else INACTIVE)
        return Architecture(self.name, options, f"{self.name}:{'/'.join(parts)}")

    def _index(self, member: int, option: str, before: Sequence[int]) -> int:
        choice = self.choices[member]
        if option in choice.options:
            return choice.options.index(option)
        earlier = {self.choices[p].name: self.choices[p].options[before[p]] for p, _ in self._parents[member]}
        if option != INACTIVE:
            raise ArchitectureError(
                f"{choice.name}={option!r} is not in {self.name}; the options are {', '.join(choice.options)}."
            )
        if self.active([*before, *[0] * (len(self.choices) - len(before))])[member]:
            because = f" (as {', '.join(f'{n}={v}' for n, v in earlier.items())})" if earlier else ""
            raise ArchitectureError(
                f"{self.name} needs {choice.name}{because}; the options are {', '.join(choice.options)}."
            )
        return 0

    def _extend(self, prefix: list[int]) -> Iterator[list[int]]:
        at = len(prefix)
        if at == len(self.choices):
            yield prefix
            return
        on = self.active([*prefix, *[0] * (len(self.choices) - at)])[at]
        for option in range(len(self.choices[at].options)) if on else (0,):
            yield from self._extend([*prefix, option])


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
