import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError, probe
from predictors.probe import Probe, finite
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, convolutional, dead, images, made, state

PASSES: list[Callable[[Probe], object]] = [
    lambda p: p.labelled,
    lambda p: p.second,
    lambda p: p.input_gradients,
    lambda p: p.per_example,
    lambda p: p.data_free,
    lambda p: p.curvature,
]
NAMES = ["labelled", "second", "input_gradients", "per_example", "data_free", "curvature"]


def probed(model: nn.Module) -> Probe:
    return Probe(model, images(), second=images(seed=1))


@pytest.mark.parametrize("read", PASSES, ids=NAMES)
def test_a_pass_runs_once_and_leaves_the_model_and_all_generators_alone(read: Callable[[Probe], object]) -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    under = probed(model)
    assert read(under) is read(under)
    assert state(model) == before and torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("read", PASSES, ids=NAMES)
def test_a_dead_network_is_called_dead(read: Callable[[Probe], object]) -> None:
    with pytest.raises(DeadNetworkError):
        read(probed(dead("output")))


def test_the_second_batch_is_another_one() -> None:
    model = made(convolutional)
    other = Probe(model, images(seed=1))
    for a, b in zip(probed(model).second, other.labelled, strict=True):
        torch.testing.assert_close(a.gradient, b.gradient)
    with pytest.raises(ScoreError, match="second batch"):
        _ = other.second


def test_the_data_free_pass_by_hand() -> None:
    """Two linear layers under |weights| and an input of ones: the output is a product, gradients the other factors."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-2.0, 3.0]]))
        model[2].weight.copy_(torch.tensor([[-4.0]]))
    found = Probe(model, Batch((torch.randn(3, 2),), torch.zeros(3, dtype=torch.long))).data_free
    assert [layer.weight.tolist() for layer in found] == [[[2.0, 3.0]], [[4.0]]]
    assert [layer.gradient.tolist() for layer in found] == [[[4.0, 4.0]], [[5.0]]]
    assert found[0].gradient.dtype == torch.float64


def test_the_curvature_pass_is_the_hessian_times_the_gradient() -> None:
    model, batch = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 2))), images(5, size=1, classes=2)

    def loss(weight: Tensor) -> Tensor:
        x = batch.inputs[0].flatten(1)
        return F.cross_entropy(x @ weight.view(2, 3).T + model[1].bias.detach(), batch.targets)  # type: ignore[index, union-attr, operator]

    weight = model[1].weight.detach().flatten()  # type: ignore[index, union-attr, operator]
    gradient = torch.autograd.functional.jacobian(loss, weight)
    expected = torch.autograd.functional.hessian(loss, weight) @ gradient
    (found,) = Probe(model, batch).curvature
    torch.testing.assert_close(found.gradient.flatten(), expected)


def test_the_nodes_of_a_graph_stay_together() -> None:
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    batch = Batch((torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), edges), torch.tensor([0, 1, 2, 0]))
    model = made(Messages)
    under = Probe(model, batch, second=batch, examples="coupled")
    assert [layer.examples for layer in under.per_example] == [4, 4]
    assert len(under.data_free) == len(under.labelled) == 2
    assert under.caveats is not None and under.caveats.one_by_one


def test_agreement_counts_weights_that_no_gradient_reaches_apart() -> None:
    model = made(convolutional)
    with torch.no_grad():
        model[12].weight[:, :2] = 0  # type: ignore[index, union-attr, operator]
    found = {layer.name: layer for layer in Probe(model, images()).per_example}
    assert found["9"].weights == 72 and found["9"].live == 4 * 12


def test_networks_without_layers_are_refused() -> None:
    with pytest.raises(ScoreError, match="no convolution or linear layer"):
        _ = Probe(nn.Flatten(), images()).layers


def test_gradients_that_are_no_numbers_are_refused() -> None:
    model = made(convolutional)
    with torch.no_grad():
        model[12].weight[0, 0] = float("nan")  # type: ignore[index, union-attr, operator]
    with pytest.raises(ScoreError, match="not finite"):
        _ = Probe(model, images()).labelled


def test_generators_are_named_streams() -> None:
    under = Probe(nn.Flatten(), images(), seed=3)
    first = torch.rand(3, generator=under.generator("a"))
    assert torch.equal(first, torch.rand(3, generator=under.generator("a")))
    assert not torch.equal(first, torch.rand(3, generator=under.generator("b")))
    assert not torch.equal(first, torch.rand(3, generator=Probe(nn.Flatten(), images(), seed=4).generator("a")))


def test_what_is_made_once_is_made_once() -> None:
    under, calls = probed(nn.Flatten()), []

    def make() -> int:
        calls.append(1)
        return len(calls)

    assert under.once("x", make) == under.once("x", make) == 1
    assert under.once("y", make) == 2


def test_what_is_not_as_defined_is_said() -> None:
    assert probed(made(convolutional)).remarks == []
    (said,) = Probe(made(Sentences), images()).remarks
    assert "embedding.weight" in said
    flat = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)))
    under = probed(flat)
    _ = under.per_example
    (said,) = under.remarks
    assert "running statistics" in said and said.endswith(" 2.")


def test_numbers_are_finite_or_refused() -> None:
    assert finite(torch.tensor(2.5)) == 2.5
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ScoreError):
            finite(bad)


def test_passes_of_several_proxies_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("Trace", "per_example_gradients"):
        original = getattr(probe, name)
        monkeypatch.setattr(probe, name, lambda *a, _o=original, _n=name, **k: (calls.append(_n), _o(*a, **k))[1])
    from predictors.gradsign import GradSign, GradSignExcess

    under = Probe(copy.deepcopy(made(convolutional)), images())
    for _ in range(2):
        GradSign()(under)
        GradSignExcess()(under)
        _ = under.labelled, under.input_gradients
    assert sorted(calls) == ["Trace", "per_example_gradients"]
