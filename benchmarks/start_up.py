"""What `nascli --help` costs: CPU seconds (user and system) of a fresh process, the median of several.

Beside it, in turns, an interpreter that does nothing, and one that imports the two libraries the help is drawn with.

    python benchmarks/start_up.py [--times 10]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

TARGET_S = 0.35
COMMANDS = {
    "nascli --help": ("-m", "nascli", "--help"),
    "import typer, rich": ("-c", "import typer, rich"),
    "pass": ("-c", "pass"),
}


def cpu_s(arguments: tuple[str, ...]) -> float:
    """CPU seconds of one child process; raises CalledProcessError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print one JSON document: the medians, and whether the first met the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    times = parser.parse_args().times
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        cpu_s(arguments)  # the first start compiles and reads from the disk
    for _ in range(times):
        for name, arguments in COMMANDS.items():
            spent[name].append(cpu_s(arguments))
    medians = {name: round(statistics.median(found), 4) for name, found in spent.items()}
    help_s, bare_s = medians["nascli --help"], medians["pass"]
    document = {"target_cpu_s": TARGET_S, "met": help_s <= TARGET_S, "times": times, "median_cpu_s": medians}
    print(json.dumps(document | {"ratio_to_pass": round(help_s / bare_s, 2)}, indent=2))


if __name__ == "__main__":
    main()
