from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.features import Features
from nascli.compressors.oneshot import Magnitude
from nascli.compressors.protocol import Level
from nascli.compressors.pruner import Job, Pruner
from nascli.engine.evaluate import Subject
from nascli.engine.network import Network, restore
from nascli.errors import InfeasibleError
from search_spaces.module import ModuleSpace
from search_spaces.space import Signature
from tests.toy_compression import compressed, finished, task, trained

QUICK = Magnitude(steps=8, batch=32, report_steps=4, floor=0.0)


def test_the_result_is_rebuilt_from_its_description_and_tensors() -> None:
    _, network = compressed(QUICK, Level(0.5))
    of = task()
    inputs = next(of.data.val.batches(8)).inputs  # type: ignore[union-attr]
    again = restore(network.describe(), of.space, network.tensors)
    with torch.no_grad():
        one = network.build(of.space).eval()(*inputs)
        two = again.build(of.space).eval()(*inputs)
    assert torch.equal(one, two) and again.key == network.key
    assert sum(t.numel() for t in dict(network.tensors or {}).values()) < sum(
        t.numel() for t in dict(trained().tensors or {}).values()
    )


def test_compressing_twice_adds_up() -> None:
    _, half = compressed(QUICK, Level(0.6))
    conversation = QUICK.compress(half, Level(0.6), task(), None)
    _, quarter = finished(conversation)
    assert len(quarter.edits) == 2
    macs = [Subject(n, task()).cost.macs for n in (trained(), half, quarter)]
    assert macs[1] <= 0.6 * macs[0] and macs[2] <= 0.6 * macs[1]


def test_the_teacher_learns_nothing() -> None:
    job = Job(QUICK, trained(), Level(0.5), task())
    assert not any(p.requires_grad for p in job.teacher.parameters()) and not job.teacher.training
    for name, tensor in job.teacher.state_dict().items():
        assert torch.equal(tensor, dict(trained().tensors or {})[name])


def test_a_level_that_the_floors_forbid_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"level 0\.05"):
        compressed(replace(QUICK, floor=0.9), Level(0.05))


def test_the_optimizer_can_be_adamw() -> None:
    model = nn.Linear(2, 2)
    assert isinstance(replace(QUICK, optimizer="adamw").optimiser(model), torch.optim.AdamW)
    assert isinstance(QUICK.optimiser(model), torch.optim.SGD)


class Unremovable(nn.Module):
    """Of 8 channels, halves are added: Torch-Pruning can't see that they belong together when they are views."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.a(x)).mean((2, 3)))


def test_where_removal_changes_the_outputs_the_network_keeps_its_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nascli.compressors import pruner

    def refuses(model: nn.Module, groups: object, alive: Tensor, example: object) -> tuple[nn.Module, None, str]:
        silenced = Unremovable()
        silenced.load_state_dict(model.state_dict())
        pruner.silence_(silenced, groups, alive)  # type: ignore[arg-type]
        return silenced, None, "its outputs would differ by 0.5"

    monkeypatch.setattr(pruner, "remove", refuses)
    space = ModuleSpace("tests.nascli.compressors.test_pruner:Unremovable", signature=Signature("image", (1, 4, 4), 4))
    of = replace(task(), space=space)
    torch.manual_seed(0)
    network = Network(space.table.largest, tensors=Unremovable().state_dict())
    _, out = finished(replace(QUICK, distil=0.0).compress(network, Level(0.5, "groups"), of, None))
    assert out.edits == () and "keeps its size" in caplog.text
    weight = dict(out.tensors or {})["a.weight"]
    assert int((weight.flatten(1).abs().sum(1) > 0).sum()) == 4


def test_settings_are_checked() -> None:
    for wrong in (
        {"floor": 2.0},
        {"groups": ("filters", "tiles")},
        {"groups": ("filtres",)},
    ):
        with pytest.raises(ValueError):
            replace(QUICK, **wrong)
    assert issubclass(Magnitude, Pruner)


def test_features_of_what_is_left_come_closer_to_the_teachers() -> None:
    def distance(settings: Pruner) -> float:
        _, network = compressed(settings, Level(0.6))
        of = task()
        job = Job(settings, trained(), Level(0.6), of)
        model = network.build(of.space).eval()
        features = Features(model, job.teacher, network.edits[-1])
        batch = next(of.data.val.batches(32))  # type: ignore[union-attr]
        with torch.no_grad():
            model(*batch.inputs)
            job.teacher(*batch.inputs)
        return features.loss().item()

    longer = replace(QUICK, steps=40)
    assert distance(replace(longer, features=20.0)) < 0.8 * distance(replace(longer, features=0.0))
