from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from nascli.compressors.groups.patterns import filter_shapes, n_of_m, tiles, weights
from nascli.errors import SettingsError
from search_spaces.groups import Groups


def owners(groups: Groups) -> dict[str, torch.Tensor]:
    return {p.tensor: p.owners for p in groups.parts}


def test_filter_shapes_are_columns_for_all_outputs() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(2, 2), nn.Conv1d(3, 1, 2))
    groups = filter_shapes(model)
    assert groups.names == ("0", "2") and groups.axis.tolist() == [0] * 8 + [1] * 6
    # [1, in, kh, kw]: the same for all three filters
    assert owners(groups)["0.weight"].tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    assert owners(groups)["2.weight"].tolist() == [[[8, 9], [10, 11], [12, 13]]]
    assert groups.counts(model.state_dict()).tolist() == [3.0] * 8 + [1.0] * 6
    assert not groups.removable


def test_filter_shapes_of_grouped_convolutions_lie_within_a_group() -> None:
    groups = filter_shapes(nn.Sequential(nn.Conv2d(4, 4, (1, 2), groups=2)))
    halves = [[[[0, 1]], [[2, 3]]]] * 2 + [[[[4, 5]], [[6, 7]]]] * 2
    assert owners(groups)["0.weight"].tolist() == halves
    assert "transposed" in filter_shapes(nn.Sequential(nn.ConvTranspose2d(2, 2, 1))).left_out["0"]


def test_each_weight_is_a_group() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Linear(2, 3), nn.MultiheadAttention(2, 1))
    groups = weights(model)
    assert groups.names == ("0", "2", "3.in_proj_weight", "3.out_proj")
    assert groups.sizes().tolist() == [8, 6, 12, 4]
    assert owners(groups)["2.weight"].tolist() == [[8, 9], [10, 11], [12, 13]]
    squares = torch.cat([model.state_dict()[p.tensor].flatten() for p in groups.parts]).double().square()
    torch.testing.assert_close(groups.squares(model.state_dict()), squares, rtol=1e-6, atol=0)


def test_shared_weights_are_counted_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert len(weights(model)) == 4


def test_blocks_of_inputs_by_hand() -> None:
    groups, blocks = n_of_m(nn.Sequential(nn.Linear(4, 2), nn.Conv2d(2, 2, (1, 2))), 2)
    # The convolution [2, 2, 1, 2] is numbered from 8: two channels at one place are two apart.
    assert blocks.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert groups.names == ("0", "1") and len(groups) == 16


def test_layers_whose_inputs_do_not_fit_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(6, 2), nn.Conv2d(8, 4, 1, groups=4), nn.ConvTranspose2d(4, 4, 1), nn.Linear(8, 1))
    groups, blocks = n_of_m(model, 4)
    assert groups.names == ("3",) and blocks.shape == (2, 4)
    assert {k: v.split(" ")[1] for k, v in groups.left_out.items()} == {"0": "6", "1": "2", "2": "inputs"}
    none, empty = n_of_m(nn.Sequential(nn.Linear(3, 3)), 2)
    assert len(none) == 0 and empty.shape == (0, 2)
    with pytest.raises(SettingsError, match="at least 2"):
        n_of_m(model, 1)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_scaling_keeps_n_of_each_m(n: int, m: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 5), nn.Conv2d(8, 3, 3), nn.MultiheadAttention(8, 2))
    groups, blocks = n_of_m(model, m)
    squares = groups.squares(dict(model.named_parameters()))
    best = blocks.gather(1, squares[blocks].topk(n, dim=1).indices)
    wanted = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups.scale_(dict(model.named_parameters()), torch.zeros(len(groups)).index_fill(0, best.flatten(), 1))
    for name in ("0.weight", "1.weight", "2.in_proj_weight", "2.out_proj.weight"):
        rows = model.get_parameter(name).detach()
        rows = rows if rows.dim() == 2 else torch.cat([rows[:, :, i, j] for i in range(3) for j in range(3)])
        assert ((rows.unflatten(1, (-1, m)) != 0).sum(-1) == n).all()
        kept = model.get_parameter(name) != 0
        assert torch.equal(model.get_parameter(name)[kept], wanted[name][kept])
    assert torch.equal(model.get_parameter("0.bias"), wanted["0.bias"])


def written(folder: Path, sizes: object) -> str:
    path = folder / "tiles.json"
    path.write_text(json.dumps(sizes))
    return str(path)


def test_tiles_of_matrices_by_hand(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Conv2d(2, 2, (1, 2)))
    groups = tiles(model, written(tmp_path, {"0.weight": [2, 2], "*": [1, 3]}))
    assert owners(groups)["0.weight"].tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    # [2, 4] in tiles of 1 x 3, and back to [2, 2, 1, 2]
    assert owners(groups)["1.weight"].flatten().tolist() == [6, 6, 6, 7, 8, 8, 8, 9]
    assert groups.axis.tolist() == [0] * 6 + [1] * 4
    assert groups.counts(model.state_dict()).tolist() == [4, 4, 2, 2, 2, 1, 3, 1, 3, 1]


def test_tiles_of_kernels_by_hand(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 2))
    groups = tiles(model, written(tmp_path, {"*.weight": [2, 2, 1, 2]}))
    assert owners(groups)["0.weight"][0].tolist() == [[[0, 0], [1, 1]], [[0, 0], [1, 1]], [[2, 2], [3, 3]]]
    assert torch.equal(owners(groups)["0.weight"][0], owners(groups)["0.weight"][1])


def test_tiles_as_large_as_layers_are_layers(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 4))
    groups = tiles(model, written(tmp_path, {"1.*": [100, 100]}))
    assert len(groups) == 1 and list(groups.left_out) == ["0"]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"0.weight": [1, 1], "9.*": [1, 1]}, r"'9\.\*' matches no weight"),
        ({"*": [1, 1, 1, 1]}, "4 sizes does not fit"),
    ],
)
def test_tiles_that_fit_nothing_are_refused(tmp_path: Path, sizes: object, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        tiles(nn.Sequential(nn.Linear(2, 2)), written(tmp_path, sizes))


def test_millions_of_weights_take_no_time(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2048, 1024, device="meta"))
    start = time.perf_counter()
    assert len(weights(model)) == len(n_of_m(model, 4)[0]) == 2**21
    assert len(tiles(model, written(tmp_path, {"*": [16, 16]}))) == 2**13
    assert time.perf_counter() - start < 5
