import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.eval_pass import EvalPass, Use, counted_rows, logits, normalised, row_by_row
from predictors.probe import Probe
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, dead, images, made


def trained(make: type[nn.Module] | object = convolutional, batches: int = 3) -> nn.Module:
    """A network whose running statistics are not those of a fresh one."""
    net = made(make)  # type: ignore[arg-type]
    with torch.no_grad():
        for seed in range(batches):
            net.train()(images(8, seed=seed).inputs[0])
    return net


def test_uses_and_gradients_are_those_of_autograd() -> None:
    net, batch = trained(), images(5)
    found = EvalPass(copy.deepcopy(net), batch.inputs)
    assert not found.net.training and found.separable
    assert [type(use.part).__name__ for use in found.uses].count("Conv2d") == 5
    cotangent = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    gathered: list[tuple[Use, Tensor]] = []
    assert found.backward(cotangent, lambda use, gradient: gathered.append((use, gradient)))
    assert [id(use) for use, _ in gathered] == [id(use) for use in reversed(found.uses)]

    plain = copy.deepcopy(net).eval()
    (cotangent * plain(*batch.inputs)).sum().backward()
    last = next(use for use in found.uses if isinstance(use.part, nn.Linear))
    at_last = next(gradient for use, gradient in gathered if use is last)
    torch.testing.assert_close(at_last, cotangent)
    torch.testing.assert_close(at_last.T @ last.x, plain[-1].weight.grad)  # type: ignore[index]


def test_passes_can_be_repeated() -> None:
    found, calls = EvalPass(made(convolutional), images(3).inputs), []
    for _ in range(2):
        found.backward(torch.ones(3, 4), lambda use, gradient: calls.append(gradient))
    half = len(calls) // 2
    assert half == len(found.uses)
    for first, second in zip(calls[:half], calls[half:], strict=True):
        assert torch.equal(first, second)


def test_a_pass_is_gone_when_nobody_holds_it() -> None:
    """Graphs live outside Python, where its collector sees no circles."""
    found = EvalPass(made(convolutional), images(3).inputs)
    found.backward(torch.ones(3, 4), lambda use, gradient: None)
    logits = weakref.ref(found.logits)
    del found
    gc.collect()
    assert logits() is None


def test_a_part_used_three_times_is_visited_three_times() -> None:
    found = EvalPass(made(Shared), images(3).inputs)
    assert sum(use.part is found.net.again for use in found.uses) == 3
    assert found.separable


def test_networks_that_are_not_separable_say_so() -> None:
    assert not EvalPass(made(Sentences), (torch.ones(3, 4).long(),)).separable
    mixed = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Linear(2, 2), nn.Unflatten(0, (3, 2)))
    mixed.extend([nn.Flatten(1), nn.Linear(4, 2)])
    assert not EvalPass(mixed, (torch.ones(3, 4),)).separable
    batched = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False))
    assert not EvalPass(batched, (torch.ones(3, 4),)).separable
    own = nn.Sequential(nn.Linear(4, 2), nn.PReLU())
    assert not EvalPass(own, (torch.ones(3, 4),)).separable


def test_what_does_not_reach_the_input() -> None:
    for kind in ("input", "output"):
        found = EvalPass(dead(kind), images(3).inputs)
        assert not found.backward(torch.ones(3, 4), lambda use, gradient: None)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).requires_grad_(False)
    assert EvalPass(constant, (torch.ones(3, 4),)).backward(torch.ones(3, 2), lambda use, gradient: None)


def test_only_classes_of_examples_can_be_scored() -> None:
    with pytest.raises(ScoreError, match="returns 2x5x5x5"):
        logits(nn.Conv2d(3, 5, 1), (torch.ones(2, 3, 5, 5),))

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ScoreError, match="returns tuple"):
        logits(Pair(), (torch.ones(2, 3),))


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (nn.BatchNorm2d(4), (3, 4, 2, 2)),
        (nn.BatchNorm1d(4), (3, 4)),
        (nn.LayerNorm([4, 2]), (3, 5, 4, 2)),
        (nn.GroupNorm(2, 4), (3, 4, 2)),
    ],
)
def test_normalised_is_what_is_scaled_and_shifted(part: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if not isinstance(part, nn.LayerNorm | nn.GroupNorm):
        part(x + 3)  # running statistics of its own
    with torch.no_grad():
        part.weight.mul_(3), part.bias.add_(2)  # type: ignore[operator]
    torch.testing.assert_close(part.eval()(x).detach(), normalised(part, x) * 3 + 2)  # type: ignore[arg-type]


def test_rows_that_count() -> None:
    nodes = Batch((torch.ones(4, 5), torch.tensor([[0], [1]])), torch.zeros(4).long(), torch.tensor([True, False] * 2))
    probe = Probe(made(Messages), nodes, examples="coupled")
    assert counted_rows(probe, torch.randn(4, 3)) == [0, 2]
    assert counted_rows(Probe(made(Messages), nodes), torch.randn(4, 3)) == [0, 1, 2, 3]


def test_rows_one_by_one() -> None:
    w, free = nn.Parameter(torch.tensor([2.0, 3.0])), nn.Parameter(torch.ones(1))
    rows = torch.stack([w[0] ** 2, w.prod(), torch.tensor(1.0)])
    assert [[g.tolist() for g in found] for found in row_by_row(rows, [w, free])] == [
        [[4.0, 0.0], [0.0]],
        [[3.0, 2.0], [0.0]],
        [[0.0, 0.0], [0.0]],
    ]
    assert [g.tolist() for g in next(row_by_row(torch.ones(1), [w]))] == [[0.0, 0.0]]
