"""What strategies that follow one number share: which number that is, and who is ahead."""

from __future__ import annotations

from nascli.engine.protocol import Trial
from nascli.engine.task import Task
from nascli.errors import SettingsError
from nascli.strategies.answers import Answers

Standing = tuple[float, float]
"""What is compared, less is better: how far beyond a limit, then the cost."""


def only(task: Task, strategy: str) -> Answers:
    """The answers of a task that has one objective, perhaps with limits on others; raises SettingsError otherwise."""
    free = [o.name for o in task.objectives[1:] if o.limit is None]
    if free:
        raise SettingsError(
            f"The strategy {strategy!r} follows the first objective, {task.objectives[0].name}; others can only be "
            f"kept within limits, and {', '.join(free)} has none. Trade objectives off with 'evolution'."
        )
    return Answers(task.objectives)


def standing(answers: Answers, trial: Trial) -> Standing:
    """Where a network stands among others; a failure comes after whatever breaks a limit."""
    return float(answers.violations([trial])[0]), trial.costs[0] if trial.costs else 0.0
