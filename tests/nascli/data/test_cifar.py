"""CIFAR-10's two forms give the same images; a pickle that asks for more than bytes is refused unread."""

import os
import pickle
import struct

import numpy as np
import pytest

from nascli.data.cifar import Cifar10, read_binary, read_python, shrunk
from nascli.errors import DataError

COUNT = 12


def examples(seed, count=COUNT):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(count, 3072), dtype=np.uint8), rng.integers(10, size=count, dtype=np.uint8)


def binary(folder, *, files=(1, 2), test=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name in [f"data_batch_{n}.bin" for n in files] + ["test_batch.bin"] * test:
        pixels, labels = examples(sum(map(ord, name.removesuffix(".bin"))))
        (folder / name).write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
    return folder


def batch(pixels, labels):
    """A batch as Python 2 and its numpy wrote it: strings of bytes, old module names."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    numbers = b"(" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    dtype = (
        b"cnumpy\ndtype\n"
        + short(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"M" + struct.pack("<H", pixels.shape[0]) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    head = b"\x80\x02}(" + short(b"batch_label") + short(b"training batch 1 of 5")
    return head + short(b"labels") + b"]" + numbers + short(b"data") + array + b"u."


def python(folder, *, files=(1, 2), test=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name in [f"data_batch_{n}" for n in files] + ["test_batch"] * test:
        (folder / name).write_bytes(batch(*examples(sum(map(ord, name)))))
    return folder


def test_both_forms_give_the_same_images(tmp_path):
    ours, theirs = (f(tmp_path / f.__name__) for f in (binary, python))
    for one, other in ((read_binary(ours / "test_batch.bin"), read_python(theirs / "test_batch")),):
        assert one[0].shape == (COUNT, 3, 32, 32) and one[0].dtype == one[1].dtype == np.uint8
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    first, second = (Cifar10(str(p)).load() for p in (ours, theirs))
    assert first.train.mean == second.train.mean and len(first.train) == len(second.train) == 18


def test_planes_are_red_green_blue_rows_first(tmp_path):
    pixels = np.arange(3072) % 251
    (tmp_path / "b").write_bytes(bytes([7]) + pixels.astype(np.uint8).tobytes())
    images, labels = read_binary(tmp_path / "b")
    assert labels.tolist() == [7]
    assert images[0, 1, 2, 3] == (1024 + 2 * 32 + 3) % 251


@pytest.mark.parametrize(
    "below", ["", "cifar-10-batches-bin", "images", "images/cifar-10-batches-bin", "cifar-10-batches-py"]
)
@pytest.mark.parametrize("write", [binary, python])
def test_every_place_is_searched(tmp_path, below, write):
    write(tmp_path / below)
    data = Cifar10(str(tmp_path)).load()
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 12)
    assert str(data.signature) == "image 3x32x32 -> 10 classes"


def test_the_binary_form_comes_first(tmp_path):
    (python(binary(tmp_path)) / "data_batch_1").write_bytes(b"broken")
    Cifar10(str(tmp_path)).load()


@pytest.mark.parametrize("files", [(3,), (1, 2, 3, 4, 5)])
def test_however_many_training_files_there_are(tmp_path, files):
    data = Cifar10(str(binary(tmp_path, files=files)), val=1).load()
    assert len(data.train) == COUNT * len(files) - 1


def test_settings_reach_the_splits(tmp_path):
    data = Cifar10(str(binary(tmp_path)), val=5, limit=4, pad=3, mirror=False).load()
    assert (len(data.train), len(data.val)) == (4, 5)
    assert (data.train.pad, data.train.mirror) == (3, False)


def test_images_are_normalised_by_given_numbers(tmp_path):
    binary(tmp_path)
    data = Cifar10(str(tmp_path), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).load()
    assert data.train.mean == data.test.mean == (0.485, 0.456, 0.406) and data.val.std == (0.229, 0.224, 0.225)
    with pytest.raises(DataError, match="for each of the 3 channels"):
        Cifar10(str(tmp_path), mean=(0.5,), std=(0.5,)).load()


def test_missing_data_are_said_to_be_so_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("NASCLI_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        Cifar10().load()
    for part in ("data_batch_*.bin", "images/cifar-10-batches-py'", "cs.toronto.edu", "--set data.path=DIR"):
        assert part in str(caught.value)


@pytest.mark.parametrize("write", [binary, python])
def test_an_absent_test_file_is_named(tmp_path, write):
    with pytest.raises(DataError, match="test_batch.*missing"):
        Cifar10(str(write(tmp_path, test=False))).load()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (b"\0" * 3072, "3,072 bytes"),
        (b"\0" * 3074, "3,074 bytes"),
        (b"\x0a" + b"\0" * 3072, "label 10"),
    ],
)
def test_a_damaged_binary_file_is_named(tmp_path, raw, why):
    binary(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(raw)
    with pytest.raises(DataError, match=f"data_batch_2.bin.*{why}"):
        Cifar10(str(tmp_path)).load()


class Attack:
    """Runs a call of its choice when a plain pickle.load reads it."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


PIXELS, LABELS = examples(0)
GOOD = batch(PIXELS, LABELS)
ARRAY_OF_FLOATS = GOOD.replace(b"U\x02u1", b"U\x02f8")
OBJECTS = GOOD.replace(b"U\x02u1", b"U\x02O8")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (GOOD[:-1], "no CIFAR-10 batch"),
        (GOOD[:1000], "no CIFAR-10 batch"),
        (b"\x80\x02}.", "it has no 'data'"),
        (b"\x80\x02K\x01.", "no attribute 'items'"),
        (b"not a pickle", "no CIFAR-10 batch"),
        (pickle.dumps({b"data": [1], b"labels": [1]}, protocol=4), "no attribute 'array'"),
        (pickle.dumps({"data": PIXELS, "fine_labels": [1]}, protocol=4), "it has no 'labels'"),
        (pickle.dumps({"data": PIXELS[:, :3000], "labels": list(range(10))}, protocol=4), r"\(12, 3000\)"),
        (pickle.dumps({"data": PIXELS, "labels": [1, 2]}, protocol=4), r"labels \(2,\)"),
        (pickle.dumps({"data": PIXELS, "labels": [300] * COUNT}, protocol=4), "300"),
        (pickle.dumps({"data": PIXELS, "labels": [10] * COUNT}, protocol=4), "label 10"),
        (pickle.dumps({"data": PIXELS[:0], "labels": []}, protocol=4), "no images"),
        (ARRAY_OF_FLOATS, "array of 'f8'"),
        (OBJECTS, "array of 'O8'"),
        (GOOD.replace(b"cnumpy\nndarray\n", b"cnumpy\nmatrix\n"), "asks for numpy.matrix"),
        (GOOD.replace(b"M\x0c\x00M", b"M\xff\xffM"), "reshape"),
    ],
)
def test_a_damaged_python_file_is_named(tmp_path, raw, why):
    path = tmp_path / "data_batch_1"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=f"data_batch_1.*{why}"):
        read_python(path)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "call", [(os.mkdir, "{}"), (eval, "__import__('os').mkdir({!r})"), (bytearray, 9), (getattr, os.mkdir, "__self__")]
)
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path, protocol, call):
    mark = tmp_path / "called"
    call = [part.format(str(mark)) if isinstance(part, str) else part for part in call]
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Attack(*call)}, protocol=protocol))
    with pytest.raises(DataError, match="data_batch_1.*asks for .* unsafe"):
        read_python(tmp_path / "data_batch_1")
    assert not mark.exists()


