"""Compressors that need no training, a small convolutional network for them, and an edit that makes it narrower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascli.compressors.protocol import Compression, Level
from nascli.engine.network import Network
from nascli.engine.protocol import Step
from nascli.engine.task import Task
from search_spaces.module import ModuleSpace
from search_spaces.space import Signature
from tests.toy_images import image_task

WIDTH = 8
SIGNATURE = Signature("image", (1, 4, 4), 4)
NET = f"{__name__}:net"


def net(channels: int = 1, classes: int = 4) -> nn.Module:
    """Two convolutions, of which the inner channels of the first can go."""
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    )


def digits_net() -> nn.Module:
    """The same for scikit-learn's digits."""
    return net(1, 10)


@dataclass(frozen=True)
class Narrow:
    """Some of the channels between the two convolutions, and no others."""

    channels: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{__name__}:Narrow"

    def apply(self, model: nn.Module) -> nn.Module:
        kept = torch.tensor(self.channels)
        first, norm, last = (model.get_submodule(name) for name in ("0", "1", "3"))
        for module, names in ((first, ["weight"]), (norm, ["weight", "bias"])):
            for name in names:
                setattr(module, name, nn.Parameter(getattr(module, name).detach()[kept]))
        norm.running_mean, norm.running_var = norm.running_mean[kept], norm.running_var[kept]
        last.weight = nn.Parameter(last.weight.detach()[:, kept])
        first.out_channels = norm.num_features = last.in_channels = len(kept)
        return model


@dataclass(frozen=True)
class Halve:
    """Takes channels out one a step, the weakest first, as long as more than the level's share is there."""

    epochs: float = 1.0
    """Of no account, but for what the network is scaled by."""
    time_limit_s: float | None = None
    telling: bool = True
    """Whether steps have something to tell."""

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise ValueError(f"epochs={self.epochs!r} must be more than 0")

    def compress(
        self, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None
    ) -> Compression:
        tensors = {name: tensor.clone() for name, tensor in (network.tensors or {}).items()}
        kept: list[int] = list(range(len(tensors["0.weight"]))) if state is None else list(state["kept"])
        noise = task.rng(f"toy/{network.key}").random()
        goal = max(1, int(level.kept * len(tensors["0.weight"])))
        steps = len(tensors["0.weight"]) - goal
        while len(kept) > goal:
            norms = tensors["0.weight"].flatten(1).norm(dim=1)
            kept = sorted(kept, key=lambda c: float(norms[c]))[1:]
            progress = (steps - len(kept) + goal) / steps
            metrics = {"kept": float(len(kept)), "progress": progress} if self.telling else {}
            yield Step(metrics=metrics, state=lambda kept=kept: {"kept": sorted(kept), "seen": torch.ones(2)})
        kept = sorted(kept)
        smaller = {name: cut(name, tensor, kept) for name, tensor in tensors.items()}
        smaller["8.bias"] = smaller["8.bias"] + 1e-3 * self.epochs * noise
        return replace(network, edits=(*network.edits, Narrow(tuple(kept))), tensors=smaller)


@dataclass(frozen=True)
class Zeros:
    """Sets the smallest weights to zero: the network keeps its size. It tells nothing and has no state."""

    def compress(
        self, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None
    ) -> Compression:
        tensors = dict(network.tensors or {})
        weight = tensors["8.weight"].clone()
        gone = weight.abs().flatten().argsort()[: round((1 - level.kept) * weight.numel())]
        weight.view(-1)[gone] = 0
        yield Step()
        return replace(network, tensors={**tensors, "8.weight": weight})


@dataclass(frozen=True)
class Nothing:
    """Forgets the weights, which no compressor may."""

    def compress(
        self, network: Network, level: Level, task: Task, state: Mapping[str, Any] | None = None
    ) -> Compression:
        yield Step()
        return replace(network, tensors=None)


def cut(name: str, tensor: Tensor, kept: list[int]) -> Tensor:
    if name == "3.weight":
        return tensor[:, kept].clone()
    return tensor[kept].clone() if name.startswith(("0.", "1.")) and tensor.dim() else tensor.clone()


HALVE, ZEROS, NOTHING = (f"{__name__}:{c.__name__}" for c in (Halve, Zeros, Nothing))


def stirred_weights(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of the model with other numbers in it."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(t.shape, generator=rng).abs() if t.is_floating_point() else t
        for name, t in model.state_dict().items()
    }


def checkpoint(folder: Path, model: nn.Module | None = None) -> Path:
    """A file with weights, as torch stores them."""
    path = folder / "net.pth"
    torch.save({"state_dict": stirred_weights(model or net())}, path)
    return path


def sweep_task() -> Task:
    return image_task(ModuleSpace(NET, signature=SIGNATURE))
