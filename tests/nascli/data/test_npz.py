"""Arrays in one file: names, layouts, scaling, splits, and what is refused."""

import numpy as np
import pytest

from nascli.data.npz import Npz
from nascli.errors import DataError

RNG = np.random.default_rng(0)


def pair(count, shape=(6, 5), *, prefix="", classes=3):
    pixels = RNG.integers(256, size=(count, *shape), dtype=np.uint8)
    return {f"{prefix}x": pixels, f"{prefix}y": np.arange(count) % classes}


def save(tmp_path, **arrays):
    path = tmp_path / "d.npz"
    np.savez(path, **arrays)
    return str(path)


def test_named_splits_are_taken_as_they_are(tmp_path):
    arrays = pair(30, prefix="train_") | pair(8, prefix="val_") | pair(9, prefix="test_")
    data = Npz(save(tmp_path, **arrays)).load()
    assert (len(data.train), len(data.val), len(data.test)) == (30, 8, 9)
    assert str(data.signature) == "image 1x6x5 -> 3 classes"
    assert np.array_equal(data.test.pixels[np.arange(9)][:, 0], arrays["test_x"])
    assert np.array_equal(data.test.labels, arrays["test_y"])


def test_without_val_a_share_of_train_is_held_out_by_class(tmp_path):
    data = Npz(save(tmp_path, **pair(60, prefix="train_"), **pair(6, prefix="test_")), val=0.2).load()
    assert (len(data.train), len(data.val), len(data.test)) == (48, 12, 6)
    assert np.bincount(data.val.labels).tolist() == [4, 4, 4]


def test_x_and_y_are_split_into_three_that_share_no_image(tmp_path):
    arrays = pair(100)
    arrays["x"][:, 0, 0] = np.arange(100)
    data = Npz(save(tmp_path, **arrays)).load()
    numbers = [s.pixels[np.arange(len(s))][:, 0, 0, 0].tolist() for s in (data.train, data.val, data.test)]
    assert [len(n) for n in numbers] == [80, 10, 10]
    assert sorted(sum(numbers, [])) == list(range(100))
    assert [n % 3 for n in numbers[2]] == data.test.labels.tolist()


@pytest.mark.parametrize("form", ["nhw", "nhwc", "nchw"])
def test_all_layouts_mean_the_same_images(tmp_path, form):
    arrays = pair(40, (1, 6, 5) if form == "nhw" else (3, 6, 5))
    planes = arrays["x"]
    arrays["x"] = {"nhw": planes[:, 0], "nhwc": planes.transpose(0, 2, 3, 1), "nchw": planes}[form]
    data = Npz(save(tmp_path, **arrays)).load()
    assert data.signature.shape == planes.shape[1:]
    image = data.test.pixels[np.array([0])][0]
    assert any(np.array_equal(image, p) for p in planes)


@pytest.mark.parametrize(("layout", "shape"), [("nchw", (3, 9, 4)), ("nhwc", (4, 3, 9))])
def test_channels_that_could_be_in_two_places_need_the_setting(tmp_path, layout, shape):
    path = save(tmp_path, **pair(40, (3, 9, 4)))
    with pytest.raises(DataError, match="data.layout=nchw or nhwc"):
        Npz(path).load()
    assert Npz(path, layout=layout).load().signature.shape == shape


def test_floats_in_0_to_1_are_scaled_and_rounded(tmp_path):
    arrays = pair(40)
    path = save(tmp_path, x=(arrays["x"] / 255).astype(np.float32), y=arrays["y"].astype(np.uint8))
    image = Npz(path).load().test.pixels[np.array([0])][0, 0]
    assert image.dtype == np.uint8 and any(np.array_equal(image, p) for p in arrays["x"])


def test_floats_are_rounded_to_the_nearest_grey(tmp_path):
    path = save(tmp_path, x=np.full((40, 6, 5), 1.6 / 255), y=np.arange(40) % 2)
    assert Npz(path).load().test.pixels[np.array([0])].max() == 2


def test_a_folder_with_one_file_will_do(tmp_path, monkeypatch):
    save(tmp_path, **pair(40))
    assert len(Npz(str(tmp_path)).load().test) == 4
    monkeypatch.setenv("NASCLI_DATA", str(tmp_path))
    assert len(Npz().load().test) == 4
    (tmp_path / "e.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"'d\.npz', 'e\.npz'; give one by --set data\.path=FILE\.npz"):
        Npz().load()


def test_settings_reach_the_splits(tmp_path):
    data = Npz(save(tmp_path, **pair(60)), limit=5, pad=2, mirror=True, classes=7).load()
    assert (len(data.train), data.train.pad, data.train.mirror, data.signature.classes) == (5, 2, True, 7)


def changed(**arrays):
    return pair(30) | arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros(3)}, "has no array 'x', only 'images'"),
        (pair(9, prefix="train_"), "has no array 'test_x'"),
        ({"x": pair(9)["x"]}, "has no array 'y'"),
        (changed(x=np.zeros((30, 6), np.uint8)), r"x is \(30, 6\); images are"),
        (changed(x=np.zeros((30, 9, 9, 9), np.uint8)), "two places"),
        (changed(x=np.zeros((30, 6, 5), np.int64)), "x is of type int64"),
        (changed(x=np.zeros((30, 6, 5), bool)), "x is of type bool"),
        (changed(x=np.full((30, 6, 5), 1.5)), "from 1.5 to 1.5"),
        (changed(x=np.full((30, 6, 5), -0.1)), "from -0.1"),
        (changed(x=np.full((30, 6, 5), np.nan)), "nan"),
        (changed(y=np.zeros(29, int)), "one integer label an image"),
        (changed(y=np.zeros(30)), "y is float64"),
        (changed(y=np.arange(30) % 3 + 1), "3 different labels from 1 to 3"),
        (changed(y=np.arange(30) % 3 * 5), "without a gap"),
        (changed(y=np.arange(30) % 3 - 1), "from -1 to 1"),
        ({"x": np.zeros((0, 6, 5), np.uint8), "y": np.zeros(0, int)}, "at least one image"),
        ({"x": np.zeros((1, 6, 5), np.uint8), "y": np.zeros(1, int)}, "held out of 1 example"),
        (pair(9, prefix="train_") | pair(9, (6, 6), prefix="test_"), r"test images are \(1, 6, 6\)"),
        (changed(y=np.array([{}] * 30)), "plain arrays: Object arrays"),
    ],
)
def test_what_is_not_images_with_labels_is_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        Npz(save(tmp_path, **arrays)).load()
    assert "d.npz" in str(caught.value) or "held out" in str(caught.value)


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "d.npz"
    whole = save(tmp_path, **pair(30))
    raw = path.read_bytes()
    flipped = bytearray(raw)
    flipped[300] ^= 0xFF
    for stored in (b"", b"text", raw[: len(raw) // 2], bytes(flipped)):
        path.write_bytes(stored)
        with pytest.raises(DataError, match=r"d\.npz is no"):
            Npz(whole).load()
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match="np.savez"):
        Npz(whole).load()
    with pytest.raises(DataError, match="gone.npz.*found: none"):
        Npz(str(tmp_path / "gone.npz")).load()


@pytest.mark.parametrize("wrong", [{"val": 0.0}, {"test": -0.1}, {"val": 0.6, "test": 0.4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="positive shares"):
        Npz(**wrong)
