"""The embedded digits: whole, split by class, never twice the same image."""

import numpy as np
import pytest

from nascli.data.builtin import Digits
from nascli.errors import DataError


def every(split):
    (batch,) = split.batches(len(split))
    mean, std = split.mean[0], split.std[0]
    return ((batch.inputs[0].numpy() * std + mean) * 255).round().astype(int), batch.targets.numpy()


def test_all_1797_digits_are_there_once_in_256_greys():
    sklearn = pytest.importorskip("sklearn.datasets")
    data = Digits().load()
    assert (len(data.train), len(data.val), len(data.test)) == (1078, 360, 359)
    assert data.signature.shape == (1, 8, 8) and data.signature.classes == 10
    pixels = np.concatenate([every(s)[0] for s in (data.train, data.val, data.test)]).reshape(-1, 64)
    expected = np.rint(sklearn.load_digits().data * 255 / 16).astype(int)
    assert sorted(map(tuple, pixels)) == sorted(map(tuple, expected))
    assert pixels.max() == 255


def test_every_class_has_its_share_of_every_split():
    data = Digits().load()
    for split in (data.train, data.val, data.test):
        counts = np.bincount(every(split)[1], minlength=10) / len(split)
        assert counts.min() > 0.09 and counts.max() < 0.11


def test_settings_reach_the_training_split():
    data = Digits(pad=2, limit=100).load()
    assert len(data.train) == 100 and len(data.val) == 360
    assert data.train.pad == 2 and not data.train.mirror
    with pytest.raises(DataError, match="limit=0"):
        Digits(limit=0).load()
