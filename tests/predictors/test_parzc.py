from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from predictors import ScoreError
from predictors.mixer import MixerSizes
from predictors.parzc import (
    ParZC,
    ParZCFree,
    ParZCSettings,
    TrainingSet,
    fit,
    networks_of,
    save_fitted,
    sine_weights,
    square_weights,
)
from predictors.probe import Cell, Probe
from predictors.profiles import Networks
from predictors.protocol import Proxy
from predictors.statistics import STATISTICS, node_statistics

SETTINGS = ParZCSettings(
    statistics=("grad_norm", "snip", "synflow"),
    mixer=MixerSizes(projected=8, segments=2, dim=8, depth=1),
    points=4,
    score_width=8,
    epochs=2,
    members=2,
)
CELL = Cell(np.eye(3, k=1), np.eye(3))


class Examples:
    """Four examples of eight numbers."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = (torch.randn(4, 8, generator=generator),)
        self.targets = torch.tensor([0, 1, 2, 1])

    def losses(self, logits: Tensor) -> Tensor:
        return cross_entropy(logits, self.targets[: len(logits)], reduction="none")


def probe(width: int = 5, *, cell: Cell | None = CELL, code: np.ndarray | None = None) -> Probe:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(width)
        net = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    return Probe(net, Examples(), cell=cell, code=np.array([width % 2.0]) if code is None else code)


def written(tmp_path: Path, names: tuple[str, ...] = ("params", "code"), **changes: object) -> Path:
    """The file of a predictor that was fitted to eight of those networks."""
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    probes = [probe(width) for width in range(3, 11)]
    scores = np.array([[sum(p.numel() for p in one.model.parameters()), float(one.code[0])] for one in probes])  # type: ignore[index]
    known = Networks(
        [node_statistics(one).values for one in probes], [CELL] * 8, scores[:, : len(names)] if names else None, names
    )
    path = tmp_path / "fitted.safetensors"
    save_fitted(fit(TrainingSet(known, np.arange(8.0)), settings, rng=np.random.default_rng(0)), path)
    return path


def test_a_proxy_says_what_the_predictor_says(tmp_path: Path) -> None:
    proxy = ParZC(str(written(tmp_path)))
    one = probe(6)
    parameters = sum(p.numel() for p in one.model.parameters())
    networks = Networks([node_statistics(one).values], [CELL], np.array([[parameters, 0.0]]))
    fitted = proxy._fitted()
    assert proxy(one) == pytest.approx(fitted.predict(networks)[0][0], abs=1e-6)
    drawing: Proxy = ParZC(proxy.file, draws=3)
    assert drawing(one) == pytest.approx(fitted.predict(networks, draws=3)[0][0], abs=1e-6)
    assert drawing(one) == drawing(probe(6))


def test_only_what_the_predictor_reads_is_computed(tmp_path: Path) -> None:
    proxy = ParZC(str(written(tmp_path)))
    one = probe(6)
    read = networks_of([one], proxy._fitted()).statistics[0]
    assert "curvature" not in vars(one) and "data_free" in vars(one)
    unread = [STATISTICS.index(name) for name in STATISTICS if name not in SETTINGS.statistics]
    assert not read[:, unread].any() and read.any()


def test_the_model_is_left_alone(tmp_path: Path) -> None:
    proxy, one = ParZC(str(written(tmp_path))), probe(6)
    before: Mapping[str, Tensor] = {k: v.clone() for k, v in one.model.state_dict().items()}
    state = torch.random.get_rng_state()
    proxy(one)
    assert all(torch.equal(v, before[k]) for k, v in one.model.state_dict().items())
    assert all(p.grad is None for p in one.model.parameters()) and torch.equal(torch.random.get_rng_state(), state)


def test_networks_that_lack_what_is_read_are_refused(tmp_path: Path) -> None:
    proxy = ParZC(str(written(tmp_path)))
    with pytest.raises(ScoreError, match="reads the graph of a cell"):
        proxy(probe(6, cell=None))
    without = probe(6)
    without.code = None
    with pytest.raises(ScoreError, match="reads the architecture's encoding"):
        proxy(without)
    with pytest.raises(ScoreError, match="reads the score 'madeup', which is not known"):
        ParZC(str(written(tmp_path, ("madeup", "code"))))(probe(6))


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="does not exist"):
        ParZC(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="draws=-1"):
        ParZC(str(written(tmp_path)), draws=-1)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    proxy = ParZC(str(written(tmp_path)))
    before = proxy(probe(6))
    written(tmp_path, epochs=9)
    assert proxy(probe(6)) != before


def test_sine_and_square_by_hand() -> None:
    assert sine_weights(3) == pytest.approx([0.5, (math.sin(0.1) + 1) / 2, (math.sin(0.2) + 1) / 2])
    assert square_weights(4) == pytest.approx([1, 9 / 16, 1 / 4, 1 / 16])
    assert (sine_weights(200) >= 0).all()


@pytest.mark.parametrize("weights", ["sine", "square"])
def test_without_fitting_layers_sums_are_weighted_by_their_number(weights: str) -> None:
    one = probe(6)
    by_hand = sine_weights(3) if weights == "sine" else square_weights(3)
    model = one.model
    one.batch.losses(model(*one.batch.inputs)).mean().backward()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    sums = [float((layer.weight * layer.weight.grad).abs().sum().detach()) for layer in layers]  # type: ignore[operator]
    norms = [float(layer.weight.grad.norm()) for layer in layers]  # type: ignore[union-attr]
    for layer in layers:
        layer.weight.grad = None
    assert ParZCFree(weights=weights)(one) == pytest.approx(float(by_hand @ sums), rel=1e-5)  # type: ignore[arg-type]
    free = ParZCFree("grad_norm", weights)  # type: ignore[arg-type]
    assert free(one) == pytest.approx(float(by_hand @ norms), rel=1e-5)
