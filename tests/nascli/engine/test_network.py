from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nascli.engine.network import Network, restore
from nascli.errors import SettingsError
from search_spaces import ArchitectureError
from tests.toys import TABLE, ToySpace

SPACE = ToySpace()
ARCH = TABLE.parse("toy:1/4,plain/-/-")


@dataclass(frozen=True)
class Wrap:
    """An edit: the network, and after it a layer that scales."""

    factor: float
    times: int = 1

    @property
    def name(self) -> str:
        return f"{__name__}:Wrap"

    def apply(self, model: nn.Module) -> nn.Module:
        scale = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            scale.weight.copy_(torch.eye(3) * self.factor**self.times)
        return nn.Sequential(model, scale)


def test_the_key_is_the_architecture_until_something_is_changed() -> None:
    plain = Network(ARCH)
    assert plain.key == str(ARCH) == "toy:1/4,plain/-/-"
    assert Network(ARCH, tag="epoch3").key == "toy:1/4,plain/-/-@epoch3"
    assert Network(ARCH, tensors={"w": torch.ones(1)}).key == plain.key


def test_edits_change_the_key_and_so_does_their_order() -> None:
    a, b = Wrap(2.0), Wrap(3.0)
    keys = [Network(ARCH, edits).key for edits in ((), (a,), (b,), (a, b), (b, a), (a, a))]
    assert len(set(keys)) == len(keys)
    assert Network(ARCH, (Wrap(2.0),), tag="t").key == Network(ARCH, (a,)).key + "@t"
    assert Network(ARCH, (Wrap(2.0, times=1),)).key == Network(ARCH, (a,)).key


def test_networks_are_equal_whatever_their_tensors() -> None:
    assert Network(ARCH, tensors={"w": torch.ones(2)}) == Network(ARCH)
    assert Network(ARCH, tag="a") != Network(ARCH)
    assert "tensor" not in repr(Network(ARCH, tensors={"w": torch.ones(2)}))


def test_a_description_restores_the_network() -> None:
    network = Network(ARCH, (Wrap(2.0), Wrap(0.5, times=3)), tag="epoch3")
    described = json.loads(json.dumps(network.describe()))
    assert restore(described, SPACE) == network
    assert restore(described, SPACE).key == network.key
    tensors = {"w": torch.ones(1)}
    assert restore(described, SPACE, tensors).tensors is tensors
    assert restore({"arch": str(ARCH)}, SPACE) == Network(ARCH)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"arch": "toy:9/4,plain/-/-"}, ArchitectureError, "net.depth='9' is not in toy"),
        ({"edits": [{"edit": "prune"}]}, SettingsError, "No edit is called 'prune'"),
        ({"edits": [{"edit": f"{__name__}:Wrap", "facto": 1.0}]}, SettingsError, "Did you mean 'factor'"),
    ],
)
def test_descriptions_that_cannot_be_restored(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        restore(Network(ARCH).describe() | change, SPACE)


def test_building_applies_edits_in_order_and_then_loads_tensors() -> None:
    network = Network(ARCH, (Wrap(2.0), Wrap(5.0)))
    model = network.build(SPACE)
    inputs = torch.randn(4, 1, 2, 2)
    torch.testing.assert_close(model(inputs), 10 * model[0][0](inputs))  # type: ignore[index]
    state = {k: v + 1 for k, v in model.state_dict().items()}
    again = Network(ARCH, network.edits, tensors=state).build(SPACE)
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):
        Network(ARCH, network.edits, tensors={}).build(SPACE)
