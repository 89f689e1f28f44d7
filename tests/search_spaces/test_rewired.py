from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import fx, nn
from torch.nn import functional as F

from nascli.engine.standalone import standalone
from search_spaces.rewired import Rewired
from tests.toy_prunable import Lambda


def padding() -> nn.Module:
    return Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1)))


def test_by_hand() -> None:
    net = Rewired(Lambda(lambda x: x.cumsum(1)), (1, 3), (0, 1, 2, 3), 4)
    x = torch.tensor([[5.0, 7.0]])
    assert net(x).tolist() == [[0.0, 5.0, 5.0, 12.0]]
    assert Rewired(Lambda(lambda x: x.flip(1)), (0, 2), (0, 2), 3)(x).tolist() == [[7.0, 5.0]]


@pytest.mark.parametrize("inner", [padding(), nn.Conv2d(5, 8, 3), nn.Softmax2d(), nn.PixelShuffle(1)])
def test_it_computes_what_the_whole_does_of_zeros(inner: nn.Module) -> None:
    x = torch.randn(2, 5, 6, 6)
    inputs, outputs = (0, 3, 4), (1, 2, 4)
    x[:, [1, 2]] = 0
    net = Rewired(inner, inputs, outputs, 5)
    assert torch.equal(net(x[:, list(inputs)]), inner(x)[:, list(outputs)])


def test_its_tables_are_no_weights_but_go_where_it_goes() -> None:
    net = Rewired(padding(), (0, 2), (0, 3), 3)
    assert not net.state_dict() and not list(net.parameters())
    assert copy.deepcopy(net)(torch.ones(1, 2, 2, 2)).shape == (1, 2, 1, 1)
    assert all(b.device.type == "meta" for b in copy.deepcopy(net).to("meta").buffers())
    with torch.device("meta"):
        made = Rewired(padding(), (0, 2), (0, 3), 3)
    assert all(b.device.type == "cpu" for b in made.buffers())


def test_tracing_and_export_know_it(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), Rewired(padding(), (0, 2), (0, 2, 4), 3), nn.Conv2d(3, 2, 1)).eval()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
    written = standalone(net, (x,), title="A small network.")
    save_file({k: t.contiguous() for k, t in written.tensors.items()}, tmp_path / "model.safetensors")
    space = {"__file__": str(tmp_path / "network.py"), "__name__": "network"}
    exec(compile(written.source, "network.py", "exec"), space)
    torch.testing.assert_close(space["load"]()(x), net(x))


def test_repr_says_how_many() -> None:
    assert "2 of 3 -> 1" in repr(Rewired(nn.ReLU(), (0, 2), (1,), 3))
