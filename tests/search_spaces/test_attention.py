from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.attention import HeadAttention, keep_heads
from search_spaces.errors import SpaceError
from search_spaces.head_layout import layout


def silence(model: nn.Module, name: str, heads: Sequence[int]) -> nn.Module:
    """The model, whose attention has these heads' numbers at zero."""
    module = model.get_submodule(name)
    with torch.no_grad():
        for share in layout(module).shares:
            gone = torch.isin(share.heads, torch.tensor(heads))
            tensor = module.get_parameter(share.tensor)
            tensor.index_fill_(share.dim, gone.nonzero().flatten(), 0)
    return model


def encoder(**settings) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, **{"batch_first": True} | settings)
    made = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not settings)  # torch warns where it can't be used
    for p in made.parameters():
        nn.init.normal_(p, std=0.3)
    return made


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"batch_first": False}, {"bias": False}], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # which the whole encoder uses, not the cut one
def test_torchs_encoders_run_with_fewer_heads(settings: dict, training: bool, gradients: bool, padded: bool) -> None:
    model = encoder(**settings).train(training)
    fewer = copy.deepcopy(model)
    keep_heads(fewer, "layers.0.self_attn", (1, 2))
    keep_heads(fewer, "layers.1.self_attn", (3,))
    for name, gone in (("layers.0.self_attn", (0, 3)), ("layers.1.self_attn", (0, 1, 2))):
        silence(model, name, gone)
    x = torch.randn(3, 5, 16)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]]) if padded else None
    x = x if settings.get("batch_first", True) else x.transpose(0, 1)
    with torch.set_grad_enabled(gradients):
        result, wanted = (m(x, src_key_padding_mask=padding) for m in (fewer, model))
    if padding is not None:  # what stands at padded places depends on torch's fast path
        seen = ~padding if settings.get("batch_first", True) else ~padding.T
        result, wanted = result[seen], wanted[seen]
    torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)


def test_causal_masks_and_decoders() -> None:
    torch.manual_seed(0)
    model = nn.Transformer(16, 4, 1, 1, 32, dropout=0.0, batch_first=True).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    fewer = copy.deepcopy(model)
    names = ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.multihead_attn")
    for name in names:
        keep_heads(fewer, name, (0, 2, 3))
        silence(model, name, (1,))
    source, target = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    for named in ({}, {"tgt_mask": mask, "tgt_is_causal": True}):
        torch.testing.assert_close(fewer(source, target, **named), model(source, target, **named), rtol=1e-4, atol=1e-5)


def test_two_steps_are_one() -> None:
    once, twice = encoder(), encoder()
    keep_heads(once, "layers.0.self_attn", (3,))
    keep_heads(twice, "layers.0.self_attn", (1, 3))
    keep_heads(twice, "layers.0.self_attn", (1,))
    assert once.state_dict().keys() == twice.state_dict().keys() == encoder().state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True))


def test_all_heads_change_nothing() -> None:
    model = encoder()
    keep_heads(model, "layers.0.self_attn", range(4))
    assert type(model.layers[0].self_attn) is nn.MultiheadAttention


def test_a_module_with_two_names_is_replaced_under_both() -> None:
    shared = nn.MultiheadAttention(8, 2)
    model = nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared])})
    keep_heads(model, "a", (1,))
    assert isinstance(model["a"], HeadAttention) and model["b"][0] is model["a"]


class Own(nn.Module):
    """Attention as users write it, with queries, keys and values in one layer or three."""

    def __init__(self, heads: int, head_dim: int, width: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.inner_dim = heads, heads * head_dim
        names = ("qkv",) if fused else ("to_q", "to_k", "to_v")
        for name in names:
            self.add_module(name, nn.Linear(width, 3 * self.inner_dim // len(names)))
        self.out = nn.Sequential(nn.Linear(self.inner_dim, width), nn.Dropout(0.1))
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        made = self.qkv(x) if self.fused else torch.cat([self.to_q(x), self.to_k(x), self.to_v(x)], -1)
        q, k, v = made.unflatten(-1, (3, self.heads, -1)).movedim((-3, -2), (0, -3))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-3, -2).reshape(*x.shape[:-1], self.inner_dim)
        return self.out(mixed)


@pytest.mark.parametrize("fused", [True, False])
def test_a_users_own_attention_is_cut(fused: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Own(4, 6, 10, fused)).eval()
    fewer, x = copy.deepcopy(model), torch.randn(3, 7, 10)
    keep_heads(fewer, "0", (0, 1, 3))
    torch.testing.assert_close(fewer(x), silence(model, "0", (2,))(x))
    keep_heads(fewer, "0", (1, 2))
    torch.testing.assert_close(fewer(x), silence(model, "0", (0,))(x))
    assert (fewer[0].heads, fewer[0].inner_dim, fewer[0].out[0].in_features) == (2, 12, 12)
    first = fewer[0].qkv if fused else fewer[0].to_k
    assert first.out_features == len(first.weight) == len(first.bias) == (36 if fused else 12)


@pytest.mark.parametrize(
    ("name", "heads", "reason"),
    [("0", (), "at least one"), ("0", (4,), "4 that are there"), ("1", (0,), "no module '1'")],
)
def test_what_cannot_be_kept_is_refused(name: str, heads: tuple[int, ...], reason: str) -> None:
    with pytest.raises(SpaceError, match=reason):
        keep_heads(nn.Sequential(nn.MultiheadAttention(8, 4)), name, heads)


def test_attention_alone_cannot_be_replaced_in_itself() -> None:
    with pytest.raises(SpaceError, match="wrap it"):
        keep_heads(nn.MultiheadAttention(8, 4), "", (0,))


@pytest.mark.parametrize("norm_first", [True, False])
def test_shortened_encoders_can_be_exported(norm_first: bool) -> None:
    model = encoder(norm_first=norm_first).eval()
    keep_heads(model, "layers.0.self_attn", (1, 2))
    x = torch.randn(3, 5, 16)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_shortened_encoders_become_onnx() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = encoder().eval(), torch.randn(3, 5, 16)
    keep_heads(model, "layers.0.self_attn", (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter deprecates what it uses itself
        shapes = ({0: torch.export.Dim("batch", min=2)},)
        made = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    session, x = runtime.InferenceSession(made.model_proto.SerializeToString()), torch.randn(2, 5, 16)
    result = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(result), model(x).detach(), rtol=1e-4, atol=1e-5)
