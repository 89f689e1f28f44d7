"""How much faster networks train here with their passes in bfloat16: CPU seconds a step, beside single precision.

    OMP_NUM_THREADS=1 python benchmarks/mixed_precision.py

Both precisions take turns, on the same batch; the least of each is reported. On a GPU, give --device cuda.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.cifar_resnet import resnet20, resnet56
from nascli import training
from nascli.recipes.precision import Precision, run_in
from search_spaces.mobile import MobileSpace
from search_spaces.space import Signature


def mobile() -> nn.Module:
    """The largest network of the mobile space, for CIFAR-10."""
    space = MobileSpace(Signature("image", (3, 32, 32), 10))
    return space.build(space.table.largest)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"resnet20": resnet20, "resnet56": resnet56, "mobile": mobile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    sys.stdout.write(f"{'network':10} {'single s':>9} {'bfloat16 s':>11} {'ratio':>6}\n")
    for name in asked.networks:
        single, half = seconds(name, asked.batch, asked.repeats, asked.device)
        sys.stdout.write(f"{name:10} {single:9.3f} {half:11.3f} {single / half:6.2f}\n")


def seconds(name: str, batch: int, repeats: int, device: str) -> list[float]:
    """The least time of a training step in each precision."""
    torch.manual_seed(0)
    model = NETWORKS[name]().to(device)
    model.to(memory_format=training.memory_format(model))  # type: ignore[call-overload]
    optimiser = training.sgd(model, lr=1e-3, weight_decay=0.0)
    images, labels = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)

    def losses() -> Iterator[Tensor]:
        yield F.cross_entropy(model(images), labels)

    clock = time.process_time if device == "cpu" else time.perf_counter

    def step(precision: Precision) -> float:
        started = clock()
        training.step(optimiser, run_in(precision, device, losses)).item()
        return clock() - started

    rounds = [[step(precision) for precision in get_args(Precision)] for _ in range(repeats + 1)]
    return [min(turn) for turn in zip(*rounds[1:], strict=True)]


if __name__ == "__main__":
    main()
