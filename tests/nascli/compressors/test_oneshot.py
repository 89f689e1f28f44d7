import pytest
import torch

from nascli.compressors.oneshot import BNScale, Magnitude, OneShot, RandomGroups, Taylor, TorchPruning
from nascli.compressors.protocol import Level
from tests.toy_compression import compressed, macs, task, trained
from tests.toy_images import same

QUICK = {"steps": 6, "batch": 32, "floor": 0.0}
ALL = [
    Magnitude(**QUICK),  # type: ignore[arg-type]
    Magnitude(power=1, **QUICK),  # type: ignore[arg-type]
    Taylor(examples=64, **QUICK),  # type: ignore[arg-type]
    BNScale(**QUICK),  # type: ignore[arg-type]
    RandomGroups(**QUICK),  # type: ignore[arg-type]
    TorchPruning(**QUICK),  # type: ignore[arg-type]
    TorchPruning(importance="taylor", **QUICK),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("method", ALL, ids=lambda m: f"{type(m).__name__}{getattr(m, 'importance', '')}")
def test_every_criterion_meets_the_level_and_repeats_itself(method: OneShot) -> None:
    steps, network = compressed(method, Level(0.5))
    assert macs(network) <= 0.5 * macs(trained())
    assert steps[0].metrics["share"] == pytest.approx(macs(network) / macs(trained()))
    _, again = compressed(method, Level(0.5))
    assert again.key == network.key and same(dict(again.tensors or {}), dict(network.tensors or {}))


def test_chance_depends_on_the_seed() -> None:
    method = RandomGroups(**QUICK)  # type: ignore[arg-type]
    assert compressed(method, Level(0.5), seed=1)[1].key != compressed(method, Level(0.5), seed=2)[1].key


def test_it_goes_on_from_a_state() -> None:
    method = Magnitude(report_steps=2, **QUICK)  # type: ignore[arg-type]
    conversation = method.compress(trained(), Level(0.5), task())
    state = next(s.state() for s in conversation if s.state is not None)
    _, whole = compressed(method, Level(0.5))
    _, resumed = compressed(method, Level(0.5), state=state)
    assert resumed.key == whole.key and same(dict(resumed.tensors or {}), dict(whole.tensors or {}))


def test_torch_pruning_keeps_the_same_share_of_each_layer() -> None:
    _, network = compressed(TorchPruning(**QUICK), Level(0.5))  # type: ignore[arg-type]
    (edit,) = network.edits
    dense = dict(trained().tensors or {})
    shares = [
        len(kept) / dense[name].shape[0]
        for name, dims in edit.cuts.items()  # type: ignore[attr-defined]
        if dense[name].dim() == 4
        for dim, kept in dims.items()
        if dim == 0
    ]
    assert shares and max(shares) - min(shares) <= 0.25  # layers of four channels go in quarters
    assert torch.tensor(shares).mean() < 0.9
