"""The state of a relaxed search: architecture weights, what is decided already, and the gates that follow from both.

Decided rows are constants: their weights get exactly no gradient, and their other options are not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nascli.strategies.gradient import relaxation
from nascli.strategies.gradient.rows import Rows
from search_spaces.gated import KnownGates
from search_spaces.space import Gates

Relaxation = Literal["softmax", "gumbel", "dirichlet"]


@dataclass(frozen=True)
class Moment:
    """What of the search's progress a relaxation depends on."""

    temperature: float = 1.0
    """Of Gumbel-softmax."""
    radius: float = 0.0
    """Of the random perturbation (SDARTS-RS); 0: none."""


class Mixture:
    """The weights of all options of all choices. `logits` is [rows, options] with 0 as padding, and a leaf.

    `edges` are logits of the edges into a node [rows] (PC-DARTS, Xu et al. 2020, arXiv:1907.05737), None if all edges
    weigh the same. All of this lives on the CPU, as it decides what is computed; gates go to the device in one piece.
    """

    def __init__(
        self,
        rows: Rows,
        logits: Tensor,
        *,
        relaxation: Relaxation = "softmax",
        edges: Tensor | None = None,
        device: str = "cpu",
    ) -> None:
        self.rows, self.relaxation, self.device = rows, relaxation, device
        self.logits = logits.requires_grad_()
        self.edges = None if edges is None else edges.requires_grad_()
        self.decided: dict[str, int] = {}
        """Choice -> position of the option that it has come to; choices of one option are decided from the start."""
        self.dropped: set[str] = set()
        """Edges that their nodes have given up."""
        self.reopen()
        self.removed = torch.zeros_like(rows.valid)
        """bool [rows, options]: options taken out of the race while their row is still open."""

    @property
    def alpha(self) -> list[Tensor]:
        """All that is learnt about the architecture: leaves."""
        return [self.logits] if self.edges is None else [self.logits, self.edges]

    @property
    def valid(self) -> Tensor:
        """bool [rows, options]: what is still in the race."""
        return self.rows.valid & ~self.removed

    @property
    def undecided(self) -> list[str]:
        """The rows that are still mixtures and matter, in the table's order."""
        return [n for n in self.rows.names if n not in self.decided and n not in self.dropped]

    # -- weights -----------------------------------------------------------------------------------------------------

    def weights(self, alpha: Sequence[Tensor] | None = None) -> Tensor:
        """The mixture's expected weights [rows, options], those of decided rows too as if they were open."""
        logits = (self.alpha if alpha is None else alpha)[0]
        if self.relaxation == "dirichlet":
            return relaxation.expected(logits, self.valid)
        return relaxation.softmax(logits, self.valid)

    def sampled(self, alpha: Sequence[Tensor], moment: Moment) -> Tensor:
        """The weights of one forward pass [rows, options]: drawn anew, where the relaxation draws."""
        if self.relaxation == "gumbel":
            return relaxation.gumbel(alpha[0], self.valid, temperature=moment.temperature)
        if self.relaxation == "dirichlet":
            return relaxation.dirichlet(alpha[0], self.valid)
        weights = relaxation.softmax(alpha[0], self.valid)
        if moment.radius:
            return relaxation.perturbed(self.settled(weights), self.valid, radius=moment.radius)
        return weights

    def importance(self, alpha: Sequence[Tensor] | None = None) -> Tensor | None:
        """How much of each edge passes [rows]: its share among the edges into its node, times their number. None: all.

        PC-DARTS' shares sum to 1 a node. Here they average 1, which the normalisation of the next layer makes the
        same, so that networks with even shares are the plain mixture.
        """
        edges = (self.alpha if alpha is None else alpha)[1:]
        if not edges:
            return None
        shares = list(torch.ones_like(edges[0]).unbind())
        for into in self.rows.nodes.values():
            members = [self.rows.row(name) for name in into]
            for i, share in zip(members, edges[0][members].softmax(0) * len(members), strict=True):
                shares[i] = share
        return torch.stack(shares)

    # -- gates -------------------------------------------------------------------------------------------------------

    def gates(
        self, weights: Tensor, *, importance: Tensor | None = None, without: Iterable[tuple[str, int | None]] = ()
    ) -> Gates:
        """Gates for these weights [rows, options], decided rows at their options.

        `without` takes out options (choice, position) without making up for their weight, and edges (choice, None).
        """
        out = list(without)
        gone = {name for name, option in out if option is None}
        gates: dict[str, Tensor] = {}
        computed: dict[str, tuple[int, ...]] = {}
        masked = weights
        if options := [(self.rows.row(n), o) for n, o in out if o is not None]:
            mask = torch.ones_like(weights)
            mask[tuple(zip(*options, strict=True))] = 0
            masked = weights * mask
        hosted = masked.detach().tolist()
        scaled = masked if importance is None else masked * importance[:, None]
        for i, (name, row) in enumerate(zip(self.rows.names, scaled.to(self.device).unbind(), strict=True)):
            count = self.rows.counts[i]
            if name in self.decided:
                gates[name] = _one(self.decided[name], count)
                computed[name] = (self.decided[name],)
                continue
            gates[name] = row[:count]
            computed[name] = tuple(o for o, weight in enumerate(hosted[i][:count]) if weight)
        for node in self.rows.topology:
            gates[node] = self._topology(node, gone)
        return KnownGates(gates, computed)

    def _topology(self, node: str, gone: set[str]) -> Tensor:
        if node in self.decided:
            return _one(self.decided[node], len(self.rows.topology[node]))
        return self.rows.open_gate(node, self.rows.edges(node) - self.dropped - gone)

    def settled(self, weights: Tensor) -> Tensor:
        """The weights [rows, options] with decided rows at their options and edges given up at 0."""
        open_rows = torch.tensor([float(n in self.undecided) for n in self.rows.names])
        constant = torch.zeros_like(weights)
        for i, name in enumerate(self.rows.names):
            if name in self.decided and name not in self.dropped:
                constant[i, self.decided[name]] = 1.0
        return weights * open_rows[:, None] + constant

    # -- decisions ---------------------------------------------------------------------------------------------------

    def reopen(self) -> None:
        """Forget all decisions."""
        alone = [name for name, count in zip(self.rows.names, self.rows.counts, strict=True) if count == 1]
        self.decided, self.dropped = dict.fromkeys(alone, 0), set()

    def decide(self, name: str, option: int) -> None:
        """Settle a choice; a node that chooses its edges gives up all others."""
        self.decided[name] = option
        if name in self.rows.topology:
            self.dropped |= self.rows.edges(name) - self.rows.topology[name][option]

    def drop(self, node: str, edge: str) -> None:
        """Let a node give up an edge; one of its options then is settled if no other is left."""
        self.dropped.add(edge)
        left = [i for i, option in enumerate(self.rows.topology[node]) if not option & self.dropped]
        if len(left) == 1:
            self.decide(node, left[0])

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, dicts and lists; copies."""
        edges = {} if self.edges is None else {"edges": self.edges.detach().clone()}
        return {
            "logits": self.logits.detach().clone(),
            "decided": dict(self.decided),
            "dropped": sorted(self.dropped),
            "removed": self.removed.clone(),
            **edges,
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in place."""
        self.logits.copy_(state["logits"])
        if self.edges is not None:
            self.edges.copy_(state["edges"])
        self.decided, self.dropped = dict(state["decided"]), set(state["dropped"])
        self.removed = state["removed"].clone()


def _one(option: int, count: int) -> Tensor:
    gate = torch.zeros(count)
    gate[option] = 1.0
    return gate
