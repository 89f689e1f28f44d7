"""torch's multi-head attention with some of its heads only, which nn.MultiheadAttention itself has no way to be: there,
the heads' widths always make up the embedding's (Michel et al. 2019, arXiv:1905.10650, remove heads).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from search_spaces.errors import SpaceError


class HeadAttention(nn.Module):
    """Some heads of `whole`, with weights of their own; called and answering as nn.MultiheadAttention.

    `heads` count among those that `whole` has. Tensors have the names that they have there: in_proj_weight
    [3 * heads * head_dim, embed_dim], or {q,k,v}_proj_weight where keys or values are of other widths; in_proj_bias;
    out_proj.weight [embed_dim, heads * head_dim], out_proj.bias. Raises SpaceError for attention with added keys
    (add_bias_kv, add_zero_attn) and for heads that are not there.
    """

    in_proj_weight: Tensor | None
    in_proj_bias: Tensor | None
    q_proj_weight: Tensor
    k_proj_weight: Tensor
    v_proj_weight: Tensor
    out_proj: nn.Linear
    num_heads: int
    head_dim: int
    embed_dim: int
    kdim: int
    vdim: int
    dropout: float
    batch_first: bool
    kept: tuple[int, ...]
    """The heads' numbers in the attention that all this began with."""
    of: int
    """How many heads that had."""

    def __init__(self, whole: nn.MultiheadAttention | HeadAttention, heads: Sequence[int]) -> None:
        super().__init__()
        refuse_added_keys(whole)
        heads = sorted_heads(heads, whole.num_heads)
        before = whole.kept if isinstance(whole, HeadAttention) else tuple(range(whole.num_heads))
        self.kept = tuple(before[h] for h in heads)
        self.of = whole.of if isinstance(whole, HeadAttention) else whole.num_heads
        self.embed_dim, self.kdim, self.vdim = len(whole.out_proj.weight), whole.kdim, whole.vdim
        self.num_heads, self.head_dim = len(heads), whole.head_dim
        self.dropout, self.batch_first = whole.dropout, whole.batch_first
        # These are what torch's encoder layers read: "no" keeps them from fused code that takes the weights' shape for
        # granted.
        self._qkv_same_embed_dim = False
        self.bias_k = self.bias_v = None
        self.add_zero_attn = False
        self._take(whole, heads)
        self.train(whole.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs as `query`, and the attention weights [n, queries, keys] or, not averaged, [n, heads, queries, keys].

        Inputs are [n, tokens, width] if batch_first, else [tokens, n, width], or [tokens, width]. Masks are boolean
        (True is not looked at) or are added; attn_mask is [queries, keys], or [n * heads, queries, keys] with the heads
        that there are or with all those that there once were. Averages are over the heads that there are. Raises
        SpaceError if is_causal comes without attn_mask, where torch raises RuntimeError.
        """
        if is_causal and attn_mask is None:
            raise SpaceError("is_causal=True says of what kind attn_mask is; give that too.")
        causal = is_causal and key_padding_mask is None and not need_weights
        seen = None if causal else attn_mask
        mask = None
        if seen is not None or key_padding_mask is not None:
            mask = added_mask(seen, key_padding_mask, query, 0 if self.batch_first else 1, self.kept, self.of)
        q, k, v = self._projected(query, key, value)
        q, k, v = self._split(q), self._split(k), self._split(v)
        if need_weights:
            scores = q * math.sqrt(1 / self.head_dim) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), self.dropout, self.training)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, causal)
        outputs = self.out_proj(mixed.transpose(-3, -2).flatten(-2))
        if not self.batch_first:
            outputs = outputs.transpose(0, -2)
        if not need_weights:
            return outputs, None
        return outputs, weights.mean(-3) if average_attn_weights else weights

    def _take(self, whole: nn.MultiheadAttention | HeadAttention, heads: Sequence[int]) -> None:
        width = whole.num_heads * whole.head_dim
        device = whole.out_proj.weight.device
        first = torch.tensor(heads, device=device)[:, None] * whole.head_dim
        rows = (first + torch.arange(whole.head_dim, device=device)).flatten()
        packed = torch.cat([rows, rows + width, rows + 2 * width])
        for name in ("in_proj_weight", "in_proj_bias"):
            self.register_parameter(name, _cut(getattr(whole, name), 0, packed))
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, _cut(getattr(whole, name), 0, rows))
        bias = whole.out_proj.bias
        self.out_proj = nn.Linear(
            len(rows), self.embed_dim, bias=bias is not None, device="meta"
        )  # which draws no numbers
        self.out_proj.register_parameter("weight", _cut(whole.out_proj.weight, 1, rows))
        self.out_proj.register_parameter("bias", _cut(bias, 0, torch.arange(self.embed_dim, device=device)))

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads, of the inputs' shapes but heads * head_dim wide."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        # Results of chunk are unpacked by name: torch.fx can follow that, and no loop over them.
        if weight is not None and query is key and key is value:
            q, k, v = F.linear(query, weight, bias).chunk(3, -1)
            return q, k, v
        if weight is not None:
            to_q, to_k, to_v = weight.chunk(3)
        else:
            to_q, to_k, to_v = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        q_bias = k_bias = v_bias = None
        if bias is not None:
            q_bias, k_bias, v_bias = bias.chunk(3)
        return F.linear(query, to_q, q_bias), F.linear(key, to_k, k_bias), F.linear(value, to_v, v_bias)

    def _split(self, x: Tensor) -> Tensor:
        """[n, heads, tokens, head_dim], or without n."""
        if not self.batch_first:
            x = x.transpose(0, -2)
        return torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(-3, -2)


@fx.wrap
def added_mask(
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    query: Tensor,
    batch_dim: int,
    kept: tuple[int, ...],
    of: int,
) -> Tensor:
    """The sum of both masks, to be added to scores [(n,) heads, queries, keys]; torch.fx does not look inside."""
    masks = []
    if attn_mask is not None:
        mask = _additive(attn_mask, query.dtype)
        if mask.dim() == 3:
            examples = query.shape[batch_dim] if query.dim() == 3 else 1
            mask = torch.unflatten(mask, 0, (examples, -1))
            if mask.shape[1] == of:
                mask = mask[:, list(kept)]
            mask = mask if query.dim() == 3 else mask[0]
        masks.append(mask)
    if key_padding_mask is not None:
        mask = _additive(key_padding_mask, query.dtype)
        masks.append(mask[..., None, None, :])
    return masks[0] if len(masks) == 1 else masks[0] + masks[1]


def refuse_added_keys(attention: nn.MultiheadAttention | HeadAttention) -> None:
    """Raises SpaceError for attention with keys that no input gives."""
    if attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn:
        raise SpaceError("Heads of attention with add_bias_kv or add_zero_attn can't be removed; make it without them.")


def sorted_heads(heads: Sequence[int], of: int) -> tuple[int, ...]:
    """The heads in ascending order; raises SpaceError unless they are some of `of` heads, each named once."""
    if not heads or sorted(set(heads)) != sorted(heads) or not 0 <= min(heads) <= max(heads) < of:
        raise SpaceError(f"heads={list(heads)!r} must be at least one of the {of} that are there, each named once.")
    return tuple(sorted(heads))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask


def _cut(tensor: Tensor | None, dim: int, index: Tensor) -> nn.Parameter | None:
    if tensor is None:
        return None
    return nn.Parameter(tensor.detach().index_select(dim, index), requires_grad=tensor.requires_grad)
