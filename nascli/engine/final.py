"""The end of a search: each front member is measured once on the test split, and its weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nascli.engine.drive import never
from nascli.engine.evaluate import Subject
from nascli.engine.protocol import Trial
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted


def finalise(front: Sequence[Trial], task: Task, run: Writer, *, stop: Callable[[], bool] = never) -> None:
    """Measure accuracy and loss on the test split and store the networks of members that have not been yet.

    Members whose weights are fresh are networks to be trained, not trained networks: they have no test accuracy and
    nothing to store.
    """
    known = run.run.finals
    for trial in front:
        stored = run.run.has_network(trial.number)
        if task.data is not None and trial.key not in known and (stored or task.supernet is not None):
            network = run.run.network(trial.number, task.space) if stored else trial.network
            subject = Subject(network, task)
            values = {f"test_{name}": value for name, value in subject.quality("test").items()}
            if not stored:
                tensors = {name: tensor.cpu() for name, tensor in subject.model.state_dict().items()}
                run.save_network(replace(trial, network=network), tensors, {"values": dict(trial.values) | values})
            run.record_final(trial.key, values)
        if stop():
            raise Interrupted("The run was interrupted while the front was being measured; what was measured is kept.")
