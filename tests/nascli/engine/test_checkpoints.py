"""Checkpoints are read without running anything and written whole."""

import json
import os
import pickle
import resource
import signal
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nascli.engine.checkpoints import read_described, read_for, read_tensors, write_tensors
from nascli.errors import DataError, RunError, VerifyError


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), head=nn.Linear(2, 3)))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


class Canary:
    """Runs a command when unpickled carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class TestWriting:
    def test_what_is_written_is_read(self, tmp_path, net):
        path = tmp_path / "7.safetensors"
        write_tensors(path, net.state_dict(), {"arch": "toy:1/2", "values": {"accuracy": 91.5}})
        tensors, description = read_described(path)
        assert same(tensors, net.state_dict())
        assert description == {"arch": "toy:1/2", "values": {"accuracy": 91.5}}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["7.json", "7.safetensors"]

    def test_same_tensors_same_bytes(self, tmp_path, net):
        for name in "ab":
            write_tensors(tmp_path / f"{name}.safetensors", net.state_dict(), {})
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()

    def test_shared_strided_and_extreme_tensors(self, tmp_path):
        whole = torch.arange(12.0).reshape(3, 4)
        tensors = {
            "whole": whole,
            "tied": whole,
            "row": whole[1],
            "turned": whole.T,
            "none": torch.empty(0, 3),
            "scalar": torch.tensor(3),
            "half": torch.ones(2, dtype=torch.bfloat16),
            "wild": torch.tensor([float("nan"), float("inf")]),
        }
        path = tmp_path / "x.safetensors"
        write_tensors(path, tensors, {})
        read = read_tensors(path)
        assert same({k: v for k, v in read.items() if k != "wild"}, {k: v for k, v in tensors.items() if k != "wild"})
        assert read["wild"].isnan().tolist() == [True, False]

    def test_a_failure_leaves_the_old_file_and_no_litter(self, tmp_path, monkeypatch):
        path = tmp_path / "x.safetensors"
        write_tensors(path, {"a": torch.ones(2)}, {"version": 1})

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="no space left"):
            write_tensors(path, {"a": torch.zeros(2)}, {"version": 2})
        monkeypatch.undo()
        tensors, description = read_described(path)
        assert tensors["a"].tolist() == [1, 1]
        assert description == {"version": 1}
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_full_disk_is_a_sentence(self, tmp_path):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
            with pytest.raises(RunError, match=r"no space left to write .*x\.safetensors"):
                write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(100_000)}, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert list(tmp_path.iterdir()) == []

    def test_changed_tensors_do_not_verify(self, tmp_path, net):
        path = tmp_path / "x.safetensors"
        write_tensors(path, net.state_dict(), {})
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
        with pytest.raises(VerifyError, match=r"x\.safetensors is not the file that x\.json describes"):
            read_described(path)

    def test_tensors_without_description(self, tmp_path, net):
        path = tmp_path / "x.safetensors"
        write_tensors(path, net.state_dict(), {})
        path.with_suffix(".json").write_text("[]")
        with pytest.raises(DataError, match="no 'sha256'"):
            read_described(path)
        path.with_suffix(".json").unlink()
        with pytest.raises(DataError, match=r"x\.json is missing"):
            read_described(path)


class TestReadingForAModel:
    def other(self):
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), head=nn.Linear(2, 3)))

    def test_the_model_is_filled_and_its_tensors_are_copies(self, tmp_path, net):
        torch.save(net.state_dict(), tmp_path / "a.pt")
        model = self.other()
        found = read_for(tmp_path / "a.pt", model)
        assert same(found, net.state_dict()) and same(model.state_dict(), net.state_dict())
        found["head.bias"].add_(1)
        assert same(model.state_dict(), net.state_dict())

    def test_old_checkpoints_do_not_count_batches(self, tmp_path, net):
        state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        torch.save(state, tmp_path / "old.pt")
        found = read_for(tmp_path / "old.pt", self.other())
        assert found.keys() == net.state_dict().keys() and int(found["bn.num_batches_tracked"]) == 0

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda s: s.pop("bn.weight"), "it has no 'bn.weight'."),
            (lambda s: s.update({"bn2.weight": s.pop("bn.weight")}),
             "it has no 'bn.weight', but 'bn2.weight', which the network has not."),
            (lambda s: s.update({"head.weight": torch.ones(10, 2)}),
             "its 'head.weight' is [10, 2], and the network's is [3, 2]."),
            (lambda s: s.update(more=torch.ones(2)), "it has 'more', which the network has not."),
            # The first one counts, in the order of the network.
            (lambda s: s.update({"head.weight": torch.ones(1), "conv.bias": torch.ones(1)}),
             "its 'conv.bias' is [1], and the network's is [2]."),
        ],
    )  # fmt: skip
    def test_the_first_tensor_that_does_not_fit_is_named(self, tmp_path, net, change, why):
        state = dict(net.state_dict())
        change(state)
        torch.save(state, path := tmp_path / "a.pt")
        with pytest.raises(DataError) as refused:
            read_for(path, self.other())
        assert str(refused.value) == f"{path} holds no weights of this network: {why}"


class TestReading:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_state_dicts_of_torch(self, tmp_path, net, zipped):
        path = tmp_path / "model.pt"
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=zipped)
        assert same(read_tensors(path), net.state_dict())

    @pytest.mark.parametrize("key", ["state_dict", "model", "net", "state_dict_ema"])
    def test_nested_and_wrapped(self, tmp_path, net, key):
        path = tmp_path / "last.pth.tar"
        wrapped = {f"module._orig_mod.{k}": v for k, v in net.state_dict().items()}
        torch.save({"epoch": 3, key: wrapped, "optimizer": {"lr": 0.1}}, path)
        assert same(read_tensors(path), net.state_dict())

    def test_a_layer_of_ones_own_called_module(self, tmp_path):
        path = tmp_path / "model.pt"
        torch.save({"module.weight": torch.ones(1), "head.weight": torch.ones(1)}, path)
        assert read_tensors(path).keys() == {"module.weight", "head.weight"}

    def test_parameters_come_without_gradients(self, tmp_path):
        path = tmp_path / "model.pt"
        torch.save({"w": nn.Parameter(torch.ones(2))}, path)
        assert not read_tensors(path)["w"].requires_grad

    def test_safetensors_by_any_name(self, tmp_path, net):
        write_tensors(tmp_path / "x.safetensors", net.state_dict(), {})
        renamed = (tmp_path / "x.safetensors").rename(tmp_path / "weights.bin")
        assert same(read_tensors(renamed), net.state_dict())

    @pytest.mark.data
    @pytest.mark.parametrize(("name", "count"), [("resnet20-12fca82f.th", 269_722), ("resnet56-4bfd9763.th", 853_018)])
    def test_published_checkpoints(self, name, count):
        tensors = read_tensors(Path(os.environ["NASCLI_DATA"]) / "ckpt" / name)
        assert "conv1.weight" in tensors
        counted = {k: v for k, v in tensors.items() if not k.endswith(("running_mean", "running_var", "tracked"))}
        assert sum(v.numel() for v in counted.values()) == count


class TestRefusing:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_malice_is_not_executed(self, tmp_path, zipped):
        path, canary = tmp_path / "evil.pt", tmp_path / "canary"
        torch.save({"state_dict": {"w": torch.ones(1)}, "extra": Canary(canary)}, path,
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        with pytest.raises(DataError, match=r"evil\.pt is a pickle that asks for \w+\.system.*save_file"):
            read_tensors(path)
        assert not canary.exists()

    def test_a_bare_pickle_is_not_executed(self, tmp_path):
        path, canary = tmp_path / "evil.pkl", tmp_path / "canary"
        path.write_bytes(pickle.dumps(Canary(canary)))
        with pytest.raises(DataError):
            read_tensors(path)
        assert not canary.exists()
        os.system(f"touch {canary}")
        assert canary.exists(), "the canary could not have sung"

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (nn.Linear(2, 2), "asks for torch.nn"),
            ({"w": torch.ones(2), "best": np.float64(0.5)}, "asks for numpy"),
            ({"w": torch.ones(2), "epoch": 3}, "holds 'epoch': a int, not a tensor"),
            ([torch.ones(2)], "holds a list"),
            (torch.ones(2), "holds a Tensor"),
            ({}, "holds an empty dict"),
            ({1: torch.ones(2)}, "holds 1: a Tensor"),
            ({"w": torch.eye(3).to_sparse()}, "no dense tensor"),
            ({"w": torch.ones(2, device="meta")}, "no dense tensor"),
            ({"w": torch.ones(1).expand(1 << 40)}, "far more than the file has"),
        ],
        ids=str,
    )
    def test_other_content(self, tmp_path, content, why):
        path = tmp_path / "model.pt"
        torch.save(content, path)
        with pytest.raises(DataError) as refused:
            read_tensors(path)
        assert why in str(refused.value)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_zip_bomb(self, tmp_path):
        path = tmp_path / "bomb.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb/data.pkl", bytes(50_000_000))
        with pytest.raises(DataError, match="50,000,000 bytes"):
            read_tensors(path)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{}",
            struct.pack("<Q", 1 << 62) + b"{",
            struct.pack("<Q", 100) + b'{"a":',
            struct.pack("<Q", 2) + b"{}" + b"left over",
            struct.pack("<Q", 64)
            + json.dumps({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}).ljust(64).encode(),
        ],
        ids=["empty", "json", "huge header", "torn header", "left over", "negative size"],
    )
    def test_broken_safetensors(self, tmp_path, raw):
        path = tmp_path / "x.safetensors"
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"x\.safetensors is damaged"):
            read_tensors(path)

    @pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
    @pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
    def test_truncated(self, tmp_path, net, kind, part):
        path = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
        if kind == "safetensors":
            write_tensors(path, net.state_dict(), {})
        else:
            torch.save(net.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
        raw = path.read_bytes()
        path.write_bytes(raw[: int(part * len(raw))])
        with pytest.raises(DataError) as refused:
            read_tensors(path)
        assert "\n" not in str(refused.value)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(junk=st.binary(max_size=200), start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x10" + bytes(7)]))
    def test_junk(self, tmp_path, junk, start):
        path = tmp_path / "junk.pt"
        path.write_bytes(start + junk)
        with pytest.raises(DataError):
            read_tensors(path)

    @pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
    def test_flipped_bytes_are_refused_or_harmless(self, tmp_path, net, kind):
        path = tmp_path / "x.safetensors"
        if kind == "safetensors":
            write_tensors(path, net.state_dict(), {})
        else:
            torch.save(net.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
        raw, rng = path.read_bytes(), np.random.default_rng(0)
        refused = 0
        for _ in range(300):
            flipped = bytearray(raw)
            for place in rng.integers(len(raw), size=rng.integers(1, 4)):
                flipped[place] = rng.integers(256)
            (tmp_path / "flipped.pt").write_bytes(flipped)
            try:
                read_tensors(tmp_path / "flipped.pt")
            except DataError:
                refused += 1
        assert refused > 100

    def test_other_paths(self, tmp_path):
        with pytest.raises(DataError, match="is a folder; give the file in it"):
            read_tensors(tmp_path)
        with pytest.raises(DataError, match="does not exist; check the path"):
            read_tensors(tmp_path / "none.pt")
        with pytest.raises(DataError, match="neither a safetensors file nor"):
            text = tmp_path / "model.onnx"
            text.write_text("some text")
            read_tensors(text)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path):
        path = tmp_path / "x.pt"
        path.write_bytes(b"x")
        path.chmod(0)
        with pytest.raises(DataError, match="can't be read: Permission denied"):
            read_tensors(path)
