from __future__ import annotations

import math

import pytest
import torch

from nascli.errors import UnsupportedError
from nascli.strategies.gradient.magnitude import (
    best_edges,
    best_option,
    certainty,
    distributions,
    edge_strengths,
    settle,
    settle_full_nodes,
)
from nascli.strategies.gradient.mixture import Mixture
from nascli.strategies.gradient.rows import Rows
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import Cells, mixture_of

PAIRS = "normal.node3.inputs"
FROM = [f"normal.node3.from{s}" for s in range(3)]
WEIGHTS = torch.tensor(
    [  # none, skip_connect, noise, linear
        [0.70, 0.10, 0.05, 0.15],
        [0.10, 0.40, 0.10, 0.40],
        [0.60, 0.20, 0.10, 0.10],
        [0.10, 0.30, 0.30, 0.30],
        [0.20, 0.10, 0.25, 0.45],
    ]
)


def mixture(weights: torch.Tensor = WEIGHTS, **given: object) -> Mixture:
    """A mixture whose softmax is these weights."""
    return Mixture(Rows.of(Cells()), weights.log(), **given)  # type: ignore[arg-type]


def test_the_largest_option_but_none_and_the_first_among_equals() -> None:
    found = mixture()
    assert [best_option(found, n) for n in found.rows.names] == [3, 1, 1, 1, 3]


def test_options_taken_out_of_the_race_are_not_chosen() -> None:
    found = mixture()
    found.removed[0, 3] = True
    assert best_option(found, "normal.node2.from0") == 1


def test_the_genotype_by_hand() -> None:
    found = mixture()
    # The best real options of node 3's edges weigh 0.20, 0.30 and 0.45: the second and third are kept.
    assert edge_strengths(found) == pytest.approx(
        dict(zip(found.rows.names, [0.15, 0.40, 0.20, 0.30, 0.45], strict=True))
    )
    settle(found)
    assert str(found.rows.architecture(found.decided)) == "toycells:linear,skip_connect/1+2,-,skip_connect,linear"
    assert not found.undecided and found.dropped == {FROM[0]}


def test_edges_are_chosen_before_options_and_the_first_pair_among_equals() -> None:
    even = torch.full((5, 4), 0.25)
    assert best_edges(mixture(even), PAIRS) == 0
    even[2] = torch.tensor([0.85, 0.05, 0.05, 0.05])
    assert best_edges(mixture(even), PAIRS) == 2


def test_learnt_edge_weights_count() -> None:
    edges = torch.tensor([0.0, 0.0, math.log(4.0), 0.0, 0.0])
    found = mixture(edges=edges)
    # Shares of 4, 1, 1 of 6, times 3: strengths of 0.40, 0.15 and 0.225.
    assert [edge_strengths(found)[n] for n in FROM] == pytest.approx([0.40, 0.15, 0.225])
    assert best_edges(found, PAIRS) == 1


def test_what_is_decided_already_stays() -> None:
    found = mixture()
    found.decide("normal.node2.from0", 2)
    found.decide(PAIRS, 0)
    settle(found)
    assert str(found.rows.architecture(found.decided)) == "toycells:noise,skip_connect/0+1,skip_connect,skip_connect,-"


def test_in_nb201_none_may_be_selected() -> None:
    found = mixture_of(Nb201Space(), seed=None)
    with torch.no_grad():
        found.logits[0, 0] = 1.0
    settle(found)
    assert found.rows.architecture(found.decided).options[0] == "none"


def test_even_weights_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="--select perturbation"):
        settle(mixture_of(seed=None))


# -- SGAS ------------------------------------------------------------------------------------------------------------


def entropy(*shares: float) -> float:
    return -sum(s * math.log(s) for s in shares) / math.log(3)


def test_certainty_by_hand() -> None:
    found = mixture()
    names = list(found.rows.names)
    importance = [0.3, 0.9, 0.4, 0.9, 0.8]
    sure = [1 - entropy(*(float(w) / i for w in row[1:])) for row, i in zip(WEIGHTS, importance, strict=True)]

    def scaled(values: list[float]) -> list[float]:
        return [(v - min(values)) / (max(values) - min(values)) for v in values]

    expected = [a * b for a, b in zip(scaled(importance), scaled(sure), strict=True)]
    assert certainty(found, names) == pytest.approx(expected, abs=1e-5)
    # Over fewer rows, both are scaled over these.
    some = names[1:3]
    expected = [a * b for a, b in zip(scaled(importance[1:3]), scaled(sure[1:3]), strict=True)]
    assert certainty(found, some) == pytest.approx(expected, abs=1e-5)
    assert certainty(found, names[:1]) == [1.0]


def test_the_second_criterion_weighs_what_has_kept_still() -> None:
    found = mixture()
    names = list(found.rows.names)
    now = distributions(found)
    torch.testing.assert_close(now[0], torch.tensor([0.0, 1 / 3, 1 / 6, 1 / 2]))
    torch.testing.assert_close(now.sum(-1), torch.ones(5))
    moved = now.clone()
    moved[4] = torch.tensor([0.0, 0.45, 0.25, 0.10]) / 0.8
    # The last row's histograms share (0.10 + 0.25 + 0.10) / 0.8 = 0.5625, all others all; scaled, that is 0 and 1.
    plain, weighed = certainty(found, names), certainty(found, names, history=[moved])
    assert weighed[:4] == pytest.approx(plain[:4], abs=1e-5) and weighed[4] == pytest.approx(0, abs=1e-6)
    # Nothing has moved: no say.
    assert certainty(found, names, history=[now, now]) == pytest.approx(plain, abs=1e-4)


def test_a_node_that_has_its_edges_gives_up_the_others() -> None:
    found = mixture()
    found.decide(FROM[0], 1)
    settle_full_nodes(found)
    assert PAIRS not in found.decided
    found.decide(FROM[2], 3)
    settle_full_nodes(found)
    assert found.decided[PAIRS] == 1 and found.dropped == {FROM[1]}
    assert set(found.undecided) == {"normal.node2.from0", "normal.node2.from1"}
