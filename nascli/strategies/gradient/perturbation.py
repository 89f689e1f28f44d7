"""How much a supernet needs an option: what is left of its quality without it (Wang et al. 2021, arXiv:2108.04392).

The option's weight is set to 0 and nothing makes up for it. Every measurement reads the same validation examples in
the same order, normalised by the batch, and leaves the supernet as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch

from nascli import training
from nascli.engine import scores
from nascli.engine.probing import batches
from nascli.engine.protocol import Step, Trial
from nascli.errors import SettingsError
from nascli.recipes.randomness import generators, seeded
from nascli.strategies.gradient.gated_net import GatedNet
from nascli.strategies.gradient.loop import Loop
from predictors import ScoreError
from predictors.probe import Probe
from search_spaces.space import Gates

Case = tuple[str, int | None]
"""What is taken out: an option of a choice by its position, or with None a whole edge."""
Meter = Callable[[Gates], float]
"""The quality of the supernet under gates; more is better."""
Measuring = Generator[Step, Sequence[Trial], list[float]]
"""A part of a conversation that tells every measurement and returns them all."""


def accuracy(loop: Loop, *, examples: int) -> Meter:
    """Accuracy in per cent on the first so many validation examples; 0: all."""
    return lambda gates: _quality(loop, gates, examples)["accuracy"]


def likelihood(loop: Loop, *, examples: int) -> Meter:
    """The mean loss on the first so many validation examples, negated; 0: all."""
    return lambda gates: -_quality(loop, gates, examples)["loss"]


def zero_cost(loop: Loop, *, proxy: str) -> Meter:
    """A proxy's score of the supernet under the gates, negated if less of it is better (Xiang et al. 2021, 2106.06799).

    Raises SettingsError, when called, if the proxy can't score supernets.
    """
    scorer = scores.made(proxy, loop.task.proxies.get(proxy, {}))
    first, second = batches(loop.task)
    sign = 1.0 if scorer.about.goal == "max" else -1.0

    def meter(gates: Gates) -> float:
        probe = Probe(GatedNet(loop.model, gates), first, second=second, seed=loop.task.entropy("gradient/probe"))
        try:
            with _same_draws(loop):
                return sign * scorer(probe)
        except ScoreError as error:
            raise SettingsError(
                f"The proxy {proxy!r} can't score this supernet ({str(error).rstrip('.')}); give another one, such as "
                "nwot or swap."
            ) from None

    return meter


def qualities(loop: Loop, meter: Meter, cases: Sequence[Case], *, renormalise: bool = False) -> Measuring:
    """The supernet's quality without each of the cases, [cases]; what was measured before an interruption is kept."""
    known: dict[str, float] = loop.notes.setdefault("measured", {})
    for case in cases:
        label = described(loop, case)
        if label not in known:
            known[label] = meter(gates_without(loop, case, renormalise=renormalise))
            told = {f"without {label}": known[label], "progress": loop.progress}
            yield Step(metrics=told, state=loop.state)
    return [known[described(loop, case)] for case in cases]


def gates_without(loop: Loop, case: Case, *, renormalise: bool = False) -> Gates:
    """The mixture's gates without an option or an edge; the others keep their weights, or share the lost one."""
    mixture = loop.mixture
    weights = mixture.weights().detach()
    name, option = case
    if renormalise and option is not None:
        row = mixture.rows.row(name)
        weights[row] = weights[row] / (1 - weights[row, option]).clamp(min=1e-12)
    importance = mixture.importance()
    return mixture.gates(weights, importance=None if importance is None else importance.detach(), without=[case])


def described(loop: Loop, case: Case) -> str:
    """The case in words: "edge.0-1=none", or the edge's name."""
    name, option = case
    return name if option is None else f"{name}={loop.mixture.rows.options(name)[option]}"


def _quality(loop: Loop, gates: Gates, examples: int) -> dict[str, float]:
    task, val = loop.task, loop.validation
    split = val.head(examples) if examples else val
    with _same_draws(loop):
        return training.evaluate(
            loop.model, split, batch_size=task.batch_size, device=task.device, gates=gates, normalised_by="batch"
        )


@contextmanager
def _same_draws(loop: Loop) -> Iterator[None]:
    """Within: what operations draw from torch's generators is the same in all cases; afterwards they are as before."""
    with torch.random.fork_rng(devices=generators(loop.task.device)):
        seeded(loop.task.entropy("gradient/quality"), loop.task.device)
        yield
