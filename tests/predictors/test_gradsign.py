import copy
import math

import pytest
import torch
from torch import nn

from predictors import DeadNetworkError
from predictors.gradsign import GradSign, GradSignExcess, GradSignMean, chance
from predictors.probe import Probe
from tests.predictors.probes import convolutional, dead, images, made


def signs(model: nn.Module, count: int) -> list[torch.Tensor]:
    """Sums of signs by layer, example after example as the definition has it."""
    batch, total = images(count), []
    batch = batch.with_inputs(batch.inputs[0].to(next(model.parameters()).dtype))
    for i in range(count):
        net = copy.deepcopy(model).train()
        nn.functional.cross_entropy(net(batch.inputs[0][i : i + 1]), batch.targets[i : i + 1]).backward()
        found = [m.weight.grad.sign() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]  # type: ignore[union-attr]
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    return total


def test_is_the_sum_over_the_weights_of_the_agreement_of_signs() -> None:
    model = made(convolutional)
    assert GradSign()(Probe(model, images(9))) == sum(float(s.abs().sum()) for s in signs(model, 9))


def test_in_double_precision_no_sign_depends_on_rounding() -> None:
    model, batch = made(convolutional), images(9)
    exact = signs(copy.deepcopy(model).double(), 9)
    assert GradSign()(Probe(model, batch, precision="double")) == sum(float(s.abs().sum()) for s in exact)


def test_the_mean_is_over_weights_that_gradients_reach() -> None:
    model = made(convolutional)
    with torch.no_grad():
        model[9].weight[0].zero_()  # type: ignore[index, union-attr, operator]
        model[12].weight[:, 0].zero_()  # type: ignore[index, union-attr, operator]
    probe = Probe(model, images(9))
    live = sum(layer.live for layer in probe.per_example)
    assert live == sum(layer.weights for layer in probe.per_example) - 12
    assert GradSignMean()(probe) == pytest.approx(GradSign()(probe) / live)
    assert GradSignExcess()(probe) == pytest.approx(GradSign()(probe) - live * chance(9))


def test_chance_is_what_random_signs_give() -> None:
    # Worked by hand: of 2 signs, half the pairs agree; of 3, |sum| is 3 in 2 of 8 cases and 1 in the others.
    assert [chance(n) for n in (1, 2, 3, 4)] == pytest.approx([1.0, 1.0, 1.5, 1.5])
    for n in (5, 16, 64):
        exact = sum(math.comb(n, k) * abs(2 * k - n) for k in range(n + 1)) / 2**n
        assert chance(n) == pytest.approx(exact)
    assert chance(5000) == pytest.approx(math.sqrt(2 * 5000 / math.pi), rel=1e-4)


@pytest.mark.parametrize("kind", ["output"])
@pytest.mark.parametrize("proxy", [GradSign(), GradSignMean(), GradSignExcess()])
def test_a_dead_network_has_no_score(proxy: GradSign, kind: str) -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        proxy(Probe(dead(kind), images()))
