from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from predictors import ScoreError
from predictors.probe import Cell
from predictors.profiles import CLIP, Layout, Networks, Reader, Scale, scale, stretched, summary, within

LAYOUT = Layout(
    columns=(0, 2),
    normalisation="minmax",
    alignment="padded",
    points=3,
    summaries="none",
    cells="none",
    absent=(),
    nodes=0,
    kinds=0,
)
PROFILE = np.array([[1.0, 9, -4], [3, 9, 0]])


def test_within_a_network_statistics_reach_from_0_to_1() -> None:
    assert within(np.array([[2.0, 5], [6, 5], [3, 5]])).tolist() == [[0, 0], [1, 0], [0.25, 0]]


def test_published_input_is_statistic_after_statistic_padded_with_zeros() -> None:
    inputs = Reader(LAYOUT, None, None)(Networks([PROFILE]))
    assert inputs.profiles is not None
    assert inputs.profiles.tolist() == [[0, 1, 0, 0, 1, 0]]
    assert inputs.graphs is None and inputs.scores is None


def test_signed_logarithms_are_standardised_over_the_training_set_and_cut() -> None:
    values = np.array([[1.0, 0], [3, 0], [-3, 0]])
    made = scale(values, quantile=0.0)
    assert made.unit.tolist() == [1, 1]
    logs = np.array([np.log(2), np.log(4), -np.log(4)])
    assert np.allclose(made(values)[:, 0], (logs - logs.mean()) / logs.std())
    assert made(values)[:, 1].tolist() == [0, 0, 0]
    assert made(np.array([[1e9, 7.0]]))[0].tolist() == [CLIP, 0]


def test_layers_are_told_from_padding_on_the_logarithmic_scale() -> None:
    made = Scale(np.ones(2), np.zeros(2), np.ones(2))
    inputs = Reader(replace(LAYOUT, normalisation="log"), made, None)(Networks([PROFILE]))
    assert inputs.profiles is not None
    expected = [np.log(2), np.log(4), 0, -np.log(5), 0, 0, 1, 1, 0]
    assert inputs.profiles[0].tolist() == pytest.approx(expected, abs=1e-6)
    both = Reader(replace(LAYOUT, normalisation="both"), made, None)(Networks([PROFILE]))
    assert both.profiles is not None
    assert both.profiles.shape == (1, 3 * (2 + 2 + 1))


def test_stretched_profiles_have_one_length_and_keep_their_ends() -> None:
    deep = stretched(np.arange(10.0)[:, None], 4)[:, 0]
    assert deep.tolist() == [0, 3, 6, 9]
    assert stretched(np.array([[2.0, 5]]), 3).tolist() == [[2, 5]] * 3


def test_summaries_are_sums_over_all_layers_and_thirds() -> None:
    assert summary(np.array([[1.0], [-2], [4], [8]])).tolist() == [15, 3, 4, 8]


def test_numbers_that_are_not_finite_count_as_0() -> None:
    spoilt = np.array([[np.nan, 0, 2.0], [1, 0, np.inf]])
    assert Reader(LAYOUT, None, None).chosen(spoilt).tolist() == [[0, 2], [1, 0]]


def test_scores_features_of_cells_and_sums_stand_side_by_side() -> None:
    cell = Cell(np.eye(3, k=1), np.eye(3))
    layout = replace(LAYOUT, summaries="sums", cells="features")
    numbers = Reader(layout, None, None).numbers(Networks([PROFILE], [cell], np.array([[5.0, 6]])))
    assert numbers is not None
    # two scores; count, paths, shortest, longest, most, from input, to output, edges; sums of columns 0 and 2
    assert numbers[0].tolist() == [5, 6, 1, 1, 2, 2, 1, 1, 1, 2, 4, 4, 1, 4, 3, 0, 0, 0]


def test_networks_unlike_the_training_set_are_refused() -> None:
    reader = Reader(LAYOUT, None, None)
    with pytest.raises(ScoreError, match="has 4 layers, but the predictor was fitted to networks of up to 3"):
        reader(Networks([np.zeros((4, 7))]))
    with pytest.raises(ScoreError, match="with at least 3 of them, but are \\(2, 2\\)"):
        reader(Networks([np.zeros((2, 2))]))
    with pytest.raises(ScoreError, match="these have none"):
        Reader(replace(LAYOUT, nodes=3, kinds=3), None, None)(Networks([PROFILE]))
    scores = Reader(LAYOUT, None, Scale(np.ones(2), np.zeros(2), np.ones(2)))
    with pytest.raises(ScoreError, match="reads 2 scores a network, but 1 were given"):
        scores(Networks([PROFILE], scores=np.zeros((1, 1))))
    with pytest.raises(ScoreError, match="There are 1 networks, but 2 cells"):
        Networks([PROFILE], [Cell(np.eye(2), np.eye(2))] * 2)


def test_rows_are_chosen_in_all_parts_alike() -> None:
    cells = [Cell(np.eye(2, k=1), np.eye(2)), Cell(np.eye(3, k=1), np.eye(3)[:, :2] + np.eye(3)[:, 2:])]
    networks = Networks([PROFILE, 2 * PROFILE], cells, np.array([[1.0], [2.0]]), ("params",))
    chosen = networks[np.array([1])]
    assert len(chosen) == 1 and chosen.statistics[0][0, 0] == 2 and chosen.score_names == ("params",)
    assert chosen.scores is not None and chosen.scores.tolist() == [[2.0]]
    assert chosen.cells is not None and len(chosen.cells[0].operations) == 3
    inputs = Reader(LAYOUT, None, None)(networks)[torch.tensor([1])]
    assert inputs.profiles is not None and inputs.profiles.shape == (1, 6)
