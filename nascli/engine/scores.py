"""Proxies as objectives: a score of an untrained network, averaged over fresh initialisations if asked for."""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nascli import plugins, settings
from nascli.engine.objectives import Objective, parse
from nascli.errors import SettingsError, UnsupportedError

if TYPE_CHECKING:
    from nascli.engine.evaluate import Subject
    from nascli.engine.task import Task
    from predictors.protocol import Proxy
    from predictors.statistics import Statistic
    from search_spaces.space import SearchSpace

log = logging.getLogger(__name__)

RECORDED: tuple[Statistic, ...] = ("fisher", "grad_norm", "l2_norm", "plain", "snip", "synflow")
"""Statistics of each layer that are recorded: all but grasp, whose double backward pass costs four of theirs."""
NODES = "nodes"
"""The recorded vector of per-layer statistics, [layers, statistics]."""


def of_proxy(name: str, values: Mapping[str, Any]) -> Objective:
    """The objective that is a proxy's score; `values` are the proxy's settings. Raises SettingsError."""
    proxy = made(name, values)
    about = proxy.about
    return Objective(name, about.goal, "", 1 if about.cost else 0, partial(_score, name, proxy))


def made(name: str, values: Mapping[str, Any]) -> Proxy:
    """The proxy of that name with these settings. Raises SettingsError."""
    cls = plugins.load("proxy", name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and hasattr(cls, "about")):
        raise SettingsError(
            f"{name!r} is no proxy: a frozen dataclass that says `about` itself and is called on a probe."
        )
    found: Any = settings.build(cls, values, where=f"proxy {name!r}", table=f"proxy.{name}")
    proxy: Proxy = found
    return proxy


def _score(name: str, proxy: Proxy, subject: Subject, task: Task) -> Mapping[str, float]:
    """The mean over the initialisations, and with several of them their deviation."""
    if proxy.about.needs != "nothing" and task.data is None:
        raise UnsupportedError(f"The proxy {name!r} looks at {proxy.about.needs}; give --data NAME.")
    with _one_thread():
        found = [proxy(probe) for probe in subject.probes]
    for remark in subject.probes[0].remarks:
        _warn(remark)
    if len(found) == 1:
        return {name: found[0]}
    return {name: statistics.fmean(found), f"{name}_std": statistics.stdev(found)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within: torch computes on one thread, as workers do: sums over threads would differ in the last digits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=256)
def _warn(remark: str) -> None:
    """Log a remark, once a process: thousands of networks of a space give the same one."""
    log.warning("%s", remark)


def of_record(text: str, space: SearchSpace, proxies: Mapping[str, Mapping[str, Any]]) -> Objective:
    """What to record beside the objectives: "nodes", or whatever could be an objective. Raises SettingsError."""
    return NODE_STATISTICS if text.strip() == NODES else parse(text, space, proxies)


def node_statistics(subject: Subject, task: Task) -> Mapping[str, float | np.ndarray]:
    """How many layers have weights, and a vector of zero-cost statistics of each; of the first initialisation."""
    from predictors.statistics import node_statistics as read

    if task.data is None:
        raise UnsupportedError("The statistics of layers look at labels; give --data NAME.")
    with _one_thread():
        found = read(subject.probes[0], RECORDED)
    return {NODES: float(len(found.values)), f"{NODES}_statistics": found.values}


NODE_STATISTICS = Objective(NODES, "max", "layers", 1, node_statistics)
