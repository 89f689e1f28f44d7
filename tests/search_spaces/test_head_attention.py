from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, fx, nn

from search_spaces.errors import SpaceError
from search_spaces.head_attention import HeadAttention

WIDTH, HEADS, EXAMPLES, QUERIES, KEYS = 12, 4, 3, 5, 6
KEPT = (0, 2)


def attention(**settings) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(WIDTH, HEADS, **settings).eval()
    for p in made.parameters():
        nn.init.normal_(p, std=0.4)  # biases too, which torch starts at 0
    return made


def silenced(whole: nn.MultiheadAttention, kept: tuple[int, ...]) -> nn.MultiheadAttention:
    """The same with the other heads' values and columns of the output projection at zero, by loops."""
    size = WIDTH // HEADS
    with torch.no_grad():
        for head in set(range(HEADS)) - set(kept):
            for i in range(head * size, (head + 1) * size):
                whole.out_proj.weight[:, i] = 0
                if whole.in_proj_weight is not None:
                    whole.in_proj_weight[2 * WIDTH + i] = 0
                else:
                    whole.v_proj_weight[i] = 0
                if whole.in_proj_bias is not None:
                    whole.in_proj_bias[2 * WIDTH + i] = 0
    return whole


def inputs(whole: nn.MultiheadAttention, batched: bool, same: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def drawn(tokens: int, width: int) -> Tensor:
        shape = (EXAMPLES, tokens, width) if whole.batch_first else (tokens, EXAMPLES, width)
        return torch.randn(shape if batched else (tokens, width), generator=generator)

    if same:
        x = drawn(QUERIES, WIDTH)
        return x, x, x
    return drawn(QUERIES, WIDTH), drawn(KEYS, whole.kdim), drawn(KEYS, whole.vdim)


def masks(kind: str, batched: bool, keys: int, kept: tuple[int, ...] | None) -> dict[str, Tensor]:
    """Masks by name; with `kept`, those of these heads alone where a mask is of one head."""
    generator = torch.Generator().manual_seed(2)
    n = EXAMPLES if batched else 1
    per_head = torch.rand(n, HEADS, QUERIES, keys, generator=generator) < 0.4
    per_head[..., 0] = False  # something is looked at
    padding = torch.rand(n, keys, generator=generator) < 0.4
    padding[:, 0] = False
    shared = per_head[0, 0]
    if kind.startswith("float"):
        weights = torch.randn(per_head.shape, generator=generator)
        per_head, shared = weights, weights[0, 0]
        padding = torch.randn(padding.shape, generator=generator)
    per_head = per_head if kept is None else per_head[:, list(kept)]
    made = {"attn_mask": shared}
    if "heads" in kind:
        made["attn_mask"] = per_head.flatten(0, 1)
    if "padding" in kind:
        made["key_padding_mask"] = padding if batched else padding[0]
    return {} if kind == "none" else made


KINDS = ("none", "bool", "float", "bool heads", "float heads", "bool padding", "float padding", "bool heads padding")
SHAPES = ({}, {"bias": False}, {"kdim": 7, "bias": False}, {"kdim": 7, "vdim": 9})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_it_computes_what_all_heads_do_with_the_others_silent(kind: str, settings: dict) -> None:
    for batch_first, batched, need, average, same in itertools.product([True, False], repeat=5):
        if same and "kdim" in settings:
            continue
        whole = attention(batch_first=batch_first, **settings)
        fewer, reference = HeadAttention(whole, KEPT), silenced(whole, KEPT)
        given, keys = inputs(whole, batched, same), QUERIES if same else KEYS
        named = {"need_weights": need, "average_attn_weights": average}
        wanted, _ = reference(*given, **named, **masks(kind, batched, keys, None))
        _, weights = reference(*given, average_attn_weights=False, **masks(kind, batched, keys, None))
        for kept in (
            (None, KEPT) if "heads" in kind else (None,)
        ):  # masks of all heads there were, and of those that are left
            result, looked = fewer(*given, **named, **masks(kind, batched, keys, kept))
            torch.testing.assert_close(result, wanted)
            assert (looked is None) == (not need)
            if looked is not None:
                left = weights.unflatten(-3, (-1, HEADS))[..., list(KEPT), :, :].flatten(-4, -3)
                torch.testing.assert_close(looked, left.mean(-3) if average else left)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_causal_masks_are_a_hint(need_weights: bool, padded: bool) -> None:
    whole = attention(batch_first=True)
    fewer, reference = HeadAttention(whole, KEPT), silenced(whole, KEPT)
    x = torch.randn(EXAMPLES, QUERIES, WIDTH)
    named: dict = {"need_weights": need_weights, "is_causal": True}
    named["attn_mask"] = nn.Transformer.generate_square_subsequent_mask(QUERIES)
    if padded:
        named["key_padding_mask"] = torch.zeros(EXAMPLES, QUERIES).index_fill(1, torch.tensor([4]), -torch.inf)
    torch.testing.assert_close(fewer(x, x, x, **named)[0], reference(x, x, x, **named)[0])
    with pytest.raises(SpaceError, match="attn_mask"):
        fewer(x, x, x, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_drops_in_training_alone(need_weights: bool) -> None:
    whole = attention(dropout=0.5, batch_first=True)
    same = HeadAttention(whole, range(HEADS))
    x = torch.randn(EXAMPLES, QUERIES, WIDTH)
    for training in (False, True):
        results = []
        for module in (whole, same):
            torch.manual_seed(3)
            results.append(module.train(training)(x, x, x, need_weights=need_weights))
        torch.testing.assert_close(results[0], results[1])
        assert torch.equal(results[1][0], same(x, x, x)[0]) is False or not training


def test_gradients_are_those_of_the_kept_heads() -> None:
    whole = attention()
    fewer, reference = HeadAttention(whole, (3,)), silenced(whole, (3,))
    x = torch.randn(QUERIES, EXAMPLES, WIDTH)
    for module in (fewer, reference):
        module(x, x, x)[0].square().sum().backward()
    torch.testing.assert_close(fewer.out_proj.weight.grad, reference.out_proj.weight.grad[:, 9:])
    rows = torch.cat([reference.in_proj_weight.grad[i * WIDTH + 9 : (i + 1) * WIDTH] for i in range(3)])
    torch.testing.assert_close(fewer.in_proj_weight.grad, rows)


def test_fewer_of_fewer_are_the_ones_they_were() -> None:
    whole = attention()
    twice, once = HeadAttention(HeadAttention(whole, (0, 2, 3)), (0, 2)), HeadAttention(whole, (0, 3))
    assert (twice.kept, twice.of, twice.num_heads) == (once.kept, once.of, once.num_heads) == ((0, 3), 4, 2)
    assert twice.state_dict().keys() == once.state_dict().keys()
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name


def test_tensors_are_named_as_torch_names_them() -> None:
    for settings in SHAPES:
        whole = attention(**settings)
        before, after = whole.state_dict(), HeadAttention(whole, KEPT).state_dict()
        assert before.keys() == after.keys()
        assert after["out_proj.weight"].shape == (WIDTH, 6)
        assert settings.get("bias", True) == ("in_proj_bias" in after) and after.get(
            "in_proj_bias", torch.zeros(18)
        ).shape == (18,)


def test_weights_are_copies_that_draw_no_numbers() -> None:
    whole = attention()
    whole.in_proj_weight.requires_grad_(False)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fewer = HeadAttention(whole.double().train(), range(HEADS))
    assert torch.equal(state, torch.get_rng_state())
    assert fewer.training and not fewer.in_proj_weight.requires_grad and fewer.out_proj.weight.dtype == torch.float64
    fewer.in_proj_weight.data.zero_()
    assert whole.in_proj_weight.any()


@pytest.mark.parametrize("heads", [(), (4,), (-1,), (1, 1)])
def test_heads_that_are_not_there_are_refused(heads: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="4 that are there"):
        HeadAttention(attention(), heads)


@pytest.mark.parametrize("setting", ["add_bias_kv", "add_zero_attn"])
def test_added_keys_are_refused(setting: str) -> None:
    with pytest.raises(SpaceError, match=setting):
        HeadAttention(attention(**{setting: True}), KEPT)


class Reader(nn.Module):
    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.attention = HeadAttention(attention(batch_first=True), KEPT)
        self.masked = masked

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        mask = padding if self.masked else None
        return self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]


@pytest.mark.parametrize("masked", [True, False])
def test_it_can_be_traced_and_exported(masked: bool) -> None:
    model = Reader(masked).eval()
    x, padding = torch.randn(EXAMPLES, QUERIES, WIDTH), torch.zeros(EXAMPLES, QUERIES).bool()
    padding[:, -1] = True
    traced = fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x, padding), model(x, padding))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (x, padding), dynamic_shapes=({0: batch}, {0: batch}))
    other = torch.randn(7, QUERIES, WIDTH), torch.zeros(7, QUERIES).bool()
    torch.testing.assert_close(exported.module()(*other), model(*other))
