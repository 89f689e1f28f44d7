"""Folders of images, one folder a class: decoded when they are looked at, and remembered where memory allows."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nascli.data.files import root
from nascli.data.pictures import Pictures
from nascli.data.splits import held_out
from nascli.data.streams import Data, Pixels
from nascli.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")


@dataclass(frozen=True)
class Folder(Pictures):
    """PATH/train/CLASS/*.jpg with PATH/val and PATH/test in the same form, or PATH/CLASS/*.jpg alone.

    The classes are the sorted names of the folders that hold images, at any depth. Without PATH/test a share of the
    training images is held out as the test split, and without PATH/val another share as the validation split: by
    class, from a fixed seed, so by default PATH/CLASS is divided 80/10/10. Images are scaled until their shorter side
    is `size`, and the centre is kept.
    """

    path: str = ""
    """The folder; empty: the variable NASCLI_DATA, else ./data."""
    size: int = 64
    """Pixels of either side of an image."""
    channels: int = 3
    """3 for colour, 1 for grey."""
    val: float = 0.1
    """Share of the images held out for validation if there is no PATH/val."""
    test: float = 0.1
    """Share of the images held out for the test if there is no PATH/test."""
    cache_bytes: int = 2 << 30
    """Decoded images are remembered if all of them together need no more bytes than this."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.channels not in (1, 3):
            raise ValueError(f"size={self.size} must be at least 1 and channels={self.channels} 1 or 3.")
        if min(self.val, self.test) <= 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val={self.val:g} and test={self.test:g} must be positive shares that leave some to train."
            )

    def load(self) -> Data:
        """The images. Raises DataError if there are none; naming the file, now or later, if one cannot be decoded."""
        base = root(self.path)
        tree = base / "train" if (base / "train").is_dir() else base
        names = sorted(found := _classes(tree))
        train = _numbered(tree, found, names)
        given = {
            n: _numbered(base / n, _listed(base / n), names)
            for n in ("val", "test")
            if tree != base and (base / n).is_dir()
        }
        left = 1.0
        for name, share in (("test", self.test), ("val", self.val)):
            if name not in given:
                kept, held = held_out(train[1], share / left)
                given[name], train, left = _chosen(train, held), _chosen(train, kept), 1 - share
        return self._decoded(train, given["val"], given["test"], classes=len(names))

    def _decoded(self, *splits: _Examples, classes: int) -> Data:
        shape = (self.channels, self.size, self.size)
        total = sum(len(paths) for paths, _ in splits) * int(np.prod(shape))
        pixels: list[Pixels] = [Files(paths, shape) for paths, _ in splits]
        if total <= self.cache_bytes:
            pixels = [Remembered(p, shape) for p in pixels]
        train, val, test = ((p, labels) for p, (_, labels) in zip(pixels, splits, strict=True))
        return self.split(
            train,
            test,
            classes=classes,
            val=val,
        )


_Examples = tuple[tuple[Path, ...], np.ndarray]


def _listed(tree: Path) -> dict[str, list[Path]]:
    """The image files below each folder of `tree`, sorted; hidden ones, and folders without any, are left out."""
    if not tree.is_dir():
        return {}
    found = {}
    for folder in tree.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in _ENDINGS and not f.name.startswith("."))
            if files:
                found[folder.name] = files
    return found


def _classes(tree: Path) -> dict[str, list[Path]]:
    """The training images by class, at least two classes."""
    found = _listed(tree)
    # PATH/test without PATH/train would otherwise become a class called "test".
    wrong = "has 'test' or 'val' but no 'train'" if tree.name != "train" and {"test", "val"} & set(found) else ""
    if len(found) < 2:
        wrong = f"holds images of {len(found)} classes, and at least 2 are needed" if tree.is_dir() else "is no folder"
    if wrong:
        raise DataError(
            f"{str(tree)!r} {wrong}; arrange them ({', '.join(_ENDINGS)}) as DIR/train/CLASS/*.jpg or DIR/CLASS/*.jpg "
            "and give --set data.path=DIR."
        )
    return found


def _numbered(tree: Path, found: Mapping[str, Sequence[Path]], names: Sequence[str]) -> _Examples:
    """The files and their labels [n], the classes numbered as in `names`."""
    if unknown := sorted(set(found) - set(names)):
        raise DataError(
            f"{str(tree)!r} has the class {unknown[0]!r}, which the training images lack; they have {', '.join(names)}."
        )
    if not found:
        raise DataError(
            f"{str(tree)!r} holds no images in folders by class; remove it, or fill it as the training folder."
        )
    labels = np.repeat(np.arange(len(names)), [len(found.get(n, ())) for n in names])
    return tuple(f for n in names for f in found.get(n, ())), labels


def _chosen(examples: _Examples, rows: np.ndarray) -> _Examples:
    return tuple(examples[0][i] for i in rows), examples[1][rows]


@dataclass(frozen=True)
class Files:
    """Pixels that are decoded each time they are asked for."""

    paths: tuple[Path, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Pixels`; raises DataError naming a file that cannot be decoded."""
        out = np.empty((len(rows), *self.shape), np.uint8)
        # Pillow decodes outside the interpreter lock; the threads end here, so no worker inherits half a pool.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for i, image in enumerate(pool.map(self._decode, rows)):
                out[i] = image
        return out

    def _decode(self, row: int) -> np.ndarray:
        return decode(self.paths[row], self.shape)


class Remembered:
    """Pixels read once each; a copy sent to another process starts with nothing remembered."""

    def __init__(self, pixels: Pixels, shape: tuple[int, int, int]) -> None:
        self._pixels, self._shape = pixels, shape
        self._known = np.zeros(len(pixels), bool)
        self._memory = np.empty((len(pixels), *shape), np.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Pixels`."""
        new = np.unique(rows[~self._known[rows]])
        if len(new):
            self._memory[new] = self._pixels[new]
            self._known[new] = True
        known: np.ndarray = self._memory[rows]
        return known

    def __reduce__(self) -> tuple[Any, ...]:
        return Remembered, (self._pixels, self._shape)


def decode(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The image as uint8 `shape` = [channels, height, width], scaled to cover it and cut at the centre.

    16-bit grey keeps its upper byte. Raises DataError naming the file if it is broken or of 32-bit pixels.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            # A JPEG can be decoded at an eighth to a half of its size; twice the target keeps the scaling smooth.
            image.draft(image.mode, (2 * width, 2 * height))
            plain = _eight_bit(image, "RGB" if channels == 3 else "L")
            fitted = ImageOps.fit(plain, (width, height), Image.Resampling.BILINEAR)
            rows: np.ndarray = np.asarray(fitted).reshape(height, width, channels)
            return rows.transpose(2, 0, 1)
    except (OSError, EOFError, IndexError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} can't be read as an image: {error}; mend or remove it.") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large an image: {error}") from None


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of 32 bits (mode {image.mode!r}), and 8 or 16 are read")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("RGBA")  # a palette's transparency is only understood on this way
    return image.convert(mode)
