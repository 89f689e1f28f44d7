import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.layers import fan_in
from predictors.probe import Probe
from predictors.protocol import Proxy
from predictors.saliency import Fisher, GradNorm, Grasp, L2Norm, Plain, Snip, SynFlow
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, dead, images, made, state

ALL: list[Proxy] = [L2Norm(), GradNorm(), Plain(), Snip(), Grasp(), Fisher(), SynFlow()]


def one_layer() -> Probe:
    """Two inputs, two classes, one example (1, 2) of class 0 whose logits are both 3."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        model.bias.copy_(torch.tensor([0.0, 2.0]))
    return Probe(model, Batch((torch.tensor([[1.0, 2.0]]),), torch.tensor([0])))


def test_one_layer_by_hand() -> None:
    """Probabilities 1/2: the gradient at the logits is (-1/2, 1/2), so g = ((-1/2, -1), (1/2, 1)).

    H g: moving the weights by g moves the logits by (-5/2, 5/2), and these their own gradient by (-5/4, 5/4).
    """
    probe = one_layer()
    assert L2Norm()(probe) == pytest.approx(math.sqrt(3))
    assert GradNorm()(probe) == pytest.approx(math.sqrt(2.5))
    assert Plain()(probe) == pytest.approx(-0.5 - 1 + 0.5)
    assert Snip()(probe) == pytest.approx(0.5 + 1 + 0.5)
    assert Grasp()(probe) == pytest.approx(-(-1.25 - 2.5 + 1.25))
    assert Fisher()(probe) == pytest.approx(2 * (1.5**2 / 2 + 1.5**2 / 2))
    assert SynFlow()(probe) == pytest.approx(math.log(1 + 1 + 1))


def graph() -> Batch:
    rng = torch.Generator().manual_seed(0)
    nodes = torch.randn(5, 5, generator=rng)
    return Batch((nodes, torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])), torch.tensor([0, 1, 2, 0, 1]))


def words() -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch((torch.randint(11, (5, 6), generator=rng),), torch.tensor([0, 1, 2, 3, 0]))


@pytest.mark.parametrize(
    ("model", "batch"),
    [(made(convolutional), images()), (made(Shared), images()), (made(Sentences), words()), (made(Messages), graph())],
    ids=["images", "shared", "words", "graph"],
)
def test_sums_over_the_whole_network(model: nn.Module, batch: Batch) -> None:
    """Against one backward pass over a flat list of weights, and a double one for the curvature."""
    net = copy.deepcopy(model).train()
    for part in net.modules():
        if isinstance(part, nn.ReLU | nn.ReLU6):
            part.inplace = False
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    loss = F.cross_entropy(net(*batch.inputs), batch.targets)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    squares = sum((g.square().sum() for g in gradients), torch.zeros(()))
    curved = torch.autograd.grad(squares / 2, weights)  # d(|g|^2 / 2)/dw = H g
    weights, gradients = [w.detach() for w in weights], tuple(g.detach() for g in gradients)
    products = [float((w * g).sum()) for w, g in zip(weights, gradients, strict=True)]

    probe = Probe(model, batch)
    assert L2Norm()(probe) == pytest.approx(sum(float(w.norm()) for w in weights), rel=1e-5)
    assert GradNorm()(probe) == pytest.approx(sum(float(g.norm()) for g in gradients), rel=1e-4)
    assert Plain()(probe) == pytest.approx(sum(products), rel=1e-3, abs=1e-6)
    absolute = sum(float((w * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))
    assert Snip()(probe) == pytest.approx(absolute, rel=1e-4)
    expected = -sum(float((w * h).sum()) for w, h in zip(weights, curved, strict=True))
    assert Grasp()(probe) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_fisher_is_the_gradient_of_a_mask_on_each_example_and_channel() -> None:
    model, batch = made(convolutional), images()
    net, masks = copy.deepcopy(model).train(), []
    for part in net.modules():
        if isinstance(part, nn.ReLU | nn.ReLU6):
            part.inplace = False

        def masked(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            mask = torch.ones(output.shape[:2], requires_grad=True)
            masks.append((mask, fan_in(layer)))  # type: ignore[arg-type]
            return output * mask.reshape(*output.shape[:2], *[1] * (output.dim() - 2))

        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_hook(masked)
    F.cross_entropy(net(*batch.inputs), batch.targets).backward()
    expected = sum(inputs * float((m.grad**2).mean(0).sum()) / 2 for m, inputs in masks)  # type: ignore[operator]
    assert Fisher()(Probe(model, batch)) == pytest.approx(expected, rel=1e-4)


def test_synflow_sees_the_output_once_a_layer() -> None:
    """Without biases, R is linear in each layer's |weights|: every layer's sum is R, the product of the matrices."""
    model = made(lambda: nn.Sequential(nn.Flatten(), *(nn.Linear(n, 4, bias=False) for n in (12, 4, 4))))
    flow = torch.ones(12, dtype=torch.float64)
    for layer in model[1:]:  # type: ignore[index]
        flow = layer.weight.detach().double().abs() @ flow
    found = SynFlow()(Probe(model, images(size=2)))
    assert found == pytest.approx(math.log(3 * float(flow.sum())))


def test_synflow_of_very_deep_networks_is_a_number() -> None:
    deep = nn.Sequential(nn.Flatten(), nn.Linear(12, 64), *(nn.Linear(64, 64, bias=False) for _ in range(150)))
    with torch.no_grad():
        for layer in deep[1:]:
            layer.weight.fill_(1.0)
        deep[1].bias.zero_()
    # R = 12 * 64^151, and as much for each of 151 layers: 1e276, far beyond single precision.
    expected = math.log(12 * 151) + 151 * math.log(64)
    assert SynFlow()(Probe(deep, images(size=2))) == pytest.approx(expected)


def test_a_layer_before_batchnorm_adds_nothing_to_plain() -> None:
    model = made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, eps=1e-12), nn.ReLU(), nn.Flatten(), nn.Linear(245, 4)
        )
    )
    probe = Probe(model, images())
    last = probe.labelled[-1]
    assert Plain()(probe) == pytest.approx(float((last.weight * last.gradient).sum()), rel=1e-4)


def test_the_curvature_is_left_out_unless_grasp_asks() -> None:
    probe = Probe(made(convolutional), images())
    for proxy in ALL:
        if not isinstance(proxy, Grasp):
            proxy(probe)
    assert "curvature" not in probe.__dict__


@pytest.mark.parametrize("proxy", ALL[1:], ids=lambda p: type(p).__name__)
def test_a_dead_network_is_called_dead(proxy: Proxy) -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        proxy(Probe(dead("output"), images()))


def test_weights_of_zero_are_dead_to_synflow() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    nn.init.zeros_(model[1].weight)  # type: ignore[arg-type]
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        SynFlow()(Probe(model, images(size=2)))


@pytest.mark.parametrize("proxy", ALL, ids=lambda p: type(p).__name__)
def test_the_network_and_the_generators_are_left_alone(proxy: Proxy) -> None:
    plain = made(lambda: nn.Sequential(convolutional(), nn.Linear(4, 4)))
    model = nn.Sequential(plain[0], nn.Dropout(0.5), plain[1]).eval()  # type: ignore[index]
    before, random = state(model), torch.get_rng_state()
    found = proxy(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
    assert found == proxy(Probe(plain, images())), "dropout is no part of a score"


def test_a_layer_changed_in_place_has_no_fisher_score() -> None:
    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(12, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x.flatten(1))
            y += 1
            out: Tensor = self.last(y)
            return out

    with pytest.raises(ScoreError, match="output of first is changed in place"):
        Fisher()(Probe(made(Adding), images(size=2)))


class Twice(nn.Module):
    """A layer with one weight of 1, used twice, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
        nn.init.ones_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return torch.cat((y, 2 * self.layer(x)), 1)


