import json
import logging
from pathlib import Path

import pytest
import torch

from nascli.compressors.groups.finding import Asked, find
from nascli.errors import SettingsError, UnsupportedError
from tests.toy_prunable import Stubborn, toy, used


def test_kinds_are_found_side_by_side() -> None:
    net, example = toy("residual")
    filters, _ = find(net, example, Asked(("filters",)))
    both, blocks = find(net, example, Asked(("filters", "weights")))
    assert blocks is None and len(both) > len(filters)
    assert both.names[: len(filters.names)] == filters.names


def test_channels_count_the_columns_that_go_with_them() -> None:
    net, example = toy("residual")
    filters, _ = find(net, example, Asked(("filters",)))
    channels, _ = find(net, example, Asked(("channels",)))
    assert len(filters) == len(channels)
    state = net.state_dict()
    assert (channels.counts(state) > filters.counts(state)).all()


def test_layers_are_chosen_by_globs() -> None:
    net, example = toy("residual")
    names = find(net, example, Asked(("filters",))).groups.names
    assert len(names) > 1
    assert find(net, example, Asked(("filters",), layers=(names[0],))).groups.names == names[:1]
    assert find(net, example, Asked(("filters",), ignore=(names[0],))).groups.names == names[1:]
    with pytest.raises(UnsupportedError, match="no groups of the kinds filters"):
        find(net, example, Asked(("filters",), ignore=("*",)))


def test_blocks_of_n_of_m_follow_their_layers() -> None:
    net, example = toy("residual")
    groups, blocks = find(net, example, Asked(("n-of-m",), block=2))
    fewer, those = find(net, example, Asked(("n-of-m",), block=2, ignore=(groups.names[0],)))
    assert blocks is not None and those is not None
    assert sorted(those.flatten().tolist()) == list(range(len(fewer)))
    assert len(fewer) < len(groups)
    # What lies in one block lies in one layer, as before.
    assert (fewer.axis[those] == fewer.axis[those][:, :1]).all()


def test_tiles_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tiles.json"
    file.write_text(json.dumps({"head.weight": [2, 3]}))
    net, example = toy("residual")
    groups, _ = find(net, example, Asked(("tiles",), tiles=str(file)))
    assert len(groups) == 4  # 4 x 6 weights in tiles of 2 x 3
    assert groups.counts(net.state_dict()).tolist() == [6.0] * 4


def test_what_can_not_be_removed_is_said_and_stays(caplog: pytest.LogCaptureFixture) -> None:
    net = used(Stubborn())
    with caplog.at_level(logging.WARNING):
        groups, _ = find(net, (torch.randn(3, 3, 8, 8),), Asked(("filters",)))
    assert groups.names == ("b",)
    assert "a stays as it is" in caplog.text


@pytest.mark.parametrize("kinds", [("filtres",), ("n-of-m", "weights")])
def test_kinds_that_there_are_not_are_refused(kinds: tuple[str, ...]) -> None:
    net, example = toy("residual")
    with pytest.raises(SettingsError, match="Did you mean 'filters'|no other kind"):
        find(net, example, Asked(kinds))


def test_what_one_kind_can_not_have_but_another_has_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    from examples.encoder import digits_encoder

    net = digits_encoder().eval()
    example = (torch.randn(1, 1, 8, 8),)
    groups, _ = find(net, example, Asked(("heads", "neurons")))
    assert any("attention" in name for name in groups.names) and "stays as it is" not in caplog.text
    find(net, example, Asked(("neurons",)))
    assert "attention.qkv stays as it is" in caplog.text
