import copy
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError, per_example
from predictors.layers import weighted
from predictors.ntk import Norm, NtkCondition, tangent_kernel
from predictors.probe import Probe
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, dead, images, made, state
from tests.predictors.test_eval_pass import trained

NORMS: tuple[Norm, ...] = get_args(Norm)


def linear(*examples: tuple[float, ...], outputs: int = 1) -> Probe:
    model = nn.Linear(len(examples[0]), outputs)
    return Probe(model, Batch((torch.tensor(examples),), torch.zeros(len(examples)).long()))


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_network_by_hand(norm: Norm) -> None:
    """The gradient of w x is x: the kernel [[9, 0], [0, 4]] a class, biases left out."""
    torch.testing.assert_close(
        tangent_kernel(linear((3.0, 0.0), (0.0, 2.0)), norm=norm), torch.diag(torch.tensor([9.0, 4.0])).double()
    )
    assert NtkCondition(norm)(linear((3.0, 0.0), (0.0, 2.0), outputs=5)) == pytest.approx(9 / 4)


class Normed(nn.Module):
    """All kinds of normalisation that have scales."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.group = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)
        self.linear, self.layer = nn.Linear(7, 5), nn.LayerNorm([7, 5])
        self.batch, self.last = nn.BatchNorm1d(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.linear(self.group(self.conv(x))))
        out: Tensor = self.last(torch.tanh(self.batch(x.mean((2, 3)))))
        return out


def gram(model: nn.Module, batch: Batch, *, train: bool, rows: list[int] | None = None) -> Tensor:
    """The kernel by its definition: one backward pass an example, all gradients in a row."""
    net, found = copy.deepcopy(model).train(train), []
    weights = [p for name, p in net.named_parameters() if "weight" in name]
    outputs = net(*batch.inputs)
    for i in range(len(outputs)) if rows is None else rows:
        gradients = torch.autograd.grad(outputs[i].sum(), weights, retain_graph=True, materialize_grads=True)
        found.append(torch.cat([g.flatten() for g in gradients]).double())
    jacobian = torch.stack(found)
    return jacobian @ jacobian.T


@pytest.mark.parametrize("make", [convolutional, Normed, Shared])
@pytest.mark.parametrize("norm", ["running", "batch"])
def test_the_kernel_is_that_of_single_backward_passes(make: Callable[[], nn.Module], norm: Norm) -> None:
    model, batch = trained(make), images(6)
    found = tangent_kernel(Probe(model, batch), norm=norm)
    expected = gram(model, batch, train=norm == "batch")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
    if make is Normed and norm == "batch":  # whose features add up to nothing over the batch
        with pytest.raises(ScoreError, match="condition is infinite"):
            NtkCondition(norm)(Probe(model, batch))
        return
    eigenvalues = torch.linalg.eigvalsh(expected)
    assert NtkCondition(norm)(Probe(model, batch)) == pytest.approx(float(eigenvalues[-1] / eigenvalues[0]), rel=0.01)


@pytest.mark.parametrize("make", [convolutional, Shared])
def test_each_example_is_what_it_would_be_in_a_batch_of_one(make: Callable[[], nn.Module]) -> None:
    model, batch = trained(make), images(6)
    net, found = copy.deepcopy(model).train(), []
    for i in range(6):
        weights = [layer.weight for _, layer in weighted(net)]
        shared = list({id(w): w for w in weights}.values())
        gradients = torch.autograd.grad(net(batch.inputs[0][i : i + 1]).sum(), shared, materialize_grads=True)
        found.append(torch.cat([g.flatten() for g in gradients]).double())
    rows = torch.stack(found)
    kernel = tangent_kernel(Probe(model, batch), norm="example")
    torch.testing.assert_close(kernel, rows @ rows.T, rtol=1e-4, atol=1e-6 * float(kernel.max()))


def test_gradients_come_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(made(convolutional), images(6))
    whole = tangent_kernel(probe, norm="example")
    monkeypatch.setattr(per_example, "CHUNK_BYTES", 4000)
    torch.testing.assert_close(tangent_kernel(probe, norm="example"), whole)


def test_the_statistics_make_a_difference() -> None:
    probe = Probe(trained(), images(6))
    scores = sorted(NtkCondition(norm)(probe) for norm in NORMS)
    assert scores[0] * 1.1 < scores[1] and scores[1] * 1.1 < scores[2]


def test_words_and_nodes_take_the_long_way() -> None:
    tokens = Batch((torch.arange(20).view(4, 5) % 11,), torch.zeros(4).long())
    model = made(Sentences)
    expected = gram(model, tokens, train=False)
    torch.testing.assert_close(tangent_kernel(Probe(model, tokens), norm="running"), expected)
    assert tangent_kernel(Probe(model, tokens), norm="example").shape == (4, 4)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True, False, True, True])
    nodes = Batch((x, torch.tensor([[0, 1, 2], [1, 2, 3]])), torch.zeros(4).long(), mask)
    model = made(Messages)
    for norm in NORMS:
        found = tangent_kernel(Probe(model, nodes, examples="coupled"), norm=norm)
        torch.testing.assert_close(found, gram(model, nodes, train=norm != "running", rows=[0, 2, 3]))


@pytest.mark.parametrize("norm", NORMS)
def test_equal_examples_have_no_condition(norm: Norm) -> None:
    with pytest.raises(ScoreError, match="condition is infinite"):
        NtkCondition(norm)(linear((1.0, 2.0), (1.0, 2.0), (2.0, 1.0)))


def test_dead_networks_are_called_dead() -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        NtkCondition("running")(Probe(dead("input"), images()))
    for norm in NORMS:
        with pytest.raises(DeadNetworkError, match="nothing flows"):
            NtkCondition(norm)(Probe(dead("output"), images()))
        with pytest.raises(ScoreError):  # the classifier's gradients are there, and all the same
            NtkCondition(norm)(Probe(dead("input"), images()))


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(ScoreError, match="no weights"):
        NtkCondition("batch")(Probe(nn.Flatten(), images()))


@pytest.mark.parametrize("norm", NORMS)
def test_the_network_and_the_generators_are_left_alone(norm: Norm) -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    scores = [NtkCondition(norm)(Probe(model, images())) for _ in range(2)]
    assert scores[0] == scores[1]
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
