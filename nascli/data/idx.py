"""MNIST and what took its format: idx files, a magic number and sizes in big-endian words, then the bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nascli.data.files import contents, missing, root
from nascli.data.pictures import Pictures
from nascli.data.splits import to_hold_out
from nascli.data.streams import Data
from nascli.errors import DataError

_UBYTE = 8
"""The third byte of the magic number: unsigned bytes; the fourth is the number of dimensions."""
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


@dataclass(frozen=True)
class FashionMnist(Pictures):
    """Fashion-MNIST: 70,000 grey images of 28 x 28 pixels, 10 sorts of clothes (Xiao et al. 2017, arXiv:1708.07747)."""

    path: str = ""
    """The folder of the four idx files, or one above it; empty: the variable NASCLI_DATA, else ./data."""
    val: int | None = None
    """Training images held out; None: 5,000, at most a quarter of them, and at most `limit`."""
    pad: int = 2

    def load(self) -> Data:
        """The images. Raises DataError if the files are missing or damaged."""
        base = root(self.path)
        below = ("", "fashion-mnist", "images/fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw")
        # A folder that the user names is obeyed; the system's own copy only serves where none was named.
        places = [base / b for b in below] + ([] if self.path else [_DEBIAN])
        source = "https://github.com/zalandoresearch/fashion-mnist"
        train, test = _read("Fashion-MNIST", places, source)
        val = to_hold_out(self.val, total=len(train[1]), limit=self.limit)
        return self.split(
            train,
            test,
            classes=10,
            val=val,
        )


@dataclass(frozen=True)
class Mnist(Pictures):
    """MNIST: 70,000 grey images of 28 x 28 pixels, 10 handwritten digits (LeCun et al. 1998)."""

    path: str = ""
    """The folder of the four idx files, or one above it; empty: the variable NASCLI_DATA, else ./data."""
    val: int | None = None
    """Training images held out; None: 5,000, at most a quarter of them, and at most `limit`."""
    pad: int = 2
    mirror: bool = False

    def load(self) -> Data:
        """The images. Raises DataError if the files are missing or damaged."""
        base = root(self.path)
        places = [base / b for b in ("", "mnist", "images/mnist", "MNIST/raw", "mnist/MNIST/raw")]
        train, test = _read("MNIST", places, "http://yann.lecun.com/exdb/mnist")
        val = to_hold_out(self.val, total=len(train[1]), limit=self.limit)
        return self.split(
            train,
            test,
            classes=10,
            val=val,
        )


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """The uint8 array of an idx file, unpacked if it ends in .gz.

    Raises DataError, naming the file, for another magic number, number of dimensions, or length than its header says.
    """
    raw = contents(path)
    header = 4 + 4 * dimensions
    if raw[:4] != bytes((0, 0, _UBYTE, dimensions)):
        raise DataError(
            f"{path} is no idx file of bytes in {dimensions} dimension{'s' * (dimensions > 1)}: it starts with "
            f"0x{raw[:4].hex()} instead of 0x{bytes((0, 0, _UBYTE, dimensions)).hex()}."
        )
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) < header or len(raw) != header + math.prod(shape):
        told = "x".join(map(str, shape))
        raise DataError(
            f"{path} says {told} bytes follow its header, and {max(0, len(raw) - header):,} do; fetch it anew."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


_Examples = tuple[np.ndarray, np.ndarray]


def _read(name: str, places: Sequence[Path], source: str) -> tuple[_Examples, _Examples]:
    """Training and test images [n, 1, h, w] with labels [n], from the first place that has training images."""
    folder = next((place for place in places if _spellings(place, "train-images", 3)), None)
    if folder is None:
        raise missing(name, sought="train-images-idx3-ubyte[.gz]", places=places, source=source)
    train, test = _examples(folder, "train"), _examples(folder, "t10k")
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = " and ".join("x".join(map(str, part[0].shape[2:])) for part in (train, test))
        raise DataError(f"The training and test images in {folder} are of different sizes: {shapes}.")
    return train, test


def _spellings(folder: Path, part: str, dimensions: int) -> list[Path]:
    names = [f"{part}{mark}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    return [folder / n for n in names if (folder / n).is_file()]


def _examples(folder: Path, part: str) -> _Examples:
    files = {}
    for what, dimensions in (("images", 3), ("labels", 1)):
        found = _spellings(folder, f"{part}-{what}", dimensions)
        if not found:
            raise DataError(
                f"{folder / f'{part}-{what}-idx{dimensions}-ubyte'}[.gz] is missing; it belongs with the files there."
            )
        files[what] = found[0]
    pixels, labels = read_idx(files["images"], dimensions=3), read_idx(files["labels"], dimensions=1)
    if len(pixels) != len(labels):
        raise DataError(f"{files['images']} has {len(pixels):,} images, but {files['labels']} {len(labels):,} labels.")
    if not pixels.size:
        raise DataError(f"{files['images']} holds no pixels: its header says {'x'.join(map(str, pixels.shape))}.")
    return pixels[:, None], labels
