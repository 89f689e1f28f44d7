"""idx files in every place and spelling; damaged ones by name; the real Fashion-MNIST."""

import gzip
import os

import numpy as np
import pytest

from nascli.data.idx import FashionMnist, Mnist, read_idx
from nascli.errors import DataError


def idx(array):
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write(folder, *, mark="-", end="", counts=(40, 10), skip=""):
    """The four files; image n is filled with n, and its label is its last decimal."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in zip(("train", "t10k"), counts, strict=True):
        pixels = np.broadcast_to(np.arange(count)[:, None, None], (count, 5, 4))
        for name, array in (("images", pixels), ("labels", np.arange(count) % 10)):
            if f"{part}-{name}" != skip:
                raw = idx(array)
                path = folder / f"{part}-{name}{mark}idx{array.ndim}-ubyte{end}"
                path.write_bytes(gzip.compress(raw) if end else raw)
    return folder


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_every_spelling_is_read(tmp_path, mark, end):
    data = Mnist(str(write(tmp_path, mark=mark, end=end))).load()
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 10), "a quarter is held out"
    assert data.signature.shape == (1, 5, 4) and data.signature.classes == 10
    (batch,) = data.test.batches(10)
    numbers = (batch.inputs[0][:, 0, 0, 0] * data.test.std[0] + data.test.mean[0]) * 255
    assert numbers.round().int().tolist() == batch.targets.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("source", "below"),
    [(FashionMnist, b) for b in ("", "fashion-mnist", "images/fashion-mnist", "FashionMNIST/raw")]
    + [(Mnist, b) for b in ("", "mnist", "images/mnist", "MNIST/raw")],
)
def test_every_place_is_searched(tmp_path, source, below):
    write(tmp_path / below)
    assert len(source(str(tmp_path)).load().test) == 10


def test_the_variable_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("NASCLI_DATA", str(write(tmp_path)))
    assert len(Mnist().load().test) == 10


def test_settings_reach_the_splits(tmp_path):
    write(tmp_path)
    data = FashionMnist(str(tmp_path), val=4, limit=6, pad=1).load()
    assert (len(data.train), len(data.val), data.train.pad, data.train.mirror) == (6, 4, 1, True)
    assert not Mnist(str(tmp_path)).load().train.mirror


@pytest.mark.parametrize(("source", "homepage"), [(FashionMnist, "fashion-mnist"), (Mnist, "yann.lecun.com")])
def test_missing_data_are_said_to_be_so_with_a_remedy(tmp_path, source, homepage):
    with pytest.raises(DataError) as caught:
        source(str(tmp_path / "nowhere")).load()
    message = str(caught.value)
    assert "MNIST/raw" in message and homepage in message and "--set data.path=DIR" in message
    assert "/usr/share" not in message, "a folder that the user names is obeyed"


@pytest.mark.parametrize("skip", ["train-labels", "t10k-images", "t10k-labels"])
def test_an_absent_companion_is_named(tmp_path, skip):
    write(tmp_path, skip=skip)
    with pytest.raises(DataError, match=rf"{skip}-idx\d-ubyte.*missing"):
        Mnist(str(tmp_path)).load()


GOOD = idx(np.zeros((3, 2, 2)))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\0\0\x09\x03" + GOOD[4:], "starts with 0x00000903 instead of 0x00000803"),
        (idx(np.zeros(3)), "starts with 0x00000801"),
        (b"\x89PNG" + GOOD[4:], "0x89504e47"),
        (GOOD[:-1], "3x2x2 bytes follow its header, and 11 do"),
        (GOOD + b"\0", "and 13 do"),
        (GOOD[:9], "and 0 do"),
        (GOOD[:2], "starts with 0x0000 "),
        (b"\0\0\x08\x03" + b"\xff" * 12, "4294967295x"),
        (b"", "empty"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, raw, why):
    path = tmp_path / "some-idx"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=f"some-idx.*{why}"):
        read_idx(path, dimensions=3)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(39)))
    with pytest.raises(DataError, match="40 images, but .*train-labels-idx1-ubyte 39 labels"):
        Mnist(str(tmp_path)).load()
    labels.write_bytes(idx(np.full(40, 11)))
    with pytest.raises(DataError, match="training labels run from 11 to 11"):
        Mnist(str(tmp_path)).load()
    write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((10, 5, 5))))
    with pytest.raises(DataError, match="different sizes: 5x4 and 5x5"):
        Mnist(str(tmp_path)).load()


def test_no_images_at_all_are_refused(tmp_path):
    write(tmp_path, counts=(0, 10))
    with pytest.raises(DataError, match="train-images-idx3-ubyte holds no pixels"):
        Mnist(str(tmp_path)).load()


@pytest.mark.data
@pytest.mark.skipif("NASCLI_DATA" not in os.environ, reason="NASCLI_DATA is not set")
def test_the_real_fashion_mnist_has_its_published_moments():
    data = FashionMnist().load()
    assert (len(data.train), len(data.val), len(data.test)) == (55_000, 5_000, 10_000)
    pixels = np.concatenate([s.pixels[np.arange(len(s))] for s in (data.train, data.val)])
    assert pixels.shape == (60_000, 1, 28, 28)
    assert round(pixels.mean() / 255, 4) == 0.2860
    assert round(pixels.std(dtype=np.float32) / 255, 4) == pytest.approx(0.3530, abs=1e-4)
    assert data.train.mean[0] == pytest.approx(0.2860, abs=2e-3) and data.train.std[0] == pytest.approx(
        0.3530, abs=2e-3
    )
