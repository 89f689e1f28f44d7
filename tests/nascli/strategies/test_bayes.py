import logging

import numpy as np
import pytest

from nascli.engine.front import hypervolume
from nascli.strategies.bayes import Bayes, _Study
from nascli.strategies.random import Random
from nascli.strategies.unseen import Unseen
from tests.toy_search import FLAT, TABLE, costs, failed, measured, talk, task, weighed

OPTIONS = {c.name: c.options for c in TABLE.choices}


def study(sampler: str = "tpe", *, limit: float | None = None) -> _Study:
    about = task(limit=limit)
    return _Study(Bayes(sampler=sampler)._sampler(5), TABLE, about.objectives)  # type: ignore[arg-type]


def told(sampler: str, *, limit: float | None = None, count: int = 12):  # type: ignore[no-untyped-def]
    """The finished trials of a study after a few proposals, and the trials they tell of."""
    from nascli.engine.network import Network

    about, model = task(limit=limit), study(sampler, limit=limit)
    unseen = Unseen(TABLE, np.random.default_rng(0))
    proposals = [p for _ in range(count) if (p := model.ask(unseen))]
    trials = [measured(Network(arch), about) for arch, _ in proposals]
    model.tell(proposals, trials)
    return [t for t in model._study.trials if t.state.name == "COMPLETE"], trials


@pytest.mark.filterwarnings("ignore:NSGAIIISampler is experimental")
@pytest.mark.parametrize("sampler", ["tpe", "nsga3"])
def test_choices_that_do_not_apply_are_no_evidence(sampler: str) -> None:
    finished, trials = told(sampler)
    assert len(finished) == len(trials) == 12
    for row, trial in zip(finished, trials, strict=True):
        values = TABLE.values(trial.network.arch)
        shown = {n: OPTIONS[n][v] if isinstance(v, int) else v for n, v in row.params.items()}
        assert {n: shown[n] for n in values} == values
        rest = {n: v for n, v in shown.items() if n not in values}
        # TPE knows of conditions; for the others all that does not apply is alike.
        assert rest == {} if sampler == "tpe" else all(v in ("1", "plain") for v in rest.values())


def test_numbers_are_ordered_and_words_are_not() -> None:
    finished, _ = told("tpe")
    kinds = {n: type(d).__name__ for row in finished for n, d in row.distributions.items()}
    assert kinds["block1.width"] == "IntDistribution" and kinds["block1.kind"] == "CategoricalDistribution"


def test_violations_reach_the_model_only_where_there_are_limits() -> None:
    finished, trials = told("tpe", limit=10.0)
    assert [t.constraints["limit"] for t in finished] == [t.violation for t in trials]
    assert any(t.violation > 0 for t in trials)
    assert all(t.constraints == {} for t in told("tpe")[0])


def test_failures_leave_no_trace_in_the_model() -> None:
    from nascli.engine.network import Network

    model, unseen = study(), Unseen(TABLE, np.random.default_rng(0))
    proposals = [p for _ in range(5) if (p := model.ask(unseen))]
    model.tell(proposals, [failed(Network(arch), task()) for arch, _ in proposals])
    assert {t.state.name for t in model._study.trials} == {"FAIL"}


def test_a_known_proposal_gives_way_to_a_neighbour() -> None:
    model, unseen = study(), Unseen(TABLE, np.random.default_rng(0))
    for arch in list(TABLE.members())[:-3]:
        unseen.take(arch)
    found = [model.ask(unseen) for _ in range(4)]
    assert len({p[0] for p in found if p}) == 3 and found[3] is None


def test_finds_more_than_chance() -> None:
    def covered(strategy: Bayes | Random, seed: int) -> float:
        keys = talk(strategy, task(seed=seed), trials=100).keys[:100]
        return hypervolume([costs(TABLE.parse(k)) for k in keys], [250, 120])

    every = hypervolume([costs(a) for a in TABLE.members()], [250, 120])
    gaps = [[every - covered(s, seed) for seed in range(2)] for s in (Bayes(), Random())]
    assert np.mean(gaps[0]) < 0.5 * np.mean(gaps[1])


def test_a_limit_is_kept_to() -> None:
    limited = task(table=FLAT, limit=8.0)
    found = [bool(t.costs) for t in talk(Bayes(), limited, weighed, trials=100).memo.values()]
    assert sum(found[:20]) <= 2 and sum(found) >= 15 and sum(found[-30:]) >= 8


def test_one_objective_is_minimised() -> None:
    best = min(costs(a, 1)[0] for a in TABLE.members())
    assert min(t.costs[0] for t in talk(Bayes(), task(1), trials=120).memo.values()) == best


def test_batches_are_as_large_as_asked() -> None:
    assert [len(s) for s in talk(Bayes(batch=7), task(), trials=20).steps] == [7, 7, 7]


def test_optuna_speaks_again_afterwards() -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        talk(Bayes(), task(), trials=10)
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="batch must be at least 1, but got 0"):
        Bayes(batch=0)
    with pytest.raises(ValueError, match="startup must be at least 2, but got 1"):
        Bayes(startup=1)
