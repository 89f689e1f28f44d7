"""A run that was killed twenty times is the run that was never killed."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.crash.conftest import Worker, kill
from tests.crash.worker import Job

KILLS = 20
EARLY = 5
"""Kills right after the start: while the folder is made, or the strategy is replayed."""
EVALUATIONS = {"random": 150, "evolution": 150, "bayes": 40, "training": None}
JOURNALLED = {"random": 150, "evolution": 150, "bayes": 40, "training": 20}


def job(folder: Path, strategy: str) -> Job:
    folder.mkdir()
    return Job(strategy, str(folder / "run"), str(folder / "counter"), EVALUATIONS[strategy])


def journal(folder: Path) -> bytes:
    """The whole lines of the journal without what differs between any two runs: the seconds."""
    path = folder / "run" / "trials.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return re.sub(rb'"seconds":[^,]+,', b"", data[: data.rfind(b"\n") + 1])


def spent(folder: Path) -> float:
    path = folder / "run" / "run.json"
    return float(json.loads(path.read_text())["elapsed_s"]) if path.exists() else 0.0


def killed(worker: Worker, job: Job, folder: Path, *, after: int, delay_s: float) -> bool:
    """Whether the run was killed, `delay_s` after its journal had so many lines, and not done before."""
    pid = worker.start(job)
    deadline = time.monotonic() + 60
    while journal(folder).count(b"\n") < after:
        assert time.monotonic() < deadline, f"the run makes no progress: {journal(folder).decode()}"
        time.sleep(0.001)
    time.sleep(delay_s)
    with suppress(ProcessLookupError):
        kill(pid)
    code, words = worker.end()
    assert code in (-9, 0), words
    return code == -9


@pytest.mark.slow
@pytest.mark.parametrize("strategy", EVALUATIONS)
def test_twenty_kills_leave_no_trace(tmp_path: Path, worker: Worker, strategy: str) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert worker.run(job(whole, strategy)) == (0, "")
    expected = journal(whole)
    assert expected.count(b"\n") == JOURNALLED[strategy]

    rng = np.random.default_rng([ord(c) for c in strategy])
    late = np.sort(rng.integers(1, int(0.8 * JOURNALLED[strategy]), size=KILLS - EARLY))
    moments = [(0, float(d)) for d in rng.uniform(0, 0.05, EARLY)]
    moments += [(int(count), float(d)) for count, d in zip(late, rng.uniform(0, 0.01, len(late)), strict=True)]
    doomed, kills, before, spent_before = job(torn, strategy), 0, b"", 0.0
    for after, delay_s in moments:
        kills += killed(worker, doomed, torn, after=after, delay_s=delay_s)
        now = journal(torn)
        assert now.startswith(before) and expected.startswith(now)
        assert spent(torn) >= spent_before
        before, spent_before = now, spent(torn)
    assert kills >= KILLS - 2, "nearly all kills must have met a run at work for this to be a test"
    # The clock has gone on over the kills, but for their last moments.
    assert spent(torn) > 0.3 * doomed.pause_s * before.count(b"\n")
    assert worker.run(doomed) == (0, "")

    assert journal(torn) == expected
    keys = Counter(json.loads(line)["key"] for line in expected.splitlines())
    assert set(keys.values()) == {1}
    for name in ("front.json", "front.csv", "steps.jsonl", "settings.toml"):
        assert (torn / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    measured = (torn / "counter").stat().st_size
    assert len(keys) <= measured <= len(keys) + kills
    files = [{str(p.relative_to(f)) for p in (f / "run").rglob("*")} for f in (whole, torn)]
    assert files[0] == files[1]
    for path in (whole / "run").glob("networks/*"):
        assert (torn / "run/networks" / path.name).read_bytes() == path.read_bytes()
