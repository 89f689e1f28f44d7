from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nascli.engine.scores import RECORDED
from nascli.engine.task import Task
from nascli.errors import SettingsError
from nascli.report import fitted
from nascli.report.board import Board, Score
from nascli.report.fitted import check, fit, load, predict, save
from predictors import ScoreError
from predictors.parzc_net import ParZCSettings
from predictors.ranking import spearman_rho
from search_spaces.nb201 import Nb201Space
from search_spaces.space import SearchSpace
from tests.toy_board import DEAD, NAN, archs, board, reached, score
from tests.toys import ToySpace

TASK = Task(ToySpace())
COUNT = 60
QUALITY = np.random.default_rng(1).standard_normal(COUNT)
TRUTH = reached(list(70 + 5 * QUALITY))


WHOLE = fitted._settings


def shorter(epochs: int, members: int) -> Callable[[SearchSpace], ParZCSettings]:
    """The settings for a training of a second instead of a minute."""
    return lambda space: replace(WHOLE(space), epochs=epochs, members=members)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "_settings", shorter(4, 1))


def told(seed: int = 0) -> Board:
    """Networks whose layers' statistics and whose one score tell, with some noise, how good they are."""
    rng = np.random.default_rng(seed)
    jacov = QUALITY + 0.5 * rng.standard_normal(COUNT)
    found = board({"jacov": list(jacov), "params": list(1e4 * np.exp(0.3 * rng.standard_normal(COUNT)))}, TRUTH)
    profiles = np.exp(0.5 * QUALITY[:, None, None] + 0.2 * rng.standard_normal((COUNT, 4, len(RECORDED))))
    return replace(found, nodes=tuple(profiles), unread=("",) * COUNT)


def test_it_ranks_networks_that_it_was_not_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "_settings", shorter(25, 2))
    predictor, training = fit(told(), TRUTH, 30, TASK)
    assert training.sum() == 30 and predictor.score_names == ("jacov", "params")
    found = predict(told(), predictor, TASK.space)
    score = found.scores[0]
    assert [s.name for s in found.scores] == ["parzc", "jacov", "params"] and not np.isnan(score.values).any()
    assert spearman_rho(score.values[~training], TRUTH.values[~training]) > 0.8
    assert (found.deviations["parzc"] >= 0).all() and found.deviations["parzc"].any()


def test_the_draw_comes_from_the_runs_seed_and_nothing_else() -> None:
    chosen = [fit(told(), TRUTH, 30, replace(TASK, seed=seed))[1] for seed in (0, 0, 1)]
    assert np.array_equal(chosen[0], chosen[1]) and not np.array_equal(chosen[0], chosen[2])


def test_a_truth_to_minimise_is_turned() -> None:
    loss = replace(TRUTH, goal="min", values=-TRUTH.values)
    rising, training = fit(told(), TRUTH, 30, TASK)
    falling, same = fit(told(), loss, 30, TASK)
    assert np.array_equal(training, same)
    a, b = (predict(told(), p, TASK.space).scores[0].values for p in (rising, falling))
    assert a == pytest.approx(b)


def test_what_computes_the_same_as_a_network_it_was_fitted_on_is_not_tested_on() -> None:
    found = told()
    twins = tuple(found.measured[i // 2] for i in range(COUNT))
    predictor, training = fit(replace(found, measured=twins), TRUTH, 12, TASK)
    assert training.sum() == 24 and np.array_equal(training[::2], training[1::2])
    assert predictor is not None


def test_networks_without_statistics_or_scores_have_their_reason() -> None:
    found = told()
    nodes = (None, *found.nodes[1:])
    jacov = Score("jacov", "max", np.array([1.0, NAN, *found.scores[0].values[2:]]), ("", "few", *("",) * (COUNT - 2)))
    lacking = replace(found, nodes=nodes, unread=(DEAD, *("",) * (COUNT - 1)), scores=(jacov, found.scores[1]))
    predictor, training = fit(lacking, TRUTH, 30, TASK)
    assert not training[:2].any()
    parzc = predict(lacking, predictor, TASK.space).scores[0]
    assert parzc.reasons[:3] == (DEAD, "few", "") and np.isnan(parzc.values[:2]).all()
    assert not np.isnan(parzc.values[2:]).any()


def test_a_saved_predictor_says_the_same(tmp_path: Path) -> None:
    predictor, _ = fit(told(), TRUTH, 20, TASK)
    save(predictor, tmp_path / "new" / "parzc.safetensors")
    again = load(str(tmp_path / "new" / "parzc.safetensors"))
    a, b = (predict(told(), p, TASK.space).scores[0].values for p in (predictor, again))
    assert np.array_equal(a, b)
    with pytest.raises(ScoreError, match="does not exist"):
        load(str(tmp_path / "none"))


def test_scores_that_a_predictor_reads_must_be_there_in_any_order() -> None:
    predictor, _ = fit(told(), TRUTH, 20, TASK)
    found = told()
    turned = replace(found, scores=(score("zen", [0.0] * COUNT), *reversed(found.scores)))
    a, b = (predict(f, predictor, TASK.space).scores[0].values for f in (found, turned))
    assert np.array_equal(a, b)
    with pytest.raises(SettingsError, match=r"The predictor also reads jacov; give --proxy jacov\."):
        predict(replace(found, scores=found.scores[1:]), predictor, TASK.space)


def test_there_must_be_enough_networks() -> None:
    known = reached([1.0] * 14 + [NAN])
    check(4, archs(15), known)
    said = r"--train 5 networks can't be fitted on and 10 be left to test on: .* 14 differ, .* a smaller --train or a l"
    with pytest.raises(SettingsError, match=said):
        check(5, archs(15), known)
    with pytest.raises(SettingsError, match="of those asked for, 1 differ"):
        check(2, archs(1) * 15, known)
    with pytest.raises(SettingsError, match="60 differ"):
        fit(told(), TRUTH, 51, TASK)


def test_cells_and_what_lets_nothing_through_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    settings = fitted._settings(Nb201Space())
    assert settings.statistics == RECORDED
    kinds = Nb201Space().graph(Nb201Space().table.largest).kinds
    assert [kinds[i] for i in settings.absent] == ["none"]
    assert fitted._settings(ToySpace()).absent == ()
    space = Nb201Space()
    cells = replace(told(), measured=(space.table.smallest, space.table.largest) * 30)
    read = fitted._networks(cells, np.array([0, 1]), ("jacov",), space)
    assert read.cells is not None and read.scores is not None
    assert read.cells[0].operations.shape == (8, len(kinds)) and read.scores.shape == (2, 1)
    # Columns stand where the statistic of their name does, the one that is not recorded is zero.
    assert np.array_equal(read.statistics[0][:, [0, 1, 3, 4, 5, 6]], told().nodes[0])  # type: ignore[arg-type]
    assert not read.statistics[0][:, 2].any()
