"""Images that are told apart by where they are bright, and the smallest spaces that learn to: training in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from nascli.data import Data, images
from nascli.engine.objectives import ACCURACY
from nascli.engine.task import Task
from search_spaces import Architecture, Choice, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.mobile import MobileSpace
from search_spaces.resnet import ResNetSpace
from search_spaces.space import SearchSpace, Signature

SIGNATURE = Signature("image", (1, 4, 4), 4)
RESNET = ResNetSpace(SIGNATURE, widths=(4, 8), strides=(1, 2), depths=(1, 2), ratios=(0.5, 1.0), multipliers=(0.5, 1.0))
MOBILE = MobileSpace(SIGNATURE, depths=(1, 2), kernels=(1, 3), expansions=(1, 2), multipliers=(0.5, 1.0))


def corners(train: int = 96, *, noise: int = 60, pad: int = 0, seed: int = 0) -> Data:
    """Four classes: each corner of the image is bright in one of them."""
    rng = np.random.default_rng(seed)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 4
        pixels = rng.integers(noise, size=(count, 1, 4, 4))
        for row, label in enumerate(labels):
            pixels[row, 0, 2 * (label // 2) :, 2 * (label % 2) :][:2, :2] += 150
        return pixels.astype(np.uint8), labels

    return images(drawn(train), drawn(40), classes=4, val=drawn(40), pad=pad)


@dataclass(frozen=True)
class Single(SearchSpace):
    """One network; its dropout draws from torch's own generator, and its BatchNorm keeps statistics."""

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @cached_property
    def table(self) -> ChoiceTable:
        return ChoiceTable("single", (Choice("net.only", ("it",)),))

    def build(self, arch: Architecture) -> nn.Module:
        conv = nn.Conv2d(1, 6, 3, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, 4))

    def supernet(self) -> nn.Module:
        raise SpaceError("the single space has no supernet")

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        raise SpaceError("the single space has no supernet")


def image_task(space: SearchSpace = RESNET, *, seed: int = 0, data: Data | None = None) -> Task:
    """A task on the corners, measured by accuracy; `Single()` for the space has dropout."""
    data = corners(pad=1) if data is None else data
    return Task(space, data, (ACCURACY,), seed=seed, calibration=64, batch_size=40)


def same(a: object, b: object) -> bool:
    """Whether two states are equal to the last bit, tensors included."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
