"""Images and labels as arrays in one .npz file, the form that a user can write with a single line of numpy."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nascli.data.files import root
from nascli.data.pictures import Pictures
from nascli.data.splits import held_out
from nascli.data.streams import Data
from nascli.errors import DataError

_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Npz(Pictures):
    """train_x, train_y, test_x, test_y and perhaps val_x, val_y; or x, y alone, split by class from a fixed seed.

    Images are [n, h, w], [n, h, w, c] or [n, c, h, w]: uint8, or floating-point in 0..1, which becomes
    round(255 * value). Labels are integers [n].
    """

    path: str = ""
    """The file, or a folder with a single .npz file; empty: the variable NASCLI_DATA, else ./data."""
    val: float = 0.1
    """Share of the images held out for validation if there is no val_x."""
    test: float = 0.1
    """Share of the images held out for the test if there are only x and y."""
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    """Where the channels are; "auto": the one of the second and the last axis that is at most 4 long."""
    classes: int | None = None
    """How many classes there are; None: the labels decide, which must then run from 0 without a gap."""
    pad: int = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        if min(self.val, self.test) <= 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val={self.val:g} and test={self.test:g} must be positive shares that leave some to train."
            )

    def load(self) -> Data:
        """The images. Raises DataError, naming file and array, if something is missing or of another form."""
        path = _file(root(self.path))
        arrays = _arrays(path)
        left = 1.0
        if "train_x" in arrays:
            train, test = self._pair(path, arrays, "train_"), self._pair(path, arrays, "test_")
        else:
            pixels, labels = self._pair(path, arrays, "")
            kept, held = held_out(labels, self.test)
            train, test, left = (pixels[kept], labels[kept]), (pixels[held], labels[held]), 1 - self.test
        if "val_x" in arrays:
            val = self._pair(path, arrays, "val_")
        else:
            kept, held = held_out(train[1], self.val / left)
            val, train = (train[0][held], train[1][held]), (train[0][kept], train[1][kept])
        for name, pair in {"val": val, "test": test}.items():
            if pair[0].shape[1:] != train[0].shape[1:]:
                raise DataError(f"{path}: {name} images are {pair[0].shape[1:]}, training images {train[0].shape[1:]}.")
        classes = self.classes or _count(path, np.concatenate([train[1], val[1], test[1]]))
        return self.split(
            train,
            test,
            classes=classes,
            val=val,
        )

    def _pair(self, path: Path, arrays: Mapping[str, np.ndarray], prefix: str) -> _Examples:
        """Pixels uint8 [n, c, h, w] and labels int64 [n]."""
        x, y = f"{prefix}x", f"{prefix}y"
        if absent := [name for name in (x, y) if name not in arrays]:
            raise DataError(
                f"{path} has no array {absent[0]!r}, only {', '.join(map(repr, arrays))}; "
                "save it by np.savez(path, train_x=, train_y=, test_x=, test_y=) or np.savez(path, x=, y=)."
            )
        pixels = _bytes(_channels_first(arrays[x], self.layout, where=f"{path}: {x}"), where=f"{path}: {x}")
        labels = arrays[y]
        if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1] or not pixels.size:
            raise DataError(
                f"{path}: {y} is {labels.dtype} {labels.shape} and {x} has {len(pixels)} images; one integer label an "
                "image is needed, and at least one image."
            )
        return pixels, labels.astype(np.int64)


_Examples = tuple[np.ndarray, np.ndarray]


def _file(place: Path) -> Path:
    found = sorted(place.glob("*.npz")) if place.is_dir() else [place]
    if len(found) == 1 and found[0].is_file():
        return found[0]
    there = ", ".join(repr(f.name) for f in found if f.is_file()) or "none"
    raise DataError(
        f"A .npz file was looked for at {str(place)!r}, and found: {there}; give one by --set data.path=FILE.npz."
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file; object arrays are refused, because they are pickles."""
    try:
        if not zipfile.is_zipfile(path):  # numpy would take it for a single array or a pickle
            raise DataError(f"{path} is no .npz file; write one by np.savez(path, x=images, y=labels).")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz file of plain arrays: {error}.") from None


def _channels_first(x: np.ndarray, layout: str, *, where: str) -> np.ndarray:
    """[n, c, h, w] of images in any of the three layouts."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise DataError(f"{where} is {x.shape}; images are [n, h, w], [n, h, w, c] or [n, c, h, w].")
    if layout == "auto":
        first, last = x.shape[1] <= _MOST_CHANNELS, x.shape[3] <= _MOST_CHANNELS
        if first == last:
            raise DataError(
                f"{where} is {x.shape}, and its channels could be in two places; give --set data.layout=nchw or nhwc."
            )
        layout = "nchw" if first else "nhwc"
    return x if layout == "nchw" else x.transpose(0, 3, 1, 2)


def _bytes(x: np.ndarray, *, where: str) -> np.ndarray:
    """uint8 as it is; floating-point values in 0..1 times 255, rounded."""
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise DataError(f"{where} is of type {x.dtype}; give uint8, or floating-point values in 0..1.")
    # The comparison is false for NaN, so NaN is refused too.
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise DataError(
            f"{where} has values from {x.min():g} to {x.max():g}; give uint8, or floating-point values in 0..1."
        )
    scaled: np.ndarray = np.rint(x * 255).astype(np.uint8)
    return scaled


def _count(path: Path, labels: np.ndarray) -> int:
    """How many classes the labels name; they must be 0, 1, 2 and so on."""
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        raise DataError(
            f"{path} has {len(present)} different labels from {present[0]} to {present[-1]}; number the classes from 0 "
            "without a gap, or give --set data.classes=COUNT."
        )
    return len(present)
