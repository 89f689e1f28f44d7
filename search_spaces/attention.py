"""Attention with fewer heads: torch's own becomes `HeadAttention`, a user's has the layers around its heads cut.

Removing heads one by one is due to Michel et al. 2019 (arXiv:1905.10650) and Voita et al. 2019 (arXiv:1905.09418).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from search_spaces.branches import put_instead, submodule
from search_spaces.errors import SpaceError
from search_spaces.head_attention import HeadAttention, sorted_heads
from search_spaces.head_layout import Layout, layout

__all__ = ["HeadAttention", "keep_heads"]


def keep_heads(model: nn.Module, module_name: str, heads: Sequence[int]) -> None:
    """Leave only these heads of an attention module, in place; they count among those that it has now.

    nn.MultiheadAttention is replaced, in all places where the model has it, and torch's encoders around it no longer
    turn padded batches into nested tensors, which only their fused code can read. Of other modules that
    `head_layout.layout` understands the linear layers are cut, and the attributes that tell the number of heads follow;
    whether its forward pass lives with that is for the caller to see. Raises SpaceError where the module or its heads
    can't be found.
    """
    module = submodule(model, module_name)
    where = layout(module)
    kept = sorted_heads(heads, where.heads)
    if len(kept) == where.heads:
        return
    if not isinstance(module, nn.MultiheadAttention | HeadAttention):
        _cut(module, where, kept)
        return
    if module is model:
        raise SpaceError(
            "The network is an attention module itself and can't be replaced in itself; wrap it in another."
        )
    fewer = HeadAttention(module, kept)
    put_instead(model, module, fewer)
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(m is fewer for m in encoder.modules()):
            encoder.use_nested_tensor = False


def _cut(module: nn.Module, where: Layout, kept: Sequence[int]) -> None:
    for share in where.shares:
        layer_name, _, kind = share.tensor.rpartition(".")
        layer = module.get_submodule(layer_name)
        old = layer.get_parameter(kind)
        index = torch.isin(share.heads, torch.tensor(kept)).nonzero().flatten().to(old.device)
        new = nn.Parameter(old.detach().index_select(share.dim, index), requires_grad=old.requires_grad)
        layer.register_parameter(kind, new)
        if kind == "weight" and isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = new.shape
    for name in where.counts:
        setattr(module, name, len(kept))
    for name in where.widths:
        setattr(module, name, getattr(module, name) // where.heads * len(kept))
