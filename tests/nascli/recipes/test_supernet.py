from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascli import training
from nascli.engine.evaluate import measure
from nascli.engine.network import Network
from nascli.engine.protocol import Step
from nascli.errors import UnsupportedError
from nascli.recipes.schedule import Recipe
from nascli.recipes.session import Session
from nascli.recipes.supernet import Progressive, Sandwich, SinglePath, cut
from search_spaces import Architecture, ChoiceTable
from search_spaces.gated import one_hot
from search_spaces.space import SearchSpace, Signature
from tests.toy_images import MOBILE, RESNET, Single, corners, image_task, same

RECIPES: list[Recipe] = [
    SinglePath(steps=10, batch=20),
    Sandwich(steps=6, batch=20, nets=3),
    Progressive(steps=12, batch=20, nets=(1, 1, 2)),
]
IDS = [type(r).__name__ for r in RECIPES]


@dataclass(frozen=True)
class Watched(SearchSpace):
    """Another space, and what was done with its supernet: "sorted", and the architecture of each forward pass."""

    inner: SearchSpace = RESNET
    seen: list[Architecture | str] = field(default_factory=list, compare=False)

    @property
    def table(self) -> ChoiceTable:
        return self.inner.table

    @property
    def signature(self) -> Signature:
        return self.inner.signature

    def build(self, arch: Architecture) -> nn.Module:
        return self.inner.build(arch)

    def inherit(self, supernet: nn.Module, arch: Architecture) -> dict[str, Tensor]:
        return self.inner.inherit(supernet, arch)

    def supernet(self) -> nn.Module:
        supernet = self.inner.supernet()
        supernet.register_forward_pre_hook(self._note, with_kwargs=True)
        return supernet

    def sort_channels(self, supernet: nn.Module) -> None:
        self.seen.append("sorted")
        self.inner.sort_channels(supernet)  # type: ignore[attr-defined]

    def _note(self, module: nn.Module, inputs: Any, named: Mapping[str, Any]) -> None:
        gates = named["gates"]
        self.seen.append(self.table.from_indices([int(gates[c.name].argmax()) for c in self.table.choices]))


def run(recipe: Recipe, space: SearchSpace = RESNET, *, seed: int = 0, state: Any = None) -> list[Step]:
    return list(recipe.search(image_task(space, seed=seed), state))


def final(steps: list[Step]) -> dict[str, Any]:
    return [s.state() for s in steps if s.state is not None][-1]["model"]  # type: ignore[return-value]


