from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nascli.engine.evaluate import Subject
from nascli.engine.executors import executor, inline, processes
from nascli.engine.network import Network
from nascli.engine.objectives import ACCURACY, LOSS, Objective
from nascli.engine.protocol import Evaluate, Trial
from nascli.engine.task import Task
from nascli.errors import DataError, NascliError, UnsupportedError
from tests.toy_images import RESNET, corners, image_task
from tests.toy_runs import ENVIRONMENT, ROOT
from tests.toys import BROKEN, ERROR, SIZE, TABLE, toy_task


def networks(count: int) -> list[Network]:
    rng = toy_task().rng("networks")
    return [Network(TABLE.sample(rng)) for _ in range(count)]


def test_trials_come_in_the_order_asked() -> None:
    asked = networks(5)
    trials = list(inline(asked, toy_task()))
    assert [t.network for t in trials] == asked
    assert all(t.costs == (t.values["error"], t.values["size"]) for t in trials)


def test_a_network_is_measured_when_its_trial_is_asked_for() -> None:
    seen: list[str] = []

    def count(subject: object, task: object) -> float:
        seen.append(subject.network.key)  # type: ignore[attr-defined]
        return 1.0

    asked = networks(4)
    trials = inline(asked, toy_task(Objective("counted", "min", "", 0, count)))
    assert seen == []
    next(trials)
    assert seen == [asked[0].key]


def test_one_failure_does_not_end_the_others() -> None:
    trials = list(inline(networks(3), toy_task(SIZE, BROKEN)))
    assert [t.error for t in trials] == ["ValueError: this network is broken"] * 3


def test_what_would_fail_for_all_ends_at_once() -> None:
    def missing(subject: object, task: object) -> float:
        raise DataError("There is no supernet.")

    with pytest.raises(DataError, match="There is no supernet"):
        list(inline(networks(2), toy_task(replace(ERROR, measure=missing))))


def test_one_worker_is_this_process() -> None:
    with executor(1) as evaluate:
        assert evaluate is inline


# -- worker processes --------------------------------------------------------------------------------------------------


def napping(subject: Subject, task: Task) -> float:
    """The first network takes longest, so that the others are done before it; the value says who measured it."""
    time.sleep(0.3 if subject.network.tag == "0" else 0.0)
    return float(os.getpid())


def missing(subject: Subject, task: Task) -> float:
    raise DataError("There is no supernet.")


def noting(subject: Subject, task: Task) -> float:
    """Leaves a file behind, so that one can see what was measured."""
    Path(subject.network.tag).touch()
    time.sleep(0.1)
    return 1.0


def dying(subject: Subject, task: Task) -> float:
    os._exit(3)


NAPPING = Objective("napping", "min", "", 0, napping)
CORNERS = corners(pad=1)


@pytest.fixture(scope="module")
def two() -> Iterator[Evaluate]:
    """Two workers that already hold the data of the tests: what takes time is to start them."""
    asked = [Network(RESNET.table.smallest, tag="0"), Network(RESNET.table.largest, tag="0")]
    with processes(2) as evaluate:
        seen: set[float] = set()
        while len(seen) < 2:
            seen |= {t.values["napping"] for t in evaluate(asked, pictured(NAPPING))}
        yield evaluate


def pictured(*objectives: Objective) -> Task:
    return replace(image_task(data=CORNERS), objectives=objectives or (ACCURACY, LOSS))


