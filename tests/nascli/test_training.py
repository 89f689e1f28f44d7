import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli import training
from nascli.errors import DataError, NascliError
from search_spaces.space import Batch
from tests.toy_images import corners


class Rows:
    """A split of given inputs [n, f] and targets [n], with no images about it."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, *, device: str = "cpu", rng: np.random.Generator | None = None) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield Batch((self.inputs[start : start + size],), self.targets[start : start + size])

    def head(self, count: int) -> "Rows":
        return Rows(self.inputs[:count], self.targets[:count])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batches(*sizes: int, shape: tuple[int, ...]) -> list[Batch]:
    return [
        Batch((noise(n, *shape, seed=i) * (i + 1) + i,), torch.zeros(n, dtype=torch.long)) for i, n in enumerate(sizes)
    ]


# -- evaluate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_evaluate_is_the_mean_over_examples_whatever_the_batches(size: int) -> None:
    logits, targets = noise(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = training.evaluate(nn.Identity(), Rows(logits, targets), batch_size=size, device="cpu")
    assert found["accuracy"] == pytest.approx(100 * np.mean((logits.argmax(1) == targets).numpy()))
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)


def test_evaluate_uses_evaluation_mode_and_gives_every_mode_back() -> None:
    frozen = nn.BatchNorm1d(4).eval()
    model = nn.Sequential(nn.Dropout(0.5), frozen, nn.Linear(4, 3)).train()
    frozen.eval()
    rows = Rows(noise(8, 4), torch.zeros(8, dtype=torch.long))
    first, second = (training.evaluate(model, rows, batch_size=8, device="cpu") for _ in range(2))
    assert first == second
    assert model.training and model[0].training and not frozen.training
    assert all(p.grad is None for p in model.parameters())


def test_evaluate_counts_the_targets_of_sequences() -> None:
    logits = torch.tensor([[[9.0, 0], [9, 0], [0, 9]], [[9, 0], [0, 9], [0, 9]]])
    rows = Rows(logits, torch.tensor([[0, 0, 0], [1, 1, 1]]))
    assert training.evaluate(nn.Identity(), rows, batch_size=1, device="cpu")["accuracy"] == pytest.approx(100 * 4 / 6)


def test_evaluate_hands_gates_to_a_supernet() -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor, gates: dict[str, Tensor]) -> Tensor:
            return x * gates["sign"]

    rows = Rows(torch.eye(3) * 5, torch.arange(3))
    for sign, accuracy in ((1.0, 100.0), (-1.0, 0.0)):
        gates = {"sign": torch.tensor(sign)}
        found = training.evaluate(Gated(), rows, batch_size=2, device="cpu", gates=gates)
        assert found["accuracy"] == accuracy


def test_evaluate_normalised_by_the_batch_is_training_mode_and_leaves_no_trace() -> None:
    norm, frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4).eval()
    model = nn.Sequential(norm, nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False)).eval()
    model.append(nn.Identity())
    model[1].train()
    for layer in (norm, frozen):
        layer.running_mean.fill_(7)
    modes, buffers = [m.training for m in model.modules()], [b.clone() for b in model.buffers()]
    x, targets = noise(8, 4, seed=1), torch.arange(8) % 3
    rows = Rows(x, targets)
    found = training.evaluate(model, rows, batch_size=4, device="cpu", normalised_by="batch")
    losses = []
    for half, wanted in ((x[:4], targets[:4]), (x[4:], targets[4:])):
        y = F.batch_norm(half, None, None, norm.weight, norm.bias, True)
        y = F.batch_norm(model[1](y), None, None, None, None, True)
        losses.append(F.cross_entropy(y, wanted).item())
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert found != training.evaluate(model, rows, batch_size=4, device="cpu")


def test_buffers_come_back_after_a_failure_too() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(5, 3)).eval()
    before = model[0].running_mean.clone()
    rows = Rows(noise(8, 4, seed=1) + 5, torch.zeros(8).long())
    with pytest.raises(RuntimeError):
        training.evaluate(model, rows, batch_size=4, device="cpu", normalised_by="batch")
    assert torch.equal(model[0].running_mean, before) and not model[0].training


def test_evaluate_refuses_an_empty_split() -> None:
    with pytest.raises(DataError, match="no examples"):
        training.evaluate(nn.Identity(), Rows(noise(0, 3), torch.zeros(0).long()), batch_size=2, device="cpu")


# -- calibrate ---------------------------------------------------------------------------------------------------------


def test_calibrate_by_hand() -> None:
    # Two batches of one channel: [0, 2] has mean 1, variance 1; [3, 3, 6, 8] has mean 5, variance 4.5.
    layer = nn.BatchNorm1d(1)
    data = [Batch((torch.tensor(values).view(-1, 1),), torch.tensor(0)) for values in ([0.0, 2], [3.0, 3, 6, 8])]
    training.calibrate(layer, data)
    assert layer.running_mean.tolist() == pytest.approx([(2 * 1 + 4 * 5) / 6])
    assert layer.running_var.tolist() == pytest.approx([(2 * 1 + 4 * 4.5) / 6])


def test_calibrate_feeds_each_layer_what_batch_statistics_make_of_the_layers_before() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm2d(3)).eval()
    data = batches(5, 3, shape=(2, 6, 6))
    means, variances = [], []
    for batch in data:
        x = model[0](batch.inputs[0])
        x = F.relu(F.batch_norm(x, None, None, model[1].weight, model[1].bias, True))
        means.append(x.mean((0, 2, 3)))
        variances.append(x.var((0, 2, 3), unbiased=False))
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" not in k}
    training.calibrate(model, data)
    torch.testing.assert_close(model[4].running_mean, (5 * means[0] + 3 * means[1]) / 8)
    torch.testing.assert_close(model[4].running_var, (5 * variances[0] + 3 * variances[1]) / 8)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not any(m.training for m in model.modules()) and model[1].momentum == model[4].momentum == 0.1


def test_calibrated_accuracy_of_one_batch_is_that_in_training_mode() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).train()
    (batch,) = batches(6, shape=(1, 2, 2, 2))
    training.calibrate(model, [batch])
    assert model.training and model[1].training
    expected = model(*batch.inputs)
    training.calibrate(model, [batch])
    torch.testing.assert_close(model.eval()(*batch.inputs), expected)


def test_calibrate_twice_gives_the_same_and_leaves_torch_generators_alone() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4))
    before = torch.get_rng_state()
    training.calibrate(model, batches(4, 4, shape=(4,)))
    first = model[1].running_var.clone()
    training.calibrate(model, batches(4, 4, shape=(4,)))
    assert torch.equal(model[1].running_var, first)
    assert torch.equal(torch.get_rng_state(), before)


def test_calibrate_heals_statistics_that_are_no_numbers() -> None:
    layer = nn.BatchNorm1d(2)
    layer.running_mean.fill_(math.nan)
    layer.running_var.fill_(math.inf)
    training.calibrate(layer, batches(4, shape=(2,)))
    assert layer.running_mean.isfinite().all() and layer.running_var.isfinite().all()


def test_calibrate_counts_a_layer_that_is_used_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1, affine=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(x + 10)

    model = Twice()
    x = torch.tensor([[1.0], [3.0]])
    training.calibrate(model, [Batch((x,), torch.tensor(0))])
    assert model.norm.running_mean.item() == pytest.approx((2 + 12) / 2)


def test_calibrate_leaves_a_layer_alone_that_the_data_never_reach_or_that_keeps_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    model.spare = nn.BatchNorm1d(2)
    model.forward = lambda x: model[1](model[0](x))  # type: ignore[method-assign]
    model.spare.running_mean.fill_(7)
    training.calibrate(model, batches(4, shape=(2,)))
    assert model.spare.running_mean.tolist() == [7, 7] and model[1].running_mean is None


def test_calibrate_does_not_run_a_model_without_batch_normalisation() -> None:
    class Untouchable(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("I was run")

    training.calibrate(nn.Sequential(Untouchable(2, 2), nn.LayerNorm(2)), batches(4, shape=(2,)))


def test_calibrate_leaves_out_a_last_batch_of_one() -> None:
    layer, alike = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    training.calibrate(layer, batches(4, 1, shape=(2,)))
    training.calibrate(alike, batches(4, shape=(2,)))
    assert torch.equal(layer.running_mean, alike.running_mean)


def test_calibrate_refuses_no_data_and_leaves_the_model_as_it_was() -> None:
    layer = nn.BatchNorm1d(2)
    layer.running_mean.fill_(7)
    with pytest.raises(DataError, match="no examples"):
        training.calibrate(layer, [])
    assert layer.running_mean.tolist() == [7, 7] and layer.momentum == 0.1 and layer.training


def test_a_failing_pass_leaves_no_traces() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(3, 3))
    before = model[0].running_mean.clone()
    with pytest.raises(RuntimeError):
        training.calibrate(model, batches(4, shape=(2,)))
    assert torch.equal(model[0].running_mean, before) and model[0].momentum == 0.1 and not model[0]._forward_hooks


def test_calibrate_works_on_what_a_split_gives() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    training.calibrate(model, corners().train.head(50).batches(16))
    assert model[1].running_var.isfinite().all()


# -- training ----------------------------------------------------------------------------------------------------------


def test_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    decaying, rest = training.sgd(model, lr=0.1, weight_decay=0.5).param_groups
    assert decaying["params"] == [model[0].weight] and decaying["weight_decay"] == 0.5
    assert rest["params"] == [model[1].weight, model[1].bias] and rest["weight_decay"] == 0
    assert decaying["nesterov"] and decaying["momentum"] == 0.9


def test_a_model_of_vectors_only_has_an_optimiser() -> None:
    (group,) = training.sgd(nn.LayerNorm(3), lr=0.1, weight_decay=0.5).param_groups
    assert group["weight_decay"] == 0


def test_step_goes_down_the_sum_of_the_gradients() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    for _ in range(2):  # the second step does not see the first one's gradients
        before = weight.detach().clone()
        loss = training.step(optimiser, iter([(weight * torch.tensor([1.0, 3.0])).sum(), 2 * weight[0]]))
        torch.testing.assert_close(before - weight.detach(), 0.1 * torch.tensor([3.0, 3.0]))
    assert loss.item() == pytest.approx((0.7 + 3 * 1.7 + 2 * 0.7) / 2) and not loss.requires_grad


def test_step_clips_by_value() -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    training.step(optimiser, [(weight * torch.tensor([0.25, 5.0, -7.0])).sum()], clip=0.5)
    assert weight.tolist() == [-0.25, -0.5, 0.5]


def test_step_differentiates_each_loss_before_it_asks_for_the_next() -> None:
    weight = nn.Parameter(torch.ones(1))
    seen = []

    def losses() -> Iterator[Tensor]:
        for _ in range(3):
            seen.append(0 if weight.grad is None else weight.grad.item())
            yield weight.sum()

    training.step(torch.optim.SGD([weight], lr=0.1), losses())
    assert seen == [0, 1, 2]


def test_distilled_is_least_for_the_teachers_answer_and_then_its_entropy() -> None:
    batch = Batch((), torch.tensor([0, 1]))
    teacher = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    entropies = -(teacher * teacher.log()).sum(1)
    torch.testing.assert_close(training.distilled(batch, teacher.log(), teacher.log()), entropies)
    assert (training.distilled(batch, noise(2, 3), teacher.log()) > entropies).all()


def test_distilled_averages_sequences_and_leaves_masked_nodes_out() -> None:
    logits, teacher = noise(2, 5, 3), noise(2, 5, 3, seed=1)
    found = training.distilled(Batch((), torch.zeros(2, 5).long()), logits, teacher)
    torch.testing.assert_close(found, -(teacher.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean(1))
    mask = torch.tensor([True, False])
    masked = training.distilled(Batch((), torch.zeros(2).long(), mask), logits[:, 0], teacher[:, 0])
    assert masked.shape == (1,)


def test_distilled_divides_both_answers_by_the_temperature() -> None:
    batch, logits, teacher = Batch((), torch.tensor([0, 1])), noise(2, 3), noise(2, 3, seed=1)
    found = training.distilled(batch, logits, teacher, temperature=4.0)
    torch.testing.assert_close(found, training.distilled(batch, logits / 4, teacher / 4))
    assert not torch.allclose(found, training.distilled(batch, logits, teacher))


def test_distilled_takes_the_probabilities_of_half_logits_in_single() -> None:
    batch, logits, teacher = Batch((), torch.tensor([0, 1])), noise(2, 3), noise(2, 3, seed=1).bfloat16()
    found = training.distilled(batch, logits, teacher, temperature=3.0)
    assert torch.equal(found, training.distilled(batch, logits, teacher.float(), temperature=3.0))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_an_error_with_advice(loss: float) -> None:
    with pytest.raises(training.DivergedError, match=f"{loss} by step 7.*lower lr") as error:
        training.finite(loss, step=7)
    assert isinstance(error.value, NascliError) and error.value.code == "DIVERGED"
    assert training.finite(1.5, step=7) == 1.5


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "safe"), [(8, 1, 2, False), (16, 1, 2, True), (8, 1, 1, True), (8, 3, 2, True)]
)
def test_narrow_strided_pointwise_convolutions_keep_channels_first(
    channels: int, kernel: int, stride: int, safe: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 32, kernel, stride))
    assert training.memory_format(model) == (torch.channels_last if safe else torch.contiguous_format)


TRAINED = """
import torch
from torch import nn
from nascli import training
from nascli.recipes.session import Session
net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 32, 1, 2, bias=False))
net.to(memory_format=training.memory_format(net))
for _ in range(200):
    net(torch.randn(64, 1, 8, 8)).sum().backward()
    junk = [bytearray(n) for n in (16, 24, 40, 64, 100, 300)]
"""


def test_training_them_leaves_the_heap_whole() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINED], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]
