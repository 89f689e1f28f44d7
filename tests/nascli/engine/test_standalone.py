"""Networks become source that needs PyTorch alone."""

import math
import re

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from nascli.engine.standalone import standalone
from nascli.errors import UnsupportedError


def ours(x):
    return x * 2


fx.wrap("ours")


class Lambda(nn.Module):
    """A network whose forward pass is a function of itself and the inputs."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


class Two(nn.Module):
    def forward(self, a, b):
        return torch.cat([a, b], dim=1), a + 1


def load(plain, monkeypatch):
    """The module that the source makes, holding the tensors, as `load()` in the source does it from a file."""
    scope = {"__file__": "model.py", "__name__": "exported"}
    exec(compile(plain.source, "model.py", "exec"), scope)
    monkeypatch.setitem(scope, "_tensors", lambda path: {k: v.clone() for k, v in plain.tensors.items()})
    return scope["load"]()


IMAGE = (2, 4, 8, 8)
LAYERS = [
    nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, bias=False),
    nn.Conv2d(4, 6, (3, 1), padding=(1, 0), padding_mode="reflect"),
    nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1),
    nn.BatchNorm2d(4, eps=1e-3, momentum=None),
    nn.BatchNorm2d(4, affine=False),
    nn.GroupNorm(2, 4),
    nn.LayerNorm((8, 8), bias=False),
    nn.InstanceNorm2d(4),
    nn.PReLU(4),
    nn.LeakyReLU(0.3),
    nn.ReLU6(),
    nn.Hardtanh(-2, 3),
    nn.GELU(approximate="tanh"),
    nn.Softmax(dim=1),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    nn.MaxPool2d(3, stride=1, padding=1, dilation=1),
    nn.AdaptiveAvgPool2d((None, 3)),
    nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
    nn.ZeroPad2d((1, 0, 2, 0)),
    nn.PixelShuffle(2),
    nn.Flatten(2),
    nn.Linear(8, 3, bias=False),
    nn.Identity(),
    nn.ConstantPad2d(1, -math.inf),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: type(m).__name__)
def test_layers_are_constructed_as_they_were(layer, monkeypatch):
    model = nn.Sequential(layer).eval()
    x = torch.randn(IMAGE)
    plain = standalone(model, (x,), title="one layer")
    again = load(plain, monkeypatch)
    assert type(again.get_submodule("0")) is type(layer)
    assert torch.equal(again(x), model(x))
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.interpolate(x, scale_factor=2.0, mode="nearest").mean((2, 3)),
        lambda m, x: x.view(x.shape[0], -1)[:, ::2] * math.pi,
        lambda m, x: torch.where(x > 0, x, torch.zeros_like(x)) + m.table.weight,
        lambda m, x: F.linear(x, m.head.weight) + m.head(x),
        lambda m, x: x.clamp(min=-math.inf, max=0.5).to(torch.float64),
        lambda m, x: torch.add(x, torch.arange(8, device=torch.device("cpu"))),
    ],
    ids=["interpolate", "shape", "parameter", "tied", "infinity", "constant"],
)
def test_operations(function, monkeypatch):
    layers = {"head": nn.Linear(8, 8), "table": nn.Embedding(8, 8)}
    model = Lambda(function, **layers).eval()
    plain = standalone(model, (torch.randn(IMAGE),), title="operations")
    again = load(plain, monkeypatch)
    for count in (2, 3):
        x = torch.randn(count, *IMAGE[1:])
        assert torch.equal(again(x), model(x))


def test_buffers_and_parameters_of_every_kind(monkeypatch):
    inner = nn.Module()
    inner.scale = nn.Parameter(torch.randn(4, 1, 1))
    inner.register_buffer("shift", torch.randn(1), persistent=False)
    inner.register_buffer("order", torch.tensor([3, 1, 0, 2]))
    model = Lambda(lambda m, x: (x * m.inner.scale + m.inner.shift)[:, m.inner.order], inner=inner)
    plain = standalone(model, (torch.randn(IMAGE),), title="tensors")
    assert plain.tensors.keys() == {"inner.scale", "inner.shift", "inner.order"}
    again = load(plain, monkeypatch)
    x = torch.randn(IMAGE)
    assert torch.equal(again(x), model(x))
    assert dict(again.named_parameters()).keys() == {"inner.scale"}


def test_half_precision_stays(monkeypatch):
    model = nn.Sequential(nn.Linear(8, 4)).to(torch.bfloat16)
    plain = standalone(model, (torch.randn(2, 8, dtype=torch.bfloat16),), title="half")
    assert load(plain, monkeypatch).state_dict()["0.weight"].dtype is torch.bfloat16


def test_several_inputs_and_outputs(monkeypatch):
    a, b = torch.randn(2, 3), torch.randn(2, 5)
    again = load(standalone(Two(), (a, b), title="two"), monkeypatch)
    assert [t.shape for t in again(a, b)] == [(2, 8), (2, 3)]


def test_the_table_of_operations():
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten()).eval()
    rows = standalone(model, (torch.randn(IMAGE),), title="rows").layers
    assert [r["name"] for r in rows] == ["input_1", "0", "1", "2"]
    assert rows[1]["does"].startswith("Conv2d(4, 6, (3, 3)")
    assert rows[1]["inputs"] == ["input_1"]
    assert rows[3]["shape"] == [2, 6 * 6 * 6]


def test_the_source_imports_torch_alone():
    source = standalone(nn.Sequential(nn.Linear(8, 2)), (torch.randn(2, 8),), title='a "title" with """ in it').source
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported == {"json", "math", "pathlib", "torch"}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Lambda(lambda m, x: x if x.sum() > 0 else -x), "can't be traced"),
        (Lambda(lambda m, x: ours(x)), "calls ours of"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 2))), "which torch.nn does not have"),
        (
            nn.Sequential(nn.TransformerEncoderLayer(8, 2, batch_first=True)),
            "can't be traced|can't be written down|reads",
        ),
    ],
    ids=["control flow", "foreign function", "parametrised", "composite"],
)
def test_refusals_name_the_other_way(model, why):
    with pytest.raises(UnsupportedError, match=rf"({why}).*--to onnx instead\."):
        standalone(model.eval(), (torch.randn(2, 8, 8),), title="no")


class Annotated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doubled: torch.Tensor = x * 2
        return doubled + 1


def test_annotations_in_the_forward_pass_are_left_out(monkeypatch):
    x = torch.randn(2, 3)
    plain = standalone(Annotated().eval(), (x,), title="annotated")
    torch.testing.assert_close(load(plain, monkeypatch)(x), x * 2 + 1)


def test_cells_become_source(monkeypatch):
    from search_spaces.nb201 import Nb201Space
    from search_spaces.space import Signature

    space = Nb201Space(Signature("image", (3, 8, 8), 4), channels=2, cells=1)
    model, x = space.build(space.table.largest).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(load(standalone(model, (x,), title="nb201"), monkeypatch)(x), model(x))
