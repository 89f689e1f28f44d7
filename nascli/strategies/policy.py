"""A distribution over the architectures of a table that learns: one softmax a choice, and Adam on their logits.

The probability of an architecture is the product over its active choices; the others have no say in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from search_spaces import Architecture, ChoiceTable


class Policy:
    """Independent softmax distributions, at first uniform."""

    def __init__(self, table: ChoiceTable) -> None:
        self._table = table
        counts = [len(choice.options) for choice in table.choices]
        ends = np.cumsum(counts)
        self._blocks = [slice(int(end) - count, int(end)) for count, end in zip(counts, ends, strict=True)]
        self.logits = np.zeros(int(ends[-1]))
        """One an option, choice after choice, [sum of option counts]."""

    def probabilities(self) -> list[np.ndarray]:
        """For each choice, [options]."""
        return [_softmax(self.logits[block]) for block in self._blocks]

    def draws(self, rng: Generator) -> Iterator[Architecture]:
        """Architectures drawn from the distribution as it is now, without end."""
        cumulated = [np.cumsum(p)[:-1] for p in self.probabilities()]
        while True:
            numbers = rng.random(len(cumulated))
            pairs = zip(cumulated, numbers, strict=True)
            yield self._table.from_indices([int(np.searchsorted(c, u, side="right")) for c, u in pairs])

    def log_probability(self, arch: Architecture) -> float:
        """The logarithm of an architecture's probability."""
        chosen = self._table.encode(arch) > 0
        return float(np.log(np.concatenate(self.probabilities())[chosen]).sum())

    def gradient(self, arch: Architecture) -> np.ndarray:
        """The derivatives of `log_probability` by the logits, [sum of option counts].

        Of a softmax: 1 - p for the option taken, -p for the others of its choice; 0 for choices that are not active.
        """
        code = self._table.encode(arch)
        for block, p in zip(self._blocks, self.probabilities(), strict=True):
            code[block] -= p * code[block].sum()
        return code


class Adam:
    """Steps of steepest ascent, each number scaled by its own history (Kingma & Ba 2015, arXiv:1412.6980, alg. 1)."""

    DECAY = (0.9, 0.999)
    """Of the gradient's mean and of its square's."""
    TINY = 1e-8

    def __init__(self, size: int, lr: float) -> None:
        self._lr, self._steps = lr, 0
        self._mean, self._square = np.zeros(size), np.zeros(size)

    def step(self, gradient: np.ndarray) -> np.ndarray:
        """What to add to the parameters, [parameters]."""
        self._steps += 1
        first, second = self.DECAY
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        mean = self._mean / (1 - first**self._steps)
        square = self._square / (1 - second**self._steps)
        moved: np.ndarray = self._lr * mean / (np.sqrt(square) + self.TINY)
        return moved


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [options]."""
    raised = np.exp(logits - logits.max())
    found: np.ndarray = raised / raised.sum()
    return found
