import math

import pytest
import torch
from torch import Tensor, nn

from nascli.compressors.envelope.sparsifier import Envelope, Sparsifier, layer_weights
from nascli.compressors.groups.dependencies import channels
from nascli.compressors.groups.patterns import n_of_m
from nascli.compressors.selection import Rules, select, select_in_blocks
from search_spaces.groups import Groups
from tests.toy_prunable import toy

FREE = Rules(floor=0.0)


def grouped() -> tuple[nn.Module, Groups]:
    net, example = toy("padded")
    return net, channels(net, example, kind="filters")


def sparsifier(
    net: nn.Module, groups: Groups, envelope: Envelope, kept: float = 0.5, *, plain: bool = False
) -> Sparsifier:
    def alone(alive: Tensor) -> float:
        return float(alive.double().mean())

    ones = torch.ones(len(groups), dtype=torch.float64)
    return Sparsifier(
        net,
        groups,
        envelope,
        choose=lambda s, part: select(s, groups, envelope.rules, alone, kept**part),
        weigh=lambda: ones if plain else layer_weights(groups.squares(net.state_dict()).sqrt(), groups),
        prices=ones,
    )


def idle(net: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)


def test_groups_weigh_by_the_mean_square_of_those_that_live_on_their_axis() -> None:
    net, groups = grouped()
    optimiser = idle(net)
    shrinking = sparsifier(net, groups, Envelope(rules=FREE, prox_steps=(1e-9, 1e-9)))
    shrinking.step(optimiser, progress=0.0)
    norms, weights = shrinking.norms(), shrinking.notes["weights"]
    for axis in range(len(groups.names)):
        mine = groups.axis == axis
        assert float((norms[mine].square() * weights[mine]).mean()) == pytest.approx(1)
    # The scale of a layer is of no account, and neither are the dead.
    dead = torch.ones(len(groups), dtype=torch.float64)
    dead[0] = 0.0
    groups.scale_(dict(net.named_parameters()), dead)
    again = sparsifier(net, groups, shrinking._envelope)
    again.step(optimiser, progress=0.0)
    first = (groups.axis == groups.axis[0]) & (dead > 0)
    assert float((again.norms()[first].square() * again.notes["weights"][first]).mean()) == pytest.approx(1)


def test_the_ramp_ends_on_the_number_of_groups_there_is_room_for() -> None:
    net, groups = grouped()
    shrinking = sparsifier(net, groups, Envelope(rules=FREE, prox_steps=(1e-2, 0.95), stages=1))
    optimiser, alive = idle(net), []
    strongest = int(shrinking.norms().argmax())
    before = shrinking.norms()[strongest]
    for number in range(200):
        alive.append(shrinking.step(optimiser, progress=number / 200))
    assert alive[0] == len(groups) and alive[-1] == len(groups) // 2
    assert int(shrinking.select().sum()) == len(groups) // 2
    # The debiased operator leaves alone what stays.
    assert shrinking.norms()[strongest] == pytest.approx(float(before))


def test_the_level_is_approached_in_stages_with_weights_of_their_own() -> None:
    net, groups = grouped()
    shrinking = sparsifier(net, groups, Envelope(rules=FREE, prox_steps=(0.5, 0.99), stages=4), kept=0.5)
    optimiser, rooms, alive, weights = idle(net), [], [], []
    for step in range(80):
        alive.append(shrinking.step(optimiser, progress=step / 80))
        rooms.append(shrinking.notes["room"])
        weights.append(shrinking.notes["weights"])
    expected = [int(len(groups) * 0.5 ** (stage / 4)) for stage in (1, 2, 3, 4)]
    assert rooms[::20] == expected and rooms[19::20] == expected
    assert alive[19::20] == expected  # each stage ends where it should
    assert torch.equal(weights[20], weights[39]) and not torch.equal(weights[20], weights[40])


def test_survivors_keep_their_values_or_shrink_as_published() -> None:
    for operator, step in (("debiased", 0.9), ("published", 0.9)):
        net, groups = grouped()
        strength = "ramp" if operator == "debiased" else 5.0
        envelope = Envelope(operator, strength, (step, step), rules=FREE)  # type: ignore[arg-type]
        shrinking = sparsifier(net, groups, envelope, plain=True)
        before = shrinking.norms()
        shrinking.step(idle(net), progress=0.0)
        top = torch.topk(before, 1).indices
        size = 1.0 if operator == "debiased" else 1 / (1 + min(0.1, 0.1 * 5.0))
        assert torch.allclose(shrinking.norms()[top] / before[top], torch.tensor(size, dtype=torch.float64), rtol=1e-6)


