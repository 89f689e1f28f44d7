from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from predictors.cost import count
from search_spaces.choices import Architecture
from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.errors import SpaceError
from search_spaces.gated import one_hot
from search_spaces.nb201 import Nb201Space
from search_spaces.nb201_net import EDGES, OPERATIONS, Cell, PartialCell, Reduction, name, plan
from search_spaces.partial import passing
from search_spaces.space import PartialChannels, Signature
from tests.toy_nets import stirred

SMALL = Nb201Space(Signature("image", (3, 12, 10), 5), channels=4, cells=2)
TABLE = SMALL.table
STAGES = [(16, 32), (32, 16), (64, 8)]
"""Channels and side of each stage of the benchmark's network."""


def arch(text: str) -> Architecture:
    short = {"-": "none", "=": "skip_connect", "p": "avg_pool_3x3", "1": "nor_conv_1x1", "3": "nor_conv_3x3"}
    return TABLE.canonical([short[o] for o in text])


def images(space: Nb201Space, n: int = 3) -> Tensor:
    return torch.randn(n, *space.signature.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# -- an independent network, operation by operation ------------------------------------------------------------------


def norm(x: Tensor, state: dict[str, Tensor], key: str) -> Tensor:
    mean, var, weight, bias = (state[f"{key}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    shape = (1, -1, 1, 1)
    return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)


def unit(x: Tensor, state: dict[str, Tensor], key: str, stride: int = 1) -> Tensor:
    weight = state[f"{key}.conv.weight"]
    return norm(F.conv2d(x.relu(), weight, stride=stride, padding=weight.shape[-1] // 2), state, f"{key}.bn")


def pooled(x: Tensor) -> Tensor:
    """The mean of the up to nine pixels around each that lie in the image."""
    window = torch.ones(x.shape[1], 1, 3, 3, dtype=x.dtype)
    inside = F.conv2d(torch.ones_like(x), window, padding=1, groups=x.shape[1])
    return F.conv2d(x, window, padding=1, groups=x.shape[1]) / inside


def reference(x: Tensor, state: dict[str, Tensor], options: dict[tuple[int, int], str], cells: int) -> Tensor:
    """The network as its paper describes it: every listed operation is computed, also on zeros."""
    x = norm(F.conv2d(x, state["body.stem.conv.weight"], padding=1), state, "body.stem.bn")
    for stage in range(3):
        if stage:
            key = f"body.reductions.{stage - 1}"
            shrunk = F.conv2d(F.avg_pool2d(x, 2), state[f"{key}.shortcut.1.weight"])
            x = unit(unit(x, state, f"{key}.body.0", 2), state, f"{key}.body.1") + shrunk
        for c in range(cells):
            nodes = [x]
            for target in (1, 2, 3):
                total = torch.zeros_like(x)
                for source in range(target):
                    operation, y = options[source, target], nodes[source]
                    if operation == "skip_connect":
                        total = total + y
                    elif operation == "avg_pool_3x3":
                        total = total + pooled(y)
                    elif operation != "none":
                        key = f"body.stages.{stage}.{c}.operations.{operation}_{source}_{target}"
                        total = total + unit(y, state, key)
                nodes.append(total)
            x = nodes[-1]
    x = norm(x, state, "body.last.bn").relu().mean((2, 3))
    return x @ state["body.classifier.weight"].T + state["body.classifier.bias"]


EVEN = Nb201Space(Signature("image", (3, 12, 8), 5), channels=4, cells=2)


@pytest.mark.parametrize("text", ["333333", "1p3=-1", "p=1-3p", "=3p1-3", "-3-=-1", "------"])
def test_networks_compute_what_the_paper_describes(text: str) -> None:
    net, x = stirred(EVEN.build(arch(text))), images(EVEN)
    options = dict(zip(EDGES, arch(text).options, strict=True))
    torch.testing.assert_close(net(x), reference(x, net.state_dict(), options, 2))


@pytest.mark.parametrize("text", ["-3313-", "333---", "-1333-", "3-1p=-"])
def test_operations_on_no_path_change_nothing_at_the_start(text: str) -> None:
    net, x = EVEN.build(arch(text)).double().eval(), images(EVEN)
    options = dict(zip(EDGES, arch(text).options, strict=True))
    torch.testing.assert_close(net(x), reference(x, net.state_dict(), options, 2))


# -- what is computed, and what is not -------------------------------------------------------------------------------


def test_plans_leave_out_what_is_on_no_path() -> None:
    def of(text: str) -> list[list[tuple[int, str]]]:
        terms = plan({e: [(o, None)] for e, o in zip(EDGES, arch(text).options, strict=True)})
        return [[(source, operation) for source, operation, _ in into] for into in terms]

    assert of("3=-p3=") == [
        [(0, "nor_conv_3x3_0_1")],
        [(0, "")],
        [(0, "avg_pool_3x3_0_3"), (1, "nor_conv_3x3_1_3"), (2, "")],
    ]
    assert of("-333-3") == [[], [(0, "nor_conv_3x3_0_2")], [(0, "nor_conv_3x3_0_3"), (2, "nor_conv_3x3_2_3")]]
    assert of("333---") == [[], [], []]


def test_equivalent_networks_compute_the_same_from_the_same_tensors() -> None:
    rng, x = np.random.default_rng(0), images(SMALL)
    differing = [a for a in (TABLE.sample(rng) for _ in range(40)) if SMALL.equivalent(a) != a]
    assert len(differing) > 5
    for one in differing[:6]:
        net, lean = stirred(SMALL.build(one)), SMALL.build(SMALL.equivalent(one)).double().eval()
        held = net.state_dict()
        lean.load_state_dict({key: held[key] for key in lean.state_dict()})
        assert torch.equal(lean(x), net(x))


def test_unreachable_operations_have_parameters_but_get_no_gradient() -> None:
    net = SMALL.build(arch("-33p--"))  # 0-2 and 1-2 lead nowhere
    net.double()(images(SMALL)).sum().backward()
    idle = {key.split(".operations.")[1].split(".")[0] for key, p in net.named_parameters() if p.grad is None}
    assert idle == {"nor_conv_3x3_0_2", "nor_conv_3x3_1_2"}


def test_without_a_path_all_images_look_alike() -> None:
    logits = stirred(SMALL.build(arch("3=----")))(images(SMALL))
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


def test_parameters_as_counted_by_hand() -> None:
    space = Nb201Space()
    of = {kernel: 5 * sum(kernel**2 * c * c + 2 * c for c, _ in STAGES) for kernel in (1, 3)}
    # stem; reductions: two 3x3 units and a 1x1 convolution; last normalisation; classifier
    frame = 3 * 16 * 9 + 32 + 2 * 64 + 64 * 10 + 10
    frame += sum(9 * a * b + 2 * b + 9 * b * b + 2 * b + a * b for a, b in ((16, 32), (32, 64)))
    for text, ones, threes in (("------", 0, 0), ("=p-=p-", 0, 0), ("13-1=3", 2, 2), ("333333", 0, 6)):
        params = sum(p.numel() for p in space.build(arch(text)).parameters())
        assert params == frame + ones * of[1] + threes * of[3]


# -- odd sides -------------------------------------------------------------------------------------------------------


def test_a_reduction_rounds_up_and_averages_what_lies_inside() -> None:
    block = Reduction(1, nn.BatchNorm2d).eval()
    for unit_ in block.body:
        nn.init.zeros_(unit_.conv.weight)
    nn.init.ones_(block.shortcut[1].weight)
    out = block(torch.arange(9.0).view(1, 1, 3, 3))
    assert out.shape == (1, 2, 2, 2)
    assert out[0, 0].tolist() == [[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2], [(6 + 7) / 2, 8.0]]


@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 5, 32), (2, 1, 1)])
def test_any_image_size_will_do(shape: tuple[int, int, int]) -> None:
    space = Nb201Space(Signature("image", shape, 3), channels=4, cells=1)
    assert space.build(TABLE.largest).double()(images(space, 2)).shape == (2, 3)


@pytest.mark.parametrize("text", ["3p=1-3", "------"])
def test_networks_can_be_traced(text: str) -> None:
    net, x = stirred(SMALL.build(arch(text))), images(SMALL)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))


