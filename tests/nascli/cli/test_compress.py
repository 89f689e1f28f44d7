from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.engine.runs import Run
from search_spaces.module import ModuleSpace
from tests.toy_compress import HALVE, ZEROS, checkpoint, digits_net, net
from tests.toy_runs import ENVIRONMENT, run

Nascli = Callable[..., Any]
DIGITS = ["--model", "tests.toy_compress:digits_net", "--data", "digits"]
CORNERS = ["--model", "tests.toy_compress:net", "--data", "tests.toy_images:corners"]
QUICK = ["--set", "latency.min_ms=1", "--set", "latency.max_ms=5", "--set", "latency.repeats=3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network that has learnt the digits a little, by another program."""
    folder = tmp_path_factory.mktemp("trained")
    short = ["--epochs", 6, "--set", "strategy.lr=0.1"]
    run("train", *DIGITS, *short, *QUICK, "--out", folder / "run")
    torch.save({"state_dict": load_file(folder / "run" / "networks" / "0.safetensors")}, folder / "digits.pth")
    return folder


@pytest.fixture(scope="module")
def compressed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three levels of it."""
    out = tmp_path_factory.mktemp("compressed") / "run"
    arguments = ["--with", HALVE, "--level", "0.75,0.5", "--level", "0.25"]
    return run("compress", trained / "digits.pth", *DIGITS, *arguments, *QUICK, "--out", out)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return checkpoint(tmp_path)


def journal(path: Path) -> list[dict[str, Any]]:
    """Trials without what the clock wrote."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in Run.open(path).rows]
    return [{**row, "values": {k: v for k, v in row["values"].items() if "latency" not in k}} for row in rows]


def test_the_dense_network_and_every_level_are_measured(nascli: Nascli, trained: Path, compressed: Path) -> None:
    found = Run.open(compressed)
    assert [row["tag"] for row in found.rows] == ["dense", "Halve-macs0.75", "Halve-macs0.5", "Halve-macs0.25"]
    dense, *smaller = found.rows
    # 64 pixels: nine products for each of the channels of the first convolution, and for those times six in the second.
    assert [row["values"]["macs"] for row in found.rows] == [64 * (9 * c + 54 * c) + 60 for c in (8, 6, 4, 2)]
    known = Run.open(trained / "run").front["members"][0]["values"]
    assert dense["values"]["accuracy"] == known["accuracy"] > 15
    for row in found.rows:
        assert {"macs", "params", "nonzero", "size_bytes", "latency_ms", "latency_ms_iqr"} <= row["values"].keys()
    header = found.header
    assert header["command"] == "compress" and header["status"] == "finished"
    assert found.settings["parent"] == str(trained / "digits.pth")
    assert [o["name"] for o in header["objectives"]] == ["accuracy", "macs"]
    assert found.settings["compressor"] == {HALVE: {"epochs": 1.0, "telling": True}}
    assert found.finals[dense["key"]]["test_accuracy"] == known["test_accuracy"]
    assert len(smaller) == 3


def test_members_of_the_front_are_exported_and_need_no_nascli(compressed: Path) -> None:
    front = Run.open(compressed).front["members"]
    assert {int(p.name) for p in (compressed / "export").iterdir()} == {m["n"] for m in front}
    member = next(m for m in front if m["edits"])
    folder = compressed / "export" / str(member["n"])
    assert {p.name for p in folder.iterdir()} == {"model.py", "model.json", "model.safetensors"}
    code = (
        "import sys; sys.path.insert(0, '.'); import torch; from model import load; net = load();"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('nascli', 'search_spaces', 'predictors')];"
        "print(net(torch.ones(1, 1, 8, 8)).tolist(), sum(p.numel() for p in net.parameters()))"
    )
    alone = {k: v for k, v in ENVIRONMENT.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs, params = done.stdout.rsplit(" ", 1)
    assert int(params) == member["values"]["params"]
    space = ModuleSpace("tests.toy_compress:digits_net")
    rebuilt = Run.open(compressed).network(member["n"], space).build(space)
    assert torch.allclose(torch.tensor(json.loads(outputs)), rebuilt.eval()(torch.ones(1, 1, 8, 8)), atol=1e-5)


def test_a_finished_compression_prints_its_result_again_and_does_no_work(
    nascli: Nascli, compressed: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(compressed, again := tmp_path / "run")
    before = {name: (again / name).read_bytes() for name in ("trials.jsonl", "steps.jsonl", "finals.jsonl")}
    stamp = next((again / "export").glob("*/model.safetensors")).stat().st_mtime_ns
    resumed = nascli("resume", again)
    assert resumed.code == 0 and before == {name: (again / name).read_bytes() for name in before}
    assert next((again / "export").glob("*/model.safetensors")).stat().st_mtime_ns == stamp
    lines = [line.split("\t") for line in resumed.out.splitlines()]
    assert lines[0][:4] == ["n", "network", "front", "accuracy (%)"] and len(lines) == 5
    assert [line[1] for line in lines[1:]] == ["dense", "Halve-macs0.75", "Halve-macs0.5", "Halve-macs0.25"]
    # The largest network's share of itself is not told; the others' shares are.
    macs = lines[0].index("macs (MACs)")
    assert [line[macs] for line in lines[1:]] == [
        "32,316", f"{24_252:,} ({100 * 24_252 / 32_316:.1f} %)", "16,188 (50.1 %)", "8,124 (25.1 %)"]  # fmt: skip


def test_the_document(nascli: Nascli, compressed: Path) -> None:
    document = json.loads(nascli("resume", compressed, "--json").out)
    assert document["ok"] and document["command"] == "resume"
    dense, *smaller = document["data"]["networks"]
    assert dense["network"] == dense["dense"] == "dense" and all(row["dense"] == "dense" for row in smaller)
    assert smaller[1]["of_dense"]["macs"] == pytest.approx(16_188 / 32_316)
    difference = smaller[1]["values"]["accuracy"] - dense["values"]["accuracy"]
    assert smaller[1]["points"]["accuracy"] == difference
    exported = {row["n"] for row in (dense, *smaller) if row["export"]}
    assert exported == {row["n"] for row in (dense, *smaller) if row["on_front"]}
    assert "test_accuracy" in dense["values"]


def test_levels_can_be_added_and_nothing_else(nascli: Nascli, compressed: Path, tmp_path: Path) -> None:
    shutil.copytree(compressed, again := tmp_path / "run")
    before = (again / "trials.jsonl").read_bytes()
    left = nascli("resume", again, "--level", "0.5,0.125", "--json")
    assert left.code == 0, left.err
    tags = [row["network"] for row in json.loads(left.out)["data"]["networks"]]
    assert tags[-1] == "Halve-macs0.125" and len(tags) == 5
    assert (again / "trials.jsonl").read_bytes().startswith(before)
    for flag, value in (("--epochs", 3), ("--time-limit", "3s"), ("--evaluations", 9)):
        left = nascli("resume", again, flag, value)
        assert left.code == 2 and f"{flag} is no budget of nascli compress; give --level." in left.err
    left = nascli("resume", again, "--workers", 2)
    assert left.code == 2 and "nascli compress has one in hand" in left.err
    left = nascli("resume", again, "--level", "much")
    assert left.code == 2 and "'much'" in left.err


def test_the_same_command_with_other_settings_is_another_run(
    nascli: Nascli, compressed: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(compressed, again := tmp_path / "run")
    left = nascli(
        "compress", trained / "digits.pth", *DIGITS, "--with", HALVE, "--epochs", 2, *QUICK, "--out", again
    )  # fmt: skip
    assert left.code == 4 and "epochs: 1.0 -> 2.0" in left.err and "strategy.levels" not in left.err


def test_a_run_is_compressed_with_its_own_space_and_data(nascli: Nascli, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = nascli("compress", trained / "run", "--with", ZEROS, "--level", 0.5, "--of", "groups", *QUICK, "--out", out)
    assert left.code == 0, left.err
    found = Run.open(out)
    assert [row["tag"] for row in found.rows] == ["dense", "Zeros-groups0.5"]
    assert found.rows[0]["values"]["accuracy"] == Run.open(trained / "run").front["members"][0]["values"]["accuracy"]
    assert found.settings["strategy"]["members"] == [0] and found.settings["data"]["name"] == "digits"
    assert [o["name"] for o in found.header["objectives"]] == ["accuracy", "nonzero"]
    dense, smaller = (row["values"] for row in found.rows)
    # Half of the 60 weights of the classifier.
    assert dense["nonzero"] - smaller["nonzero"] == 30 and dense["params"] == smaller["params"]
    # What was compressed can be compressed further, and exported like members of other runs.
    further = ["compress", out, "--member", found.front["members"][-1]["n"], "--with", HALVE]
    assert nascli(*further, *QUICK, "--out", tmp_path / "further").code == 0
    assert nascli("export", out, "--to", "torch", "--out", tmp_path / "files").code == 0


def test_compressors_in_a_row(nascli: Nascli, weights: Path) -> None:
    left = nascli("compress", weights, *CORNERS, "--with", HALVE, "--with", ZEROS, *QUICK, "--out", "a", "--json")
    assert left.code == 0, left.err
    tags = [row["network"] for row in json.loads(left.out)["data"]["networks"]]
    assert tags == ["dense", "Halve-macs0.5+Zeros-macs0.5"]


def test_settings_of_compressors(nascli: Nascli, weights: Path) -> None:
    Path("a.toml").write_text(f'[compressor."{HALVE}"]\nepochs = 7\ntelling = false\n')
    dry = ["compress", weights, *CORNERS, "--with", HALVE, "--config", "a.toml", "--dry-run", "--json", *QUICK]

    def resolved(*more: object) -> dict[str, Any]:
        left = nascli(*dry, *more)
        assert left.code == 0, left.err
        settings: dict[str, Any] = json.loads(left.out)["data"]["settings"]["compressor"][HALVE]
        return settings

    assert resolved() == {"epochs": 7.0, "telling": False}
    assert resolved("--epochs", 3, "--time-limit", "1m") == {"epochs": 3.0, "telling": False, "time_limit_s": 60.0}
    left = nascli(*dry[: -len(QUICK)], "--with", ZEROS, "--epochs", 3)
    assert left.code == 2 and f"--epochs: compressor '{ZEROS}' has no setting 'epochs'." in left.err


def test_a_dry_run_measures_the_networks_and_writes_nothing(nascli: Nascli, weights: Path) -> None:
    before = set(Path().iterdir())
    left = nascli("compress", weights, *CORNERS, "--with", HALVE, "--level", "0.3,0.6", *QUICK, "--dry-run", "--json")
    facts = json.loads(left.out)["data"]
    assert (facts["networks"], facts["compressed"]) == (1, 2)
    (dense,) = facts["dense"].values()
    assert {"accuracy", "macs", "params", "nonzero", "size_bytes", "latency_ms"} <= dense.keys()
    assert set(Path().iterdir()) == before


def test_what_is_asked_of_a_run_can_be_asked_of_its_settings(nascli: Nascli, compressed: Path, tmp_path: Path) -> None:
    left = nascli("compress", "--config", compressed / "settings.toml", "--out", tmp_path / "again")
    assert left.code == 0, left.err
    assert journal(tmp_path / "again") == journal(compressed)


def test_without_data(nascli: Nascli, weights: Path) -> None:
    shape = "space.signature={kind='image', shape=[1, 4, 4], classes=4}"
    counted = ["--model", "tests.toy_compress:net", "-O", "macs", "-O", "params:max", "--set", shape]
    left = nascli("compress", weights, *counted, "--with", HALVE, *QUICK, "--out", "a", "--json")
    assert left.code == 0, left.err
    assert [row["on_front"] for row in json.loads(left.out)["data"]["networks"]] == [True, True]
    assert "accuracy" not in Run.open(Path("a")).rows[0]["values"]


def test_forms_that_cannot_be_written_are_noted(nascli: Nascli, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nascli.engine.export._EXTRA", ("no_such_package",))
    left = nascli("compress", weights, *CORNERS, "--with", HALVE, "--to", "onnx", *QUICK, "--out", "a")
    assert left.code == 0 and "was not exported as torch, onnx: Writing ONNX needs no_such_package" in left.err
    assert all((p / "model.py").exists() for p in Path("a/export").iterdir())


def test_a_limit_that_nothing_meets(nascli: Nascli, weights: Path) -> None:
    left = nascli("compress", weights, *CORNERS, "--with", HALVE, "-O", "macs<=10", *QUICK, "--out", "a")
    assert left.code == 6 and "No network met macs<=10; the nearest of 2 has" in left.err


class Mine:
    """What an unsafe checkpoint would have run."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_every_wrong_input_is_one_sentence_and_leaves_nothing(nascli: Nascli, weights: Path, trained: Path) -> None:
    torch.save({"state_dict": Mine()}, "unsafe.pth")
    Path("empty").mkdir()
    torch.save(net(3).state_dict(), "wide.pth")
    torch.save({"a": torch.ones(2)}, "strange.pth")
    supernet = trained / "run" / "nothing"
    given = [*CORNERS, "--with", HALVE]
    refused: list[tuple[list[object], int, str]] = [
        ([], 2, "A checkpoint needs --model"),
        (["gone.pth", *given], 3, "gone.pth' does not exist; check the path"),
        (["unsafe.pth", *given], 3, "only tensors are read"),
        (["wide.pth", *given], 3, "its '0.weight' is [8, 3, 3, 3], and the network's is [8, 1, 3, 3]"),
        (["strange.pth", *given], 3, "it has no '0.weight', but 'a', which the network has not"),
        (["empty"], 4, "empty is no run directory"),
        ([weights, *given[2:]], 2, "A checkpoint needs --model package.module:callable"),
        ([trained / "run", "--model", "a:b"], 2, "--model is for checkpoints"),
        ([weights, *given, "--member", 1], 2, "--member is for runs"),
        (["--member", 1], 2, "--member needs RUN"),
        (CORNERS, 2, "There is nothing to compress; give a checkpoint or a run."),
        ([trained / "run", "--member", 5], 4, "has no front member 5; it has 0."),
        ([weights, *given, "--level", "half"], 2, "levels='half': Input should be a valid number"),
        ([weights, *given, "--level", "1.5"], 2, "the level 1.5 must lie between 0 and 1"),
        ([weights, *given, "--level", "0.5,0"], 2, "the level 0.0 must lie between 0 and 1"),
        ([weights, *given, "--level", ","], 2, "--level is empty"),
        ([weights, *given, "--level", "0.5,0.5"], 2, "names one twice"),
        ([weights, *given, "--of", "flops"], 2, "of='flops': Input should be 'macs', 'params', 'bytes', 'latency'"),
        ([weights, *CORNERS, "--with", "wgsff"], 2, "No compressor is called 'wgsff'."),
        ([weights, *CORNERS, "--with", "wgsff", "--epochs", 3], 2, "No compressor is called 'wgsff'."),
        ([weights, *CORNERS, "--with", "tests.toy_compress:net"], 2, "is no compressor"),
        ([weights, *given, "--epochs", -1], 2, "epochs=-1.0 must be more than 0"),
        ([weights, *given, "--time-limit", "soon"], 2, "'soon' is no duration"),
        ([weights, *given, "--to", "tflite"], 2, "There is no export format 'tflite'."),
        ([weights, *given, "-O", "acuracy"], 2, "Did you mean 'accuracy'?"),
        ([weights, *given[:2], "--with", HALVE], 2, "accuracy is measured on data: give --data NAME"),
        ([weights, *given, "--data", "npz", "--data-path", "gone.npz"], 3, "gone.npz"),
        ([weights, "--model", "no_such_file:net", *given[2:]], 5, "no_such_file"),
        ([supernet, *given], 3, "does not exist"),
    ]
    before = sorted(Path().rglob("*"))
    for arguments, code, said in refused:
        left = nascli("compress", *arguments)
        assert left.code == code and said in left.err, (arguments, left.err)
        assert len([line for line in left.err.splitlines() if line.startswith("nascli: ")]) == 1, left.err
        assert "Traceback" not in left.err and left.out == ""
    assert sorted(Path().rglob("*")) == before


def test_a_run_without_weights(nascli: Nascli, tmp_path: Path) -> None:
    run("search", "--space", "resnet", "--preset", "digits", "-O", "macs", "-n", 2, "--out", tmp_path / "counted")
    left = nascli("compress", tmp_path / "counted", "--with", HALVE)
    assert left.code == 4 and "has no front member with weights of its own; train one" in left.err


def test_the_toys_are_what_they_say() -> None:
    assert sum(p.numel() for p in digits_net().parameters()) == 72 + 16 + 438 + 12 + 70
