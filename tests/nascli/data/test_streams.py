"""Splits of images: order, alteration, normalisation, held-out images, and what is refused."""

import pickle

import numpy as np
import pytest
import torch

from nascli.data import Images, images
from nascli.data.streams import concatenated
from nascli.errors import DataError


def numbered(count, *, channels=1, side=4):
    """Images whose every pixel is the image's number, labelled by its parity."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, channels, side, side))
    return np.array(pixels), np.arange(count) % 2


def unscaled(split, batch):
    """The pixels of a batch before normalisation, 0..255."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (split.mean, split.std))
    return ((batch.inputs[0] * std + mean) * 255).round().int()


def test_without_a_generator_all_come_once_in_order():
    pixels, labels = numbered(10)
    split = Images(pixels, labels, (0.5,), (0.25,), pad=2, mirror=True)
    batches = list(split.batches(4))
    assert [len(b.targets) for b in batches] == [4, 4, 2]
    seen = torch.cat([unscaled(split, b) for b in batches])
    assert torch.equal(seen, torch.from_numpy(pixels).int())
    assert torch.equal(torch.cat([b.targets for b in batches]), torch.from_numpy(labels))
    assert batches[0].inputs[0].dtype == torch.float32 and batches[0].targets.dtype == torch.int64


def test_with_a_generator_all_come_once_in_an_order_that_it_decides():
    pixels, labels = numbered(20)
    split = Images(pixels, labels, (0.0,), (1.0,))
    orders = []
    for seed in (0, 0, 1):
        batches = list(split.batches(8, rng=np.random.default_rng(seed)))
        seen = torch.cat([unscaled(split, b) for b in batches])[:, 0, 0, 0]
        assert torch.equal(torch.cat([b.targets for b in batches]), seen.long() % 2), "labels travel with their images"
        assert sorted(seen.tolist()) == list(range(20))
        orders.append(seen.tolist())
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(("pad", "mirror"), [(1, False), (2, True), (0, True)])
def test_alterations_are_crops_of_the_padded_image_and_mirror_images(pad, mirror):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (6, 3, 5, 5)).astype(np.uint8)
    split = Images(pixels, np.arange(6), (0.0,) * 3, (1.0,) * 3, pad=pad, mirror=mirror)
    padded = np.pad(pixels, ((0, 0), (0, 0), (pad, pad), (pad, pad))).astype(int)
    crops = {}
    for n in range(6):
        for y in range(2 * pad + 1):
            for x in range(2 * pad + 1):
                crop = padded[n, :, y : y + 5, x : x + 5]
                crops[crop.tobytes()] = (n, y, x, 0)
                if mirror:
                    crops[np.ascontiguousarray(crop[..., ::-1]).tobytes()] = (n, y, x, 1)
    drawn = set()
    for _ in range(200):
        (batch,) = split.batches(6, rng=rng)
        for image, target in zip(unscaled(split, batch).numpy().astype(int), batch.targets.tolist(), strict=True):
            found = crops[image.tobytes()]
            assert found[0] == target
            drawn.add(found[1:])
    assert len(drawn) == (2 * pad + 1) ** 2 * (1 + mirror), "every shift and flip comes up"


def test_head_is_the_first_images_unaltered():
    pixels, labels = numbered(10)
    head = Images(pixels, labels, (0.0,), (1.0,), pad=1, mirror=True).head(3)
    (batch,) = head.batches(8)
    assert len(head) == 3
    assert unscaled(head, batch)[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert len(head.head(99)) == 3
    (drawn,) = head.batches(8, rng=np.random.default_rng(0))
    assert (drawn.inputs[0].flatten(1).std(1) == 0).all(), "a shifted image would show its padding"


def test_held_out_images_are_the_same_ones_each_time_and_no_others():
    train, test = numbered(50), numbered(10)
    first, again = (images(train, test, classes=2, val=10) for _ in range(2))
    numbers = []
    for data in (first, again):
        for split in (data.train, data.val):
            numbers.append([int(unscaled(split, b)[0, 0, 0, 0]) for b in split.batches(1)])
    assert numbers[0] == numbers[2] and numbers[1] == numbers[3]
    assert sorted(numbers[0] + numbers[1]) == list(range(50))
    assert (len(first.train), len(first.val), len(first.test)) == (40, 10, 10)


def test_only_training_images_are_altered_and_limited():
    data = images(numbered(50), numbered(9), classes=2, val=numbered(7), pad=1, mirror=True, limit=5)
    assert (len(data.train), len(data.val), len(data.test)) == (5, 7, 9)
    assert (data.train.pad, data.train.mirror) == (1, True)
    assert not any(s.pad or s.mirror for s in (data.val, data.test))


def test_mean_and_deviation_are_those_of_the_training_images_by_channel():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (700, 3, 4, 4)).astype(np.uint8)
    pixels[:, 1] //= 3
    pixels[:, 2] = 7
    labels = np.zeros(700, int)
    data = images((pixels, labels), (pixels, labels), classes=1, val=(pixels[:1], labels[:1]))
    floats = pixels / 255
    assert data.train.mean == pytest.approx(floats.mean((0, 2, 3)))
    assert data.train.std[:2] == pytest.approx(floats.std((0, 2, 3))[:2])
    assert data.train.std[2] == 1e-3, "a constant channel is not divided by zero"
    assert data.val.mean == data.test.mean == data.train.mean
    assert data.signature.shape == (3, 4, 4)


