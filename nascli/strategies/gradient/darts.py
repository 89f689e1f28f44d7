"""Differentiable architecture search: architecture weights are learnt by gradients, and the largest are taken (Liu et
al. 2019, arXiv:1806.09055). Its variations are settings: see `Relaxed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nascli.engine.protocol import Search, Step
from nascli.strategies.gradient import magnitude
from nascli.strategies.gradient.greedy import Greedy
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.relaxed import Relaxed
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.schedule import Stage
from nascli.strategies.gradient.widening import Widening


@dataclass(frozen=True, kw_only=True)
class Darts(Relaxed):
    """Learn the weights of all options and take the largest (DARTS, Liu et al. 2019, arXiv:1806.09055).

    With a trained supernet, the largest of its architecture weights are taken at once. By settings also PC-DARTS, GDAS,
    DrNAS, beta-DARTS, SDARTS-RS, SGAS, iDARTS, LV-HBA and BO-REP.
    """

    decisions: Literal["last", "greedy"] = "last"
    """All at the end, or edge by edge while the search goes on (SGAS), by the schedule of `greedy`."""
    greedy: Greedy = Greedy()
    widening: Widening = Widening()
    """Parts of the search on more and more channels and fewer and fewer options (DrNAS on the cells of DARTS)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == "fixed":
            raise ValueError("alpha='fixed' leaves no largest weight to take; use it with strategy 'darts-pt'")
        if self.decisions == "greedy" and self.early_stop != "never":
            raise ValueError(
                f"early_stop={self.early_stop!r} does not go with decisions='greedy', which end by schedule"
            )
        if self.widening.parts and (self.decisions == "greedy" or self.early_stop != "never" or self.max_macs):
            raise ValueError("widening goes by its own schedule: with decisions='last', no early_stop and no max_macs")

    def stages(self, rows: Rows) -> list[Stage]:
        """See `Relaxed.stages`."""
        if self.decisions == "greedy":
            return self.greedy.stages(rows)
        return self.widening.stages(self.epochs)

    def turn(self, loop: Loop) -> Search:
        """See `Relaxed.turn`: the surest edge of each kind of cell takes its largest option, or weak options leave."""
        yield from ()
        if self.decisions == "last":
            self.widening.apply(loop)
            return
        for lane in loop.mixture.rows.lanes:
            if names := [n for n in lane if n in loop.mixture.undecided]:
                name = self.greedy.surest(loop, names)
                loop.mixture.decide(name, magnitude.best_option(loop.mixture, name))
        magnitude.settle_full_nodes(loop.mixture)
        loop.enlarge(self.greedy.more)

    def settle(self, loop: Loop) -> Search:
        """See `Relaxed.settle`."""
        before = len(loop.mixture.decided)
        magnitude.settle(loop.mixture)
        if len(loop.mixture.decided) > before:
            yield Step(metrics=loop.told(), state=loop.state)

    def remember(self, loop: Loop) -> None:
        """See `Relaxed.remember`."""
        if self.decisions == "greedy":
            self.greedy.remember(loop)
