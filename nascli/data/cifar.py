"""CIFAR-10 in its two official forms: flat binary records, and the Python batches, which are pickles.

The binary form is preferred where both are there. The Python form (torchvision's too) can only be had by unpickling,
and a pickle may call whatever it can name. Here it can name three things of numpy, and each name leads to an inert
stand-in of ours that keeps bytes and a shape: no foreign code runs, numpy's own restoring code included.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.files import contents, missing, root
from nascli.data.pictures import Pictures
from nascli.data.splits import to_hold_out
from nascli.data.streams import Data, concatenated
from nascli.errors import DataError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_RECORD = 1 + _PIXELS
_CLASSES = 10
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html, unpack it"


@dataclass(frozen=True)
class Cifar10(Pictures):
    """CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes (Krizhevsky 2009).

    Training takes however many of the five training files are there.
    """

    path: str = ""
    """The folder of the batches, or one above it; empty: the variable NASCLI_DATA, else ./data."""
    val: int | None = None
    """Training images held out; None: 5,000, at most a quarter of them, and at most `limit`."""
    shrink: int = 1
    """Average over squares of so many pixels a side: 2 makes images of 16x16, for searches that a laptop can bear."""

    def __post_init__(self) -> None:
        if self.shrink < 1 or _SIDE % self.shrink:
            raise ValueError(f"shrink={self.shrink!r} must divide {_SIDE}, the pixels of a side")

    def load(self) -> Data:
        """The images. Raises DataError if the files are missing, damaged, or unsafe pickles."""
        base = root(self.path)
        below = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
        places = [folder / b for folder in (base, base / "images") for b in below]
        for place in places:
            for end, read in ((".bin", read_binary), ("", read_python)):
                if files := [f for n in range(1, 6) if (f := place / f"data_batch_{n}{end}").is_file()]:
                    return self._from(files, place / f"test_batch{end}", read)
        sought = "data_batch_*.bin with test_batch.bin, or data_batch_* with test_batch,"
        raise missing("CIFAR-10", sought=sought, places=places, source=_HOME)

    def _from(self, files: list[Path], test: Path, read: Callable[[Path], _Examples]) -> Data:
        if not test.is_file():
            raise DataError(f"{test} is missing; it belongs to {files[0].name} in the same folder.")
        train = shrunk(concatenated([read(f) for f in files]), self.shrink)
        val = to_hold_out(self.val, total=len(train[1]), limit=self.limit)
        return self.split(
            train,
            shrunk(read(test), self.shrink),
            classes=_CLASSES,
            val=val,
        )


_Examples = tuple[np.ndarray, np.ndarray]


def shrunk(examples: _Examples, factor: int) -> _Examples:
    """The same examples with images [n, c, h, w] averaged over squares of `factor` pixels a side, rounded."""
    pixels, labels = examples
    n, c, h, w = pixels.shape
    if factor == 1:
        return examples
    blocks = pixels.reshape(n, c, h // factor, factor, w // factor, factor)
    return np.rint(blocks.mean((3, 5))).astype(np.uint8), labels


def read_binary(path: Path) -> _Examples:
    """Pixels uint8 [n, 3, 32, 32] and labels uint8 [n] of a binary batch; raises DataError naming the file."""
    raw = np.frombuffer(contents(path), np.uint8)
    if raw.size % _RECORD:
        raise DataError(
            f"{path} has {raw.size:,} bytes, no multiple of the {_RECORD:,} of a CIFAR-10 record; fetch it anew."
        )
    records = raw.reshape(-1, _RECORD)
    return _checked(path, records[:, 1:], records[:, 0])


def read_python(path: Path) -> _Examples:
    """Pixels uint8 [n, 3, 32, 32] and labels uint8 [n] of a Python batch, without running anything that it names.

    Raises DataError, naming the file, for a damaged pickle and for one that asks for more than an array of bytes.
    """
    raw = contents(path)
    try:
        entries = _Restricted(io.BytesIO(raw), encoding="bytes").load()
        found = {(k.decode() if isinstance(k, bytes) else k): v for k, v in entries.items()}
        pixels, labels = found["data"].array, np.array(found["labels"], np.uint8)
    except _UNREADABLE as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(f"{path} is no CIFAR-10 batch: {why}; fetch it anew, or take the binary version.") from None
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS or labels.shape != pixels.shape[:1]:
        raise DataError(
            f"{path} holds pixels {pixels.shape} and labels {labels.shape} instead of (n, {_PIXELS}) and (n,)."
        )
    return _checked(path, pixels, labels)


def _checked(path: Path, pixels: np.ndarray, labels: np.ndarray) -> _Examples:
    if not len(labels):
        raise DataError(f"{path} holds no images; fetch it anew.")
    if labels.max() >= _CLASSES:
        raise DataError(f"{path} has the label {labels.max()}, but CIFAR-10 has the classes 0 to 9; fetch it anew.")
    return pixels.reshape(-1, 3, 32, 32), labels.copy()


_UNREADABLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a damaged or foreign pickle can end in; its opcodes are data, so their mistakes are the file's."""


class _Dtype:
    """Stands for numpy.dtype: remembers its name."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: object) -> None:
        """Byte order and field offsets, which mean nothing for single bytes."""


class _Subtype:
    """Stands for numpy.ndarray where it is only named."""

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a class")


class _Array:
    """Stands for the array that numpy would reconstruct: becomes one of bytes, or none at all."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, fortran, raw = state
        if dtype.name not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError(f"it holds an array of {dtype.name!r} instead of bytes")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


_STAND_INS: Mapping[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Subtype,
    ("numpy", "dtype"): _Dtype,
}


class _Restricted(pickle.Unpickler):
    """Reads containers, numbers, strings and arrays of bytes; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for an allowed name; raises UnpicklingError for all others."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is unsafe and which no CIFAR-10 file needs"
            )
        return _STAND_INS[module, name]
