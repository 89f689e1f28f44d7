"""The process that starts, and the test that kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.crash.worker import Job

ROOT = Path(__file__).parents[2]
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Worker:
    """Starts runs one after another, each in a process of its own that can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.crash.worker"],
            cwd=ROOT,
            env=os.environ | SINGLE_THREADED,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def start(self, job: Job) -> int:
        """The number of the process that has begun the job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def end(self) -> tuple[int, str]:
        """The exit code of the last job, negative if a signal ended it, and its last words."""
        code, words = json.loads(self._answer())
        return code, words

    def run(self, job: Job) -> tuple[int, str]:
        """Start a job and wait for its end."""
        self.start(job)
        return self.end()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(timeout=30) == 0

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker has died; see its traceback on stderr"
        return line.strip()


def kill(pid: int) -> None:
    """Kill a process that has not been waited for; one that has just ended is left in peace."""
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()
