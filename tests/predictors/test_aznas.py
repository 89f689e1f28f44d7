import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.aznas import AzExpressivity, AzProgressivity, AzTrainability, entropy, spread
from predictors.blocks import Feature
from predictors.gaussian import he_weights
from predictors.probe import Probe
from predictors.protocol import Proxy
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, images, made, state

ALL: list[Proxy] = [AzExpressivity(), AzProgressivity(), AzTrainability()]


class Blocks(nn.Module):
    """Three blocks, one of which halves the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b, s in ((3, 8, 1), (8, 6, 2), (6, 8, 1))
        )
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.last(x.mean((2, 3)))
        return out


def block(rows: Tensor) -> Feature:
    return Feature("block", nn.Linear(1, 1), rows)


def signs(channels: int) -> Tensor:
    """All combinations of signs, one a row: their columns are orthogonal."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=channels)))


def test_entropies_by_hand() -> None:
    """Equal variances in all directions give the logarithm of their number, and a line gives 0."""
    assert entropy(block(signs(4))) == pytest.approx(math.log(4), abs=1e-6)
    assert entropy(block(signs(1) @ torch.ones(1, 4) + 5)) == pytest.approx(0, abs=1e-6)
    # Variances 1 and 9: shares 0.1 and 0.9.
    found = entropy(block(signs(2) * torch.tensor([1.0, 3.0])))
    assert found == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9), abs=1e-6)


def test_the_spread_of_a_linear_block_is_its_largest_singular_value() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    expected = float(torch.linalg.svdvals(weight)[0])
    assert spread(signs(3) @ weight, signs(3)) == pytest.approx(expected, rel=1e-5)


def test_a_finer_grid_is_folded_as_in_a_pixel_unshuffle() -> None:
    rng = torch.Generator().manual_seed(0)
    gradient, behind = torch.randn(2, 3, 8, 6, generator=rng), torch.randn(2, 5, 4, 3, generator=rng)
    folded = F.pixel_unshuffle(gradient, 2).movedim(1, -1).reshape(-1, 12)
    rows = behind.movedim(1, -1).reshape(-1, 5)
    expected = np.linalg.norm((folded.T @ rows / len(rows)).numpy(), 2)
    assert spread(gradient.movedim(1, -1), behind.movedim(1, -1)) == pytest.approx(expected, rel=1e-5)


def test_windows_that_reach_beyond_the_edge_see_zeros() -> None:
    rng = torch.Generator().manual_seed(0)
    gradient, behind = torch.randn(2, 7, 6, 3, generator=rng), torch.randn(2, 4, 3, 5, generator=rng)
    padded = torch.cat([gradient, torch.zeros(2, 1, 6, 3)], 1)
    assert spread(gradient, behind) == pytest.approx(spread(padded, behind))


@pytest.mark.parametrize(("fine", "coarse"), [((2, 197, 3), (2, 196, 3)), ((2, 3), (2, 4, 3)), ((2, 2, 3), (2, 4, 3))])
def test_grids_that_do_not_fit_are_not_compared(fine: tuple[int, ...], coarse: tuple[int, ...]) -> None:
    assert spread(torch.ones(fine), torch.ones(coarse)) is None