# -- the supernet ----------------------------------------------------------------------------------------------------


def test_weights_of_an_edge_sum_its_operations() -> None:
    cell = stirred(Cell(dict.fromkeys(EDGES, ("avg_pool_3x3", "nor_conv_1x1")), 4, nn.BatchNorm2d))
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights = torch.tensor([0.25, 0.5, 2.0], dtype=torch.float64)
    mixture = {edge: [("none", weights[0])] for edge in EDGES}
    mixture[0, 3] = [("none", weights[0]), ("skip_connect", weights[1]), ("nor_conv_1x1", weights[2])]
    conv = cell.operations[name((0, 3), "nor_conv_1x1")]
    torch.testing.assert_close(cell(x, plan(mixture)), 0.5 * x + 2.0 * conv(x))
    mixture[0, 1], mixture[1, 3] = [("skip_connect", weights[2])], [("avg_pool_3x3", weights[1])]
    torch.testing.assert_close(cell(x, plan(mixture)), 0.5 * x + 2.0 * conv(x) + pooled(x))


def test_a_gate_that_is_missing_or_shut_is_named() -> None:
    supernet, gates = SMALL.supernet().double(), dict(one_hot(TABLE, TABLE.largest))
    with pytest.raises(SpaceError, match=r"leave 'edge\.1-2' open"):
        supernet(images(SMALL), gates={**gates, "edge.1-2": torch.zeros(5)})
    del gates["edge.2-3"]
    with pytest.raises(SpaceError, match=r"leave 'edge\.2-3' open"):
        supernet(images(SMALL), gates=gates)


def test_the_weight_of_an_edge_that_lost_its_other_operations_counts() -> None:
    supernet, gates = SMALL.supernet().double().train(), dict(one_hot(TABLE, arch("333333")))
    whole = supernet(images(SMALL), gates=gates)
    half = supernet(images(SMALL), gates={**gates, "edge.0-3": 0.5 * gates["edge.0-3"]})
    assert not torch.allclose(whole, half)


