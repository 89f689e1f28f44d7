"""A name becomes data; a reader that breaks its own signature is told so before anything is trained."""

import sys
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import pytest
import torch

from nascli import plugins
from nascli.data import Data, Images, images
from nascli.data.source import read
from nascli.errors import DataError, SettingsError
from search_spaces.space import Batch, Signature


def drawn(count):
    return np.zeros((count, 1, 4, 4), np.uint8), np.arange(count) % 2


def good(count=20):
    return images(drawn(count), drawn(6), classes=2, val=5)


@dataclass(frozen=True)
class Loads:
    count: int = 20

    def load(self):
        return good(self.count)


@dataclass(frozen=True)
class Idle:
    count: int = 20


class Fixed:
    """A split of one given batch."""

    def __init__(self, *inputs, targets, mask=None):
        self.batch = Batch(inputs, targets, mask)

    def __len__(self):
        return 1

    def batches(self, size, *, device="cpu", rng=None):
        yield self.batch


@pytest.fixture
def offer(monkeypatch):
    """Puts an object where `package.module:attribute` finds it, and gives that name."""

    def put(thing):
        module = ModuleType("someones_data")
        module.thing = thing
        monkeypatch.setitem(sys.modules, "someones_data", module)
        return "someones_data:thing"

    return put


@pytest.mark.parametrize("source", [Loads, good, lambda **values: good(**values)])
def test_dataclasses_and_functions_are_read_with_their_settings(offer, source):
    assert len(read(offer(source), {}).train) == 15
    assert len(read(offer(source), {"count": 30}).train) == 25


def test_a_built_in_name_is_read():
    assert read("digits", {"limit": 50}).signature.shape == (1, 8, 8)


def test_every_built_in_reader_is_a_dataclass_with_load():
    for name in plugins.BUILT_IN["data"]:
        cls = plugins.load("data", name)
        assert callable(cls.load) and cls() == cls(), name


def test_the_example_works():
    data = read("examples.own_data:Stripes", {"size": 12, "noise": 0.1})
    assert str(data.signature) == "image 1x12x12 -> 2 classes"
    assert (len(data.train), len(data.val), len(data.test)) == (500, 100, 200)
    (batch,) = data.test.batches(200)
    columns_vary = batch.inputs[0].mean(2).var(2) > batch.inputs[0].mean(3).var(2)
    assert torch.equal(columns_vary[:, 0], batch.targets == 0), "upright stripes vary from column to column"


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        (Loads, {"cuont": 3}, "no setting 'cuont'.*'count'"),
        (Loads, {"count": "many"}, "count"),
        (good, {"cuont": 3}, "does not take these settings.*cuont"),
        (Idle, {}, r"Idle has no method load\(\)"),
        (good(), {}, "is a Data; give a dataclass"),
    ],
)
def test_wrong_settings_and_things_that_are_no_source(offer, source, values, message):
    with pytest.raises(SettingsError, match=message):
        read(offer(source), values)


def test_settings_say_where_they_were_written(offer):
    with pytest.raises(SettingsError, match="search.toml:3"):
        read(offer(Loads), {"cuont": 3}, origins={"cuont": "search.toml:3"})


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(SettingsError, match="Did you mean 'digits'"):
        read("digit", {})


def test_a_mistake_inside_the_users_function_passes_through(offer):
    def broken():
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        read(offer(broken), {})


def test_anything_but_data_is_refused(offer):
    with pytest.raises(DataError, match="returned a tuple instead"):
        read(offer(lambda: (1, 2)), {})


def test_an_empty_split_is_named(offer):
    empty = Images(drawn(0)[0], drawn(0)[1], (0.0,), (1.0,))
    for name in ("train", "val", "test"):
        with pytest.raises(DataError, match=f"{name} split: it is empty"):
            read(offer(lambda name=name: replace(good(), **{name: empty})), {})


def test_another_shape_than_the_signature_is_refused_with_both(offer):
    wrong = replace(good(), signature=Signature("image", (3, 4, 4), 2))
    with pytest.raises(DataError, match=r"train split.*\(1, 4, 4\).*\(3, 4, 4\)"):
        read(offer(lambda: wrong), {})


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 2]), "val split.*0 to 2.*2 classes, 0 to 1"),
        (torch.tensor([-1, 1]), "val split.*-1 to 1"),
        (torch.tensor([0.0, 1.0]), "val split.*float32"),
        (torch.tensor([], dtype=torch.int64), "val split: it is empty"),
    ],
)
def test_other_labels_than_the_signature_says_are_refused(offer, targets, message):
    wrong = replace(good(), val=Fixed(torch.zeros(2, 1, 4, 4), targets=targets))
    with pytest.raises(DataError, match=message):
        read(offer(lambda: wrong), {})


def test_nodes_that_do_not_count_may_be_unlabelled(offer):
    nodes, edges = torch.zeros(3, 7), torch.zeros(2, 4, dtype=torch.int64)
    split = Fixed(nodes, edges, targets=torch.tensor([0, 1, -1]), mask=torch.tensor([True, True, False]))
    graph = Data(Signature("graph", (7,), 2), split, split, split)
    assert read(offer(lambda: graph), {}) is graph
