"""Where the heads of an attention module lie in its tensors: of torch's modules, and of users' own if made as usual."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.errors import SpaceError
from search_spaces.head_attention import HeadAttention, refuse_added_keys

_COUNTS = ("num_heads", "heads", "n_heads", "num_attention_heads", "n_head")
"""What users call the number of heads."""
_KEY_COUNTS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads")
_WIDTHS = ("all_head_size", "inner_dim", "attn_dim", "inner", "inner_width", "attention_dim")
"""What users call heads * head_dim; the width of the embedding, even if equal, is another thing."""
_INPUT = re.compile(r"(^|[._])(to_|lin_|w_?)?(q|k|v|qk|kv|qkv|query|key|value|queries|keys|values)s?($|[._])")


@dataclass(frozen=True, eq=False)
class Share:
    """The heads of one tensor."""

    tensor: str
    """Its name within the module."""
    dim: int
    heads: Tensor
    """The head of each index along it [size]."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The heads of one module."""

    heads: int
    shares: tuple[Share, ...]
    counts: tuple[str, ...] = ()
    """Attributes that tell the number of heads."""
    widths: tuple[str, ...] = ()
    """Attributes that tell heads * head_dim."""


def attention_modules(model: nn.Module) -> Mapping[str, nn.Module]:
    """By name, the modules that look like attention: torch's, and those that know a number of heads.

    Where one lies within another, as in a layer that knows the number too, it is the inner one.
    """
    found = {name: m for name, m in model.named_modules() if torch_like(m) or _counts(m)}
    return {
        name: module
        for name, module in found.items()
        if torch_like(module) or not any(inner is not module and inner in found.values() for inner in module.modules())
    }


def torch_like(module: nn.Module) -> bool:
    """Whether it is torch's attention, or what is left of it; subclasses that compute something else are not."""
    return type(module).forward in (nn.MultiheadAttention.forward, HeadAttention.forward)


def layout(module: nn.Module) -> Layout:
    """Where the module's heads lie. Raises SpaceError, saying why, if that can't be told."""
    if isinstance(module, nn.MultiheadAttention | HeadAttention) and torch_like(module):
        refuse_added_keys(module)
        return _torch_layout(module)
    counts = _counts(module)
    if not counts:
        raise SpaceError(f"{type(module).__name__} has no number of heads: an attribute {', '.join(_COUNTS)}.")
    return _own_layout(module, counts)


def _torch_layout(module: nn.MultiheadAttention | HeadAttention) -> Layout:
    rows = torch.arange(module.num_heads).repeat_interleave(module.head_dim)
    names = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    there = [name for name in names if getattr(module, name) is not None]
    shares = [Share(name, 0, rows.repeat(3) if name.startswith("in") else rows) for name in there]
    return Layout(module.num_heads, (*shares, Share("out_proj.weight", 1, rows)))


def _own_layout(module: nn.Module, counts: Mapping[str, int]) -> Layout:
    heads = next(iter(counts.values()))
    inputs, output, inner = _projections(module)
    for name, count in vars(module).items():
        if name in _KEY_COUNTS and count != heads:
            raise SpaceError(
                f"Its heads share keys and values ({name}={count!r}), so they can't be removed one by one."
            )
    if inner % heads:
        raise SpaceError(f"Its {inner} inner channels are not divisible by its {heads} heads.")
    rows = torch.arange(heads).repeat_interleave(inner // heads)
    shares = []
    for name, layer in inputs.items():
        owners = rows.repeat(layer.out_features // inner)
        shares += [Share(f"{name}.{kind}", 0, owners) for kind, _ in layer.named_parameters()]
    return Layout(
        heads,
        (*shares, Share(f"{output}.weight", 1, rows)),
        tuple(n for n, v in vars(module).items() if n in (*_COUNTS, *_KEY_COUNTS) and _is(v, heads)),
        tuple(n for n, v in vars(module).items() if n in _WIDTHS and _is(v, inner)),
    )


def _projections(module: nn.Module) -> tuple[dict[str, nn.Linear], str, int]:
    """The layers that make queries, keys and values, the name of the one behind the heads, and heads * head_dim."""
    layers = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    inputs = {name: m for name, m in layers.items() if _INPUT.search(name.lower())}
    if not inputs:
        widths = {m.in_features for m in layers.values()}
        inputs = {name: m for name, m in layers.items() if m.out_features % 3 == 0 and m.out_features // 3 in widths}
        inputs = inputs if len(inputs) == 1 else {}
    if not inputs:
        raise SpaceError("It has no nn.Linear whose name says that it makes queries, keys and values.")
    inner, rest = divmod(sum(m.out_features for m in inputs.values()), 3)
    if rest or any(m.out_features % inner for m in inputs.values()):
        raise SpaceError(f"Its {', '.join(inputs)} do not make queries, keys and values of one width.")
    outputs = [name for name, m in layers.items() if name not in inputs and m.in_features == inner]
    if len(outputs) != 1:
        raise SpaceError(
            f"It has {len(outputs)} nn.Linear that could read its heads ({inner} channels); one is needed."
        )
    return inputs, outputs[0], inner


def _counts(module: nn.Module) -> dict[str, int]:
    values = vars(module)
    return {n: values[n] for n in _COUNTS if isinstance(values.get(n), int) and not isinstance(values[n], bool)}


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number