def test_a_layer_used_twice_has_the_products_of_both_uses() -> None:
    """Logits (1, 2) of one example of class 0: the gradients there are -q and q, with q the other class's probability.

    The uses see -q and 2 q, and both returned 1.
    """
    q = 1 / (1 + math.exp(-1))
    probe = Probe(Twice(), Batch((torch.ones(1, 1),), torch.tensor([0])))
    assert Fisher()(probe) == pytest.approx(q**2 / 2 + (2 * q) ** 2 / 2)


@pytest.mark.slow
@pytest.mark.data
def test_networks_rank_as_published(data_root) -> None:  # type: ignore[no-untyped-def]
    """Sixteen networks of NAS-Bench-201 against NAS-Bench-Suite-Zero's values, of other weights and larger batches."""
    from search_spaces.nb201 import Nb201Space

    bench = np.load(data_root / "nas/nasbench201.npz")
    published = np.load(data_root / "nas/nasbench201_zero_cost_proxies.npz")
    raw = np.fromfile(data_root / "images/cifar-10-batches-bin/data_batch_1.bin", np.uint8, 16 * 3073).reshape(-1, 3073)
    inputs = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32) / 127.5 - 1).float()
    batch, space = Batch((inputs,), torch.from_numpy(raw[:, 0].astype(np.int64))), Nb201Space()
    proxies = {"l2_norm": L2Norm(), "grad_norm": GradNorm(), "snip": Snip(), "fisher": Fisher(), "synflow": SynFlow()}
    chosen = np.random.default_rng(1).choice(len(published["row"]), 16, replace=False)
    ours = []
    for row in published["row"][chosen]:
        text = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*bench["ops"][bench["code"][row]])
        probe = Probe(made(lambda text=text: space.build(space.parse(text)), seed=int(row)), batch)  # type: ignore[misc]
        ours.append([proxy(probe) for proxy in proxies.values()])
    for name, scores in zip(proxies, np.array(ours).T, strict=True):
        column = list(published["proxies"]).index(name)
        assert spearmanr(scores, published["cifar10"][chosen, column])[0] > 0.85, name