def test_the_best_of_each_axis_are_out_of_reach() -> None:
    net, groups = grouped()
    with torch.no_grad():
        for name in ("conv1.weight", "bn1.weight", "bn1.bias"):
            net.get_parameter(f"layer2.0.{name}").mul_(1e-6)
    rules = Rules(floor=0.25)
    envelope = Envelope(rules=rules, prox_steps=(0.9, 0.9))
    shrinking = sparsifier(net, groups, envelope, kept=0.4, plain=True)
    for number in range(20):
        shrinking.step(idle(net), progress=number / 20)
    alive = torch.bincount(groups.axis[shrinking.norms() > 0], minlength=len(groups.names))
    assert (alive >= rules.floors(groups)).all()
    weak = groups.names.index("layer2.0.conv1")
    assert int(alive[weak]) == int(rules.floors(groups)[weak])


def test_dead_groups_lose_their_momentum() -> None:
    net, groups = grouped()
    optimiser = idle(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    shrinking = sparsifier(net, groups, Envelope(rules=FREE, prox_steps=(0.99, 0.99)))
    shrinking.step(optimiser, progress=0.0)
    dead = shrinking.norms() == 0
    assert dead.any() and not dead.all()
    buffers = {n: optimiser.state[p]["momentum_buffer"] for n, p in net.named_parameters()}
    momentum = groups.squares(buffers)
    assert (momentum[dead] == 0).all() and (momentum[~dead] > 0).all()


def test_the_automatic_strength_is_half_of_what_keeps_the_dead_dead() -> None:
    net, groups = grouped()
    envelope = Envelope("published", "auto", stages=1, rules=FREE)
    shrinking = sparsifier(net, groups, envelope, plain=True)
    draw = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)
    norms = shrinking.norms()
    pulls = groups.squares({n: p.grad for n, p in net.named_parameters() if p.grad is not None}).sqrt()
    order = norms.argsort(descending=True)
    room = len(groups) // 2
    shrinking.step(idle(net), progress=0.0)
    expected = 0.5 * float(pulls[order[room:]].max() / norms[order[room - 1]])
    assert shrinking.notes["strength"] == pytest.approx(expected)


def test_groups_that_turn_round_die_in_the_half_space_step() -> None:
    net, groups = grouped()
    envelope = Envelope(rules=FREE, prox_steps=(1e-9, 1e-9), half_space=0.0)
    shrinking = sparsifier(net, groups, envelope)
    victim = int(groups.axis.argmax())
    signs = torch.ones(len(groups), dtype=torch.float64)
    signs[victim] = -0.5
    groups.scale_(dict(net.named_parameters()), signs)
    shrinking.step(idle(net), progress=0.0)
    assert (shrinking.norms() == 0).nonzero().flatten().tolist() == [victim]


def test_blocks_have_a_budget_each() -> None:
    net, _ = toy("residual")
    groups, blocks = n_of_m(net, 2)
    ones = torch.ones(len(groups), dtype=torch.float64)
    shrinking = Sparsifier(
        net,
        groups,
        Envelope(rules=FREE, prox_steps=(0.99, 0.99)),
        choose=lambda s, part: select_in_blocks(s, blocks, 1),
        weigh=lambda: ones,
        prices=ones,
        blocks=blocks,
    )
    for _ in range(5):
        shrinking.step(idle(net), progress=0.5)
    assert ((shrinking.norms() > 0)[blocks].sum(1) == 1).all()


def test_the_ramp_is_geometric_and_other_steps_go_with_the_rate() -> None:
    ramp = Envelope(prox_steps=(1e-4, 1e-2))
    assert [ramp.step_size(p, 1.0, 0.0) for p in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-2])
    assert Envelope("published", 3.0).step_size(0.5, 0.01, 0.0) == pytest.approx(0.03)
    assert Envelope("published", "auto").step_size(0.5, 0.01, 2.0) == pytest.approx(0.02)
    assert Envelope("published", 1e9).step_size(0.5, 0.01, 0.0) == 0.1
    assert math.isfinite(ramp.step_size(1.0, 0.0, 0.0))
