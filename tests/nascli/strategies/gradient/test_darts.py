from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.errors import UnsupportedError
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.bilevel.problem import Optimisers
from nascli.strategies.gradient.darts import Darts
from nascli.strategies.gradient.gated_net import GatedNet
from nascli.strategies.gradient.greedy import Greedy
from nascli.strategies.gradient.start import beginning
from nascli.strategies.gradient.watch import skip_share
from predictors.cost import count
from search_spaces.nb201 import Nb201Space
from search_spaces.space import SearchSpace
from tests.toy_cells import Cells, Planted, cells_task, finish, mixture_of, saved
from tests.toy_images import SIGNATURE

QUICK: dict[str, Any] = {"epochs": 2.0, "batch": 16, "optimisers": Optimisers(alpha_lr=0.02)}
SHORT = Greedy(first=1, every=1)
TWO = Cells(("normal", "reduce"))
ADVERTISED: dict[str, dict[str, Any]] = {
    "darts": {},
    "second-order": {"bilevel": Bilevel(name="unrolled")},
    "idarts": {"bilevel": Bilevel(name="implicit")},
    "lv-hba": {"bilevel": Bilevel(name="lv-hba")},
    "bo-rep": {"bilevel": Bilevel(name="bo-rep")},
    "limited": {"bilevel": Bilevel(name="lv-hba"), "max_macs": 500.0},
    "pc-darts": {"edge_weights": "learnt", "warm_up": 1.0},
    "gdas": {"relaxation": "gumbel", "temperature": (10.0, 0.1)},
    "drnas": {"relaxation": "dirichlet", "anchor": 0.1},
    "drnas-second-order": {"relaxation": "dirichlet", "bilevel": Bilevel(name="unrolled")},
    "gdas-idarts": {"relaxation": "gumbel", "bilevel": Bilevel(name="implicit")},
    "beta-darts": {"beta_decay": 50.0},
    "sdarts-rs": {"perturbation": 0.3},
    "sdarts-rs-bo-rep": {"perturbation": 0.3, "bilevel": Bilevel(name="bo-rep")},
    "robust": {"early_stop": "eigenvalue"},
    "robust-drnas": {"early_stop": "eigenvalue", "relaxation": "dirichlet"},
    "robust-gdas": {"early_stop": "eigenvalue", "relaxation": "gumbel"},
    "darts+": {"early_stop": "skips"},
    "sgas": {"decisions": "greedy", "greedy": SHORT},
    "sgas-2": {"decisions": "greedy", "greedy": replace(SHORT, criterion=2)},
    "sgas-pc": {"decisions": "greedy", "greedy": SHORT, "edge_weights": "learnt", "relaxation": "gumbel"},
}


def network(values: dict[str, Any], space: SearchSpace, **about: Any) -> Any:
    steps = finish(Darts(**{**QUICK, **values}), cells_task(space, **about))
    candidates = [n for s in steps for n in s.candidates]
    assert len(candidates) == 1 and len(steps[-1].candidates) == 1
    return candidates[0]


@pytest.mark.parametrize("name", ADVERTISED)
def test_every_variation_ends_with_one_member_without_none(name: str) -> None:
    found = network(ADVERTISED[name], TWO)
    chosen = TWO.table.values(TWO.table.parse(str(found.arch)))
    assert len([n for n in chosen if "from" in n]) == 8
    assert "none" not in chosen.values()


@pytest.mark.parametrize("name", ["darts", "gdas", "drnas", "sgas", "second-order"])
def test_nb201_too(name: str) -> None:
    found = network(ADVERTISED[name] | {"epochs": 1.0}, Nb201Space(SIGNATURE, channels=2, cells=1), train=16)
    assert len(found.arch.options) == 6


def test_partial_channels_with_edge_weights_on_nb201() -> None:
    space = Nb201Space(SIGNATURE, channels=4, cells=1)
    found = network({"partial_channels": 2, "edge_weights": "learnt"}, space)
    assert found.tensors is None


