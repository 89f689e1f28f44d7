"""ParZC's network and its training: a mixer over node-wise statistics, optionally within a graph encoder and beside
further scores (Dong et al. 2025, arXiv:2402.02105).
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from predictors.diffkendall import loss_by_name
from predictors.graph_encoder import GraphEncoder, GraphSizes, published_graph_sizes
from predictors.mixer import Mixer, MixerSizes, divergence, drawing
from predictors.profiles import Alignment, Inputs, Normalisation
from predictors.ranking import kendall_tau
from predictors.statistics import STATISTICS, Statistic


@dataclass(frozen=True)
class ParZCSettings:
    """What ParZC reads, how large it is and how it is trained; `published` has the authors' choices."""

    statistics: tuple[Statistic, ...] = STATISTICS
    """The node-wise statistics that the mixer reads; none: no mixer."""
    normalisation: Normalisation = "log"
    """Each statistic scaled within each network, signed logarithms standardised over the training set, or both."""
    alignment: Alignment = "stretched"
    points: int = 24
    """Points of depth for stretched profiles."""
    mixer: MixerSizes = MixerSizes(projected=128, segments=8, dim=64, depth=2, mixing="tokens")
    graph: GraphSizes | None = None
    """The encoder that reads cells as graphs; None: no graphs."""
    scores: Literal["none", "read"] = "read"
    """Whether further scores, if there are any, go into the prediction."""
    score_width: int = 128
    """Channels of the feed-forward that reads them."""
    score_dropout: float = 0.1
    summaries: Literal["none", "sums"] = "sums"
    """Whether the statistics' sums over all layers and over thirds of the depth are among the scores."""
    cells: Literal["none", "features"] = "features"
    """Whether features of the cells are among the scores, where networks have cells."""
    absent: tuple[int, ...] = ()
    """The kinds of operation of a cell that let nothing through, by number."""
    targets: Literal["gaussian", "zscore"] = "gaussian"
    """Labels as normal quantiles of their ranks, or standardised; by the training labels alone."""
    loss: str = "preference"
    optimiser: Literal["adam", "adamw"] = "adamw"
    epochs: int = 150
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    batch: int = 256
    divergence: float = 0.0
    """Weight of the Bayesian layers' divergence from a normal prior, a network of the training set."""
    dropout: Literal["throughout", "until_evaluation"] = "throughout"
    """As the authors' program has it, dropout ends with the first evaluation, after `evaluate_every` epochs."""
    evaluate_every: int = 10
    """Epochs between evaluations on a validation set, if there is one; the best epoch's weights are kept."""
    members: int = 5
    """Networks that are trained from other seeds and averaged."""

    def __post_init__(self) -> None:
        loss_by_name(self.loss)
        if unknown := sorted(set(self.statistics) - set(get_args(Statistic))):
            raise ValueError(f"statistics {unknown} are not known; there are {', '.join(STATISTICS)}")
        if min(self.points, self.score_width, self.epochs, self.batch - 1, self.evaluate_every, self.members) < 1:
            raise ValueError("points, score_width, epochs, evaluate_every and members must be at least 1, batch 2")
        if self.learning_rate <= 0 or min(self.weight_decay, self.divergence) < 0 or not 0 <= self.score_dropout < 1:
            raise ValueError("learning_rate must be above 0, weight_decay and divergence at least 0, dropout in [0, 1)")


def published() -> ParZCSettings:
    """The settings of the authors' runs on NAS-Bench-201 with the graph encoder, flaws included.

    Their sizes were chosen by rank correlation on test networks, and dropout ended after ten epochs.
    """
    return ParZCSettings(
        statistics=("grad_norm", "snip", "synflow"),
        normalisation="minmax",
        alignment="padded",
        mixer=MixerSizes(),
        graph=published_graph_sizes(),
        scores="none",
        summaries="none",
        cells="none",
        targets="zscore",
        loss="parzc",
        optimiser="adam",
        epochs=200,
        learning_rate=1e-4,
        weight_decay=1e-3,
        batch=10,
        dropout="until_evaluation",
        members=1,
    )


@dataclass(frozen=True)
class Shapes:
    """The sizes that a network takes from its training set; 0 for what it does not read."""

    profile: int = 0
    nodes: int = 0
    kinds: int = 0
    scores: int = 0


