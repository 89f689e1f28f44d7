import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from predictors import ScoreError, per_example
from predictors.per_example import PerExampleNorm, per_example_gradients
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, images, made, state


def loop(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What the definition says: batches of one through a network in training mode, [examples, *weight] by layer."""
    found: dict[str, list[Tensor]] = {}
    for i in range(len(batch.targets)):
        net = copy.deepcopy(model).train()
        one = Batch(tuple(x[i : i + 1] for x in batch.inputs), batch.targets[i : i + 1])
        one.losses(net(*one.inputs)).sum().backward()
        seen = set()
        for name, part in net.named_modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear) and id(part.weight) not in seen:
                seen.add(id(part.weight))
                grad = part.weight.grad
                found.setdefault(name, []).append(torch.zeros_like(part.weight) if grad is None else grad)
    return {name: torch.stack(parts) for name, parts in found.items()}


def gathered(model: nn.Module, batch: Batch, **how: str) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    per_example_gradients(model, batch, lambda name, g: parts.setdefault(name, []).append(g.clone()), **how)  # type: ignore[arg-type]
    return {name: torch.cat(found) for name, found in parts.items()}


def sentences() -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch((torch.randint(11, (6, 5), generator=rng),), torch.randint(4, (6,), generator=rng))


def signals() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4))


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (convolutional, images()),
        (Shared, images()),
        (Sentences, sentences()),
        (signals, Batch((images().inputs[0][:, :, 0],), images().targets)),
    ],
    ids=["convolutions", "shared", "sentences", "signals"],
)
def test_agrees_with_batches_of_one(make: Callable[[], nn.Module], batch: Batch) -> None:
    model = made(make)
    expected = loop(model, batch)
    found = gathered(model, batch)
    assert found.keys() == expected.keys()
    for name, gradients in expected.items():
        torch.testing.assert_close(found[name], gradients, atol=2e-6, rtol=1e-4, msg=name)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = made(convolutional), images(7)
    whole = gathered(model, batch)
    monkeypatch.setattr(per_example, "CHUNK_BYTES", 2000)
    for name, gradients in gathered(model, batch).items():
        torch.testing.assert_close(gradients, whole[name], msg=name)


def test_no_more_than_a_chunk_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_example, "CHUNK_BYTES", 2000)
    sizes: list[int] = []
    per_example_gradients(made(convolutional), images(7), lambda name, g: sizes.append(g.numel() * 4))
    assert max(sizes) <= max(2000, 12 * 12 * 9 * 4)


def test_layers_that_fold_the_examples_away_are_taken_one_by_one() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.last = nn.Linear(9, 5), nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.rows(x.flatten(0, 2))
            out: Tensor = self.last(rows.view(len(x), -1, 5).mean(1))
            return out

    model, batch = made(Folded), images()
    found: dict[str, list[Tensor]] = {}
    caveats = per_example_gradients(model, batch, lambda name, g: found.setdefault(name, []).append(g.clone()))
    assert caveats.one_by_one
    for name, gradients in loop(model, batch).items():
        torch.testing.assert_close(torch.cat(found[name]), gradients, atol=2e-6, rtol=1e-4)


def test_nodes_of_a_graph_share_the_pass_and_the_statistics() -> None:
    rng = torch.Generator().manual_seed(0)
    edges = torch.randint(8, (2, 20), generator=rng)
    mask = torch.arange(8) < 5
    batch = Batch((torch.randn(8, 5, generator=rng), edges), torch.randint(3, (8,), generator=rng), mask)
    model = made(Messages)
    found = gathered(model, batch, examples="coupled")
    net = copy.deepcopy(model).train()
    losses = batch.losses(net(*batch.inputs))
    assert len(losses) == 5
    for name, part in (("first", net.first), ("second", net.second)):
        expected = torch.stack([torch.autograd.grad(loss, part.weight, retain_graph=True)[0] for loss in losses])
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-4)
    # Neighbours matter: the gradient of a node is not what the node alone would give.
    assert found["first"].ne(0).any(2).any(1).all()


def test_a_single_number_a_channel_falls_back_on_running_statistics_and_says_so() -> None:
    model = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)))
    model[2].running_mean.fill_(0.3)  # type: ignore[union-attr, operator]
    batch, found = images(), {}
    caveats = per_example_gradients(model, batch, lambda name, g: found.update({name: g.clone()}))
    assert caveats.running_statistics == ("2",) and not caveats.one_by_one
    reference = copy.deepcopy(model).eval()
    for i in range(len(batch.targets)):
        loss = batch.losses(reference(*batch.inputs))[i]
        (expected,) = torch.autograd.grad(loss, reference[1].weight)  # type: ignore[union-attr, arg-type]
        torch.testing.assert_close(found["1"][i], expected, atol=1e-6, rtol=1e-4)


def test_each_example_is_normalised_by_itself() -> None:
    norm, x = nn.BatchNorm2d(3), images().inputs[0]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        alone = torch.cat([copy.deepcopy(norm).train()(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(PerExampleNorm(norm)(x), alone)


def test_the_model_stays_as_it_was() -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    gathered(model, images())
    assert state(model) == before and torch.equal(random, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:Using padding")
def test_a_lopsided_padding_is_refused() -> None:
    model = made(lambda: nn.Sequential(nn.Conv2d(3, 2, 2, padding="same"), nn.Flatten(), nn.Linear(162, 4)))
    with pytest.raises(ScoreError, match="lopsided"):
        gathered(model, images())


def test_a_failing_network_says_what_it_was_given() -> None:
    with pytest.raises(ScoreError, match="6x3x9x9"):
        gathered(made(lambda: nn.Linear(5, 4)), images())
