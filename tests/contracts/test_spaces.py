"""What every space promises, for those that need no file; a third party's space can be added to EXAMPLES."""

from __future__ import annotations

import pickle
import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from torch import Tensor, nn

from nascli import plugins, settings
from search_spaces.errors import SpaceError
from search_spaces.gated import Gates, one_hot, uniform
from search_spaces.space import SearchSpace, Signature

DIGITS = Signature("image", (1, 8, 8), 4)
SMALL = Signature("image", (3, 24, 16), 5)
ODD = Signature("image", (1, 9, 7), 3)
NARROW = {"signature": SMALL, "preset": "imagenet", "depths": (1, 2)}

EXAMPLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mobile": ("mobile", {"signature": DIGITS}),
    "mobile-28": ("mobile", {"signature": SMALL, "preset": "28", "widths": (4, 6, 8), "depths": (1, 3)}),
    "mobile-imagenet": ("mobile", NARROW | {"widths": (8, 8, 16, 16, 24), "kernels": (3, 5, 7)}),
    "resnet": ("resnet", {"signature": DIGITS}),
    "resnet-32": ("resnet", {"signature": SMALL, "preset": "32", "widths": (4, 6, 8), "depths": (1, 3)}),
    "resnet-imagenet": ("resnet", NARROW | {"widths": (16, 32, 32, 40), "ratios": (0.25, 0.5)}),
    "nb201": ("nb201", {"signature": SMALL, "channels": 4, "cells": 1}),
    "nb201-odd": ("nb201", {"signature": ODD, "channels": 3, "cells": 2}),
    "nb101": ("nb101", {"signature": SMALL, "channels": 8, "stacks": 2, "modules": 2}),
    "nb101-odd": ("nb101", {"signature": ODD, "channels": 7, "modules": 1}),
    "darts": ("darts", {"signature": DIGITS, "channels": 2, "cells": 3}),
    "darts-none": ("darts", {"signature": ODD, "preset": "darts-none", "channels": 3, "cells": 3, "pool_norm": False}),
    "darts-s1": ("darts", {"signature": DIGITS, "preset": "s1", "channels": 2, "cells": 4}),
    "module": (
        "module",
        {"path": "torch.nn:Linear", "arguments": {"in_features": 4, "out_features": 3}, "signature": DIGITS},
    ),
}
FROM_FILES = {"table"}

SPACES: dict[str, SearchSpace] = {
    example: plugins.load("space", name)(**values) for example, (name, values) in EXAMPLES.items()
}


def has_supernet(space: SearchSpace) -> bool:
    try:
        space.supernet()
    except SpaceError:
        return False
    return True


SUPERNETS = [name for name, space in SPACES.items() if has_supernet(space)]
LISTABLE = [name for name, space in SPACES.items() if space.table.size < 20_000]

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
every_supernet = pytest.mark.parametrize("space", [SPACES[n] for n in SUPERNETS], ids=SUPERNETS)