class ParZCNet(nn.Module):
    """Inputs of networks -> one score each [networks], higher for better ones."""

    def __init__(self, settings: ParZCSettings, shapes: Shapes) -> None:
        super().__init__()
        graph = settings.graph if shapes.nodes else None
        latent = graph.dim if graph else settings.mixer.dim if shapes.profile else 0
        self.nodes = shapes.nodes if graph else 0
        self.mixer: nn.Module | None = None
        self.encoder: nn.Module | None = None
        self.head: nn.Module | None = None
        self.reader: nn.Module | None = None
        if graph:
            self.encoder = GraphEncoder(shapes.nodes, shapes.kinds, sizes=graph)
        if shapes.profile:
            self.mixer = Mixer(shapes.profile, latent * max(self.nodes, 1), sizes=settings.mixer)
        if latent:
            within = latent if graph else latent // 2
            dropout = nn.Dropout(settings.mixer.dropout)
            self.head = nn.Sequential(nn.Linear(latent, within, bias=False), dropout, nn.Linear(within, 1, bias=False))
        if shapes.scores:
            self.reader = _reader(shapes.scores, settings.score_width, settings.score_dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """The sum of what the mixer and encoder say and what the further scores say."""
        parts: list[Tensor] = []
        latent = None
        if self.mixer is not None:
            latent = self.mixer(inputs.profiles)
        if self.encoder is not None:
            added = None if latent is None else latent.unflatten(1, (self.nodes, -1))
            latent = self.encoder(inputs.graphs, added)
        if self.head is not None:
            parts.append(self.head(latent))
        if self.reader is not None:
            parts.append(self.reader(inputs.scores))
        return torch.stack(parts).sum(0).squeeze(1)


def _reader(scores: int, width: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (scores, width):
        layers += [nn.Linear(inputs, width), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, 1))


# -- training ----------------------------------------------------------------------------------------------------------


def train(
    inputs: Inputs,
    targets: Tensor,
    *,
    settings: ParZCSettings,
    shapes: Shapes,
    seed: int,
    validation: tuple[Inputs, np.ndarray] | None = None,
) -> ParZCNet:
    """A network trained on these inputs and targets [networks]; the best of its epochs where there is a validation set.

    Everything random comes from the seed; torch's own generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = ParZCNet(settings, shapes)
        optimiser = _optimiser(net, settings)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
        best, kept = -2.0, net.state_dict()
        for epoch in range(settings.epochs):
            _epoch(net, inputs, targets, optimiser, settings=settings, epoch=epoch)
            schedule.step()
            if validation is not None and ((epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs):
                reached = _agreement(net, validation)
                if reached > best:
                    best, kept = reached, copy.deepcopy(net.state_dict())
        if validation is not None:
            net.load_state_dict(kept)
    return net.eval()


def scored(net: ParZCNet, inputs: Inputs, *, count: int, draw: bool = False) -> Tensor:
    """What a network says of `count` networks [networks], by its mean weights or by one draw of them."""
    net.eval()
    with torch.no_grad(), drawing(net) if draw else nullcontext():
        return torch.cat([net(inputs[rows]) for rows in torch.split(torch.arange(count), 512)])


def _epoch(
    net: ParZCNet,
    inputs: Inputs,
    targets: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    settings: ParZCSettings,
    epoch: int,
) -> None:
    """One pass over the training set in batches of equal size, none smaller than asked for."""
    loss = loss_by_name(settings.loss)
    net.train(settings.dropout == "throughout" or epoch < settings.evaluate_every)
    count = len(targets)
    with drawing(net):  # without training mode too, as published
        for rows in torch.randperm(count).tensor_split(max(count // settings.batch, 1)):
            lost = loss(net(inputs[rows]), targets[rows])
            if settings.divergence:
                lost = lost + settings.divergence * divergence(net) / count
            optimiser.zero_grad()
            lost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def _optimiser(net: ParZCNet, settings: ParZCSettings) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if settings.optimiser == "adam" else torch.optim.AdamW
    return kind(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _agreement(net: ParZCNet, validation: tuple[Inputs, np.ndarray]) -> float:
    inputs, labels = validation
    found = scored(net, inputs, count=len(labels)).numpy()
    # A network that says the same of all ranks nothing, which is the worst there is.
    return kendall_tau(found, labels) if np.ptp(found) > 0 else -1.0
