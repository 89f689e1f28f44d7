"""Image folders: layouts, splits, decoding, memory, and the file that is broken."""

import pickle

import numpy as np
import pytest
from PIL import Image

from nascli.data.folder import Files, Folder, Remembered, decode
from nascli.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def draw(path, colour, *, size=(12, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def tree(folder, count, *, names=("ant", "bee")):
    """`count` images a class: the first class is red, the second green; endings in turn."""
    for name, colour in zip(names, (RED, GREEN, BLUE), strict=False):
        for n in range(count):
            draw(folder / name / f"{n:03}.{('png', 'jpg', 'JPEG', 'bmp', 'ppm', 'webp')[n % 6]}", colour)


def seen(split):
    """The labels, and which channel is brightest, of every image."""
    (batch,) = split.batches(len(split))
    mean, std = (np.reshape(v, (-1, 1, 1)) for v in (split.mean, split.std))
    bright = batch.inputs[0].numpy() * std + mean
    return batch.targets.tolist(), bright.mean((2, 3)).argmax(1).tolist()


def test_classes_alone_are_split_80_10_10_by_class(tmp_path):
    tree(tmp_path, 20)
    data = Folder(str(tmp_path), size=8).load()
    assert (len(data.train), len(data.val), len(data.test)) == (32, 4, 4)
    assert str(data.signature) == "image 3x8x8 -> 2 classes"
    for split in (data.train, data.val, data.test):
        labels, brightest = seen(split)
        assert labels == brightest, "ant is 0 and red, bee is 1 and green"
        assert sum(labels) * 2 == len(labels)
    files = [f for s in (data.train, data.val, data.test) for f in paths(s)]
    assert len(set(files)) == 40
    again = Folder(str(tmp_path), size=8).load()
    assert paths(again.test) == paths(data.test)


def paths(split):
    """The files behind a split, in its order."""
    pixels, rows = split.pixels, np.arange(len(split))
    while not isinstance(pixels, Files):
        if isinstance(pixels, Remembered):
            pixels = pixels._pixels
        else:
            pixels, rows = pixels.pixels, pixels.rows[rows]
    return [pixels.paths[r] for r in rows]


@pytest.mark.parametrize(
    ("given", "expected"),
    [((), (16, 2, 2)), (("val",), (18, 6, 2)), (("test",), (18, 2, 6)), (("val", "test"), (20, 6, 6))],
)
def test_splits_that_are_missing_come_out_of_train(tmp_path, given, expected):
    tree(tmp_path / "train", 10)
    for name in given:
        tree(tmp_path / name, 3)
    data = Folder(str(tmp_path), size=4).load()
    assert (len(data.train), len(data.val), len(data.test)) == expected
    for name in ("train", *given):
        assert {f.relative_to(tmp_path).parts[0] for f in paths(getattr(data, name))} == {name}


def test_classes_are_the_sorted_names_and_a_split_may_lack_some(tmp_path):
    tree(tmp_path / "train", 4, names=("zebra", "ant", "moth"))
    draw(tmp_path / "test" / "moth" / "a.png", BLUE)
    data = Folder(str(tmp_path), size=4).load()
    assert data.signature.classes == 3
    assert seen(data.test) == ([1], [2])


def test_images_are_found_at_any_depth_and_other_files_left_alone(tmp_path):
    for name in ("ant", "bee"):
        for n in range(5):
            draw(tmp_path / "train" / name / "images" / f"{n}.png", RED)
        (tmp_path / "train" / name / "notes.txt").write_text("no image")
        (tmp_path / "train" / name / "._0.png").write_bytes(b"a file manager's leavings")
    draw(tmp_path / "train" / ".trash" / "0.png", RED)
    (tmp_path / "train" / "empty").mkdir()
    data = Folder(str(tmp_path), size=4).load()
    assert data.signature.classes == 2 and len(data.train) + len(data.val) + len(data.test) == 10


def test_settings_reach_the_splits(tmp_path):
    tree(tmp_path, 20)
    data = Folder(str(tmp_path), size=6, channels=1, val=0.25, test=0.25, limit=7, pad=1, mirror=False).load()
    assert (len(data.train), len(data.val), len(data.test)) == (7, 10, 10)
    assert data.signature.shape == (1, 6, 6) and (data.train.pad, data.train.mirror) == (1, False)


def test_the_longer_side_is_cut_at_both_ends(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = RED, GREEN, BLUE
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        pixels = decode(tmp_path / name, (3, 10, 10))
        assert np.array_equal(pixels, np.broadcast_to(np.array(GREEN, np.uint8)[:, None, None], (3, 10, 10)))


def test_a_large_jpeg_looks_the_same_as_its_exact_form(tmp_path):
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    exact = Image.fromarray(np.broadcast_to(ramp, (600, 800)).copy())
    for name in ("a.jpg", "a.png"):
        exact.save(tmp_path / name)
    jpg, png = (decode(tmp_path / n, (3, 32, 32)).astype(int) for n in ("a.jpg", "a.png"))
    assert np.abs(jpg - png).max() <= 4


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 90, 90), ("1", 1, 255), ("RGBA", (90, 90, 90, 255), 90), ("LA", (90, 255), 90), ("I;16", 90 << 8, 90)],
)
def test_every_mode_of_eight_and_sixteen_bits_is_read(tmp_path, mode, value, expected):
    Image.new(mode, (6, 6), value).save(tmp_path / "a.png")
    for channels in (1, 3):
        assert np.array_equal(decode(tmp_path / "a.png", (channels, 4, 4)), np.full((channels, 4, 4), expected))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.save(tmp_path / "a.png", transparency=bytes([128, 255]))
    assert (decode(tmp_path / "a.png", (3, 4, 4)) == 90).all()


