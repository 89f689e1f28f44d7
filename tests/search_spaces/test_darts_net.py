from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from search_spaces.darts_cells import TABLES, Cells, cells
from search_spaces.darts_net import Auxiliary, DartsNetwork, name, plan
from search_spaces.darts_ops import set_drop_path
from search_spaces.genotype import read
from search_spaces.space import Signature, Tapped
from tests.search_spaces.test_genotype import V2
from tests.toy_nets import stirred

SMALL = Signature("image", (3, 12, 8), 5)
ODD = Signature("image", (2, 9, 7), 3)


def images(signature: Signature, n: int = 3) -> Tensor:
    return torch.randn(n, *signature.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sampled(preset: str, seed: int) -> Cells:
    table = TABLES[preset]  # type: ignore[index]
    return cells(table, table.sample(np.random.default_rng(seed)))


def v2() -> Cells:
    found = read(V2)
    assert found is not None
    return found


# -- an independent network, operation by operation ------------------------------------------------------------------


class Reference:
    """The network as its paper describes it, computed from a state dict."""

    def __init__(self, state: dict[str, Tensor], cells: Cells, count: int, *, pool_norm: bool) -> None:
        self.state, self.cells, self.count, self.pool_norm = state, cells, count, pool_norm

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        older = newer = tap = self.norm(F.conv2d(x, self.state["body.stem.0.weight"], padding=1), "body.stem.1")
        before = ""
        for k in range(self.count):
            kind = "reduce" if k in (self.count // 3, self.count * 2 // 3) else "normal"
            older, newer = newer, self.cell(older, newer, k, kind, before == "reduce")
            before = kind
            if k == self.count * 2 // 3:
                tap = newer
        pooled = newer.mean((2, 3))
        return pooled @ self.state["body.classifier.weight"].T + self.state["body.classifier.bias"], tap

    def cell(self, older: Tensor, newer: Tensor, k: int, kind: str, larger: bool) -> Tensor:
        at = f"body.cells.{k}."
        first = self.halved(older, at + "inputs.0") if larger else self.convolved(older, at + "inputs.0", 1)
        values = [first, self.convolved(newer, at + "inputs.1", 1)]
        for node in (2, 3, 4, 5):
            total = 0
            for source in range(node):
                operation = self.cells[kind].get((source, node))  # type: ignore[index]
                stride = 2 if kind == "reduce" and source < 2 else 1
                if operation is not None:
                    key = f"{at}operations.{operation}_{source}_{node}"
                    total = total + self.operation(values[source], operation, stride, key)
            values.append(total)
        return torch.cat(values[2:], 1)

    def operation(self, x: Tensor, operation: str, stride: int, key: str) -> Tensor:
        if operation == "none":
            return torch.zeros_like(x[:, :, ::stride, ::stride])
        if operation == "skip_connect":
            return x if stride == 1 else self.halved(x, key)
        if "pool" in operation:
            padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, stride).unfold(3, 3, stride).flatten(4)
            inside = padded.isfinite()
            mean = padded.where(inside, 0).sum(-1) / inside.sum(-1)
            y = padded.amax(-1) if operation.startswith("max") else mean
            return self.norm(y, f"{key}.1") if self.pool_norm else y
        return self.convolved(x, key, stride, dilation=2 if operation.startswith("dil") else 1)

    def convolved(self, x: Tensor, key: str, stride: int, dilation: int = 1) -> Tensor:
        """Layers by their numbers: activation, convolutions, normalisation, perhaps twice."""
        for i in range(8):
            weight = self.state.get(f"{key}.{i}.weight")
            if i % 4 == 0 and (i == 0 or f"{key}.{i + 1}.weight" in self.state):
                x = x.relu()
            elif weight is not None and weight.dim() == 4:
                groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
                side = dilation * (weight.shape[-1] // 2)
                x = F.conv2d(x, weight, None, stride, side, dilation, groups)
                stride = 1
            elif weight is not None:
                x = self.norm(x, f"{key}.{i}")
        return x

    def halved(self, x: Tensor, key: str) -> Tensor:
        x = F.pad(x.relu(), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        even = F.conv2d(x[:, :, ::2, ::2], self.state[f"{key}.1.even.weight"])
        odd = F.conv2d(x[:, :, 1::2, 1::2], self.state[f"{key}.1.odd.weight"])
        return self.norm(torch.cat((even, odd), 1), f"{key}.2")

    def norm(self, x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{key}.{n}"].view(1, -1, 1, 1) for n in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize(
    ("found", "count", "signature", "pool_norm"),
    [
        (v2(), 5, SMALL, False),
        (v2(), 3, ODD, True),
        (sampled("darts", 0), 4, SMALL, True),
        (sampled("darts", 1), 6, ODD, False),
        (sampled("darts", 2), 3, SMALL, True),
        (sampled("s1", 3), 5, ODD, True),
    ],
)
def test_networks_compute_what_the_paper_describes(
    found: Cells, count: int, signature: Signature, pool_norm: bool
) -> None:
    net = stirred(DartsNetwork(found, signature, channels=4, count=count, pool_norm=pool_norm))
    x = images(signature)
    logits, tap = Reference(net.state_dict(), found, count, pool_norm=pool_norm)(x)
    torch.testing.assert_close(net(x), logits)
    torch.testing.assert_close(net.tapped(x)[1], tap)


def test_edges_of_none_add_nothing() -> None:
    found = {kind: dict(cell) for kind, cell in sampled("darts", 4).items()}
    for cell in found.values():
        for i, edge in enumerate(list(cell)):
            if i % 2 and edge[0] < 2:
                cell[edge] = "none"
    net = stirred(DartsNetwork(found, SMALL, channels=4, count=4))
    x = images(SMALL)
    assert any("none" in cell.values() for cell in found.values())
    torch.testing.assert_close(net(x), Reference(net.state_dict(), found, 4, pool_norm=True)(x)[0])


def test_cells_of_nothing_give_zeros() -> None:
    nothing = {kind: dict.fromkeys(cell, "none") for kind, cell in v2().items()}
    for signature in (SMALL, ODD):
        net, x = stirred(DartsNetwork(nothing, signature, channels=2, count=4)), images(signature)
        assert net.tapped(x)[1].abs().max() == 0
        assert net.tapped(x)[1].shape[2:] == (-(-signature.shape[1] // 4), -(-signature.shape[2] // 4))
        torch.testing.assert_close(net(x), net.body.classifier.bias.expand(3, -1))


# -- plans -----------------------------------------------------------------------------------------------------------


def test_plans_leave_out_none_and_what_reads_nothing() -> None:
    mixture = {
        (0, 2): [("none", 0.5), ("skip_connect", 0.5)],
        (1, 2): [("none", None)],
        (0, 3): [("none", None)],
        (3, 4): [("sep_conv_3x3", None)],
        (2, 4): [("sep_conv_3x3", 0.1), ("max_pool_3x3", 0.9)],
        (4, 5): [("skip_connect", None)],
    }
    into_4 = ((2, "sep_conv_3x3_2_4", 0.1), (2, "max_pool_3x3_2_4", 0.9))
    assert plan("normal", mixture) == (((0, "", 0.5),), (), into_4, ((4, "", None),))
    assert plan("reduce", mixture) == (((0, "skip_connect_0_2", 0.5),), (), into_4, ((4, "", None),))
    assert name("reduce", (2, 4), "skip_connect") == ""


def test_operations_that_read_nothing_get_no_gradient() -> None:
    cell = {(0, 2): "none", (1, 2): "none", (0, 3): "sep_conv_3x3", (2, 3): "sep_conv_3x3"}
    cell |= {(0, 4): "skip_connect", (1, 4): "skip_connect", (0, 5): "skip_connect", (2, 5): "dil_conv_3x3"}
    net = DartsNetwork({"normal": cell, "reduce": v2()["reduce"]}, SMALL, channels=2, count=4).double()
    net(images(SMALL)).sum().backward()
    idle = {k.split(".operations.")[1].split(".")[0] for k, p in net.named_parameters() if p.grad is None}
    assert idle == {"sep_conv_3x3_2_3", "dil_conv_3x3_2_5"}


# -- sizes -----------------------------------------------------------------------------------------------------------

V1 = """Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5],
reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0),
('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"""
PC_DARTS = """PC_DARTS_cifar = Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0),
('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)],
normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"""


@pytest.mark.parametrize(("text", "millions"), [(V2, (3.3, 3.4)), (V1, (3.1, 3.3)), (PC_DARTS, (3.6, 3.65))])
def test_published_cells_have_their_published_sizes(text: str, millions: tuple[float, float]) -> None:
    """3.3 M is said of DARTS' second-order cells, 3.6 M of PC-DARTS' cells, without the auxiliary classifier."""
    found = read(text)
    assert found is not None
    with torch.device("meta"):
        net = DartsNetwork(found, Signature("image", (3, 32, 32), 10), channels=36, count=20, pool_norm=False)
    assert millions[0] <= sum(p.numel() for p in net.parameters()) / 1e6 <= millions[1]
    kinds = [k for k, kind in enumerate(net.body.kinds) if kind == "reduce"]
    assert kinds == [6, 13] and len(net.body.cells) == 20


# -- training them ---------------------------------------------------------------------------------------------------


def test_networks_can_be_traced() -> None:
    for found, signature in ((v2(), ODD), (sampled("darts", 5), SMALL)):
        net, x = stirred(DartsNetwork(found, signature, channels=2, count=4)), images(signature)
        torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))


@pytest.mark.parametrize(("side", "features"), [(32, 8), (8, 2), (4, 1), (64, 16), (40, 10)])
def test_the_auxiliary_classifier_reads_what_is_tapped(side: int, features: int) -> None:
    signature = Signature("image", (1, side, side), 7)
    net = DartsNetwork(v2(), signature, channels=2, count=4)
    assert isinstance(net, Tapped)
    logits, tap = net.tapped(torch.randn(2, *signature.shape))
    assert logits.shape == (2, 7) and tap.shape == (2, 32, features, features)
    assert net.auxiliary()(tap).shape == (2, 7)


def test_the_auxiliary_classifier_is_the_papers() -> None:
    aux = Auxiliary(576, 10)
    # 1x1 to 128 channels, 2x2 to 768, both normalised, and a linear layer.
    assert sum(p.numel() for p in aux.parameters()) == 576 * 128 + 256 + 4 * 128 * 768 + 2 * 768 + 768 * 10 + 10
    x = torch.randn(3, 576, 8, 8)
    windows = torch.stack([x.relu()[:, :, i : i + 5, j : j + 5].mean((2, 3)) for i in (0, 3) for j in (0, 3)], -1)
    conv, norm, _, wide, last, _ = aux.eval().body
    y = norm(torch.einsum("nck,oc->nok", windows, conv.weight[:, :, 0, 0]).view(3, 128, 2, 2)).relu()
    y = last(torch.einsum("nchw,ochw->no", y, wide.weight)[:, :, None, None]).relu().flatten(1)
    torch.testing.assert_close(aux(x), aux.classifier(y), atol=1e-5, rtol=1e-4)


def test_identities_are_never_dropped() -> None:
    """With all else dropped nearly always, what is left are the identities."""
    cell = {(0, 2): "skip_connect", (1, 2): "sep_conv_3x3", (0, 3): "dil_conv_3x3", (1, 3): "max_pool_3x3"}
    cell |= {(0, 4): "skip_connect", (1, 4): "skip_connect", (0, 5): "sep_conv_5x5", (2, 5): "skip_connect"}
    net = DartsNetwork({"normal": cell, "reduce": cell}, SMALL, channels=4, count=3).train()
    assert set_drop_path(net, 1 - 1e-9) == 3
    normal, reduce = net.body.cells[0], net.body.cells[1]
    older = newer = net.body.stem(images(SMALL).float())
    first, second = normal.inputs[0](older), normal.inputs[1](newer)
    found = normal(older, newer, net.plans["normal"])
    zero = torch.zeros_like(first)
    torch.testing.assert_close(found, torch.cat((first, zero, first + second, first), 1))
    # Where the image is halved, even a skip connection is an operation; only the one from a node is none.
    halved = reduce(newer, found, net.plans["reduce"])
    assert halved.abs().max() == 0


def test_dropping_paths_changes_training_alone() -> None:
    net, x = DartsNetwork(v2(), SMALL, channels=2, count=3).double(), images(SMALL)
    torch.manual_seed(0)
    whole, kept = net.train()(x), net.eval()(x)
    set_drop_path(net, 0.5)
    assert torch.equal(net.eval()(x), kept) and not torch.allclose(net.train()(x), whole)
