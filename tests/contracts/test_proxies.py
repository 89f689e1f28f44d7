"""What holds for every proxy: a finite, repeatable number or a clear refusal, and a network that stays as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from nascli import plugins, settings
from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe
from predictors.protocol import Proxy
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, dead, images, made, state

FITTED = {"parzc"}
"""Proxies that need a file with what they learnt."""
NAMES = [name for name in plugins.names("proxy") if name not in FITTED]


class Residual(nn.Module):
    """A small network with what proxies look for: normalised blocks in a row, rectifiers, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()) for _ in range(3)
        )
        self.classifier = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def residual() -> nn.Module:
    return made(Residual)


def proxy(name: str) -> Proxy:
    found: Proxy = settings.build(plugins.load("proxy", name), {}, where=name)
    return found


def probe(model: nn.Module) -> Probe:
    return Probe(model, images(8), second=images(8, seed=1), seed=3)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_finite_repeatable_and_leave_the_model_alone(name: str) -> None:
    model = residual().eval()
    before, random = state(model), torch.get_rng_state()
    first, second = proxy(name)(probe(model)), proxy(name)(probe(model))
    assert math.isfinite(first) and isinstance(first, float)
    assert first == second
    assert state(model) == before and torch.equal(random, torch.get_rng_state())


@pytest.fixture(scope="module")
def together() -> Mapping[str, float]:
    """All scores of one probe, asked for in reverse order."""
    shared = probe(residual())
    return {name: proxy(name)(shared) for name in reversed(NAMES)}


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_what_else_is_asked_for(name: str, together: Mapping[str, float]) -> None:
    assert together[name] == proxy(name)(probe(residual()))


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_network_gets_no_made_up_number(name: str) -> None:
    about = proxy(name).about
    if not about.passes:
        pytest.skip("counts what is there, dead or alive")
    # What looks at activations sees that nothing comes in, what looks at gradients that nothing comes back.
    with pytest.raises(ScoreError):
        for kind in ("output", "input"):
            proxy(name)(probe(dead(kind)))


TOKENS = Batch((torch.arange(30).view(6, 5) % 11,), torch.arange(6) % 4)
NODES = Batch(
    (torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([[*range(8)], [*range(1, 8), 0]])),
    torch.arange(8) % 3,
)
OTHERS: Mapping[str, Callable[[], Probe]] = {
    "sentences": lambda: Probe(made(Sentences), TOKENS, second=TOKENS),
    "graph": lambda: Probe(made(Messages), NODES, second=NODES, examples="coupled"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_sequences_and_graphs_are_scored_or_refused_in_one_sentence(name: str, kind: str) -> None:
    under = OTHERS[kind]()
    before = state(under.model)
    try:
        assert math.isfinite(proxy(name)(under))
    except ScoreError as refused:
        assert len(str(refused)) > 10 and "\n" not in str(refused)
        assert not isinstance(refused, DeadNetworkError)
    assert state(under.model) == before


@pytest.mark.parametrize("kind", OTHERS)
def test_gradsign_scores_sequences_and_graphs(kind: str) -> None:
    assert proxy("gradsign")(OTHERS[kind]()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    about = proxy(name).about
    assert about.goal in ("min", "max") and about.cost >= 0 and about.needs in ("nothing", "data", "labels")
    assert (about.cost == 0) == (not about.passes)
    assert any(year in about.paper for year in map(str, range(1988, 2030)))
