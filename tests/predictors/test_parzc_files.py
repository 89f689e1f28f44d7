from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from predictors import ScoreError
from predictors.graph_encoder import GraphSizes
from predictors.mixer import MixerSizes
from predictors.parzc_files import KIND, load_fitted, save_fitted
from predictors.parzc_fit import Fitted, TrainingSet, fit
from predictors.parzc_net import ParZCSettings
from predictors.probe import Cell
from predictors.profiles import Networks

SMALL = ParZCSettings(
    mixer=MixerSizes(projected=8, segments=2, dim=8, depth=1), points=4, score_width=8, epochs=1, members=2
)
GRAPH = GraphSizes(dim=8, layers=1, hidden=2, head_dim=4, inner=8)


def networks(count: int = 12) -> Networks:
    rng = np.random.default_rng(0)
    cells = [Cell(np.eye(3, k=1), np.eye(3))] * count
    return Networks([rng.normal(size=(5, 7)) for _ in range(count)], cells, rng.normal(size=(count, 2)), ("a", "b"))


def fitted(settings: ParZCSettings = SMALL) -> Fitted:
    return fit(TrainingSet(networks(), np.arange(12.0)), settings, rng=np.random.default_rng(0))


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, graph=GRAPH, normalisation="minmax", scores="none")])
def test_a_file_brings_the_same_predictions_back(settings: ParZCSettings, tmp_path: Path) -> None:
    made = fitted(settings)
    save_fitted(made, tmp_path / "p.safetensors")
    again = load_fitted(tmp_path / "p.safetensors")
    for draws in (0, 3):
        assert np.array_equal(again.predict(networks(), draws=draws), made.predict(networks(), draws=draws))
    assert again.settings == made.settings and again.score_names == ("a", "b")
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def rewritten(path: Path, **metadata: str) -> None:
    """The file with other words in its header."""
    with safe_open(path, framework="pt") as file:
        tensors, words = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, metadata=words | metadata)


def test_files_that_are_none_of_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with pytest.raises(ScoreError, match="'.*p' does not exist; fit one first"):
        load_fitted(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ScoreError, match="is no fitted predictor"):
        load_fitted(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ScoreError, match="holds tensors, but no fitted ParZC"):
        load_fitted(path)


def test_newer_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    save_fitted(fitted(), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    rewritten(path, version="2")
    with pytest.raises(ScoreError, match="has format 2, and this version reads 1"):
        load_fitted(path)
    rewritten(path, version="1", header=json.dumps(header | {"settings": header["settings"] | {"epochs": "many"}}))
    with pytest.raises(ScoreError, match="damaged predictor"):
        load_fitted(path)
    rewritten(path, header=json.dumps(header | {"centres": []}))
    with pytest.raises(ScoreError, match="2 members have 0 centres"):
        load_fitted(path)
    rewritten(path, header=json.dumps(header | {"shapes": {"profile": 3}}))
    with pytest.raises(ScoreError, match="damaged predictor"):
        load_fitted(path)
    save_file({}, path, metadata={"kind": KIND, "version": "1", "header": json.dumps(header)})
    with pytest.raises(ScoreError, match="damaged predictor"):
        load_fitted(path)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="can't be written to '.*nowhere/p'"):
        save_fitted(fitted(), tmp_path / "nowhere" / "p")
