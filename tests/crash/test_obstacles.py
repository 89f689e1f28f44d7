"""What stands in a run's way (another writer, a torn journal, a full disk, a folder that may not be written) is told
in one sentence, and once it is out of the way the run goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nascli.engine.files import is_locked
from nascli.engine.runs import Run
from nascli.engine.writer import Writer
from nascli.errors import RunBusyError
from tests.crash.conftest import Worker, kill
from tests.crash.test_sigkill import journal
from tests.crash.worker import TABLE, Job

HEADER = {"fingerprint": TABLE.fingerprint}


def job(folder: Path, strategy: str = "random", **changes: object) -> Job:
    folder.mkdir(exist_ok=True)
    plain = Job(strategy, str(folder / "run"), str(folder / "counter"), 60, pause_s=0.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def same(a: Path, b: Path) -> None:
    """Raises unless the two runs have come to the same."""
    assert journal(a) == journal(b)
    for name in ("front.json", "front.csv", "steps.jsonl"):
        assert (a / "run" / name).read_bytes() == (b / "run" / name).read_bytes(), name
    names = [sorted(p.name for p in (f / "run").rglob("*")) for f in (a, b)]
    assert names[0] == names[1]


def test_the_second_writer_learns_who_the_first_is(
    tmp_path: Path, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a" / "run"
    resolved = {"strategy": "random"}
    pid = worker.start(job(tmp_path / "a", evaluations=10_000, pause_s=0.01))
    deadline = time.monotonic() + 30
    while not is_locked(path) or not (path / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    before = path.joinpath("settings.toml").read_bytes()
    with pytest.raises(
        RunBusyError, match=rf"a/run is being written by process {pid} on this machine. Wait for it, or"
    ):
        Writer(path, command="search", resolved=resolved, header=HEADER)
    assert is_locked(path) and path.joinpath("settings.toml").read_bytes() == before
    kill(pid)
    assert worker.end()[0] == -9
    assert not is_locked(path)
    with Writer(path, command="search", resolved=resolved, header=HEADER):
        code, words = worker.run(job(tmp_path / "a"))
        assert code == 4 and words.startswith("RUN_BUSY: ") and f"process {os.getpid()} on this machine" in words
    assert f"was left by process {pid} on this machine, which is gone" in caplog.text
    assert worker.run(job(tmp_path / "a")) == (0, "")


@pytest.mark.parametrize("seed", range(6))
def test_a_journal_torn_at_any_byte(tmp_path: Path, worker: Worker, seed: int) -> None:
    strategy = ("random", "evolution", "training")[seed % 3]
    assert worker.run(job(tmp_path / "whole", strategy)) == (0, "")
    shutil.copytree(tmp_path / "whole", tmp_path / "torn")
    path = tmp_path / "torn/run/trials.jsonl"
    data = path.read_bytes()
    at = int(np.random.default_rng(seed).integers(len(data)))
    path.write_bytes(data[:at])
    (tmp_path / "torn/run/front.json").unlink()
    (tmp_path / "torn/run/state.pt").unlink(missing_ok=True)
    (tmp_path / "torn/counter").unlink()
    assert worker.run(job(tmp_path / "torn", strategy)) == (0, "")
    same(tmp_path / "whole", tmp_path / "torn")
    lost = data.count(b"\n") - data[:at].count(b"\n")
    assert (tmp_path / "torn/counter").stat().st_size == lost


FULL = {
    "the journal": (dict(file_limit=3000, front_every_s=1e9), "trials.jsonl"),
    "the front": (dict(file_limit=2500, front_every_s=0.0, crowded="yes"), "front.json"),
    "the state": (dict(strategy="large", file_limit=50_000, evaluations=None), "state.pt"),
    "the tensors": (dict(strategy="large", file_limit=50_000, evaluations=None, save_every_s=1e9), ".safetensors"),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, worker: Worker, what: str) -> None:
    changes, name = FULL[what]
    full = job(tmp_path / "full", **changes)
    roomy = replace(full, file_limit=None)
    whole = replace(roomy, path=str(job(tmp_path / "whole").path), counter=str(tmp_path / "whole/counter"))
    assert worker.run(whole) == (0, "")

    code, words = worker.run(full)
    assert code == 4 and words.startswith("RUN: There is no space left to write "), words
    assert name in words and words.endswith("Nothing already written is lost: free some and run it again.")
    assert "\n" not in words
    assert journal(tmp_path / "whole").startswith(journal(tmp_path / "full"))
    assert not list((tmp_path / "full/run").rglob("*.part"))
    assert worker.run(roomy) == (0, "")
    same(tmp_path / "whole", tmp_path / "full")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that any user may reach; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        for folder in (path, *path.rglob("*")):
            if folder.is_dir():
                folder.chmod(0o755)


@pytest.mark.parametrize("exists", ["new", "begun"])
def test_a_folder_that_may_not_be_written(open_path: Path, worker: Worker, exists: str) -> None:
    folder = open_path / "a"
    plain = job(folder)
    if exists == "begun":
        assert worker.run(replace(plain, evaluations=20)) == (0, "")
        (folder / "run").chmod(0o555)
    before = journal(folder)
    folder.chmod(0o555)
    nobody = 65534 if os.geteuid() == 0 else None
    code, words = worker.run(replace(plain, user=nobody))
    assert code == 4 and "can't be written: permission denied. Give --out a folder that you may write to." in words, (
        words
    )
    assert str(folder / "run") in words
    assert journal(folder) == before
    if exists == "begun":
        assert len(Run.open(folder / "run").rows) == 20
        (folder / "run").chmod(0o755)
    folder.chmod(0o755)
    assert worker.run(plain) == (0, "")
    assert len(Run.open(folder / "run").rows) == 60


def test_a_run_killed_while_it_was_made_is_made_again(tmp_path: Path, worker: Worker) -> None:
    path = tmp_path / "a" / "run"
    again = job(tmp_path / "a")
    path.mkdir()
    for name, text in (
        ("lock", '{"pid": 1, "host": "elsewhere"}'),
        ("settings.toml", "half"),
        (".run.json.x.part", "{"),
    ):
        (path / name).write_text(text)
    assert worker.run(again) == (0, "")
    assert not (path / ".run.json.x.part").exists()
    assert json.loads((path / "run.json").read_text())["status"] == "finished"


def test_settings_that_lie_about_are_no_run(tmp_path: Path, worker: Worker) -> None:
    path = tmp_path / "a" / "run"
    once = job(tmp_path / "a")
    path.mkdir()
    (path / "settings.toml").write_text("seed = 3\n")
    code, words = worker.run(once)
    assert code == 4 and "holds other files and is no run directory" in words
    assert [p.name for p in path.iterdir()] == ["settings.toml"] and (
        path / "settings.toml"
    ).read_text() == "seed = 3\n"
