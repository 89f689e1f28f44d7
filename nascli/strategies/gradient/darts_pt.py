"""Perturbation-based selection: a supernet is asked what it misses most, edge by edge, and is tuned between decisions
(DARTS-PT, Wang et al. 2021, arXiv:2108.04392).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nascli.engine.network import Network
from nascli.engine.protocol import Search
from nascli.strategies.assisted import ranked
from nascli.strategies.gradient import magnitude, perturbation
from nascli.strategies.gradient.greedy import Greedy
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.orders import Order, cases_of, next_decision, next_edges
from nascli.strategies.gradient.perturbation import Meter, qualities
from nascli.strategies.gradient.relaxed import Relaxed
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class DartsPT(Relaxed):
    """Keep on each edge what the supernet misses most (DARTS-PT, Wang et al. 2021, arXiv:2108.04392).

    A trained supernet is selected from at once. With alpha='fixed' no architecture weights are learnt at all.
    """

    criterion: Literal["accuracy", "loss", "magnitude", "zero-cost"] = "accuracy"
    """What an option is judged by: accuracy or loss without it, its architecture weight, or a proxy's score without it.
    With zero-cost nothing is trained."""
    order: Order = "random"
    """In which order edges are decided."""
    decisions: Literal["tuned", "greedy"] = "tuned"
    """After the search, with tuning between them, or while it goes on, by the schedule and order of `greedy` (SGAS)."""
    greedy: Greedy = Greedy()
    tune_epochs: float = 5.0
    """Epochs of tuning between two decisions."""
    last_epochs: float = 1.0
    """Epochs of tuning after the last one."""
    tune_lr: float = 0.0025
    """The network's learning rate while tuning."""
    examples: int = 0
    """Validation examples that a measurement reads; 0: all."""
    renormalise: Literal["no", "yes"] = "no"
    """Whether an edge's other options share the weight of the one taken out."""
    proxy: str = "nwot"
    """What zero-cost scores the supernet, and at the end the networks proposed, by."""
    proposals: int = 10
    """Networks that zero-cost proposes, by as many orders; the best by the proxy is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tune_epochs", "last_epochs", "examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must not be negative")
        if self.tune_lr <= 0 or self.proposals < 1:
            raise ValueError(f"tune_lr={self.tune_lr} must be more than 0, and proposals={self.proposals} at least 1")
        if self.criterion == "magnitude" and self.alpha == "fixed":
            raise ValueError("alpha='fixed' leaves no magnitude to judge by; give criterion='accuracy'")
        if self.criterion == "zero-cost" and self.decisions == "greedy":
            raise ValueError("criterion='zero-cost' trains nothing, so decisions='greedy' has nothing to go along with")
        if self.decisions == "greedy" and self.early_stop != "never":
            raise ValueError(
                f"early_stop={self.early_stop!r} does not go with decisions='greedy', which end by schedule"
            )

    # -- schedule ----------------------------------------------------------------------------------------------------

    def stages(self, rows: Rows) -> list[Stage]:
        """See `Relaxed.stages`."""
        if self.decisions == "greedy":
            return self.greedy.stages(rows)
        turns = max(len(lane) for lane in rows.lanes) + _busiest(rows)
        untrained = self.criterion == "zero-cost"
        epochs, tune, last = (0.0, 0.0, 0.0) if untrained else (self.epochs, self.tune_epochs, self.last_epochs)
        between = [Stage(tune, epochs + tune * i, decides=True) for i in range(turns - 1)]
        return [
            Stage(epochs, total=epochs or 1.0, decides=True, searched=True),
            *between,
            Stage(last, epochs + tune * (turns - 1)),
        ]

    def rate(self, stage: Stage, spent: float) -> float:
        """See `Relaxed.rate`; constant while tuning."""
        return self.tune_lr if stage.total is None else super().rate(stage, spent)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def run(self, loop: Loop) -> Search:
        """See `Relaxed.run`; without training, several networks are proposed and the best by the proxy is taken."""
        if self.criterion != "zero-cost":
            yield from super().run(loop)
            return
        table = loop.mixture.rows.table
        proposed: list[str] = loop.notes.setdefault("proposed", [])
        # Only random orders differ from one time to the next.
        while len(proposed) < (self.proposals if self.order == "random" else 1):
            yield from super().run(loop)
            proposed.append(str(loop.mixture.rows.architecture(loop.mixture.decided)))
            loop.restart()
        archs = [table.parse(text) for text in dict.fromkeys(proposed)]
        best = (yield from ranked(archs, self.proxy))[0]
        loop.mixture.decided = table.positions(best)

    def found(self, loop: Loop) -> Network:
        """See `Relaxed.found`; nothing is lent where nothing was trained."""
        if self.criterion == "zero-cost" and not loop.trained:
            return Network(loop.mixture.rows.architecture(loop.mixture.decided))
        return super().found(loop)

    def turn(self, loop: Loop) -> Search:
        """See `Relaxed.turn`: an operation on one edge of each kind of cell, or, once those are settled, the edges of a
        node. Kinds of cells take their turns one after another, each seeing what the one before has settled.
        """
        meter = self._meter(loop)
        lanes = loop.mixture.rows.lanes
        for number in range(loop.notes.setdefault("lane", 0), len(lanes)):
            yield from self._decide(loop, meter, lanes[number], number)
            loop.notes |= {"lane": number + 1, "measured": {}}
        loop.notes["lane"] = 0
        if self.decisions == "greedy":
            magnitude.settle_full_nodes(loop.mixture)
            loop.enlarge(self.greedy.more)

    def settle(self, loop: Loop) -> Search:
        """See `Relaxed.settle`: all is settled by now."""
        yield from ()

    def remember(self, loop: Loop) -> None:
        """See `Relaxed.remember`."""
        if self.decisions == "greedy":
            self.greedy.remember(loop)

    def _decide(self, loop: Loop, meter: Meter, lane: tuple[str, ...], number: int) -> Search:
        mixture = loop.mixture
        names = [n for n in lane if n in mixture.undecided]
        stream = f"{len(loop.notes.get('proposed', []))}/{loop.stage}/{number}"
        if names and self.criterion == "magnitude":
            drawn = int(loop.task.rng(f"gradient/order/{stream}").integers(len(names)))
            name = self.greedy.surest(loop, names) if self.decisions == "greedy" else names[drawn]
            mixture.decide(name, magnitude.best_option(mixture, name))
        elif names and self.decisions == "greedy":
            cases = cases_of(loop, self.greedy.surest(loop, names))
            left = yield from qualities(loop, meter, cases, renormalise=self.renormalise == "yes")
            mixture.decide(*cases[min(range(len(cases)), key=left.__getitem__)])
        elif names:
            shared = self.renormalise == "yes"
            chosen = yield from next_decision(loop, meter, names, self.order, stream=stream, renormalise=shared)
            mixture.decide(*chosen)
        elif nodes := [n for n in mixture.rows.topology if n not in mixture.decided and _of(mixture.rows, n, lane)]:
            node = nodes[int(loop.task.rng(f"gradient/order/{stream}").integers(len(nodes)))]
            if self.criterion == "magnitude":
                mixture.decide(node, magnitude.best_edges(mixture, node))
            else:
                yield from next_edges(loop, meter, node)

    def _meter(self, loop: Loop) -> Meter:
        if self.criterion == "zero-cost":
            return perturbation.zero_cost(loop, proxy=self.proxy)
        if self.criterion == "loss":
            return perturbation.likelihood(loop, examples=self.examples)
        return perturbation.accuracy(loop, examples=self.examples)


def _of(rows: Rows, node: str, lane: tuple[str, ...]) -> bool:
    return rows.edges(node) <= set(lane)


def _busiest(rows: Rows) -> int:
    """How many nodes of a lane choose their edges, at most."""
    return max(sum(_of(rows, node, lane) for node in rows.topology) for lane in rows.lanes)
