"""Is a low accuracy in the supernet the price of sharing weights, or a defect? Three trainings of equal steps.

A network by itself; the supernet with its gates fixed to that network, which must learn alike; and a supernet that is
asked for two drawn networks in turn. Mobile space, Fashion-MNIST, one thread.

    OMP_NUM_THREADS=1 NASCLI_DATA=... python benchmarks/weight_sharing.py --steps 900
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nascli import training
from nascli.data.idx import FashionMnist
from nascli.data.streams import Data
from search_spaces import Architecture
from search_spaces.gated import one_hot
from search_spaces.mobile import MobileSpace
from search_spaces.space import Batch

MIDDLE = "mobile:21/2,0.5/3,2/3,2/-/2,0.5/3,2/3,2/-/2,0.5/3,2/3,2/-"
LR = 0.15


def train(model: nn.Module, logits: Callable[[Batch, int], Tensor], data: Data, steps: int) -> None:
    """SGD along a cosine, labels smoothed by 0.1, gradients clipped at 1: what the recipes do."""
    optimiser, step = training.sgd(model.train(), lr=LR, weight_decay=3e-5), 0
    while step < steps:
        for batch in data.train.batches(64, rng=np.random.default_rng(step)):
            for group in optimiser.param_groups:
                group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
            training.step(optimiser, [batch.losses(logits(batch, step), smoothing=0.1).mean()], clip=1.0)
            step += 1
            if step == steps:
                break


def accuracy(model: nn.Module, data: Data) -> float:
    training.calibrate(model, data.train.head(2000).batches(256))
    return training.evaluate(model, data.val, batch_size=256, device="cpu")["accuracy"]


def shared(space: MobileSpace, archs: Sequence[Architecture], data: Data, steps: int) -> list[float]:
    """Accuracies of the networks in one supernet that is asked for each in turn, `steps` times each."""
    torch.manual_seed(0)
    supernet = space.supernet()
    gates = [one_hot(space.table, a) for a in archs]
    train(supernet, lambda b, i: supernet(*b.inputs, gates=gates[i % len(gates)]), data, steps * len(archs))
    found = []
    for arch in archs:
        model = space.build(arch)
        model.load_state_dict(space.inherit(supernet, arch))
        found.append(accuracy(model, data))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    steps = parser.parse_args().steps
    data = FashionMnist().load()
    space = MobileSpace(data.signature)
    middle, rng = space.table.parse(MIDDLE), np.random.default_rng(0)
    torch.manual_seed(0)
    alone = space.build(middle)
    train(alone, lambda b, i: alone(*b.inputs), data, steps)
    print(f"by itself            {accuracy(alone, data):.2f} %", flush=True)
    print(f"gates fixed to it    {shared(space, [middle], data, steps)[0]:.2f} %", flush=True)
    pair = [space.table.sample(rng) for _ in range(2)]
    print("two in turn          " + ", ".join(f"{a:.2f} %" for a in shared(space, pair, data, steps)), flush=True)


if __name__ == "__main__":
    main()