def test_cells_do_not_learn_to_scale_but_all_else_does() -> None:
    """The search networks of the benchmark's weight-sharing methods have 1,686,106 weights."""
    with torch.device("meta"):
        supernet = Nb201Space().supernet()
    assert sum(p.numel() for p in supernet.parameters()) == 1_686_106
    frozen = [n for n, m in supernet.named_modules() if isinstance(m, ElasticBatchNorm2d) and not list(m.parameters())]
    assert len(frozen) == 3 * 5 * 6 * 2 and all(".operations." in n for n in frozen)


def test_operations_see_a_part_and_the_rest_passes_by() -> None:
    """Edge by edge, each joined and shuffled by itself (PC-DARTS)."""
    torch.manual_seed(0)
    cell, x = PartialCell(8, parts=4).double().train(), torch.randn(2, 8, 5, 4, dtype=torch.float64)
    rng = torch.Generator().manual_seed(1)
    weights = {edge: torch.rand(5, generator=rng, dtype=torch.float64) for edge in EDGES}
    weights[1, 2] = torch.tensor([0.5, 0, 0, 0, 0], dtype=torch.float64)
    nodes = [x]
    for node in (1, 2, 3):
        total = torch.zeros_like(x)
        for source in range(node):
            y, gate = nodes[source], weights[source, node]
            results = [
                0 * y[:, :2],
                y[:, :2],
                *(cell.operations[name((source, node), o)](y[:, :2]) for o in OPERATIONS[2:]),
            ]
            mixed = sum(w * r for w, r in zip(gate, results, strict=True))
            total = total + F.channel_shuffle(torch.cat((mixed, gate.sum() * y[:, 2:]), 1), 4)
        nodes.append(total)
    gates = {f"edge.{i}-{j}": gate.requires_grad_() for (i, j), gate in weights.items()}
    mixture = {
        edge: [(o, w) for o, w in zip(OPERATIONS, gates[f"edge.{edge[0]}-{edge[1]}"], strict=True)] for edge in EDGES
    }
    torch.testing.assert_close(cell(x, plan(passing(mixture))), nodes[3])


def test_partial_supernets_learn_and_are_smaller() -> None:
    partial = SMALL.partial_supernet(2)
    assert isinstance(SMALL, PartialChannels)
    assert sum(p.numel() for p in partial.parameters()) < sum(p.numel() for p in SMALL.supernet().parameters())
    gates = {n: (g + 0.1).requires_grad_() for n, g in one_hot(TABLE, TABLE.largest).items()}
    partial.double().train()(images(SMALL), gates=gates).square().sum().backward()
    assert all(gate.grad is not None and gate.grad[1:].ne(0).all() for gate in gates.values())
    with pytest.raises(SpaceError, match="4 channels cannot be divided into 3 parts; give one of 2, 4"):
        SMALL.partial_supernet(3)


# -- the benchmark's own counts --------------------------------------------------------------------------------------

POOL_FLOPS = 5 * sum(9 * c * side**2 for c, side in STAGES)
UNIT_FLOPS = 5 * sum(3 * c * side**2 for c, side in STAGES)
FRAME_FLOPS = 160_832
"""Beside multiply-adds the benchmark counts nine FLOPs for each value that a 3x3 pool makes and three for each that an
operation's ReLU and normalisation make. What it counts outside the cells is fitted, one number for all. Operations on
no path count in full, so the test looks at cells without them."""


@pytest.mark.data
def test_parameters_and_operations_are_the_benchmarks() -> None:
    space = Nb201Space(path="nasbench201.npz")
    rng = np.random.default_rng(4)
    archs = [space.parse(str(int(i))) for i in rng.choice(15_625, 30, replace=False)]
    for one in archs:
        with torch.device("meta"):
            assert sum(p.numel() for p in space.build(one).parameters()) == space.look_up(one, "params")
    for one in [a for a in archs if space.equivalent(a) == a][:6]:
        units, pools = (sum(o.startswith(kind) for o in one.options) for kind in ("nor_conv", "avg_pool"))
        macs = count(space.build(one), (torch.zeros(1, 3, 32, 32),)).macs
        expected = macs + FRAME_FLOPS + units * UNIT_FLOPS + pools * POOL_FLOPS
        # The column is a float32 of millions: some ten FLOPs at this size.
        assert space.look_up(one, "mflops") * 1e6 == pytest.approx(expected, abs=16), str(one)


@pytest.mark.data
def test_the_head_follows_the_data_set(data_root: Path) -> None:
    with np.load(data_root / "nas" / "nasbench201.npz") as file:
        params = np.rint(file["params_M"][6111].astype(float) * 1e6)
    for classes, expected in zip((10, 100, 120), params, strict=True):
        space = Nb201Space(Signature("image", (3, 16, 16), classes), path="nasbench201.npz")
        assert sum(p.numel() for p in space.build(space.parse("6111")).parameters()) == expected