# -- what all recipes promise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_going_on_from_any_state_gives_the_same_bits(recipe: Recipe) -> None:
    states = [s.state() for s in replace(recipe, report_steps=1).search(image_task()) if s.state]
    assert len(states) == recipe.steps
    for at in (0, 3, 4):
        again = run(recipe, state=states[at])
        assert same(final(again), states[-1]["model"]), f"resumed after step {at + 1}"
    (only,) = run(recipe, state=states[-1])
    assert [n.key for n in only.candidates] == [n.key for n in again[-1].candidates]
    for left, right in zip(only.candidates, again[-1].candidates, strict=True):
        assert same(left.tensors, right.tensors)


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_seeds_decide_everything_and_torch_generators_are_left_alone(recipe: Recipe) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (final(run(recipe, seed=seed)) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_the_last_step_offers_both_ends_calibrated(recipe: Recipe) -> None:
    task = image_task()
    *_, complete, last = recipe.search(task)
    assert complete.metrics["progress"] == 1 and complete.state is not None
    tag = f"step{complete.state()['step']}"
    assert [n.key for n in last.candidates] == [f"{a}@{tag}" for a in (RESNET.table.largest, RESNET.table.smallest)]
    supernet = RESNET.supernet()
    supernet.load_state_dict(complete.state()["model"])
    for network in last.candidates:
        expected = cut(supernet, network.arch, task)
        assert network.tensors is not None and same(dict(network.tensors), expected)
        assert not torch.equal(network.tensors["stem.bn.running_var"], torch.ones(8))
        assert not measure(network, task).error


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_the_mobile_space_trains_too(recipe: Recipe) -> None:
    assert all(np.isfinite(s.metrics["loss"]) for s in run(recipe, MOBILE)[:-1])


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_a_space_without_supernet_is_refused_with_the_way_out(recipe: Recipe) -> None:
    with pytest.raises(UnsupportedError, match="no supernet.*recipe plain"):
        run(recipe, Single())


def test_a_cut_network_says_what_the_supernet_says() -> None:
    task = image_task()
    torch.manual_seed(0)
    supernet = RESNET.supernet().train()
    rng = np.random.default_rng(0)
    (batch,) = task.data.train.head(task.calibration).batches(64)  # type: ignore[union-attr]
    for _ in range(5):
        arch = RESNET.table.sample(rng)
        model = Network(arch, tensors=cut(supernet, arch, replace(task, batch_size=64))).build(RESNET).eval()
        # Calibrated on one batch, the statistics are the batch's own, as they are when training.
        expected = supernet(*batch.inputs, gates=one_hot(RESNET.table, arch))
        torch.testing.assert_close(model(*batch.inputs), expected, atol=1e-4, rtol=1e-3)


# -- single path -------------------------------------------------------------------------------------------------------


def test_single_path_warms_up_the_largest_and_then_draws_one_a_step() -> None:
    space = Watched()
    run(SinglePath(steps=40, batch=24, warm_share=0.3), space)
    assert len(space.seen) == 40
    assert set(space.seen[:12]) == {RESNET.table.largest}
    assert len(set(space.seen[12:])) > 15


def test_single_path_teaches_the_whole_space() -> None:
    task = image_task(data=corners(192, noise=100))
    fresh = RESNET.supernet()
    recipe = SinglePath(steps=120, batch=24, lr=0.1)
    trained = RESNET.supernet()
    trained.load_state_dict(final(list(recipe.search(task))))
    rng = np.random.default_rng(0)
    for arch in (RESNET.table.largest, RESNET.table.smallest, *(RESNET.table.sample(rng) for _ in range(4))):
        before, after = (
            measure(Network(arch, tensors=cut(net, arch, task)), task).values["accuracy"] for net in (fresh, trained)
        )
        assert after > 85 and after > before + 20, f"{arch}: {before} -> {after}"


def test_single_path_refuses_a_share_beyond_all() -> None:
    with pytest.raises(ValueError, match="warm_share=1.5"):
        SinglePath(warm_share=1.5)


# -- sandwich ----------------------------------------------------------------------------------------------------------


def test_sandwich_trains_both_ends_in_each_step() -> None:
    space = Watched()
    run(Sandwich(steps=3, batch=24, nets=4), space)
    steps = [space.seen[i : i + 4] for i in range(0, 12, 4)]
    assert len(space.seen) == 12
    assert all(s[0] == RESNET.table.largest and s[3] == RESNET.table.smallest for s in steps)
    assert len({a for s in steps for a in s[1:3]}) > 3


def test_sandwich_teaches_the_small_what_the_largest_says_and_not_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    # One step without clipping, momentum or decay: the weights move by -lr times the gradient, worked out here again.
    task, recipe = (
        image_task(),
        Sandwich(steps=1, batch=96, nets=2, lr=1.0, ramp=0.0, clip=float("inf"), weight_decay=0.0),
    )
    sgd = training.sgd
    monkeypatch.setattr(training, "sgd", lambda model, **kw: sgd(model, lr=1.0, weight_decay=0.0, momentum=0.0))
    begun: list[dict[str, Tensor]] = []
    used: list[tuple[Tensor, Tensor]] = []
    advance = Session._advance
    monkeypatch.setattr(
        Session, "_advance", lambda self, *a: (begun.append(self.state()["model"]), advance(self, *a))[1]
    )
    batches = type(task.data.train).batches  # type: ignore[union-attr]

    def kept(self: Any, *a: Any, **kw: Any) -> Any:
        for batch in batches(self, *a, **kw):
            used.append((batch.inputs[0], batch.targets))
            yield batch

    monkeypatch.setattr(type(task.data.train), "batches", kept)  # type: ignore[union-attr]
    after = final(list(recipe.search(task)))

    net = RESNET.supernet().train()
    net.load_state_dict(begun[0])
    images, targets = used[0]
    table = RESNET.table
    large = net(images, gates=one_hot(table, table.largest))
    small = net(images, gates=one_hot(table, table.smallest))
    answer = large.detach().softmax(-1)
    loss = nn.functional.cross_entropy(large, targets, label_smoothing=0.1)
    (loss - (answer * small.log_softmax(-1)).sum(-1).mean()).backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(after[name], parameter.detach() - parameter.grad, atol=1e-5, rtol=1e-4)


def test_sandwich_refuses_a_single_slice() -> None:
    with pytest.raises(ValueError, match="nets=1"):
        Sandwich(nets=1)


# -- progressive -------------------------------------------------------------------------------------------------------


def last_parts(names: frozenset[str]) -> set[str]:
    return {n.rpartition(".")[2] for n in names}


def test_phases_unlock_in_order_and_share_the_budget() -> None:
    phases = Progressive(lr=1.0).phases(MOBILE.table)
    assert [(p.name, p.nets) for p in phases] == [("largest", 1), ("kernel", 1), ("depth", 2), ("width", 4)]
    assert [last_parts(p.unlocked) for p in phases[:3]] == [set(), {"kernel"}, {"kernel", "depth"}]
    assert last_parts(phases[3].unlocked) >= {"kernel", "depth", "expand", "width"}
    assert [p.span.start for p in phases] == pytest.approx([0, 0.3, 0.5, 0.75])
    assert [p.span.end for p in phases] == pytest.approx([0.3, 0.5, 0.75, 1])
    assert [p.span.scale for p in phases] == [1.0, 0.3, 0.3, 0.3] and phases[-1].span.end == 1.0


def test_phases_without_choices_are_passed_over() -> None:
    phases = Progressive().phases(RESNET.table)
    assert [p.name for p in phases] == ["largest", "depth", "width"]
    assert [p.span.end for p in phases] == pytest.approx([0.375, 0.6875, 1])
    assert [p.name for p in Progressive().phases(Single().table)] == ["largest"]


def test_progressive_draws_only_what_is_unlocked_and_sorts_before_widths_shrink() -> None:
    space = Watched(MOBILE)
    recipe = Progressive(steps=40, batch=24, nets=(1, 1, 2))
    run(recipe, space)
    at = space.seen.index("sorted")
    assert space.seen.count("sorted") == 1 and at == 30
    largest = MOBILE.table.values(MOBILE.table.largest)
    bounds = ((0, 12), (12, 20), (20, 30), (31, len(space.seen)))
    for phase, (start, end) in zip(recipe.phases(MOBILE.table), bounds, strict=True):
        varied = set()
        for arch in space.seen[start:end]:
            assert isinstance(arch, Architecture)
            varied |= {n for n, o in MOBILE.table.values(arch).items() if o != largest[n]}
        assert varied <= phase.unlocked, phase.name
        assert bool(varied) == bool(phase.unlocked), phase.name
    assert len(space.seen) == 12 + 8 + 10 + 1 + 2 * 10


def test_the_teacher_is_the_largest_network_as_it_was_after_the_first_phase() -> None:
    recipe = Progressive(steps=12, batch=20, nets=(1, 1, 1), report_steps=1)
    task = image_task()
    states = [s.state() for s in recipe.search(task) if s.state]
    phases = recipe.phases(RESNET.table)
    first = sum(s["step"] / 12 <= phases[0].span.end for s in states)
    ended = RESNET.supernet()
    ended.load_state_dict(states[4]["model"])
    teacher = cut(ended, RESNET.table.largest, task)
    assert first == 4 and states[4]["notes"] == {"phase": 0} and states[5]["notes"]["phase"] == 1
    assert all(same(s["notes"]["teacher"], teacher) for s in states[5:])


def test_later_phases_learn_from_the_teacher() -> None:
    recipe = Progressive(steps=12, batch=20, nets=(1, 1, 1))
    with_teacher, without = (final(run(replace(recipe, distillation=d))) for d in (1.0, 0.0))
    assert not same(with_teacher, without)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"shares": (1, 1, 1, 0)}, "shares"),
        ({"nets": (1, 0, 1)}, "nets"),
        ({"later_lr": 0}, "later_lr"),
        ({"distillation": -1}, "distillation"),
    ],
)
def test_progressive_refuses_settings_that_make_no_sense(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Progressive(**values)
