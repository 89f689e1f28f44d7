import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nascli.compressors.features import Features
from nascli.compressors.oneshot import Magnitude
from nascli.compressors.protocol import Level
from nascli.compressors.pruner import Job
from nascli.recipes.session import Moment
from search_spaces.keep import Keep
from tests.toy_compression import task, trained

QUICK = Magnitude(steps=8, batch=32, report_steps=4, floor=0.0)


def test_the_loss_is_labels_and_teacher_in_the_shares_asked_for() -> None:
    settings = replace(QUICK, distil=0.25, temperature=2.0, smoothing=0.1)
    job = Job(settings, trained(), Level(0.5), task())
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))

    batch = next(task().data.train.batches(8))  # type: ignore[union-attr]
    (loss,) = settings.losses(student, job.teacher)(batch, Moment(0, 0.0))
    with torch.no_grad():
        mine, theirs = student(*batch.inputs), job.teacher(*batch.inputs)
        hard = F.cross_entropy(mine, batch.targets, label_smoothing=0.1)
        soft = -(F.softmax(theirs / 2, -1) * F.log_softmax(mine / 2, -1)).sum(-1).mean()
    assert loss.item() == pytest.approx(float(0.75 * hard + 0.25 * 4 * soft), rel=1e-5)


def test_features_are_added_by_their_weight() -> None:
    settings = replace(QUICK, features=3.0)
    job = Job(settings, trained(), Level(0.5), task())
    student = Job(settings, trained(), Level(0.5), task()).model
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(0.5)
    batch = next(task().data.train.batches(8))  # type: ignore[union-attr]

    def loss(features: Features | None) -> float:
        found = settings.losses(student, job.teacher, features)(batch, Moment(0, 0.0))
        return sum(loss.item() for loss in found)

    plain = loss(None)
    watched = settings.watched(student, job.teacher, Keep())
    assert watched is not None
    added = loss(watched) - plain
    student(*batch.inputs)
    job.teacher(*batch.inputs)
    apart = watched.loss().item()
    assert apart > 0.01 and added == pytest.approx(3 * apart, rel=1e-4)
    assert replace(settings, features=0.0).watched(student, job.teacher, Keep()) is None


def test_settings_are_checked() -> None:
    for wrong in ({"distil": math.nan}, {"distil": 1.5}, {"temperature": -1.0}, {"features": math.inf}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(QUICK, **wrong)
