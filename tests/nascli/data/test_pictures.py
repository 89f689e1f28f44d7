import dataclasses

import numpy as np
import pytest

from nascli import plugins
from nascli.data.pictures import Pictures
from nascli.errors import DataError


def pair(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(count, 1, 4, 4)).astype(np.uint8), np.arange(count) % 2


def test_settings_reach_the_images() -> None:
    reader = Pictures(limit=5, pad=1, mirror=False, mean=(0.25,), std=(0.5,))
    data = reader.split(pair(12), pair(4), classes=2, val=3)
    assert (len(data.train), len(data.val), len(data.test)) == (5, 3, 4)
    assert (data.train.pad, data.train.mirror) == (1, False)  # type: ignore[attr-defined]
    pixels = data.test.pixels[np.arange(4)]  # type: ignore[attr-defined]
    (batch,) = data.test.batches(4)
    assert np.allclose(batch.inputs[0].numpy(), (pixels / 255 - 0.25) / 0.5, atol=1e-6)
    with pytest.raises(DataError, match="pad=-1"):
        Pictures(pad=-1).split(pair(12), pair(4), classes=2, val=3)


def test_readers_of_images_share_them() -> None:
    shared = {f.name for f in dataclasses.fields(Pictures)}
    for name in ("cifar10", "fashion-mnist", "mnist", "folder", "npz"):
        assert shared <= {f.name for f in dataclasses.fields(plugins.load("data", name))}
