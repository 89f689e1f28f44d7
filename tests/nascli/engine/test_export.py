"""Exported files run without nascli and compute what the network computed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nascli.engine import export as exporting
from nascli.engine.checkpoints import read_described, write_tensors
from nascli.engine.export import export
from nascli.errors import SettingsError, UnsupportedError, VerifyError


class Residual(nn.Module):
    """A convolution with a short cut, an adaptive pool, and images of twice the size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
        x = x + self.body(x)
        return self.head(self.drop(self.pool(x).flatten(1)))


class Loop(nn.Module):
    """Depends on a shape in a way that only torch.export follows."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for _ in range(x.shape[-1] // 4):
            x = x + 1
        return self.head(x)


class Tokens(nn.Module):
    """Reads whole numbers and returns two tensors."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4)

    def forward(self, tokens):
        vectors = self.embed(tokens)
        return vectors.mean(1), vectors.amax(1)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Residual()
        net(torch.randn(16, 1, 8, 8))  # running statistics of their own
    return net


@pytest.fixture
def example():
    return (torch.zeros(1, 1, 8, 8),)


FRESH = """
import sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("nascli", "search_spaces", "predictors", "safetensors"):
            raise ImportError(name + " must not be needed")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import model
from pathlib import Path
network = model.load()
probe = model._tensors(Path(sys.argv[2]))
found = network(probe["inputs"])
print(float((found - probe["outputs"]).abs().max()), sum(p.numel() for p in network.parameters()), network.training)
"""


def test_a_fresh_interpreter_without_nascli_computes_the_same(tmp_path, model, example):
    export(model, example, tmp_path / "out", {"arch": "toy:1"}, formats=["torch"])
    inputs = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        outputs = model.eval()(inputs)
    write_tensors(tmp_path / "probe.safetensors", {"inputs": inputs, "outputs": outputs}, {})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").rename(tmp_path / "moved")
    command = [sys.executable, "-I", "-c", FRESH, str(tmp_path / "moved"), str(tmp_path / "probe.safetensors")]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    difference, parameters, training = done.stdout.split()
    assert float(difference) <= 1e-5
    assert int(parameters) == sum(p.numel() for p in model.parameters())
    assert training == "False"


def test_the_files_and_what_is_said_of_them(tmp_path, model, example):
    description = {"arch": "toy:1", "values": {"accuracy": 91.0}}
    files = export(model, example, tmp_path / "out", description, formats=["torch"])
    assert [f.name for f in files] == ["model.json", "model.py", "model.safetensors"]
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    tensors, said = read_described(tmp_path / "out" / "model.safetensors")
    assert tensors.keys() == model.state_dict().keys()
    assert said["values"] == {"accuracy": 91.0}
    assert said["inputs"] == [{"shape": [None, 1, 8, 8], "type": "float32"}]
    assert said["outputs"] == [{"shape": [None, 3]}]
    assert said["largest_difference"] == {"torch": 0.0}
    assert [r["name"] for r in said["layers"] if r["does"].startswith("Conv2d")] == ["stem.0", "body.0"]


def test_onnx_reads_any_batch(tmp_path, model, example, capfd):
    import onnxruntime

    files = export(model, example, tmp_path, {}, formats=["onnx"])
    assert capfd.readouterr() == ("", "")
    assert [f.name for f in files] == ["model.json", "model.onnx", "model.safetensors"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input"]
    for count in (1, 7):
        inputs = torch.randn(count, 1, 8, 8)
        with torch.no_grad():
            expected = model.eval()(inputs).numpy()
        (found,) = session.run(None, {"input": inputs.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert 0 <= json.loads((tmp_path / "model.json").read_text())["largest_difference"]["onnx"] <= 1e-4


def test_large_weights_lie_beside_the_onnx_file(tmp_path, model, example, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(exporting, "INLINE_BYTES", 0)
    files = export(model, example, tmp_path, {}, formats=["onnx"])
    assert "model.onnx.data" in [f.name for f in files]
    onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])


def test_pt2_reads_any_batch(tmp_path, model, example):
    export(model, example, tmp_path, {}, formats=["pt2"])
    network = torch.export.load(tmp_path / "model.pt2").module()
    inputs = torch.randn(4, 1, 8, 8)
    assert torch.allclose(network(inputs), model.eval()(inputs), atol=1e-5)


def test_whole_numbers_in_and_two_tensors_out(tmp_path):
    files = export(Tokens(), (torch.tensor([[0, 3, 10]]),), tmp_path, {}, formats=["torch", "pt2"])
    assert len(files) == 4
    assert len(json.loads((tmp_path / "model.json").read_text())["outputs"]) == 2


def test_what_cannot_be_traced_still_becomes_onnx(tmp_path):
    with pytest.raises(UnsupportedError, match="--to onnx"):
        export(Loop(), (torch.zeros(1, 8),), tmp_path, {}, formats=["torch"])
    assert list(tmp_path.iterdir()) == []
    export(Loop(), (torch.zeros(1, 8),), tmp_path, {}, formats=["onnx"])
    tensors, said = read_described(tmp_path / "model.safetensors")
    assert tensors.keys() == {"head.weight", "head.bias"}
    assert "layers" not in said


def test_the_model_is_left_as_it_was(tmp_path, model, example):
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    export(model, example, tmp_path, {}, formats=["torch"])
    assert model.training
    assert model.drop.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("wrong", [lambda t: t + 0.01, lambda t: t * float("nan"), lambda t: t[:, :-1]])
def test_a_form_that_computes_something_else_is_not_written(tmp_path, model, example, monkeypatch, wrong):
    right = exporting._torch
    monkeypatch.setattr(
        exporting, "_torch", lambda plain, folder: lambda inputs: [wrong(t) for t in right(plain, folder)(inputs)]
    )
    with pytest.raises(VerifyError, match="torch form"):
        export(model, example, tmp_path / "out", {}, formats=["torch"])
    assert list((tmp_path / "out").iterdir()) == []


def test_forms_of_other_weights_do_not_stay(tmp_path, model, example):
    export(model, example, tmp_path, {}, formats=["pt2"])
    export(model, example, tmp_path, {}, formats=["torch"])
    assert (tmp_path / "model.pt2").exists()
    with torch.no_grad():
        model.head.bias.add_(1)
    export(model, example, tmp_path, {}, formats=["torch"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.py", "model.safetensors"]


def test_unknown_formats_and_missing_extras(tmp_path, model, example, monkeypatch):
    with pytest.raises(SettingsError, match=r"'onx'\. Did you mean 'onnx'\?"):
        export(model, example, tmp_path / "out", {}, formats=["torch", "onx"])
    monkeypatch.setattr(exporting, "_EXTRA", ("onnx", "no_such_package"))
    with pytest.raises(UnsupportedError, match=r'no_such_package: pip install "nascli\[export\]"'):
        export(model, example, tmp_path / "out", {}, formats=["onnx"])
    assert not (tmp_path / "out").exists()


def test_outputs_that_are_no_tensors(tmp_path):
    class Named(nn.Module):
        def forward(self, x):
            return {"logits": x}

    with pytest.raises(UnsupportedError, match="returns a dict"):
        export(Named(), (torch.zeros(1, 2),), Path(tmp_path), {}, formats=["torch"])