def published(probe: Probe, examples: int) -> tuple[float, float, float]:
    """All three scores as their paper defines them, written out for `Blocks`."""
    rng, net = probe.generator("aznas"), copy.deepcopy(probe.model).train()
    he_weights(net, generator=rng)
    x = torch.randn(examples, *probe.batch.inputs[0].shape[1:], generator=rng)
    maps = []
    for stage in net.stages:  # type: ignore[union-attr]
        x = F.relu(stage[1](stage[0](x)))
        maps.append(x)
    entropies, sizes = [], []
    for y in maps:
        rows = y.detach().movedim(1, -1).flatten(0, -2).numpy().astype(float)
        v = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
        p = v / v.sum()
        entropies.append(-(p * np.log(p + 1e-8)).sum())
    rng = probe.generator("aznas signs")
    for before, after in itertools.pairwise(maps):
        behind = torch.randint(2, after.shape, generator=rng) * 2.0 - 1
        (front,) = torch.autograd.grad(after, before, behind, retain_graph=True)
        front = F.pixel_unshuffle(front, front.shape[2] // behind.shape[2])
        product = torch.einsum("nihw,nohw->io", front, behind) / behind[:, 0].numel()
        sizes.append(float(torch.linalg.svdvals(product)[0]))
    trainability = np.mean([-s - 1 / (s + 1e-6) + 2 for s in sizes])
    return sum(entropies), min(np.diff(entropies)), float(trainability)


def test_the_published_scores() -> None:
    probe = Probe(made(Blocks), images(3, size=12), seed=7)
    expected = published(probe, 10)
    found = [type(proxy)(examples=10)(probe) for proxy in ALL]  # type: ignore[call-arg]
    assert found == pytest.approx(expected, rel=1e-3)
    assert found[2] < 0


def test_the_order_of_asking_makes_no_difference() -> None:
    probe = Probe(made(Blocks), images(3, size=12))
    backwards = [proxy(probe) for proxy in reversed(ALL)][::-1]
    assert backwards == [proxy(Probe(probe.model, probe.batch)) for proxy in ALL]
    assert backwards == [proxy(probe) for proxy in ALL]


class Idle(Blocks):
    """A block that does nothing, or kills everything."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stages.insert(1, made(Same))

    def forward(self, x: Tensor) -> Tensor:
        self.stages[1].kind = self.kind  # type: ignore[assignment]
        return super().forward(x)


class Same(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused, self.kind = nn.Linear(1, 1), ""

    def forward(self, x: Tensor) -> Tensor:
        return {"same": x, "zero": torch.zeros_like(x), "times": x * 0.0}[self.kind]


def test_a_block_that_hands_on_has_no_trainability() -> None:
    probe = Probe(made(lambda: Idle("same")), images(3, size=12))
    with pytest.raises(ScoreError, match=r"stages\.1' hands its input on") as caught:
        AzTrainability()(probe)
    assert not isinstance(caught.value, DeadNetworkError)
    assert AzProgressivity()(probe) <= 0


@pytest.mark.parametrize("proxy", ALL)
@pytest.mark.parametrize("kind", ["zero", "times"])
def test_dead_networks_are_called_dead(proxy: Proxy, kind: str) -> None:
    with pytest.raises(DeadNetworkError, match=r"stages\.1'"):
        proxy(Probe(made(lambda: Idle(kind)), images(3, size=12)))


@pytest.mark.parametrize("proxy", ALL)
def test_one_block_is_too_few(proxy: Proxy) -> None:
    flat = Batch((torch.randn(4, 5),), torch.zeros(4).long())
    with pytest.raises(ScoreError, match="has 0"):
        proxy(Probe(nn.Linear(5, 2), flat))


def test_blocks_side_by_side_have_no_trainability() -> None:
    tokens = Batch((torch.arange(20).view(4, 5) % 11,), torch.zeros(4).long())
    probe = Probe(made(Sentences), tokens)
    assert AzExpressivity()(probe) > 0
    with pytest.raises(ScoreError, match="No two blocks in sequence"):
        AzTrainability()(probe)


def test_layers_between_nodes_are_blocks() -> None:
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    edges = torch.stack([torch.arange(9), (torch.arange(9) + 1) % 9])
    probe = Probe(made(Messages), Batch((x, edges), torch.zeros(9).long()), examples="coupled")
    assert 0 < AzExpressivity()(probe) < math.log(7) + math.log(3) and AzTrainability()(probe) < 0


@pytest.mark.parametrize("proxy", [AzExpressivity, AzProgressivity, AzTrainability])
def test_impossible_settings_are_refused(proxy: type[AzExpressivity]) -> None:
    with pytest.raises(ValueError, match="examples=1"):
        proxy(examples=1)


@pytest.mark.parametrize("proxy", ALL)
def test_the_network_and_the_generators_are_left_alone(proxy: Proxy) -> None:
    model = made(Blocks).eval()
    before, random = state(model), torch.get_rng_state()
    assert proxy(Probe(model, images(3, size=12))) == proxy(Probe(model, images(5, size=12, seed=1)))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
