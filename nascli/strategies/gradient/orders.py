"""Which edge is decided next, and by how much its options are missed: the orders of perturbation-based selection.

Random is DARTS-PT's own (Wang et al. 2021, arXiv:2108.04392); the others are those of Zero-Cost-PT (Xiang et al. 2021,
arXiv:2106.06799, section 5.1).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from statistics import fmean
from typing import Literal

from nascli.engine.protocol import Step, Trial
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.perturbation import Meter, qualities

Order = Literal[
    "random",
    "forward",
    "reverse",
    "global-op-iter",
    "global-op-once",
    "global-edge-iter",
    "global-edge-once",
]
"""Global orders put all open edges in order, by the option missed most or by the mean, at every decision or once."""
Option = tuple[str, int]
"""A choice and the position of one of its options."""
Choosing = Generator[Step, Sequence[Trial], Option]
"""A part of a conversation that comes to a choice and the option to settle it on."""


def next_decision(
    loop: Loop, meter: Meter, names: Sequence[str], order: Order, *, stream: str, renormalise: bool
) -> Choosing:
    """The open row to decide next among `names`, and the option without which least is left; ties go to the first."""
    if order.startswith("global"):
        return (yield from _global(loop, meter, names, order, stream=stream, renormalise=renormalise))
    name = {"forward": names[0], "reverse": names[-1]}.get(order)
    if name is None:
        name = names[int(loop.task.rng(f"gradient/order/{stream}").integers(len(names)))]
    cases = cases_of(loop, name)
    left = yield from qualities(loop, meter, cases, renormalise=renormalise)
    return _missed(dict(zip(cases, left, strict=True)))


def next_edges(loop: Loop, meter: Meter, node: str) -> Generator[Step, Sequence[Trial], None]:
    """Let a node give up edges, each time the one without which most is left, until one of its options remains.

    Edges given up stay out while the others are measured. Ties go to the first.
    """
    mixture = loop.mixture
    options = mixture.rows.topology[node]
    while node not in mixture.decided:
        kept = [e for e in mixture.rows.names if e in mixture.rows.edges(node) - mixture.dropped]
        spare = [e for e in kept if any(option <= set(kept) - {e} for option in options)]
        left = yield from qualities(loop, meter, [(e, None) for e in spare])
        loop.notes["measured"] = {}
        mixture.drop(node, spare[max(range(len(spare)), key=left.__getitem__)])


def cases_of(loop: Loop, name: str) -> list[Option]:
    """What may be settled on in a row, one option out at a time."""
    return [(name, option) for option in loop.mixture.rows.candidates(name)]


def _global(
    loop: Loop, meter: Meter, names: Sequence[str], order: Order, *, stream: str, renormalise: bool
) -> Choosing:
    lane = stream.rpartition("/")[2]
    kept: dict[str, list[str]] = loop.notes.setdefault("once", {})
    by_mean = order.startswith("global-edge")
    if not (order.endswith("once") and lane in kept):
        cases = [case for name in names for case in cases_of(loop, name)]
        left = yield from qualities(loop, meter, cases, renormalise=renormalise)
        of_edge = {name: [v for (n, _), v in zip(cases, left, strict=True) if n == name] for name in names}
        kept[lane] = sorted(names, key=lambda n: fmean(of_edge[n]) if by_mean else min(of_edge[n]))
    # Measured once, edges stay in their order; what is decided on each is measured when its turn has come.
    edge = next(name for name in kept[lane] if name in names)
    cases = cases_of(loop, edge)
    left = yield from qualities(loop, meter, cases, renormalise=renormalise)
    return _missed(dict(zip(cases, left, strict=True)))


def _missed(left: dict[Option, float]) -> Option:
    return min(left, key=left.__getitem__)
