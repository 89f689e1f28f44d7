"""What proxies cost: GradSign against loops over single examples and against one plain pass; seven proxies at once
against each alone; peak memory. All ratios are of CPU seconds of one thread, measured in turns in one process.

The plain pass is run in PyTorch's default layout and channels last, which is faster on a CPU; the loops are one that
keeps only the sums of signs, and the published one, which gathers all examples' gradients in one matrix first.

    python benchmarks/proxies.py [--networks 10] [--examples 64]
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from nascli import plugins
from predictors.gradsign import GradSign
from predictors.layers import weighted
from predictors.probe import Probe
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Batch

SEVEN = ("grad_norm", "plain", "snip", "fisher", "jacov", "nwot", "synflow")


def plain(model: nn.Module, batch: Batch) -> None:
    """One forward and backward pass of the batch as training does it."""
    net = copy.deepcopy(model).train()
    batch.losses(net(*batch.inputs)).mean().backward()


def channels_last(model: nn.Module, batch: Batch) -> None:
    """The same in the layout that suits a CPU."""
    plain(copy.deepcopy(model).to(memory_format=torch.channels_last), batch)  # type: ignore[call-overload]


def loop(model: nn.Module, batch: Batch) -> float:
    """GradSign by its definition: example after example, signs of all weights' gradients, sums, absolute values."""
    total: list[torch.Tensor] = []
    for gradients in one_by_one(model, batch):
        signs = [gradient.sign() for gradient in gradients]
        total = [a.add_(b) for a, b in zip(total, signs, strict=True)] if total else signs
    return sum(float(summed.abs().sum(dtype=torch.float64)) for summed in total)


def published(model: nn.Module, batch: Batch) -> float:
    """The same as it was published: a matrix [examples, weights] on the host, then numpy."""
    rows = [np.concatenate([g.flatten().numpy() for g in gradients]) for gradients in one_by_one(model, batch)]
    return float(np.nansum(np.abs(np.nansum(np.sign(np.stack(rows)), axis=0))))


def one_by_one(model: nn.Module, batch: Batch) -> Iterator[list[torch.Tensor]]:
    net = copy.deepcopy(model).train()
    weights = [layer.weight for _, layer in weighted(net)]
    for i in range(len(batch.targets)):
        one = Batch((batch.inputs[0][i : i + 1],), batch.targets[i : i + 1])
        net.zero_grad()
        one.losses(net(*one.inputs)).sum().backward()
        yield [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]


def gradsign(model: nn.Module, batch: Batch) -> float:
    return GradSign()(Probe(model, batch))


def exactly(model: nn.Module, batch: Batch) -> float:
    """How far GradSign is from the loop if both compute in double precision, relatively."""
    expected = loop(copy.deepcopy(model).double(), batch.with_inputs(batch.inputs[0].double()))
    return abs(GradSign()(Probe(model, batch, precision="double")) - expected) / expected


def scored(model: nn.Module, batch: Batch, names: tuple[str, ...]) -> None:
    probe = Probe(model, batch)
    for name in names:
        plugins.load("proxy", name)()(probe)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(name: str, model: nn.Module, batch: Batch) -> list[float]:
    """One row of the table, printed as soon as it is there."""
    values: list[float] = []
    row = [
        *(min(seconds(partial(work, model, batch)) for _ in range(2)) for work in (plain, channels_last, gradsign)),
        *(seconds(lambda w=work: values.append(w(model, batch))) for work in (loop, published)),
        seconds(partial(scored, model, batch, SEVEN)),
        sum(seconds(partial(scored, model, batch, (proxy,))) for proxy in SEVEN),
    ]
    found = gradsign(model, batch)
    row.append(max(abs(found - value) / value for value in values))
    row.append(exactly(model, batch))
    print(" ".join(f"{value:9.3f}" for value in row[:-2]), f"{row[-2]:9.1e} {row[-1]:9.1e}  {name}", flush=True)
    return row


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
    heads = ("plain", "last", "gradsign", "loop", "published", "seven", "apart", "differs", "double")
    print(" ".join(f"{head:>9}" for head in heads), " network (CPU seconds)")
    rows = np.array([measured(name, model, batch) for name, model in made])
    default, last, fast, lean, shipped, together, apart, *_ = rows.sum(0)
    print(f"GradSign takes {fast / default:.2f} of a plain forward and backward pass, {fast / last:.2f} channels last.")
    print(f"The lean loop takes {lean / fast:.1f} times as much as GradSign, the published one {shipped / fast:.1f};")
    single, double = rows[:, -2].max(), rows[:, -1].max()
    print(f"their values differ from GradSign's by at most {single:.1e}, and in double precision by {double:.1e}.")
    print(f"Seven proxies ({', '.join(SEVEN)}) together take {together / apart:.2f} of what they take apart.")
    model = max(made, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))[1]
    memory = {work.__name__: peak_mib(lambda w=work: w(model, batch)) for work in (plain, gradsign)}
    more = f"GradSign {memory['gradsign']:.0f} MiB: {memory['gradsign'] / memory['plain']:.2f}"
    print(f"Peak memory of the largest: plain {memory['plain']:.0f} MiB, {more}.")


if __name__ == "__main__":
    main()
