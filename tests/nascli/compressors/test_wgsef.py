import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from nascli.compressors.protocol import Level
from nascli.compressors.wgsef import WGSEF
from nascli.engine.protocol import Step
from tests.toy_compression import compressed, macs, task, trained
from tests.toy_images import same

QUICK = WGSEF(steps=60, batch=32, pruning=0.6, stages=2, report_steps=20, floor=0.0, examples=32)


def told(steps: list[Step]) -> dict[str, float]:
    (last,) = [s.metrics for s in steps if "share" in s.metrics]
    return dict(last)


@pytest.mark.parametrize("kept", [0.8, 0.5, 0.3])
def test_the_network_has_the_share_of_macs_that_was_asked_for(kept: float) -> None:
    steps, network = compressed(QUICK, Level(kept, "macs"))
    share = macs(network) / macs(trained())
    assert share <= kept
    assert told(steps)["share"] == pytest.approx(share)
    assert len(network.edits) == len(trained().edits) + 1


def test_the_level_in_groups_is_met_exactly() -> None:
    steps, _ = compressed(QUICK, Level(0.5, "groups"))
    found = told(steps)
    assert found["alive"] == found["groups"] // 2


def test_nothing_dead_is_kept() -> None:
    # A ramp that ends on a hard choice kills what the last selection would have room for.
    _, network = compressed(replace(QUICK, prox_steps=(0.9, 0.99), stages=4), Level(0.45))
    for name, tensor in dict(network.tensors or {}).items():
        if name.endswith("conv.weight"):
            assert (tensor.flatten(1).abs().sum(1) > 0).all(), name


def test_the_ramp_lands_on_the_level_by_itself() -> None:
    steps, _ = compressed(replace(QUICK, steps=200, prox_steps=(1e-2, 0.9)), Level(0.5, "groups"))
    found = told(steps)
    alive = [s.metrics["alive"] for s in steps if "alive" in s.metrics]
    assert alive[0] > found["groups"] / 2  # nothing dies at once
    assert found["projected"] <= 1


def test_what_was_given_is_left_alone() -> None:
    before = {k: v.clone() for k, v in (trained().tensors or {}).items()}
    compressed(QUICK, Level(0.5))
    assert same(dict(trained().tensors or {}), before)


def test_it_still_tells_the_corners_apart() -> None:
    from nascli.engine.evaluate import Subject

    _, network = compressed(replace(QUICK, steps=150), Level(0.5))
    assert Subject(network, task()).quality("val")["accuracy"] > 80


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"operator": "published", "strength": "auto"},
        {"half_space": 0.2, "weights": "layer"},
        {"warm_up": 0.2},
        {"optimizer": "adamw", "lr": 1e-3},
        {"groups": ("n-of-m",), "block": 2},
        {"groups": ("weights",)},
    ],
)
def test_going_on_from_any_state_gives_the_same_network(settings: dict[str, Any]) -> None:
    kept = Level(0.5, "params")
    compressor = replace(QUICK, steps=24, report_steps=3, **settings)
    steps, whole = compressed(compressor, kept)
    states = [s.state() for s in steps if s.state is not None]
    assert len(states) >= 8
    # Those of the last step are all the same by now: what counts is what a file would have held. The pruning phase
    # has three fifths of the reports.
    for at in (1, 3, len(states) - 2):
        conversation = compressor.compress(trained(), kept, task())
        seen = 0
        for step in conversation:
            if step.state is not None:
                seen += 1
            if seen == at + 1:
                break
        assert step.state is not None
        held = io.BytesIO()
        torch.save(dict(step.state()), held)
        held.seek(0)
        _, resumed = compressed(compressor, kept, state=torch.load(held, weights_only=True))
        assert resumed.key == whole.key
        assert same(dict(resumed.tensors or {}), dict(whole.tensors or {})), f"resumed at report {at}"


def test_two_of_four_weights_of_each_block_stay() -> None:
    _, network = compressed(replace(QUICK, groups=("n-of-m",), block=4), Level(0.5, "params"))
    assert network.edits == ()
    tensors = dict(network.tensors or {})
    checked = 0
    for name, tensor in tensors.items():
        if tensor.dim() == 4 and tensor.shape[1] % 4 == 0:
            blocks = tensor.movedim(1, -1).reshape(-1, 4)
            assert ((blocks != 0).sum(1) <= 2).all(), name
            checked += 1
    assert checked


def test_single_weights_stay_zero_while_the_rest_is_trained() -> None:
    steps, network = compressed(replace(QUICK, groups=("weights",)), Level(0.3, "params"))
    found = told(steps)
    tensors = [t for n, t in dict(network.tensors or {}).items() if n.endswith("weight") and t.dim() > 1]
    assert sum(int((t != 0).sum()) for t in tensors) == found["alive"]


def test_the_published_operator_needs_strength_enough_to_prune() -> None:
    settings = {"operator": "published", "weights": "none", "priced": False, "stages": 1}
    weak, _ = compressed(replace(QUICK, strength=1e-4, **settings), Level(0.5, "groups"))  # type: ignore[arg-type]
    strong, _ = compressed(replace(QUICK, strength=10.0, **settings), Level(0.5, "groups"))  # type: ignore[arg-type]
    assert told(weak)["projected"] == told(weak)["groups"] - told(weak)["alive"]  # it did nothing, and says so
    assert told(strong)["projected"] < told(weak)["projected"] / 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operator": "published"}, "strength='auto'"),
        ({"operator": "published", "strength": "auto", "optimizer": "adamw"}, "optimizer='sgd'"),
        ({"pruning": 0.0}, "pruning=0.0"),
        ({"warm_up": 0.5, "pruning": 0.5}, "healing"),
        ({"prox_steps": (0.5, 0.1)}, "prox_steps"),
        ({"half_space": 1.0}, "half_space"),
        ({"strength": -1.0}, "strength"),
        ({"stages": 0}, "stages"),
        ({"groups": ()}, "groups"),
        ({"groups": ("tiles",)}, "tiles"),
        ({"distil": 1.5}, "distil"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WGSEF(**settings)
