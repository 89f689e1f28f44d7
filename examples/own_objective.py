"""Your own objective: a value with a name, a direction, a unit, a price and a function that measures one network.

nascli search --space resnet --data digits --supernet runs/supernet -O accuracy -O examples.own_objective:DEPTH
"""

from nascli.engine.evaluate import Subject
from nascli.engine.objectives import Objective
from nascli.engine.task import Task


def depth(subject: Subject, task: Task) -> float:
    """Convolutions and linear layers."""
    return float(sum(type(m).__name__ in ("Conv2d", "Linear") for m in subject.structure.modules()))


DEPTH = Objective("depth", "min", "layers", price=0, measure=depth)
