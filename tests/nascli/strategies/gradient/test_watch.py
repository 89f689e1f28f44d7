from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.watch import WINDOW, Watch, dominant_eigenvalue, sharpening, skip_share
from tests.toy_cells import Cells, Uneven, mixture_of
from tests.toy_images import same

Losses = Callable[[], Callable[[Sequence[Tensor]], Tensor]]


def supernet_loss(mixture: Mixture) -> Callable[[Sequence[Tensor]], Tensor]:
    """A loss of the architecture weights through a supernet in double precision, without noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, x = Cells().supernet().double().eval(), torch.randn(12, 1, 4, 4, dtype=torch.double)

    def loss(alpha: Sequence[Tensor]) -> Tensor:
        gates = mixture.gates(mixture.weights(alpha), importance=mixture.importance(alpha))
        gates = {n: g.double() for n, g in gates.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return torch.nn.functional.cross_entropy(8 * net(x, gates=gates), torch.arange(12) % 4)

    return loss


def full(loss: Callable[[Sequence[Tensor]], Tensor], mixture: Mixture) -> Tensor:
    """The whole Hessian in the logits of the open rows."""
    logits = mixture.logits.detach()
    rows = [mixture.rows.row(n) for n in mixture.undecided]
    where = torch.zeros_like(mixture.valid)
    where[rows] = mixture.valid[rows]
    hessian = torch.autograd.functional.hessian(lambda a: loss([a, *mixture.alpha[1:]]), logits)
    keep = where.flatten()
    return hessian.reshape(keep.numel(), keep.numel())[keep][:, keep]


@pytest.mark.parametrize("edges", [None, torch.arange(5.0) / 5])
@pytest.mark.parametrize("closed", [0, 2, 4])
def test_the_dominant_eigenvalue_is_that_of_the_whole_hessian(closed: int, edges: Tensor | None) -> None:
    mixture = mixture_of(Cells(), edges=edges)
    for name in mixture.rows.names[:closed]:
        mixture.decide(name, 3)
    loss = supernet_loss(mixture)
    expected = torch.linalg.eigvalsh(full(loss, mixture)).max().item()
    assert expected > 1e-3
    assert dominant_eigenvalue(loss, mixture) == pytest.approx(expected, rel=2e-3)


def test_two_logits_and_none() -> None:
    mixture = mixture_of(Uneven())
    mixture.decide("b.three", 0)
    curved = torch.tensor([[1.0, 2.0], [2.0, -2.0]])

    def loss(alpha: Sequence[Tensor]) -> Tensor:
        return alpha[0][1, :2] @ curved @ alpha[0][1, :2] / 2 + alpha[0][2].square().sum() * 50

    # The eigenvalues are 2 and -3; the decided row's curvature of 100 is of no account.
    assert dominant_eigenvalue(loss, mixture) == pytest.approx(2.0, rel=1e-5)
    mixture.decide("a.two", 1)
    assert dominant_eigenvalue(loss, mixture) == 0.0


def test_the_largest_is_taken_and_not_the_largest_in_size() -> None:
    def loss(alpha: Sequence[Tensor]) -> Tensor:
        return (alpha[0].flatten().square() * torch.linspace(-9, 2, 20)).sum() / 2

    assert dominant_eigenvalue(loss, mixture_of()) == pytest.approx(2.0, rel=2e-3)


def test_a_flat_loss_has_no_curvature() -> None:
    assert dominant_eigenvalue(lambda alpha: (0 * alpha[0]).square().sum(), mixture_of()) == 0.0


def test_sharpening_by_hand() -> None:
    assert not sharpening([1.0] * 9)
    assert not sharpening([1.0] * 10)
    # Means of 1 and 1.3: a ratio of 0.77. Means of 1 and 1.4: 0.71, which is below 0.75.
    assert not sharpening([9.0, *[1.0] * 5, *[1.3] * 5])
    assert sharpening([9.0, *[1.0] * 5, *[1.4] * 5])
    assert sharpening([1, 1, 1, 1, 1, 0, 0, 0, 0, 7])
    # Falling, and below zero.
    assert not sharpening([*[2.0] * 5, *[1.0] * 5]) and not sharpening([*[-9.0] * 5, *[-1.0] * 5])


def sharp(curvature: float) -> Losses:
    return lambda: lambda alpha: curvature * alpha[0].square().sum() / 2


@pytest.mark.parametrize("resumed", [False, True])
def test_early_stopping_goes_back_to_where_the_curvature_began_to_rise(
    resumed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    mixture, watch = mixture_of(edges=torch.zeros(5), scale=0.0), Watch("eigenvalue")
    curvatures = [*[1.0] * 5, *[2.0] * 5]
    for epoch, curvature in enumerate(curvatures, 1):
        assert not watch.stopped
        if resumed:
            file = io.BytesIO()
            torch.save(watch.state(), file)
            file.seek(0)
            watch = Watch("eigenvalue")
            watch.load(torch.load(file, weights_only=True))
        with torch.no_grad():
            for alpha in mixture.alpha:
                alpha.fill_(epoch)
        watch.epoch(mixture, sharp(curvature))
    assert watch.stopped and len(curvatures) == 2 * WINDOW
    assert all((alpha == 2 * WINDOW - WINDOW).all() for alpha in mixture.alpha)
    assert "stopped early (eigenvalue)" in caplog.text
    assert watch.told(mixture)["eigenvalue"] == pytest.approx(2.0)


def test_without_early_stopping_no_curvature_is_computed() -> None:
    def refuse() -> Callable[[Sequence[Tensor]], Tensor]:
        raise RuntimeError("nobody asked for this")

    watch = Watch("never")
    for _ in range(20):
        watch.epoch(mixture_of(), refuse)
    assert not watch.stopped and "eigenvalue" not in watch.told(mixture_of())


def skipping(count: int) -> Mixture:
    """A mixture of five choices, of which the first so many are led by their skip connection."""
    mixture = mixture_of(seed=None)
    with torch.no_grad():
        mixture.logits[:, 3] = 1.0
        mixture.logits[:count, 1] = 2.0
    return mixture


def test_dominating_skip_connections_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch("never")
    with caplog.at_level(logging.WARNING):
        for count in (2, 3, 4, 5):
            watch.epoch(skipping(count), sharp(1.0))
            assert len(caplog.records) == (count > 2)
    assert "lead 60 % of the choices" in caplog.text
    again = Watch("never")
    again.load(watch.state())
    again.epoch(skipping(5), sharp(1.0))
    assert len(caplog.records) == 1 and same(again.state()["warned"], True)


def test_skip_connections_may_end_the_search() -> None:
    watch = Watch("skips")
    watch.epoch(skipping(2), sharp(1.0))
    assert not watch.stopped
    watch.epoch(skipping(3), sharp(1.0))
    assert watch.stopped


def test_the_share_of_skip_connections_by_hand() -> None:
    mixture = skipping(3)
    assert skip_share(mixture, mixture.weights()) == 0.6
    mixture.decide("normal.node2.from0", 3)
    mixture.decide("normal.node3.inputs", 1)
    # Four edges are left: `linear` by decision, skip, skip, `linear`; the third of the node's was led by `linear`.
    assert skip_share(mixture, mixture.settled(mixture.weights())) == 0.5


def test_even_weights_are_led_by_nothing(caplog: pytest.LogCaptureFixture) -> None:
    # `skip_connect` comes first here, so an argmax would name it.
    mixture = mixture_of(Uneven(), seed=None)
    assert skip_share(mixture, mixture.weights()) == 0.0
    watch = Watch("skips")
    watch.epoch(mixture, sharp(1.0))
    assert not watch.stopped and not caplog.records


def test_told_is_the_mean_entropy_of_open_rows_and_what_is_decided() -> None:
    mixture = mixture_of(seed=None)
    assert Watch("never").told(mixture) == {"entropy": pytest.approx(1.0), "decided": 0.0, "skips": 0.0}
    for name in mixture.rows.names:
        mixture.decide(name, 1)
    assert Watch("never").told(mixture) == {"entropy": 0.0, "decided": 5.0, "skips": 1.0}
