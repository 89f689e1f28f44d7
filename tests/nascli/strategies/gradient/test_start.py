from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.errors import DataError, SettingsError, UnsupportedError
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.darts_pt import DartsPT
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.start import beginning, described
from search_spaces.nb201 import Nb201Space, PartialNb201Supernet
from tests.toy_cells import Cells, cells_task, mixture_of, saved
from tests.toy_images import SIGNATURE, Single, same

NB201 = Nb201Space(SIGNATURE, channels=4, cells=1)


def test_a_fresh_start_is_the_seeds_and_small_noise() -> None:
    settings = Darts(alpha_noise=1e-2)
    first, again, other = (beginning(settings, cells_task(NB201, seed=s)) for s in (1, 1, 2))
    assert same(first.supernet.state_dict(), again.supernet.state_dict())
    assert torch.equal(first.mixture.logits, again.mixture.logits)
    assert not torch.equal(first.mixture.logits, other.mixture.logits)
    assert not same(first.supernet.state_dict(), other.supernet.state_dict())
    assert 5e-3 < first.mixture.logits.std().item() < 2e-2
    assert first.supernet.training and not first.trained and first.macs is None and first.mixture.edges is None


def test_architecture_weights_are_leaves_and_even_if_fixed() -> None:
    found = beginning(DartsPT(alpha="fixed", edge_weights="learnt"), cells_task()).mixture
    assert all(a.is_leaf and a.requires_grad and (a == 0).all() for a in found.alpha) and len(found.alpha) == 2
    learnt = beginning(Darts(edge_weights="learnt"), cells_task()).mixture
    assert learnt.edges is not None and learnt.edges.std() > 0


def test_partial_channels_where_the_space_has_them() -> None:
    assert isinstance(beginning(Darts(partial_channels=2), cells_task(NB201)).supernet, PartialNb201Supernet)
    with pytest.raises(UnsupportedError, match="partial_channels at 1"):
        beginning(Darts(partial_channels=2), cells_task(Cells()))
    with pytest.raises(UnsupportedError, match="3 parts"):
        beginning(Darts(partial_channels=3), cells_task(NB201))


def test_without_a_supernet_there_is_no_start() -> None:
    with pytest.raises(UnsupportedError, match="no supernet"):
        beginning(Darts(), cells_task(Single()))


# -- a saved supernet ------------------------------------------------------------------------------------------------


def test_a_saved_supernet_comes_back_with_its_architecture_weights(tmp_path: Path) -> None:
    mixture = mixture_of(edges=torch.arange(5.0))
    folder = saved(tmp_path / "run", cells_task(), mixture)
    for path in (folder, folder / "supernet.safetensors"):
        found = beginning(Darts(edge_weights="learnt"), cells_task(supernet=path))
        assert found.trained and found.supernet.training
        torch.testing.assert_close(found.mixture.logits.detach(), mixture.logits.detach())
        assert found.mixture.edges is not None and found.mixture.edges.tolist() == [0, 1, 2, 3, 4]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            expected = Cells().supernet().state_dict()
        assert same(dict(found.supernet.state_dict()), dict(expected))
        assert all(a.is_leaf for a in found.mixture.alpha)
    assert beginning(Darts(), cells_task(supernet=folder)).mixture.edges is None


def test_one_without_architecture_weights_has_even_ones(tmp_path: Path) -> None:
    folder = saved(tmp_path, cells_task(), None)
    found = beginning(Darts(edge_weights="learnt"), cells_task(supernet=folder)).mixture
    assert all((a == 0).all() for a in found.alpha)
    (folder / "supernet.json").unlink()
    assert (beginning(Darts(), cells_task(supernet=folder)).mixture.logits == 0).all()


def test_what_is_described_is_json_by_choice() -> None:
    mixture = mixture_of(edges=torch.arange(5.0))
    found: Any = json.loads(json.dumps(described(mixture)))
    assert list(found["alpha"]) == list(mixture.rows.names)
    assert found["alpha"]["normal.node2.from1"] == pytest.approx(mixture.logits[1].tolist())
    assert found["edges"]["normal.node3.from2"] == 4.0
    assert "edges" not in described(mixture_of())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trained supernet"):
        beginning(Darts(), cells_task(supernet=tmp_path))
    folder = saved(tmp_path / "two", cells_task(Cells(("normal", "reduce"))), mixture_of(Cells(("normal", "reduce"))))
    with pytest.raises(DataError, match="is no supernet of this 'toycells' space"):
        beginning(Darts(), cells_task(supernet=folder))
    folder = saved(tmp_path / "other", cells_task(), mixture_of(NB201))
    with pytest.raises(DataError, match="other choices than 'toycells'"):
        beginning(Darts(), cells_task(supernet=folder))


# -- a limit ---------------------------------------------------------------------------------------------------------


def limited(limit: float) -> Darts:
    return Darts(max_macs=limit, bilevel=Bilevel(name="lv-hba"))


def test_a_limit_needs_to_be_possible() -> None:
    found = beginning(limited(200), cells_task())
    assert found.macs is not None and found.macs[0] == 16 * 6 + 12 * 4
    assert found.supernet.training
    with pytest.raises(SettingsError, match=r"max_macs=143 can't be kept: .* takes 144 MACs"):
        beginning(limited(143), cells_task())


def test_the_mixture_is_on_the_cpu_and_knows_the_device() -> None:
    found = beginning(Darts(), replace(cells_task(), device="cpu")).mixture
    assert isinstance(found, Mixture) and found.device == "cpu" and found.logits.device.type == "cpu"
