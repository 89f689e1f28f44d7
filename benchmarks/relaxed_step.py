"""What a step of the NAS-Bench-201 supernet costs, against the plain mixed-operation loop: time and peak memory.

The reference is the textbook way: each edge holds its operations in a list and adds up weight * operation(x), five
terms an edge, each with an activation of its own; `none` multiplies by 0. Both are timed in turn, so that a busy
machine slows both.

    OMP_NUM_THREADS=1 python benchmarks/relaxed_step.py --channels 16 --cells 1 --side 32
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.gated import one_hot
from search_spaces.nb201 import Nb201Space
from search_spaces.nb201_net import EDGES, OPERATIONS
from search_spaces.space import Signature

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


def operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    kernel = 3 if name.endswith("3x3") else 1
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=False, track_running_stats=False))


class PlainCell(nn.Module):
    """Every operation on every edge, one after another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(nn.ModuleList(operation(o, channels) for o in OPERATIONS) for _ in EDGES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            total: Tensor | int = 0
            for e, (source, into) in enumerate(EDGES):
                if into == target:
                    total = total + sum(w * o(nodes[source]) for w, o in zip(weights[e], self.edges[e], strict=True))
            nodes.append(total)
        return nodes[-1]


class Plain(nn.Module):
    """The supernet's stem, reductions and head around plain cells."""

    def __init__(self, space: Nb201Space) -> None:
        super().__init__()
        self.body = space.supernet().body
        channels = space.channels
        self.cells = nn.ModuleList(
            nn.ModuleList(PlainCell(channels << stage) for _ in range(space.cells)) for stage in range(3)
        )
        del self.body.stages

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x = self.body.stem(x.contiguous(memory_format=torch.channels_last))
        for stage, cells in enumerate(self.cells):
            x = self.body.reductions[stage - 1](x) if stage else x
            for cell in cells:
                x = cell(x, weights)
        return self.body.classifier(self.body.pool(self.body.last(x)).flatten(1))


def variants(space: Nb201Space, batch: int) -> dict[str, Callable[[], None]]:
    """A training step of each kind by name: forward, loss, backward."""
    torch.manual_seed(0)
    ours, plain = space.supernet().train(), Plain(space).train()
    for net in (ours, plain):
        net.to(memory_format=torch.channels_last)
    x = torch.randn(batch, *space.signature.shape)
    y = torch.randint(space.signature.classes, (batch,))
    names = [c.name for c in space.table.choices]
    logits = 1e-3 * torch.randn(len(EDGES), len(OPERATIONS))

    def step(net: nn.Module, make: Callable[[], object]) -> None:
        net.zero_grad(set_to_none=True)
        out = net(x, gates=make()) if net is ours else net(x, make())
        F.cross_entropy(out, y).backward()

    def soft(learnt: bool) -> Tensor:
        return logits.clone().requires_grad_(learnt).softmax(-1)

    def gates(learnt: bool) -> dict[str, Tensor]:
        return dict(zip(names, soft(learnt).unbind(), strict=True))

    alone = one_hot(space.table, space.parse(BEST))
    return {
        "plain loop": lambda: step(plain, lambda: soft(False)),
        "soft gates": lambda: step(ours, lambda: gates(False)),
        "plain loop, weights learnt": lambda: step(plain, lambda: soft(True)),
        "soft gates, weights learnt": lambda: step(ours, lambda: gates(True)),
        "one-hot gates": lambda: step(ours, lambda: alone),
    }


def peak(name: str, space: Nb201Space, batch: int, into: multiprocessing.SimpleQueue[float]) -> None:
    """Bytes by which a process grows with three steps of a kind (Linux)."""
    torch.set_num_threads(1)
    step = variants(space, batch)[name]
    before = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    for _ in range(3):
        step()
    into.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space = Nb201Space(Signature("image", (3, asked.side, asked.side), 10), channels=asked.channels, cells=asked.cells)
    steps = variants(space, asked.batch)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(asked.rounds + 1):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if turn:
                seconds[name].append(time.process_time() - started)
    context = multiprocessing.get_context("spawn")
    for name, found in seconds.items():
        reference = seconds["plain loop, weights learnt" if "learnt" in name else "plain loop"]
        ratio = median(a / b for a, b in zip(found, reference, strict=True))
        queue: multiprocessing.SimpleQueue[float] = context.SimpleQueue()
        child = context.Process(target=peak, args=(name, space, asked.batch, queue))
        child.start()
        grown = queue.get()
        child.join()
        print(f"{name:28} {median(found):.3f} CPU s a step, {ratio:.2f} of its loop, {grown / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
