"""What a data set is to the rest of the system: three splits that yield batches, in the order a generator decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from nascli.errors import DataError
from search_spaces.space import Batch, Signature


class Split(Protocol):
    """Examples of one purpose."""

    def __len__(self) -> int: ...

    def batches(self, size: int, *, device: str = "cpu", rng: Generator | None = None) -> Iterator[Batch]:
        """Batches of `size` examples on the device; the last may be smaller.

        Without `rng` all examples come once, in their own order and unaltered. With it they come once in random
        order, altered as training data are (crops, flips) if the split was made so.
        """
        ...

    def head(self, count: int) -> Split:
        """The first `count` examples, unaltered: for calibration and quick looks."""
        ...


@dataclass(frozen=True)
class Data:
    """The three splits of a data set. Search decides on `val`; `test` is looked at once, at the end."""

    signature: Signature
    train: Split
    val: Split
    test: Split


class DataSource(Protocol):
    """A data plugin: a frozen dataclass of settings that reads the data when asked."""

    def load(self) -> Data:
        """The data set. Raises DataError: what was looked for, where, and how to get it."""
        ...


class Pixels(Protocol):
    """Images by number: an array, or files decoded when they are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [rows, channels, height, width]."""
        ...


@dataclass(frozen=True, eq=False)
class Images:
    """A split of images; normalised by channel when batched, shifted and mirrored when training."""

    pixels: Pixels
    labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    mirror: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, *, device: str = "cpu", rng: Generator | None = None) -> Iterator[Batch]:
        """See `Split.batches`; images are float32 [n, c, h, w], zero mean and unit variance by channel."""
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            images = torch.from_numpy(np.ascontiguousarray(self.pixels[rows])).to(device).float().div_(255)
            images = (images - mean) / std
            if rng is not None:
                images = self._altered(images, rng)
            yield Batch((images,), torch.from_numpy(self.labels[rows].astype(np.int64)).to(device))

    def head(self, count: int) -> Images:
        """See `Split.head`."""
        rows = np.arange(min(count, len(self)))
        return Images(_Rows(self.pixels, rows), self.labels[rows], self.mean, self.std)

    def _altered(self, images: Tensor, rng: Generator) -> Tensor:
        """Random crops of the padded images and mirror images, one draw an image."""
        count, _, height, width = images.shape
        if self.pad:
            shifts = torch.from_numpy(rng.integers(2 * self.pad + 1, size=(2, count))).to(images.device)
            padded = F.pad(images, [self.pad] * 4)
            rows = shifts[0, :, None] + torch.arange(height, device=images.device)
            columns = shifts[1, :, None] + torch.arange(width, device=images.device)
            if self.mirror:
                flips = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
                columns = torch.where(flips[:, None], columns.flip(1), columns)
            which = torch.arange(count, device=images.device)[:, None, None]
            cropped = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            # Of one channel, images lie both ways at once; through `view` their strides say channels first.
            return cropped.contiguous().view(count, -1).view(images.shape)
        if self.mirror:
            flips = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
            return torch.where(flips[:, None, None, None], images.flip(3), images)
        return images


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of other pixels."""

    pixels: Pixels
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[self.rows[rows]]


def images(
    train: tuple[Pixels, np.ndarray],
    test: tuple[Pixels, np.ndarray],
    *,
    classes: int,
    val: int | tuple[Pixels, np.ndarray],
    pad: int = 0,
    mirror: bool = False,
    limit: int | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    seed: int = 0,
) -> Data:
    """An image data set from (pixels uint8 [n, c, h, w], labels [n]) pairs.

    `val` is either its own pair or how many training images to hold out: drawn once from `seed`, whatever the
    run's seed, so that runs are comparable. `limit` keeps that many of the remaining training images. `mean` and
    `std` by channel, of values in 0..1, come from at most 10,000 of the training images that are left if they are not
    given. Raises DataError.
    """
    pixels, labels = train
    if not len(labels) or not len(test[1]):
        raise DataError(f"There are {len(labels)} training and {len(test[1])} test images; neither split may be empty.")
    if (limit is not None and limit < 1) or pad < 0:
        raise DataError(f"limit={limit} must be at least 1 image (or not given), and pad={pad} at least 0 pixels.")
    order = np.random.default_rng(seed).permutation(len(labels))
    val_pixels: Pixels
    if isinstance(val, int):
        if len(labels) < 2:
            raise DataError("There is 1 training image, so none can be held out for validation; at least 2 are needed.")
        if not 0 < val < len(labels):
            raise DataError(
                f"val={val} images can't be held out of {len(labels)} training images; give 1 to {len(labels) - 1}."
            )
        held, order = order[:val], order[val:]
        val_pixels, val_labels = _Rows(pixels, held), labels[held]
    else:
        val_pixels, val_labels = val
    order = order[:limit]
    counts = {"training": len(pixels), "validation": len(val_pixels), "test": len(test[0])}
    _check_labels({"training": labels, "validation": val_labels, "test": test[1]}, counts, classes=classes)
    shape = tuple(int(d) for d in pixels[order[:1]].shape[1:])
    scale = _given(mean, std, channels=shape[0]) if mean or std else _moments(pixels, order[:10_000])
    return Data(
        Signature("image", shape, classes),
        Images(_Rows(pixels, order), labels[order], *scale, pad=pad, mirror=mirror),
        Images(val_pixels, val_labels, *scale),
        Images(test[0], test[1], *scale),
    )


def _given(
    mean: tuple[float, ...], std: tuple[float, ...], *, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation as they were given."""
    if not len(mean) == len(std) == channels or not min(std) > 0:
        raise DataError(
            f"mean={mean!r} and std={std!r} must have a number for each of the {channels} channels, and std be more "
            "than 0; leave both out to take those of the training images."
        )
    return mean, std


def _moments(pixels: Pixels, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation by channel, of values in 0..1; the sums are exact, and a few images are read at a time."""
    total: np.ndarray = np.zeros(1, np.int64)
    squares, count = total, 0
    for start in range(0, len(rows), 256):
        part = pixels[rows[start : start + 256]].astype(np.int64)
        total, squares = total + part.sum((0, 2, 3)), squares + (part**2).sum((0, 2, 3))
        count += part.size // part.shape[1]
    mean = total / (255 * count)
    # A constant channel would divide by zero.
    deviation = np.maximum(np.sqrt(np.maximum(squares / (255**2 * count) - mean**2, 0)), 1e-3)
    return tuple(map(float, mean)), tuple(map(float, deviation))


def _check_labels(splits: dict[str, np.ndarray], counts: dict[str, int], *, classes: int) -> None:
    for name, labels in splits.items():
        if len(labels) != counts[name]:
            raise DataError(f"There are {counts[name]} {name} images, but {len(labels)} {name} labels.")
        if len(labels) and (labels.min() < 0 or labels.max() >= classes):
            raise DataError(
                f"The {name} labels run from {labels.min()} to {labels.max()}, but there are {classes} classes."
            )


def concatenated(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several (pixels, labels) files as one."""
    return np.concatenate([p for p, _ in parts]), np.concatenate([n for _, n in parts])
