from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from predictors.operations import operations

# Sparse tensors are wrapped in a warning that they are in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse.*tensor support is in beta")


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def macs(model: nn.Module | Callable[..., Any], *shapes: tuple[int, ...]) -> int:
    module = model if isinstance(model, nn.Module) else Function(model)
    found = operations(module, tuple(torch.ones(s) for s in shapes))
    assert all(o.counted for o in found), [o.name for o in found if not o.counted]
    return sum(o.macs for o in found)


ATTENTION = 10 * 32 * 32 * 4 + 2 * 4 * 5 * 5 * (8 + 8)  # four projections of 2x5 tokens; four heads of eight


@pytest.mark.parametrize(
    ("model", "shapes", "expected"),
    [
        (nn.Conv2d(3, 8, 3), [(1, 3, 8, 8)], 36 * 8 * 27),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), [(2, 3, 8, 8)], 2 * 16 * 8 * 27),
        (nn.Conv2d(3, 8, 3, dilation=2), [(1, 3, 8, 8)], 16 * 8 * 27),
        (nn.Conv2d(8, 16, 3, groups=4), [(1, 8, 8, 8)], 36 * 16 * 2 * 9),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), [(1, 8, 8, 8)], 36 * 8 * 9),
        (nn.Conv2d(3, 8, 3), [(3, 8, 8)], 36 * 8 * 27),
        (nn.Conv1d(3, 4, 5), [(2, 3, 8)], 2 * 4 * 4 * 15),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), [(1, 4, 8, 8)], 64 * 4 * 3 * 9),
        (nn.Linear(6, 4), [(2, 5, 6)], 2 * 5 * 6 * 4),
        (nn.Linear(6, 4, bias=False), [(2, 5, 6)], 2 * 5 * 6 * 4),
        (nn.Linear(6, 4), [(6,)], 24),
        (torch.matmul, [(2, 3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (torch.matmul, [(3, 4), (4,)], 12),
        (torch.dot, [(4,), (4,)], 4),
        (torch.baddbmm, [(2, 3, 3), (2, 3, 4), (2, 4, 3)], 72),
        (torch.addbmm, [(3, 3), (2, 3, 4), (2, 4, 3)], 72),
        (torch.addmv, [(3,), (3, 4), (4,)], 12),
        (lambda a, b: torch.einsum("nctw,vw->nctv", a, b), [(2, 3, 4, 5), (6, 5)], 2 * 3 * 4 * 5 * 6),
        (F.scaled_dot_product_attention, [(2, 4, 8, 16), (2, 4, 11, 16), (2, 4, 11, 24)], 2 * 4 * 8 * 11 * (16 + 24)),
        (nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), [(2, 5, 32)], ATTENTION + 10 * 32 * 64 * 2),
        (nn.LSTM(8, 16, 2, bidirectional=True), [(3, 2, 8)], 6 * 2 * 64 * (8 + 16) + 6 * 2 * 64 * (32 + 16)),
        (nn.GRU(8, 16), [(3, 2, 8)], 6 * 48 * (8 + 16)),
        (lambda a: torch.eye(4).to_sparse() @ a, [(4, 6)], 24),
        (lambda a: torch.eye(4).to_sparse_csr() @ a, [(4, 6)], 24),
        (lambda a: torch.eye(4).to_sparse_csr() @ a, [(4,)], 4),
        (lambda a: a @ torch.eye(4).to_sparse_csr(), [(5, 4)], 20),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.GELU(), nn.Softmax(1)), [(1, 3, 8, 8)], 0),
        (lambda a: F.interpolate(a, scale_factor=2, mode="bilinear"), [(1, 1, 4, 4)], 0),
        (nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(1, 2), nn.Hardswish(), nn.Dropout(0.5)), [(3, 2, 4)], 0),
    ],
)
def test_hand_worked_multiply_adds(
    model: nn.Module | Callable[..., Any], shapes: list[tuple[int, ...]], expected: int
) -> None:
    assert macs(model, *shapes) == expected
    with torch.inference_mode():
        assert macs(model, *shapes) == expected


def test_self_attention_is_counted_where_the_fused_kernel_hides_it() -> None:
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    assert macs(lambda x: attention(x, x, x)[0], (2, 5, 32)) == ATTENTION
    assert torch.backends.mha.get_fastpath_enabled()


def test_torchs_own_counter_agrees_on_a_convolutional_network() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.LazyLinear(5)
    )
    images = torch.zeros(1, 3, 12, 12)
    model(torch.zeros(2, 3, 12, 12))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images)
    assert macs(model, (1, 3, 12, 12)) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (torch.fft.fft, "aten._fft_r2c"),
        (lambda a: torch.cdist(a, a), "aten._cdist_forward"),
        (lambda a: F.bilinear(a, a, torch.ones(2, 4, 4)), "aten._trilinear"),
        (torch.linalg.inv, "aten.linalg_inv_ex"),
    ],
)
def test_what_multiplies_without_a_formula_is_reported(model: Callable[..., Any], name: str) -> None:
    found = operations(Function(model), (torch.eye(4),))
    assert [o.name for o in found if not o.counted] == [name]


def test_a_custom_operation_is_reported_until_somebody_registers_its_formula() -> None:
    @torch.library.custom_op("nascli_test::doubled", mutates_args=())
    def doubled(x: Tensor) -> Tensor:
        return x @ x

    model = Function(doubled)
    square = torch.ones(4, 4)
    assert [(o.name, o.counted) for o in operations(model, (square,))] == [("nascli_test.doubled", False)]

    @register_flop_formula(torch.ops.nascli_test.doubled)
    def flops(shape: torch.Size, *, out_shape: torch.Size) -> int:
        return 2 * shape[0] ** 3

    assert [(o.macs, o.counted) for o in operations(model, (square,))] == [(64, True)]


def test_bytes_are_those_of_operands_and_results() -> None:
    (found,) = [o for o in operations(nn.Linear(6, 4), (torch.ones(2, 6),)) if o.macs]
    assert found.moved_bytes == 4 * (2 * 6 + 6 * 4 + 4 + 2 * 4)


def test_a_look_up_moves_only_the_rows_it_reads() -> None:
    (found,) = operations(nn.Embedding(1000, 4), (torch.tensor([[3, 5]]),))
    assert found.moved_bytes == 2 * (2 * 4 * 4)


def test_views_are_no_operations() -> None:
    assert operations(Function(lambda x: x.view(4).reshape(2, 2).t()[0].unsqueeze(0)), (torch.ones(2, 2),)) == []


def test_counting_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from predictors.operations import operations;"
        "operations(torch.nn.Linear(2, 2), (torch.ones(1, 2),)); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
