"""What proxies cost: GradSign against a loop over single examples and against one plain pass; seven proxies at once
against each alone; peak memory. All ratios are of CPU seconds of one thread, measured in turns in one process.

    python benchmarks/proxies.py [--networks 10] [--examples 64]
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from nascli import plugins
from predictors.gradsign import GradSign
from predictors.layers import weighted
from predictors.probe import Probe
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Batch

SEVEN = ("grad_norm", "snip", "fisher", "jacov", "nwot", "synflow", "gradsign")


def plain(model: nn.Module, batch: Batch) -> None:
    """One forward and backward pass of the batch as training does it."""
    net = copy.deepcopy(model).train()
    batch.losses(net(*batch.inputs)).mean().backward()


def loop(model: nn.Module, batch: Batch) -> float:
    """GradSign by its definition: example after example, signs of all weights' gradients, sums, absolute values."""
    net = copy.deepcopy(model).train()
    weights = [layer.weight for _, layer in weighted(net)]
    total = [torch.zeros_like(w) for w in weights]
    for i in range(len(batch.targets)):
        one = Batch((batch.inputs[0][i : i + 1],), batch.targets[i : i + 1])
        net.zero_grad()
        one.losses(net(*one.inputs)).sum().backward()
        for summed, weight in zip(total, weights, strict=True):
            if weight.grad is not None:
                summed += weight.grad.sign()
    return sum(float(summed.abs().sum(dtype=torch.float64)) for summed in total)


def gradsign(model: nn.Module, batch: Batch) -> float:
    return GradSign()(Probe(model, batch))


def scored(model: nn.Module, batch: Batch, names: tuple[str, ...]) -> None:
    probe = Probe(model, batch)
    for name in names:
        plugins.load("proxy", name)()(probe)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_mib(work: Callable[[], object]) -> float:
    """How far the resident memory of a fresh child grows beyond what it was before the work, MiB."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        there.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    process = context.Process(target=child)
    process.start()
    found: float = here.recv()
    process.join()
    return found


def networks(count: int) -> list[tuple[str, nn.Module]]:
    """Random networks of NAS-Bench-201, full size, through which something flows."""
    space, rng, found = Nb201Space(), np.random.default_rng(0), []
    while len(found) < count:
        arch = space.equivalent(space.table.sample(rng))
        if sum("conv" in option for option in arch.options):
            torch.manual_seed(len(found))
            found.append((str(arch), space.build(arch)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--examples", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    batch = Batch(
        (torch.randn(options.examples, 3, 32, 32, generator=rng),),
        torch.randint(10, (options.examples,), generator=rng),
    )
    made = networks(options.networks)
    plain(made[0][1], batch), gradsign(made[0][1], batch)
    print(f"{'plain s':>8} {'gradsign':>9} {'loop':>7} {'differs':>9} {'seven':>7} {'apart':>7}  network")
    rows = []
    for name, model in made:
        values: list[float] = []
        row = [
            min(seconds(lambda m=model: plain(m, batch)) for _ in range(2)),
            min(seconds(lambda m=model, v=values: v.append(gradsign(m, batch))) for _ in range(2)),
            seconds(lambda m=model, v=values: v.append(loop(m, batch))),
            seconds(lambda m=model: scored(m, batch, SEVEN)),
            sum(seconds(lambda m=model, p=proxy: scored(m, batch, (p,))) for proxy in SEVEN),
        ]
        difference = abs(values[0] - values[-1]) / values[-1]
        rows.append([*row, difference])
        print(f"{row[0]:8.3f} {row[1]:9.3f} {row[2]:7.2f} {difference:9.1e} {row[3]:7.2f} {row[4]:7.2f}  {name}", flush=True)
    total = np.array(rows).sum(0)
    print(f"GradSign takes {total[1] / total[0]:.2f} of a plain forward and backward pass,")
    print(f"and the loop over {options.examples} examples {total[2] / total[1]:.1f} times as much as GradSign;")
    print(f"their values differ by at most {np.array(rows)[:, -1].max():.1e}, relatively.")
    print(f"Seven proxies ({', '.join(SEVEN)}) together take {total[3] / total[4]:.2f} of what they take apart.")
    model = max(made, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))[1]
    memory = {work.__name__: peak_mib(lambda w=work: w(model, batch)) for work in (plain, gradsign)}
    ratio = memory["gradsign"] / memory["plain"]
    print(f"Peak memory of the largest: plain {memory['plain']:.0f} MiB, GradSign {memory['gradsign']:.0f}: {ratio:.2f}.")


if __name__ == "__main__":
    main()