def told(trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    """What trials say, without the clock."""
    return [(t.network, t.key, dict(t.values), t.costs, t.error, t.violation) for t in trials]


def test_workers_find_what_one_process_finds_to_the_last_bit(two: Evaluate) -> None:
    rng = pictured().rng("networks")
    asked = [Network(RESNET.table.sample(rng), tag=str(i)) for i in range(6)]
    found, expected = list(two(asked, pictured())), list(inline(asked, pictured()))
    assert told(found) == told(expected)
    assert len({t.values["loss"] for t in found}) == 6


def test_workers_answer_in_the_order_asked(two: Evaluate) -> None:
    asked = [Network(RESNET.table.smallest, tag=str(i)) for i in range(5)]
    found = list(two(asked, pictured(NAPPING)))
    assert [t.network for t in found] == asked
    workers = {t.values["napping"] for t in found}
    assert len(workers) == 2 and os.getpid() not in workers
    assert found[0].seconds >= 0.3 > found[1].seconds


def test_failures_come_back_with_their_log(two: Evaluate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="nascli")
    (trial,) = two([Network(RESNET.table.smallest)], pictured(BROKEN))
    assert trial.error == "ValueError: this network is broken" and trial.violation == float("inf")
    (record,) = [r for r in caplog.records if "failed" in r.message]
    assert record.name == "nascli.engine.evaluate" and "Traceback" in record.message


def test_what_would_fail_for_all_comes_out_as_it_is(two: Evaluate) -> None:
    with pytest.raises(DataError, match="^There is no supernet.$"):
        list(two([Network(RESNET.table.smallest)], pictured(replace(ERROR, measure=missing))))


def test_a_closed_generator_drops_what_waits(two: Evaluate, tmp_path: Path) -> None:
    asked = [Network(RESNET.table.smallest, tag=str(tmp_path / str(i))) for i in range(30)]
    with closing(two(asked, pictured(replace(NAPPING, measure=noting)))) as trials:  # type: ignore[type-var]
        assert next(iter(trials)).network == asked[0]
    # Whoever comes next waits only for what was in hand.
    list(two(asked[:1], pictured(NAPPING)))
    assert 1 <= len(list(tmp_path.iterdir())) < 15


def test_a_task_that_can_not_be_sent_is_refused(two: Evaluate) -> None:
    with pytest.raises(UnsupportedError, match=r"objectives or the space can't be sent .*lambda.* give --workers 1\."):
        list(two([Network(RESNET.table.smallest)], pictured(replace(SIZE, measure=lambda *_: 1.0))))
    with pytest.raises(UnsupportedError, match="the data can't be sent"), processes(2) as evaluate:
        list(evaluate(networks(1), replace(toy_task(), data=lambda: None)))  # type: ignore[arg-type]
    assert len(list(two([Network(RESNET.table.smallest)], pictured(NAPPING)))) == 1


def test_the_death_of_a_worker_is_a_sentence_and_no_hang() -> None:
    before = multiprocessing.active_children()
    asked = networks(3)
    said = rf"^A worker process died while {asked[0].key} was measured, .* or --workers 1 to see the error\.$"
    with pytest.raises(NascliError, match=said), processes(1) as evaluate:
        list(evaluate(asked, toy_task(replace(SIZE, measure=dying))))
    assert [p for p in multiprocessing.active_children() if p not in before] == []


PARENT = """
import json, multiprocessing, os, signal, sys
from nascli.engine.executors import processes
from tests.nascli.engine.test_executors import NAPPING, networks, toy_task

if __name__ == "__main__":
    with processes(2) as evaluate:
        list(evaluate(networks(2), toy_task(NAPPING)))
        print(json.dumps([p.pid for p in multiprocessing.active_children()]), flush=True)
        # As a terminal does it: the signal goes to the whole group.
        if sys.argv[1] == "interrupted":
            signal.signal(signal.SIGINT, lambda *_: None)
            os.killpg(0, signal.SIGINT)
            assert len(list(evaluate(networks(5), toy_task(NAPPING)))) == 5
            print("went on", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process group that holds two workers, which must have a file for their main module."""
    (tmp_path / "parent.py").write_text(PARENT)
    pipe, started = subprocess.PIPE, []

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(tmp_path / "parent.py"), how]
        process = subprocess.Popen(
            command, env=ENVIRONMENT, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_workers_do_not_hear_ctrl_c(parent: Callable[[str], subprocess.Popen[str]]) -> None:
    process = parent("interrupted")
    out, _ = process.communicate()
    assert process.returncode == 0 and out.splitlines()[1:] == ["went on"]
    assert not any(alive(pid) for pid in json.loads(out.splitlines()[0]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_workers_do_not_outlive_a_killed_parent(parent: Callable[[str], subprocess.Popen[str]]) -> None:
    process = parent("killed")
    assert process.stdout
    workers = json.loads(process.stdout.readline())
    assert len(workers) == 2 and all(map(alive, workers))
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
