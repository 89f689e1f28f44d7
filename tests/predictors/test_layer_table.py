from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from predictors import ScoreError
from predictors.latency import fingerprint
from predictors.layer_table import LayerTime, Table, build_table, describe, read_table, write_table
from predictors.protocol import Reading


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.inner = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.inner(self.inner(x))


def one_each(model: nn.Module, inputs: tuple[Tensor, ...]) -> Reading:
    """A stop-watch that runs the layer and finds 1 ms, with a spread of 0.5."""
    model(*inputs)
    return Reading(1.0, 0.5)


IMAGES = (torch.ones(1, 2, 8, 8),)


def test_each_distinct_layer_is_timed_once() -> None:
    rows = build_table([(Residual(), IMAGES), (nn.Sequential(Residual(), Residual()), IMAGES)], one_each)
    conv = "Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
    assert rows == [LayerTime(conv, "1x2x8x8", 1.0, 0.5), LayerTime("ReLU(inplace=True)", "1x2x8x8", 1.0, 0.5)]


def test_the_sum_counts_every_call(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    rows = build_table([(Residual(), IMAGES)], one_each)
    write_table(path, [rows[0]._replace(ms=10.0), rows[1]], machine=fingerprint())
    assert Table(str(path))(Residual(), IMAGES) == Reading(22.0, 0.0)


def test_the_file_names_its_machine_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    write_table(path, build_table([(Residual(), IMAGES)], one_each), machine=fingerprint())
    assert json.loads(path.read_text())["machine"] == fingerprint()
    grown = build_table([(nn.Linear(3, 4), (torch.ones(1, 3),))], one_each, known=read_table(path))
    assert [row.layer.partition("(")[0] for row in grown] == ["Conv2d", "ReLU", "Linear"]
    write_table(path, grown, machine=fingerprint())
    assert Table(str(path))(nn.Linear(3, 4), (torch.ones(1, 3),)).ms == 1.0


def test_a_missing_layer_is_named_with_the_way_to_add_it(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    write_table(path, build_table([(Residual(), IMAGES)], one_each), machine={})
    with pytest.raises(ScoreError, match=r"no Conv2d\(2, 2.*\) on 1x2x9x9 \(nor 1 others.*build_table"):
        Table(str(path))(Residual(), (torch.ones(1, 2, 9, 9),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is no latency table"),
        ("{", "is no latency table"),
        ('{"format": 1, "layers": [{"layer": "Linear"}]}', "is no latency table"),
        ('{"format": 99, "layers": []}', "newer version"),
        ('{"format": 1, "layers": [{"layer": "Linear", "inputs": "1", "ms": NaN}]}', "Linear takes nan ms"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ScoreError, match=message):
        Table(str(path))(nn.Linear(1, 1), (torch.ones(1, 1),))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=r"can't be read \(No such file"):
        Table(str(tmp_path / "none.json"))(nn.Linear(1, 1), (torch.ones(1, 1),))


def test_layers_that_take_differently_long_are_told_apart() -> None:
    class Own(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

    attention = [describe(nn.MultiheadAttention(8, heads)) for heads in (1, 2)]
    assert attention[0] != attention[1]
    assert describe(Own(3)) != describe(Own(4))
    assert describe(nn.Linear(2, 2).train()) == describe(nn.Linear(2, 2).eval())


def test_numbers_of_another_type_are_another_row() -> None:
    rows = build_table([(nn.Linear(2, 2).bfloat16(), (torch.ones(1, 2, dtype=torch.bfloat16),))], one_each)
    assert rows[0].inputs == "1x2:bfloat16"


def test_attention_is_timed_whole_and_the_model_keeps_no_hooks() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2)).train()
    rows = build_table([(model, (torch.ones(1, 3, 8),))], one_each)
    assert [row.layer.partition("(")[0] for row in rows] == ["TransformerEncoderLayer", "Linear"]
    assert model.training
    assert not any(part._forward_pre_hooks for part in model.modules())