def test_given_mean_and_deviation_take_the_place_of_the_images_own():
    given = {"mean": (0.5,), "std": (0.25,)}
    data = images(numbered(20), numbered(4), classes=2, val=5, **given)
    for split in (data.train, data.val, data.test):
        assert (split.mean, split.std) == ((0.5,), (0.25,))
    raw = numbered(4)[0].astype(np.float32) / 255
    batch = next(data.test.batches(4))
    assert torch.allclose(batch.inputs[0], torch.from_numpy((raw - 0.5) / 0.25))


@pytest.mark.parametrize("given", [{"mean": (0.5,)}, {"std": (0.5,)}, {"mean": (0.1, 0.2), "std": (1.0, 1.0)},
                                   {"mean": (0.5,), "std": (0.0,)}])  # fmt: skip
def test_mean_and_deviation_have_a_number_for_each_channel(given):
    with pytest.raises(DataError, match="must have a number for each of the 1 channels, and std be more than 0"):
        images(numbered(20), numbered(4), classes=2, val=5, **given)


def test_moments_are_read_a_few_images_at_a_time():
    class Counting:
        most = 0

        def __len__(self):
            return 2000

        def __getitem__(self, rows):
            Counting.most = max(Counting.most, len(rows))
            return np.zeros((len(rows), 1, 2, 2), np.uint8)

    images((Counting(), np.zeros(2000, int)), numbered(4), classes=2, val=500)
    assert 0 < Counting.most <= 256


def test_data_survive_a_journey_to_another_process_and_can_be_hashed():
    data = images(numbered(20), numbered(4), classes=2, val=5)
    copy = pickle.loads(pickle.dumps(data))
    for ours, theirs in zip(data.train.batches(6), copy.train.batches(6), strict=True):
        assert torch.equal(ours.inputs[0], theirs.inputs[0])
    assert hash(data) == hash(data) and data == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (np.empty((0, 1, 4, 4), np.uint8), np.empty(0, int))}, "0 training and 4 test images"),
        ({"test": (np.empty((0, 1, 4, 4), np.uint8), np.empty(0, int))}, "20 training and 0 test images"),
        ({"val": 20}, "val=20 images can't be held out of 20"),
        ({"val": 0}, "give 1 to 19"),
        ({"train": numbered(1), "val": 1}, "at least 2 are needed"),
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"limit": -2}, "limit=-2 must be at least 1"),
        ({"pad": -1}, "pad=-1 at least 0"),
        ({"classes": 1}, "training labels run from 0 to 1, but there are 1 classes"),
        ({"test": (numbered(4)[0], np.array([0, 1, 2, -1]))}, "test labels run from -1 to 2"),
        ({"test": (numbered(4)[0], np.zeros(3, int))}, "4 test images, but 3 test labels"),
        ({"val": (numbered(4)[0], np.zeros(5, int))}, "4 validation images, but 5 validation labels"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    given = {"train": numbered(20), "test": numbered(4), "classes": 2, "val": 5} | change
    with pytest.raises(DataError, match=message):
        images(given.pop("train"), given.pop("test"), **given)


def test_concatenated_keeps_the_order():
    pixels, labels = concatenated([numbered(3), numbered(2)])
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert labels.tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_altered_images_say_that_channels_come_first(channels):
    pixels = np.zeros((4, channels, 6, 5), np.uint8)
    data = images((pixels, np.arange(4) % 2), (pixels, np.arange(4) % 2), classes=2, val=1, pad=1, mirror=True)
    batch = next(data.train.batches(3, rng=np.random.default_rng(0)))
    assert batch.inputs[0].stride() == (channels * 30, 30, 5, 1)
