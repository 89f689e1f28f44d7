"""What the envelope's proximal operator costs, by the number of groups, against one pass over the same memory.

Three things are timed in turn on the same norms, so that a busy machine slows all: the operator with its linear search,
the operator with its breakpoints sorted, and clip(a n - b, 0, 1) added up, which is what evaluating the function whose
root is searched takes at least. A linear method has a ratio to the pass that does not grow with the groups.

    OMP_NUM_THREADS=1 python benchmarks/envelope_prox.py --groups 10000 100000 1000000 10000000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from nascli.compressors.envelope.functions import Operator, Search, shrink

MANY = 5_000_000
"""From here on, three rounds are enough."""


def norms(groups: int, numbers: int, device: str) -> Tensor:
    """Norms of groups of so many Gaussian numbers [groups], as square roots of chi-squared ones."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(groups, dtype=torch.float64)
    for _ in range(numbers):
        total += torch.randn(groups, generator=generator, dtype=torch.float64).square_()
    return total.sqrt_().to(device)


def times(ways: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each, taken in turn; on the CPU those of the process, as others may work there too."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before = clock()
            way()
            if device != "cpu":
                torch.cuda.synchronize()
            found[name].append(clock() - before)
    return {name: median(seconds) for name, seconds in found.items()}


def row(groups: int, options: argparse.Namespace) -> str:
    n = norms(groups, options.numbers, options.device)
    budget = options.kept * groups

    def operator(search: Search) -> Callable[[], object]:
        return lambda: shrink(n, budget, options.step, operator=options.operator, search=search)

    ways = {
        "newton": operator("newton"),
        "sorting": operator("sorting"),
        "pass": lambda: torch.clamp(0.7 * n - 0.1, 0.0, 1.0).sum(),
    }
    seconds = times(ways, options.rounds if groups < MANY else 3, options.device)
    ratio = [seconds["newton"] / seconds["pass"], seconds["sorting"] / seconds["newton"]]
    return (
        f"{groups:>12,}" + "".join(f"{1000 * seconds[w]:>13.3f}" for w in ways) + "".join(f"{r:>17.1f}" for r in ratio)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--kept", type=float, default=0.3, help="the budget, as a share of the groups")
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--operator", choices=Operator.__args__, default="debiased")
    parser.add_argument("--numbers", type=int, default=1, help="how many numbers a group has")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{options.operator}, step {options.step}, {options.kept:.0%} kept, groups of {options.numbers}; milliseconds"
    )
    print(f"{'groups':>12}{'newton':>13}{'sorting':>13}{'one pass':>13}{'newton / pass':>17}{'sort / newton':>17}")
    for groups in options.groups:
        print(row(groups, options), flush=True)


if __name__ == "__main__":
    main()
