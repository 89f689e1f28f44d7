import copy
import math
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe
from predictors.tcet import TCet, agreement, layer_expressivity, log_determinant
from search_spaces.space import Batch
from tests.predictors.probes import Shared, convolutional, dead, images, made, state

Form = Literal["none", "log", "log1p", "norm"]


def test_one_layer_by_hand() -> None:
    """Outputs (1, 3) and (2, -4) agree in one unit of two, K = ((2, 1), (1, 2)); the saliencies are 1, 2, 3, 4."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    probe = Probe(model, Batch((torch.eye(2),), torch.tensor([0, 1])))
    ratio = 10 / math.sqrt(5 / 3)
    assert TCet()(probe) == pytest.approx(math.log(3) * ratio)
    assert TCet(form="log")(probe) == pytest.approx(math.log(3) * math.log(ratio))
    assert TCet(form="log1p")(probe) == pytest.approx(math.log(3) * math.log(1 + ratio))
    assert TCet(form="norm")(probe) == pytest.approx(math.log(3) * ratio), "one ratio has no deviation"


def test_agreement_by_counting() -> None:
    outputs = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).relu()
    expected = [[sum((a > 0) == (b > 0) for a, b in zip(x, y, strict=True)) for y in outputs] for x in outputs]
    assert agreement(outputs).tolist() == [[float(n) for n in row] for row in expected]


def test_singular_kernels_have_no_logarithm() -> None:
    assert log_determinant(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)) == pytest.approx(math.log(3))
    assert log_determinant(torch.full((3, 3), 7.0, dtype=torch.float64)) == 0
    # 20 examples on 4 units: at most 5 dimensions, whatever rounding makes of the others.
    assert log_determinant(agreement(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))) == 0


def test_examples_with_the_same_signs_are_singular_whichever_way_rounding_goes() -> None:
    for seed in range(20):
        outputs = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))
        outputs[1] = outputs[0]
        assert log_determinant(agreement(outputs)) == 0


def reference(model: nn.Module, batch: Batch, saliency: str, form: str) -> float:
    """Layer by layer from the definition, with numpy; layers in the order of modules()."""
    parts = [p for p in model.modules() if isinstance(p, nn.Conv2d | nn.Linear)]
    logs, ratios = {}, []
    x, net = batch.inputs[0], copy.deepcopy(model).eval()
    for original, part in zip(model.modules(), net.modules(), strict=True):
        if original in parts:

            def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, original: nn.Module = original) -> None:
                on = (output.detach().flatten(1) > 0).double().numpy()
                kernel = on @ on.T + (1 - on) @ (1 - on).T
                full = np.linalg.matrix_rank(kernel, hermitian=True) == len(kernel)
                logs[original] = np.linalg.slogdet(kernel)[1] if full else 0.0

            part.register_forward_hook(hook)
    net(x)
    net = copy.deepcopy(model).train()
    if saliency == "snip":
        F.cross_entropy(net(x), batch.targets).backward()
    else:
        for norm in [p for p in net.modules() if isinstance(p, nn.BatchNorm2d)]:
            norm.register_forward_hook(lambda layer, inputs, output: inputs[0])
        net.double()
        with torch.no_grad():
            for p in net.parameters():
                p.abs_()
        net(torch.ones_like(x[:1]).double()).sum().backward()
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            s = (part.weight * part.weight.grad).abs().detach().double().flatten().numpy()
            ratios.append(s.sum() / s.std(ddof=1))
    values = np.array(ratios)
    formed = {"none": values, "log": np.log(values), "log1p": np.log1p(values), "norm": values / values.std()}[form]
    return sum(logs[p] * r for p, r in zip(parts, formed, strict=True))


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("saliency", ["synflow", "snip"])
def test_layers_one_by_one(saliency: Literal["synflow", "snip"], form: Form) -> None:
    model, batch = made(convolutional), images()
    for part in model.modules():
        if isinstance(part, nn.ReLU | nn.ReLU6):
            part.inplace = False
    expected = reference(model, batch, saliency, form)
    assert TCet(saliency, form)(Probe(model, batch)) == pytest.approx(expected, rel=1e-4)


def test_a_layer_used_several_times_has_the_units_of_all_uses() -> None:
    model, batch = made(Shared), images(3)
    units: list[Tensor] = []
    net = copy.deepcopy(model)
    net.again.register_forward_hook(lambda layer, inputs, output: units.append(output.detach().clone().flatten(1)))  # type: ignore[union-attr, operator]
    net(*batch.inputs)
    found = layer_expressivity(Probe(model, batch))
    assert len(units) == 3
    assert found["again"] == pytest.approx(log_determinant(agreement(torch.cat(units, 1))))


def test_saliencies_that_do_not_deviate_are_summed() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 2.0], [2.0, -2.0]]))
    probe = Probe(model, Batch((torch.eye(2),), torch.tensor([0, 1])))
    assert TCet()(probe) == pytest.approx(math.log(3) * 8)


def test_examples_that_no_layer_tells_apart_are_refused() -> None:
    same = images(1)
    doubled = Batch((same.inputs[0].repeat(2, 1, 1, 1),), same.targets.repeat(2))
    with pytest.raises(ScoreError, match="No layer tells"):
        TCet()(Probe(made(convolutional), doubled))


def test_rows_that_are_no_examples_are_refused() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(-1, 9)).reshape(len(x), -1, 4).mean(1)

    with pytest.raises(ScoreError, match="162 rows for 6 examples"):
        TCet()(Probe(made(Patches), images()))


@pytest.mark.parametrize("proxy", [TCet(), TCet("snip")])
def test_a_dead_network_is_called_dead(proxy: TCet) -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        proxy(Probe(dead("output"), images()))


@pytest.mark.parametrize("proxy", [TCet(), TCet("snip", "log")])
def test_the_network_and_the_generators_are_left_alone(proxy: TCet) -> None:
    model = made(convolutional).train()
    before, random = state(model), torch.get_rng_state()
    assert proxy(Probe(model, images())) == proxy(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())


def test_variants_share_their_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from predictors import tcet

    probe, calls = Probe(made(convolutional), images()), []
    original = tcet.layer_expressivity
    monkeypatch.setattr(tcet, "layer_expressivity", lambda p: (calls.append(1), original(p))[1])
    scores = {TCet(form=form)(probe) for form in get_args(Form)}
    assert len(scores) == 4 and len(calls) == 1