def members(space: SearchSpace, count: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [space.table.smallest, space.table.largest, *(space.table.sample(rng) for _ in range(count))]


def images(space: SearchSpace, count: int = 6) -> Tensor:
    return torch.randn(count, *space.signature.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def used(space: SearchSpace) -> nn.Module:
    """A supernet no tensor of which is as it was made."""
    torch.manual_seed(0)
    net = space.supernet().double()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn_like(tensor)
                tensor.add_(noise.abs() if name.endswith("var") else 0.1 * noise)
    return net


def test_every_built_in_space_has_an_example() -> None:
    built_in = set(plugins.BUILT_IN["space"])
    assert built_in - FROM_FILES <= {name for name, _ in EXAMPLES.values()}


@every_space
def test_parse_inverts_str(space: SearchSpace) -> None:
    for arch in members(space, 30):
        assert space.table.parse(str(arch)) == arch


@every_space
def test_canonical_is_idempotent(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        arch = space.table.canonical([c.options[rng.integers(len(c.options))] for c in space.table.choices])
        assert space.table.canonical(arch.options) == arch


@every_space
def test_edits_give_members(space: SearchSpace) -> None:
    table, rng = space.table, np.random.default_rng(0)
    arch = table.smallest
    for _ in range(30):
        arch = table.crossover(table.mutate(arch, rng, 0.3), table.sample(rng), rng)
        assert table.parse(str(arch)) == arch == table.canonical(arch.options)


@pytest.mark.parametrize("space", [SPACES[n] for n in LISTABLE], ids=LISTABLE)
def test_size_is_the_number_of_members(space: SearchSpace) -> None:
    assert len(set(space.table.members())) == space.table.size


@every_space
def test_spaces_are_values(space: SearchSpace) -> None:
    again = pickle.loads(pickle.dumps(space))
    assert again == space and hash(again) == hash(space)
    assert again.table.fingerprint == space.table.fingerprint


@pytest.mark.parametrize("example", EXAMPLES)
def test_settings_survive_toml(example: str) -> None:
    name, values = EXAMPLES[example]
    plain = {k: v for k, v in values.items() if k != "signature"}
    cls = plugins.load("space", name)
    read = tomllib.loads(tomli_w.dumps(plain))
    assert settings.build(cls, read | {"signature": values["signature"]}, where=name) == SPACES[example]


@every_space
def test_building_draws_from_the_global_generator_alone(space: SearchSpace) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(space.build(space.table.largest).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@every_supernet
def test_built_networks_can_be_pickled_and_exported(space: SearchSpace) -> None:
    x = images(space, 2).float()
    net = pickle.loads(pickle.dumps(space.build(space.table.smallest))).eval()
    assert net(x).shape == (2, space.signature.classes)
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x), atol=1e-5, rtol=1e-4)


@every_supernet
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_built_network_with_inherited_tensors_equals_the_supernet(space: SearchSpace, training: bool) -> None:
    supernet, x = used(space).train(training), images(space)
    for arch in members(space, 3):
        plain = space.build(arch).double()
        plain.load_state_dict(space.inherit(supernet, arch), strict=True)
        expected = plain.train(training)(x)
        gates = one_hot(space.table, arch)
        torch.testing.assert_close(supernet(x, gates=gates), expected, atol=1e-8, rtol=1e-6, msg=str(arch))
        # The same network where gradients have to reach the gates: weights and masks instead of slices alone.
        for gate in gates.values():
            gate.requires_grad_()
        torch.testing.assert_close(supernet(x, gates=gates), expected, atol=1e-8, rtol=1e-6, msg=f"weighted {arch}")


@every_supernet
def test_equality_holds_in_single_precision(space: SearchSpace) -> None:
    supernet, x, arch = used(space).float().eval(), images(space).float(), space.table.sample(np.random.default_rng(2))
    plain = space.build(arch).eval()
    plain.load_state_dict(space.inherit(supernet, arch))
    torch.testing.assert_close(supernet(x, gates=one_hot(space.table, arch)), plain(x), atol=1e-5, rtol=1e-4)


@every_supernet
def test_inheriting_copies_and_draws_nothing(space: SearchSpace) -> None:
    supernet, state = used(space), torch.get_rng_state()
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    for tensor in space.inherit(supernet, space.table.largest).values():
        tensor.zero_()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())


@every_supernet
def test_inheriting_from_another_network_is_refused(space: SearchSpace) -> None:
    with pytest.raises(SpaceError):
        space.inherit(nn.Linear(2, 2), space.table.smallest)


@every_supernet
def test_the_forward_pass_leaves_the_supernet_as_it_was(space: SearchSpace) -> None:
    supernet, x = used(space).train(), images(space)
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    copy = x.clone()
    supernet(x, gates=one_hot(space.table, space.table.largest)).sum().backward()
    assert torch.equal(x, copy)
    assert all(torch.equal(v, before[k]) for k, v in supernet.state_dict().items())


def soft(space: SearchSpace, seed: int = 0) -> Gates:
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.rand(len(g), generator=rng).softmax(0).requires_grad_() for n, g in uniform(space.table).items()}


@every_supernet
def test_gradients_reach_every_gate(space: SearchSpace) -> None:
    supernet, gates = used(space).train(), soft(space)
    options = {choice.name: choice.options for choice in space.table.choices}
    out = supernet(images(space), gates=gates)
    assert out.shape == (6, space.signature.classes)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, gate in gates.items():
        assert gate.grad is not None and gate.grad.isfinite().all(), name
        # The weight of an option that computes nothing changes nothing by itself, only by what it leaves the others.
        computes = torch.tensor([option != "none" for option in options[name]])
        if len(gate) > 1:
            assert gate.grad[computes].ne(0).all(), (name, gate.grad)


@every_supernet
def test_gates_may_mix_certain_and_open_choices(space: SearchSpace) -> None:
    supernet, x = used(space).train(), images(space)
    # The last option of every choice, of those too that do not apply to the largest network: an open one may need them.
    certain = {c.name: torch.eye(len(c.options))[-1] for c in space.table.choices}
    applying = space.table.values(space.table.largest)
    for name, gate in [item for item in soft(space).items() if item[0] in applying][:6]:
        supernet(x, gates={**certain, name: gate}).square().sum().backward()
        assert gate.grad is not None, name


@every_supernet
def test_gates_close_to_one_architecture_give_nearly_its_results(space: SearchSpace) -> None:
    supernet, x = used(space).eval(), images(space)
    nearly = {n: g.double() + 1e-12 for n, g in one_hot(space.table, space.table.largest).items()}
    hard = supernet(x, gates=one_hot(space.table, space.table.largest))
    torch.testing.assert_close(supernet(x, gates=nearly), hard, atol=1e-6, rtol=1e-5)


@every_supernet
def test_smaller_is_smaller(space: SearchSpace) -> None:
    def weights(net: nn.Module) -> int:
        return sum(p.numel() for p in net.parameters())

    assert weights(space.build(space.table.smallest)) < weights(space.build(space.table.largest))
    assert weights(space.build(space.table.largest)) <= weights(space.supernet())


@every_supernet
def test_unused_parts_get_no_gradient(space: SearchSpace) -> None:
    supernet = used(space).train()
    supernet(images(space), gates=one_hot(space.table, space.table.smallest)).sum().backward()
    used_tensors = [p for p in supernet.parameters() if p.grad is not None]
    assert len(used_tensors) < len(list(supernet.parameters()))
    whole, inherited = supernet.state_dict(), space.inherit(supernet, space.table.smallest)
    if any(tensor.shape != whole[key].shape for key, tensor in inherited.items()):
        assert any((p.grad == 0).any() for p in used_tensors if p.grad is not None)
