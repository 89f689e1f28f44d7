"""What a forward pass does, operation by operation: multiply-adds and bytes moved.

One multiply-add is one MAC. Convolutions (grouped and transposed too), matrix products of every kind, attention and
recurrent layers are counted, padding included and masks not deducted; normalisation, activations, pooling and
element-wise work are not. `torch.utils.flop_counter.register_flop_formula` adds a formula for one's own operation.

Torch's own `FlopCounterMode` agrees where it counts, but it is not used: it takes twice to three times as long as the
walk below, and passes in silence over fused attention on the CPU, fused recurrent layers, matrix-vector products, the
zeros of sparse ones, and whatever it does not know. A pass on the meta device takes longer than a real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from predictors.passes import evaluating, forward

aten = torch.ops.aten

_PRODUCT = re.compile(
    r"fft|conv|rnn|linalg(?!_check)|lu_solve|cdist|attention|transformer_encoder|cholesky|triangular_solve|^_?trilinear$"
    r"|mm$|mm_|dot$|addmv|addr$|^(lstm|gru)|sparse_sampled|histc|kron"
)
"""Names of operations that multiply and add; one without a formula is reported, not passed over."""

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)

_GATHERS = frozenset({"embedding", "gather", "index", "index_select"})
"""Operations that read only as much of their operand as they return."""

_FREE = frozenset({"_unsafe_view", "empty", "lift_fresh"})
"""Operations that move nothing though torch does not call them views."""


class Operation(NamedTuple):
    """One operation that a forward pass carried out; views of existing tensors are none."""

    name: str
    macs: int
    moved_bytes: int
    """Bytes read and written if every operand comes from memory and every result goes there."""
    counted: bool


def operations(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Operation]:
    """What one forward pass in evaluation mode does, in order. Raises ScoreError if it fails."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused encoder layer is one operation without a formula
    walk = _Walk()
    try:
        with evaluating(model), torch.no_grad(), walk:
            forward(model, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return walk.found


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers, the stored ones alone if it is sparse."""
    numbers = tensor._nnz() if tensor.layout in _SPARSE else tensor.numel()
    return int(numbers) * tensor.element_size()


# -- the walk --------------------------------------------------------------------------------------------------------


class _Walk(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd, where `linear`, `matmul` and `einsum` have become plain products."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, the default, wraps the method below in what imports torch's compiler: a second and more in each process.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not isinstance(func, torch._ops.OpOverload):
            self.found.append(Operation(str(func), 0, 0, False))
            return func(*args, **kwargs)
        kind = _kind(func)
        formula = _formula(func)
        if kind.composite and formula is None:
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if not kind.free:
            macs = _macs(formula, args, kwargs, result)
            counted = macs is not None and (formula is not None or not kind.product)
            self.found.append(Operation(kind.name, macs or 0, _moved_bytes(func, args, result), counted))
        return result


class _Kind(NamedTuple):
    name: str
    composite: bool
    """Whether to look at the operations it is made of instead."""
    product: bool
    """Whether it multiplies, or might: nothing is known of other people's operations."""
    free: bool


@cache
def _kind(func: torch._ops.OpOverload) -> _Kind:
    name = func._overloadpacket.__name__
    ours = func.namespace in ("aten", "prim", "prims")
    inner = torch._C.DispatchKey.CompositeImplicitAutograd
    return _Kind(
        name=f"{func.namespace}.{name}",
        composite=func.namespace == "aten" and func.has_kernel_for_dispatch_key(inner),
        product=not ours or bool(_PRODUCT.search(name)),
        free=func.is_view or func.namespace == "prim" or name in _FREE,
    )


def _formula(func: torch._ops.OpOverload) -> Callable[..., int] | None:
    packet = func._overloadpacket
    return _FORMULAS.get(packet) or _registered(packet)


def _registered(packet: Any) -> Callable[..., int] | None:
    """The formula somebody gave torch for an operation; it tells FLOPs, two a MAC."""
    flops = flop_registry.get(packet)
    return None if flops is None else lambda *args, out, **kwargs: flops(*args, out_val=out, **kwargs) // 2


def _macs(
    formula: Callable[..., int] | None, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
) -> int | None:
    """Multiply-adds of one operation; None if its formula does not fit these arguments."""
    if formula is None:
        return 0
    sparse = [t for t in args if isinstance(t, Tensor) and t.layout in _SPARSE]
    if sparse:
        return _sparse_macs(args, sparse)
    try:
        return int(formula(*args, **kwargs, out=result))
    except (AssertionError, TypeError, ValueError):
        return None


def _sparse_macs(args: Sequence[Any], sparse: Sequence[Tensor]) -> int | None:
    """Stored entries times columns: what the product of a sparse and a dense matrix takes."""
    operands = [a for a in args if isinstance(a, Tensor)][-2:]
    if len(sparse) != 1 or len(operands) != 2:
        return None
    left, right = operands
    columns = left.shape[0] if right is sparse[0] else prod(right.shape[1:])
    return int(sparse[0]._nnz()) * columns


def _moved_bytes(func: torch._ops.OpOverload, args: Sequence[Any], result: Any) -> int:
    written = _total_bytes(result)
    return 2 * written if func._overloadpacket.__name__ in _GATHERS else written + _total_bytes(args)


def _total_bytes(value: Any) -> int:
    """Bytes of the tensors in a value, by hand: the general tree walk takes three times as long as the network."""
    if isinstance(value, Tensor):
        return tensor_bytes(value)
    return sum(_total_bytes(v) for v in value) if isinstance(value, list | tuple) else 0


# -- multiply-adds by operation --------------------------------------------------------------------------------------


def _convolution(images: Tensor, weight: Tensor, *rest: Any, out: Tensor) -> int:
    _bias, _stride, _padding, _dilation, transposed, *_ = rest
    places = images if transposed else out  # a transposed kernel is laid on every input, a plain one on every output
    return images.shape[0] * prod(places.shape[2:]) * weight.numel()


def _product(left: Tensor, right: Tensor, *rest: Any, out: Any) -> int:
    return left.numel() * right.shape[-1]


def _added_product(added: Tensor, left: Tensor, right: Tensor, *rest: Any, out: Any) -> int:
    return left.numel() * right.shape[-1]


def _matrix_vector(matrix: Tensor, vector: Tensor, *rest: Any, out: Any) -> int:
    return matrix.numel()


def _added_matrix_vector(added: Tensor, matrix: Tensor, vector: Tensor, *rest: Any, out: Any) -> int:
    return matrix.numel()


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, out: Any) -> int:
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _mkldnn_rnn(inputs: Tensor, from_input: Tensor, from_state: Tensor, *rest: Any, out: Any) -> int:
    return prod(inputs.shape[:-1]) * (from_input.numel() + from_state.numel())


def _cudnn_rnn(inputs: Tensor, weights: Sequence[Tensor], *rest: Any, out: Any) -> int:
    return prod(inputs.shape[:-1]) * sum(w.numel() for w in weights if w.dim() == 2)


_FORMULAS: dict[Any, Callable[..., int]] = {
    aten.convolution: _convolution,
    aten.mm: _product,
    aten.bmm: _product,
    aten.addmm: _added_product,
    aten.baddbmm: _added_product,
    aten.addbmm: _added_product,
    aten._sparse_addmm: _added_product,
    aten.mv: _matrix_vector,
    aten.dot: _matrix_vector,
    aten.vdot: _matrix_vector,
    aten.addmv: _added_matrix_vector,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten.mkldnn_rnn_layer: _mkldnn_rnn,
    aten._cudnn_rnn: _cudnn_rnn,
}
