"""Training the network of a found cell as the papers on differentiable search do: for long, with parts of images and
paths of the network left out at random, and with a second classifier half-way that is thrown away at the end.

The recipe is that of DARTS (Liu et al. 2019, arXiv:1806.09055). Cutout: DeVries & Taylor 2017 (arXiv:1708.04552).
Auxiliary classifiers: Szegedy et al. 2015 (arXiv:1409.4842). Paths dropped ever more often: Larsson et al. 2017
(arXiv:1605.07648), Zoph et al. 2018 (arXiv:1707.07012).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nascli import training
from nascli.engine.evaluate import assemble
from nascli.engine.network import Network
from nascli.engine.protocol import Step, Trial
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from nascli.recipes.one_network import OneNetwork
from nascli.recipes.session import Moment, Session, at_rest
from search_spaces.darts_ops import set_drop_path
from search_spaces.space import Batch, Tapped


@dataclass(frozen=True, kw_only=True)
class Cells(OneNetwork):
    """One network of cells, trained as DARTS trains those that it found (Liu et al. 2019, arXiv:1806.09055).

    Networks without a place for an auxiliary classifier, or without paths to drop, are trained without.
    """

    epochs: float = 600.0
    """As in other recipes."""
    batch: int = 96
    """As in other recipes."""
    lr: float = 0.025
    """As in other recipes."""
    ramp: float = 0.0
    """As in other recipes: here the learning rate begins with its highest."""
    weight_decay: float = 3e-4
    """Of what `decayed` says."""
    smoothing: float = 0.0
    """As in other recipes."""
    clip: float = 5.0
    """Gradients are clipped to this, see `clip_by`; inf: not at all."""
    clip_by: Literal["norm", "value"] = "norm"
    """Whether it is the norm of all gradients together that may not be larger, or each single value."""
    momentum: float = 0.9
    """Of the optimiser, SGD."""
    acceleration: Literal["heavy-ball", "nesterov"] = "heavy-ball"
    """What the momentum does: SGD's usual one, or Nesterov's."""
    decayed: Literal["all", "weights"] = "all"
    """What decays: all parameters, or all but biases and normalisation."""
    cutout: int = 16
    """The side, in pixels, of the square that is cut out of each image; 0: none."""
    auxiliary: float = 0.4
    """The weight of the auxiliary classifier's loss beside the network's; 0: there is none."""
    drop_path: float = 0.2
    """The rate at which paths are dropped in the end; it rises from 0 with the budget that is spent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "drop_path"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value!r} must be at least 0 and less than 1")
        for name in ("cutout", "auxiliary"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name}={value!r} must not be negative or infinite")

    def optimiser(self, model: nn.Module) -> Optimizer:
        """SGD as the settings have it."""
        return training.sgd(
            model,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            acceleration=self.acceleration,
            decayed=self.decayed,
        )

    def step(self, optimiser: Optimizer, losses: Iterable[Tensor]) -> Tensor:
        """See `Recipe.step`; gradients are clipped as the settings have it."""
        return training.step(optimiser, losses, clip=self.clip, clip_by=self.clip_by)

    def fit(
        self, network: Network, task: Task, state: Mapping[str, Any] | None = None
    ) -> Generator[Step, Sequence[Trial], Network]:
        """See `OneNetwork.fit`. Raises UnsupportedError for a cutout where the inputs are no images."""
        if self.cutout and task.space.signature.kind != "image":
            raise UnsupportedError("Only images can have squares cut out; give --set strategy.cutout=0.")
        trained = Accompanied(model := assemble(network, task), self._companion(model, network, task))
        session = Session(self, task, model=trained, state=state)

        def losses(batch: Batch, at: Moment) -> Iterator[Tensor]:
            set_drop_path(trained.network, self.drop_path * at.spent)
            if self.cutout:
                cut = cut_out(batch.inputs[0], self.cutout, rng=task.rng(f"train/cutout/{at.step}"))
                batch = batch.with_inputs(cut, *batch.inputs[1:])
            logits, helping = trained(*batch.inputs)
            loss = batch.losses(logits, smoothing=self.smoothing).mean()
            if helping is not None:
                loss = loss + self.auxiliary * batch.losses(helping, smoothing=self.smoothing).mean()
            yield loss

        yield from session.run(losses)
        return replace(network, tensors=at_rest(trained.network.state_dict()), tag=session.tag)

    def _companion(self, model: nn.Module, network: Network, task: Task) -> nn.Module | None:
        """A new auxiliary classifier with weights by seed, where one is wanted and the network has a place for it."""
        if not self.auxiliary or not isinstance(model, Tapped):
            return None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(task.entropy(f"init/{network.key}/auxiliary"))
            return model.auxiliary().to(task.device)


class Accompanied(nn.Module):
    """A network and the auxiliary classifier that is trained beside it, if there is one."""

    def __init__(self, network: nn.Module, auxiliary: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.auxiliary = auxiliary

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's logits [n, classes], and the auxiliary classifier's."""
        if self.auxiliary is None or not isinstance(self.network, Tapped):
            return self.network(*inputs), None
        logits, tapped = self.network.tapped(*inputs)
        return logits, self.auxiliary(tapped)


def cut_out(images: Tensor, size: int, *, rng: np.random.Generator) -> Tensor:
    """The images [n, c, h, w] with a square of zeros in each, whose centre is any pixel: borders may clip it."""
    count, _, height, width = images.shape
    centres = torch.from_numpy(rng.integers([[height], [width]], size=(2, count))).to(images.device)

    def covered(centre: Tensor, length: int) -> Tensor:
        """bool [n, length]"""
        at = torch.arange(length, device=images.device) - (centre[:, None] - size // 2)
        return (at >= 0) & (at < size)

    square = covered(centres[0], height)[:, :, None] & covered(centres[1], width)[:, None, :]
    return images.masked_fill(square[:, None], 0.0)