def test_the_attack_would_work_on_a_plain_unpickler(tmp_path):
    pickle.loads(pickle.dumps(Attack(os.mkdir, str(tmp_path / "called"))))
    assert (tmp_path / "called").is_dir()


def test_the_stand_ins_cannot_be_changed_from_a_pickle(tmp_path):
    # BUILD on the class itself, with a dictionary of attributes: a plain unpickler would set them.
    raw = b"\x80\x02cnumpy\nndarray\n}U\x05arrayK\x01sb."
    (tmp_path / "b").write_bytes(raw)
    with pytest.raises(DataError, match="no CIFAR-10 batch"):
        read_python(tmp_path / "b")
    (tmp_path / "good").write_bytes(GOOD)
    assert np.array_equal(read_python(tmp_path / "good")[0].reshape(COUNT, -1), PIXELS)


def test_arrays_in_columns_are_put_in_rows(tmp_path):
    (tmp_path / "b").write_bytes(
        pickle.dumps({"data": np.asfortranarray(PIXELS), "labels": LABELS.tolist()}, protocol=4)
    )
    assert np.array_equal(read_python(tmp_path / "b")[0].reshape(COUNT, -1), PIXELS)


def test_shrinking_averages_squares_by_hand():
    pixels = np.array([[[[0, 2, 10, 20], [4, 7, 30, 41], [255, 255, 1, 1], [255, 255, 1, 2]]]], np.uint8)
    labels = np.array([3], np.uint8)
    # 13 / 4 = 3.25, 101 / 4 = 25.25, 255, 5 / 4 = 1.25.
    found, kept = shrunk((pixels, labels), 2)
    assert found.tolist() == [[[[3, 25], [255, 1]]]] and found.dtype == np.uint8 and kept is labels
    whole, _ = shrunk((pixels, labels), 4)
    assert whole.tolist() == [[[[round(int(pixels.sum()) / 16)]]]]
    assert shrunk((pixels, labels), 1)[0] is pixels


def test_all_splits_are_shrunk_and_the_signature_says_so(tmp_path):
    binary(tmp_path)
    data = Cifar10(str(tmp_path), val=4, shrink=2).load()
    assert data.signature.shape == (3, 16, 16)
    for split in (data.train, data.val, data.test):
        assert next(split.batches(2)).inputs[0].shape == (2, 3, 16, 16)
    full = Cifar10(str(tmp_path), val=4).load()
    assert full.signature.shape == (3, 32, 32)
    assert full.train.labels.tolist() == data.train.labels.tolist()
    expected = full.test.pixels[np.arange(3)].reshape(3, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.abs(data.test.pixels[np.arange(3)] - expected).max() <= 0.5


@pytest.mark.parametrize("shrink", [0, -2, 3, 64])
def test_images_are_shrunk_by_divisors_only(shrink):
    with pytest.raises(ValueError, match=f"shrink={shrink} must divide 32"):
        Cifar10(shrink=shrink)


@pytest.mark.data
@pytest.mark.skipif("NASCLI_DATA" not in os.environ, reason="NASCLI_DATA is not set")
def test_the_real_cifar10():
    data = Cifar10().load()
    assert len(data.test) == 10_000 and len(data.val) == 5000 and len(data.train) in (15_000, 25_000, 35_000, 45_000)
    assert data.train.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-3)
    assert data.train.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-3)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
