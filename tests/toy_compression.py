"""Small trained networks to be made smaller, and how a compressor's conversation is held in a test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from nascli.compressors.protocol import Compressor, Level
from nascli.engine.network import Network
from nascli.engine.protocol import Step
from nascli.engine.task import Task
from nascli.recipes.plain import Plain
from tests.toy_images import RESNET, corners, image_task


def task(seed: int = 0) -> Task:
    """Corners, and a residual network that can tell them apart."""
    return image_task(RESNET, seed=seed, data=corners(192, pad=1))


@cache
def trained() -> Network:
    """The largest network of the toy space after a short training."""
    of = task()
    network = Network(of.space.table.largest, tag="trained")
    conversation = Plain(steps=60, batch=32, lr=0.1, report_steps=30).fit(network, of)
    return finished(conversation)[1]


def finished(conversation: Any) -> tuple[list[Step], Network]:
    """The steps that a conversation yields, and what it returns."""
    steps: list[Step] = []
    while True:
        try:
            steps.append(next(conversation))
        except StopIteration as end:
            return steps, end.value


def compressed(
    compressor: Compressor, level: Level, *, state: Mapping[str, Any] | None = None, seed: int = 0
) -> tuple[list[Step], Network]:
    """The steps of a compression of the trained network, and its result."""
    return finished(compressor.compress(trained(), level, task(seed), state))


def macs(network: Network) -> int:
    """Multiply-adds of one example."""
    from predictors.cost import count

    return count(network.build(task().space).eval(), (torch.zeros(1, 1, 4, 4),)).macs
