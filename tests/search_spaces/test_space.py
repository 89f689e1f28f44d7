from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from search_spaces.errors import ArchitectureError
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Batch, ChannelSorting, SearchSpace, Signature
from tests.toys import ToySpace

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
TARGETS = torch.tensor([0, 2, 2])


def test_signature_reads_well() -> None:
    assert str(Signature("image", (3, 32, 32), 10)) == "image 3x32x32 -> 10 classes"


def test_losses_are_cross_entropies_by_example() -> None:
    losses = Batch((LOGITS,), TARGETS).losses(LOGITS)
    expected = -LOGITS.log_softmax(1)[torch.arange(3), TARGETS]
    torch.testing.assert_close(losses, expected)


def test_losses_of_sequences_are_averaged_over_the_sequence() -> None:
    logits, targets = torch.stack([LOGITS, LOGITS.flip(0)]), torch.tensor([[0, 1, 2], [2, 2, 2]])
    losses = Batch((logits,), targets).losses(logits)
    expected = torch.stack([F.cross_entropy(row, target) for row, target in zip(logits, targets, strict=True)])
    torch.testing.assert_close(losses, expected)


def test_smoothing_is_cross_entropy_with_part_of_the_target_spread() -> None:
    spread = 0.9 * F.one_hot(TARGETS, 3) + 0.1 / 3
    torch.testing.assert_close(
        Batch((LOGITS,), TARGETS).losses(LOGITS, smoothing=0.1), -(spread * LOGITS.log_softmax(1)).sum(1)
    )


def test_only_examples_under_the_mask_count() -> None:
    batch = Batch((LOGITS,), TARGETS, torch.tensor([True, False, True]))
    torch.testing.assert_close(batch.losses(LOGITS), Batch((LOGITS,), TARGETS).losses(LOGITS)[[0, 2]])
    assert batch.correct(LOGITS).tolist() == [True, True]
    assert Batch((LOGITS,), TARGETS).correct(LOGITS).tolist() == [True, False, True]


def test_correct_of_sequences_counts_targets() -> None:
    logits = torch.stack([LOGITS, LOGITS])
    batch = Batch((logits,), torch.tensor([[0, 1, 2], [1, 1, 1]]))
    assert batch.correct(logits).sum() == 4
    masked = Batch((logits,), batch.targets, torch.tensor([False, True]))
    assert masked.correct(logits).tolist() == [False, True, False]


@pytest.mark.parametrize("mask", [None, torch.tensor([True, False, True])])
def test_batches_move_with_everything(mask: torch.Tensor | None) -> None:
    moved = Batch((LOGITS, LOGITS), TARGETS, mask).to("meta")
    parts = [*moved.inputs, moved.targets, *([] if moved.mask is None else [moved.mask])]
    assert len(parts) == (3 if mask is None else 4) and all(p.device.type == "meta" for p in parts)


def test_with_inputs_keeps_targets_and_mask() -> None:
    batch = Batch((LOGITS,), TARGETS, torch.tensor([True, False, True]))
    other = batch.with_inputs(LOGITS + 1, LOGITS)
    assert len(other.inputs) == 2 and other.targets is batch.targets and other.mask is batch.mask


def test_a_space_must_define_everything() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SearchSpace()  # type: ignore[abstract]


def test_spaces_that_sort_channels_are_told_apart() -> None:
    assert isinstance(ResNetSpace(), ChannelSorting) and not isinstance(ToySpace(), ChannelSorting)


def test_architectures_are_their_own_field_and_stand_for_themselves_unless_a_space_says_otherwise() -> None:
    space = ToySpace()
    arch = space.table.largest
    assert space.field(arch) == str(arch) and space.parse(space.field(arch)) == arch
    assert space.equivalent(arch) == arch
    with pytest.raises(ArchitectureError):
        space.parse("|none~0|")
