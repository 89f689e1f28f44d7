"""How a step's candidates are measured: here, one after another, or on worker processes side by side.

Every executor yields trials in the order asked, and the same trials: a network's weights come from the run's seed and
the network's key, not from who measures it or when.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from logging.handlers import QueueHandler
from multiprocessing import active_children, get_context, parent_process
from typing import TYPE_CHECKING

from nascli.engine.network import Network
from nascli.engine.protocol import Evaluate, Trial
from nascli.engine.task import Task
from nascli.errors import NascliError, UnsupportedError

if TYPE_CHECKING:
    from nascli.data import Data

Answer = tuple[Trial, list[logging.LogRecord]]

_UNSENDABLE = (pickle.PicklingError, AttributeError, TypeError)
"""What the pickler raises for lambdas, local functions and open files. Measuring itself raises none of them."""


def inline(networks: Sequence[Network], task: Task) -> Iterator[Trial]:
    """Measure in this process, one network at a time."""
    from nascli.engine.evaluate import measure

    for network in networks:
        yield measure(network, task)


@contextmanager
def executor(workers: int) -> Iterator[Evaluate]:
    """Within: `inline` for one worker, else an executor on so many processes, which live as long as the block."""
    if workers == 1:
        yield inline
        return
    with processes(workers) as evaluate:
        yield evaluate


@contextmanager
def processes(workers: int) -> Iterator[Evaluate]:
    """Within: an executor that measures on worker processes, each with one torch thread.

    Closing its generator drops what is queued; leaving the block waits for what is being measured, or by an error
    kills it. The executor raises UnsupportedError for tasks that can't be sent, and NascliError if a worker dies.
    """
    before = set(active_children())
    pools: list[_Pool] = []

    def evaluate(networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        # The data are sent once, when a worker starts; a task without them is small.
        if not pools or pools[-1].data is not task.data:
            for pool in pools:
                pool.close()
            pools[:] = [_Pool(workers, task.data)]
        yield from pools[-1].measure(networks, task)

    try:
        yield evaluate
        for pool in pools:
            pool.close()
    except BaseException:
        # Ctrl-C while waiting comes here too. What the workers are at is of no use any more.
        for process in set(active_children()) - before:
            process.kill()
        for pool in pools:
            pool.close()
        raise


class _Pool:
    """Worker processes that hold some data."""

    def __init__(self, workers: int, data: Data | None) -> None:
        self.workers, self.data = workers, data
        # A forked process would inherit torch's threads and CUDA's context half alive, so they are spawned.
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(data,))

    def measure(self, networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        """The trials of the networks in their order."""
        light = replace(task, data=None)
        futures = [self._submit(network, light) for network in networks]
        try:
            for i, (network, future) in enumerate(zip(networks, futures, strict=True)):
                try:
                    trial, records = future.result()
                except BrokenProcessPool:
                    raise self._died(networks[i:]) from None
                except _UNSENDABLE as error:
                    raise _unsendable("the objectives or the space", error) from None
                for record in records:
                    logging.getLogger(record.name).handle(record)
                yield replace(trial, network=network)
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Wait for the workers to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, network: Network, task: Task) -> Future[Answer]:
        try:
            with _uninterrupted():
                return self._pool.submit(_measured, network, task)
        except BrokenProcessPool:
            raise self._died([network]) from None
        except _UNSENDABLE as error:
            raise _unsendable("the data", error) from None

    def _died(self, networks: Sequence[Network]) -> NascliError:
        keys = " or ".join(n.key for n in networks[: self.workers])
        return NascliError(
            f"A worker process died while {keys} was measured, perhaps for lack of memory; "
            "give fewer --workers, or --workers 1 to see the error."
        )


def _unsendable(what: str, error: Exception) -> UnsupportedError:
    return UnsupportedError(f"Of this run, {what} can't be sent to worker processes ({error}); give --workers 1.")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within: Ctrl-C waits, and processes that start never hear of it; it is their parent that it concerns."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- in the worker -----------------------------------------------------------------------------------------------------

_data: Data | None = None
_records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()


def _begin(data: Data | None) -> None:
    """Make the process a worker: one torch thread, log records kept for the parent, and no life without it."""
    global _data
    import torch

    torch.set_num_threads(1)
    _data = data
    # The root of each package, as for the run's own log.
    for name in ("nascli", "search_spaces", "predictors"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [QueueHandler(_records)], False
        logger.setLevel(logging.DEBUG)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End with the parent, however it ended: a killed one can't say goodbye."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measured(network: Network, task: Task) -> Answer:
    """The trial of a network, which stays here, and what was logged on the way."""
    from nascli.engine.evaluate import measure

    trial = measure(network, replace(task, data=_data))
    records = [_records.get() for _ in range(_records.qsize())]
    return replace(trial, network=replace(network, tensors=None)), records
