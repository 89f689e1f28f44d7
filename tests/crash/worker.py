"""Runs to be killed: reads jobs from stdin, forks a process for each, and says how it ended.

The libraries are imported once, before the first fork: a killed and restarted run costs milliseconds, not seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nascli.engine import drive as loop
from nascli.engine.executors import inline
from nascli.engine.network import Network
from nascli.engine.objectives import Objective
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import NascliError
from nascli.strategies.bayes import Bayes
from nascli.strategies.evolution import Evolution
from nascli.strategies.random import Random
from search_spaces import Choice, ChoiceTable

TABLE = ChoiceTable("wide", tuple(Choice(f"block{b}.width", tuple(map(str, range(1, 9)))) for b in range(1, 7)))
"""Large enough that a search hardly ever meets a network again."""


@dataclass(frozen=True)
class Training:
    """A method with state: `epochs` updates of some weights, and every fourth a network that carries them."""

    epochs: int = 80
    numbers: int = 16

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        first, weights = (state["epoch"], state["weights"]) if state else (0, torch.zeros(self.numbers))
        for epoch in range(first, self.epochs):
            rng = task.rng(f"epoch{epoch}")
            weights = 0.9 * weights + torch.from_numpy(rng.standard_normal(self.numbers)).float()
            time.sleep(0.002)
            here = {"epoch": epoch + 1, "weights": weights}
            arch = task.space.table.sample(rng)
            networks = [Network(arch, tensors={"w": weights}, tag=f"epoch{epoch}")] if epoch % 4 == 3 else []
            metrics = {"loss": float(weights.square().mean()), "epoch": float(epoch)}
            yield Step(networks, metrics, lambda here=here: here)  # type: ignore[misc]


@dataclass(frozen=True)
class Work:
    """The error of a network, and what measuring it costs: a byte in a file that counts the measurements, some time."""

    counter: str
    pause_s: float

    def __call__(self, subject: Any, task: Task) -> float:
        file = os.open(self.counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, b".")
        os.close(file)
        time.sleep(self.pause_s)
        return 100.0 / sum((b % 3 + 1) * w for b, w in enumerate(widths(subject)))


def size(subject: Any, task: Task) -> float:
    return float(sum(w * b for b, w in enumerate(widths(subject), 1)))


def room(subject: Any, task: Task) -> float:
    """Against size: with both as objectives, every network is on the front."""
    return -size(subject, task)


def widths(subject: Any) -> list[int]:
    return [int(option) for option in subject.network.arch.options]


STRATEGIES = {
    "random": Random(batch=7),
    "evolution": Evolution(population=12),
    "bayes": Bayes(startup=10, batch=5),
    "training": Training(),
    "large": Training(epochs=8, numbers=20_000),
}
SIZE, ROOM = Objective("size", "min", "units", 0, size), Objective("room", "min", "units", 0, room)


@dataclass(frozen=True)
class Job:
    """A run as the parent asks for it."""

    strategy: str
    path: str
    counter: str
    evaluations: int | None = None
    pause_s: float = 0.003
    file_limit: int | None = None
    """Bytes that no file may exceed once the run has been opened; a full disk."""
    save_every_s: float = 0.01
    front_every_s: float = 0.02
    crowded: str = ""
    """Not empty: objectives that leave nearly every network on the front."""
    user: int | None = None
    """The user to become before anything is written."""


def carry_out(job: Job) -> None:
    """Do the run; as the command line does, but for the settings."""
    loop.SAVE_EVERY_S, loop.FRONT_EVERY_S = job.save_every_s, job.front_every_s
    torch.set_num_threads(1)
    if job.user is not None:
        os.setuid(job.user)
    error = Objective("error", "min", "%", 2, Work(job.counter, job.pause_s))
    space: Any = SimpleNamespace(table=TABLE)
    task = Task(space, objectives=(error, SIZE, ROOM) if job.crowded else (error, SIZE), seed=5)
    header = {"fingerprint": task.space.table.fingerprint}
    with Writer(Path(job.path), command="search", resolved={"strategy": job.strategy}, header=header) as run:
        if job.file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_limit, job.file_limit))
        budget = loop.Budget(evaluations=job.evaluations)
        loop.drive(STRATEGIES[job.strategy], task, run, inline, budget=budget)
        run.mark("finished")


def fork(job: Job) -> tuple[int, int]:
    """The process that does the job and the end of a pipe from which its last words are read."""
    ear, mouth = os.pipe()
    if pid := os.fork():
        os.close(mouth)
        return pid, ear
    code, words = 0, ""
    try:
        carry_out(job)
    except NascliError as error:
        code, words = error.exit_code, f"{error.code}: {error}"
    except BaseException:  # noqa: BLE001 a fork must not return into the parent's code
        code, words = 99, traceback.format_exc()
    os.write(mouth, words.encode())
    os._exit(code)


def main() -> None:
    """Answer each job with the process's number, and then with its exit code and last words."""
    for line in sys.stdin:
        pid, ear = fork(Job(**json.loads(line)))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(ear, encoding="utf-8") as words:
            print(json.dumps([os.waitstatus_to_exitcode(status), words.read()]), flush=True)


if __name__ == "__main__":
    # What strategies import when they start; here once for all forks.
    for warm in ("pymoo.core.problem", "pymoo.core.evaluator", "pymoo.algorithms.moo.nsga2", "optuna.samplers"):
        __import__(warm)
    print("ready", flush=True)
    main()