def test_the_planted_options_are_learnt_by_gradients() -> None:
    settings = {"epochs": 12.0, "optimisers": Optimisers(alpha_lr=0.1, alpha_decay=0.0)}
    space = Planted()
    chosen = space.table.values(network(settings, space).arch)
    assert [chosen[f"normal.node2.from{s}"] for s in (0, 1)] == ["right", "left"]


def test_a_limit_on_multiply_adds_is_kept_in_expectation_and_by_what_is_found() -> None:
    space = Cells()
    for limit, costly in ((150.0, False), (1e9, True)):
        settings = Darts(**{**QUICK, "epochs": 4.0}, bilevel=Bilevel(name="lv-hba"), max_macs=limit)
        steps = finish(settings, cells_task(space))
        loop_state = next(s.state() for s in reversed(steps[:-2]) if s.state is not None)
        mixture = mixture_of(space)
        mixture.load({**loop_state["mixture"], "decided": {}, "dropped": []})
        expected = 144 + 36 * mixture.weights()[:, 3].sum().item()
        assert (expected > 160) == costly
        found = steps[-1].candidates[0].build(space).eval()
        assert costly or count(found, (torch.zeros(1, 1, 4, 4),)).macs <= 150


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="use it with strategy 'darts-pt'"):
        Darts(alpha="fixed")
    with pytest.raises(ValueError, match="early_stop='skips' does not go with decisions='greedy'"):
        Darts(decisions="greedy", early_stop="skips")


def test_early_stopping_ends_the_search_before_its_time() -> None:
    settings = Darts(
        **{**QUICK, "epochs": 4.0, "optimisers": Optimisers(alpha_lr=1e-6)}, early_stop="skips", alpha_noise=3
    )
    lengths: dict[bool, float] = {}
    for seed in range(40):
        task = cells_task(Cells(), seed=seed)
        mixture = beginning(settings, task).mixture
        collapsed = skip_share(mixture, mixture.weights()) > 0.5
        if collapsed not in lengths:
            lengths[collapsed] = max(s.metrics.get("epoch", 0.0) for s in finish(settings, task))
    assert lengths == {True: 1.0, False: 4.0}


# -- from a trained supernet -----------------------------------------------------------------------------------------


def test_a_trained_supernet_is_selected_from_at_once(tmp_path: Path) -> None:
    mixture = mixture_of(TWO)
    task = cells_task(TWO, supernet=saved(tmp_path, cells_task(TWO), mixture))
    steps = finish(Darts(epochs=50), task)
    assert not any("loss" in s.metrics for s in steps)
    best = mixture.weights()[:, 1:].argmax(-1) + 1
    chosen = TWO.table.values(steps[-1].candidates[0].arch)
    for name, option in chosen.items():
        if "from" in name:
            assert option == mixture.rows.options(name)[int(best[mixture.rows.row(name)])]
    assert steps[-1].candidates[0].tag == "searched"


def test_even_weights_cannot_be_selected_by(tmp_path: Path) -> None:
    space = Planted()
    task = cells_task(space, supernet=saved(tmp_path, cells_task(space), mixture_of(space, seed=None)))
    with pytest.raises(UnsupportedError, match="--select perturbation"):
        finish(Darts(), task)


def test_the_gated_supernet_and_the_network_found_agree(tmp_path: Path) -> None:
    # With noise chosen nowhere, the network found computes what the supernet does under its decisions.
    space, mixture = TWO, mixture_of(TWO)
    with torch.no_grad():
        mixture.logits[:, 2] = -9.0
    task = cells_task(space, supernet=saved(tmp_path, cells_task(space), mixture))
    (found,) = finish(Darts(), task)[-1].candidates
    net = space.supernet()
    net.load_state_dict({k: found.tensors.get(k, v) for k, v in net.state_dict().items()})
    mixture.decided = space.table.positions(found.arch)
    x = torch.randn(5, 1, 4, 4)
    gated = GatedNet(net, mixture.gates(mixture.weights().detach())).eval()
    torch.testing.assert_close(found.build(space).eval()(x), gated(x))
