"""What readers of images have in common: how many to train on, how training images are altered, what scales them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nascli.data.streams import Data, Pixels, images


@dataclass(frozen=True)
class Pictures:
    """Settings of a reader of images."""

    path: str = ""
    """Where the files are; empty: the variable NASCLI_DATA, else ./data."""
    limit: int | None = None
    """Training images to keep; None: all."""
    pad: int = 4
    """Pixels by which training images are shifted at most."""
    mirror: bool = True
    """Whether training images are mirrored at random."""
    mean: tuple[float, ...] = ()
    """Subtracted from each channel's values of 0 to 1; empty: the training images' own. A network trained elsewhere
    expects the numbers that it was trained with."""
    std: tuple[float, ...] = ()
    """What they are divided by then."""

    def split(
        self,
        train: tuple[Pixels, np.ndarray],
        test: tuple[Pixels, np.ndarray],
        *,
        classes: int,
        val: int | tuple[Pixels, np.ndarray],
    ) -> Data:
        """The data set from pairs of pixels and labels, see `streams.images`. Raises DataError."""
        return images(
            train,
            test,
            classes=classes,
            val=val,
            pad=self.pad,
            mirror=self.mirror,
            limit=self.limit,
            mean=self.mean,
            std=self.std,
        )