def test_thirty_two_bits_are_refused_because_their_range_is_unknown(tmp_path):
    Image.new("F", (6, 6), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff.*32 bits"):
        decode(tmp_path / "a.tiff", (3, 4, 4))


@pytest.mark.parametrize("damage", [b"", b"no image", "half"])
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "ppm"])
def test_a_broken_image_is_named(tmp_path, ending, damage):
    path = tmp_path / f"a.{ending}"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(DataError, match=rf"a\.{ending} can't be read as an image"):
        decode(path, (3, 8, 8))


def test_a_broken_image_is_named_through_the_split(tmp_path):
    tree(tmp_path, 10)
    (tmp_path / "bee" / "003.bmp").write_bytes(b"BM")
    data = None
    with pytest.raises(DataError, match=r"003\.bmp"):
        data = Folder(str(tmp_path), size=4).load()
        for split in (data.train, data.val, data.test):
            list(split.batches(64))


def test_an_image_too_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    draw(tmp_path / "a.png", RED)
    with pytest.raises(DataError, match=r"a\.png is too large"):
        decode(tmp_path / "a.png", (3, 4, 4))


def test_decoded_images_are_remembered_where_memory_allows(tmp_path):
    tree(tmp_path, 10)
    needed = 20 * 3 * 4 * 4
    for cache_bytes, remembered in ((needed, True), (needed - 1, False)):
        data = Folder(str(tmp_path), size=4, cache_bytes=cache_bytes).load()
        assert isinstance(data.val.pixels, Remembered) == remembered


def test_each_image_is_decoded_once_and_comes_back_right():
    asked = []

    class Source:
        def __len__(self):
            return 5

        def __getitem__(self, rows):
            asked.extend(rows.tolist())
            return np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), 1, 2, 2))

    pixels = Remembered(Source(), (1, 2, 2))
    for rows in ([3, 1, 3], [1, 0], [4, 3, 2, 1, 0]):
        assert pixels[np.array(rows)][:, 0, 0, 0].tolist() == rows
    assert sorted(asked) == [0, 1, 2, 3, 4] and len(pixels) == 5


def test_a_copy_for_another_process_is_small(tmp_path):
    tree(tmp_path, 2)
    files = Files(tuple(sorted(tmp_path.rglob("*.png"))), (3, 200, 200))
    pixels = Remembered(files, files.shape)
    before = pixels[np.arange(2)]
    stored = pickle.dumps(pixels)
    assert len(stored) < 2000
    assert np.array_equal(pickle.loads(stored)[np.arange(2)], before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.rmdir(), "is no folder; arrange them"),
        (lambda p: None, "images of 0 classes"),
        (lambda p: tree(p, 3, names=("ant",)), "images of 1 classes"),
        (lambda p: (tree(p / "test", 2), tree(p / "val", 2)), "'test' or 'val' but no 'train'"),
        (
            lambda p: (tree(p / "train", 5), tree(p / "test", 2, names=("ant", "wasp"))),
            "class 'wasp', which the training",
        ),
        (lambda p: (tree(p / "train", 5), (p / "val").mkdir()), "val' holds no images"),
    ],
)
def test_a_folder_of_another_form_is_refused_with_a_remedy(tmp_path, make, message):
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError, match=message):
        Folder(str(folder)).load()


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"channels": 2}, {"val": 0.0}, {"test": 1.0}, {"val": 0.5, "test": 0.5}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Folder(**wrong)
