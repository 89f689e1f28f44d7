"""The data that need no files: scikit-learn's embedded handwritten digits, for tests and first steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nascli.data.splits import held_out
from nascli.data.streams import Data, images


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8 x 8 pixels in 10 classes: 1,078 to train, 360 to validate, 359 to test.

    The embedded part of Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, UCI repository).
    """

    pad: int = 1
    """Pixels by which training images are shifted at most."""
    limit: int | None = None
    """Training images to keep; None: all."""

    def load(self) -> Data:
        """The digits, split by class from a fixed seed. Raises DataError for a limit below 1 or a negative pad."""
        from sklearn.datasets import load_digits

        grey, labels = load_digits(return_X_y=True)
        pixels = np.rint(grey * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        rest, test = held_out(labels, 0.2)
        kept, val = held_out(labels[rest], 0.25)
        splits = {"train": rest[kept], "val": rest[val], "test": test}
        train, valid, final = ((pixels[rows], labels[rows]) for rows in splits.values())
        return images(train, final, classes=10, val=valid, pad=self.pad, limit=self.limit)
