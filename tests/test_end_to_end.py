"""The commands together, on the embedded digits: train, search, export, use the files without nascli; stop, go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.cli import console
from nascli.data.builtin import Digits
from nascli.engine.runs import Run
from tests.toy_runs import NUMBERS, child, run

Nascli = Callable[..., Any]
DIGITS = ["--space", "resnet", "--data", "digits"]
TRAIN = ["train", *DIGITS, "--set", "data.limit=320", "--set", "strategy.report_steps=5", "--set", "calibration=128"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("train", *DIGITS, "--epochs", 3, "--out", tmp_path_factory.mktemp("supernet") / "run")


@pytest.fixture(scope="module")
def search(supernet: Path) -> list[object]:
    """A search whose values do not depend on the clock."""
    return ["search", *DIGITS, "--supernet", supernet, "--set", "calibration=256", "--set", "strategy.population=6"]


@pytest.fixture(scope="module")
def searched(search: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(*search, "-n", 14, "--out", tmp_path_factory.mktemp("searched") / "run")


def journal(path: Path) -> list[dict[str, Any]]:
    """The trials without what the clock wrote."""
    rows = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


ALONE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy, onnxruntime, torch
from model import load

pixels = torch.tensor(json.load(sys.stdin))
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
with torch.no_grad():
    plain = load()(pixels)
(graph,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
ours = [name for name in sys.modules if name.partition(".")[0] in ("nascli", "search_spaces", "predictors")]
print(json.dumps({"plain": plain.tolist(), "graph": graph.tolist(), "ours": ours}))
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_was_found_runs_without_nascli(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    member = Run.open(searched).front["members"][0]
    left = nascli("export", searched, "--member", member["n"], "--out", tmp_path / "files")
    assert left.code == 0, left.err
    (tmp_path / "elsewhere").mkdir()
    data = Digits().load()
    (batch,) = data.val.batches(len(data.val))
    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, tmp_path / "files"],
        cwd=tmp_path / "elsewhere",
        input=json.dumps(batch.inputs[0].tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(alone.stdout)
    assert answer["ours"] == []
    for form in ("plain", "graph"):
        right = (torch.tensor(answer[form]).argmax(1) == batch.targets).float().mean().item()
        assert 100 * right == pytest.approx(member["values"]["accuracy"], abs=1e-4)


def interrupted(arguments: list[object], path: Path, lines: str, cwd: Path) -> str:
    """What a command said that got Ctrl-C as soon as a file of its run held two lines."""
    process = child(*arguments, "--out", path, cwd=cwd)
    deadline = time.monotonic() + 120
    while not (path / lines).exists() or (path / lines).read_text().count("\n") < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == "" and "Traceback" not in err, err
    assert Run.open(path).header["status"] == "interrupted"
    assert err.endswith(f"Go on with: nascli resume {path}\n")
    return err


def test_a_stopped_search_goes_on_to_the_same_journal(
    nascli: Nascli, search: list[object], searched: Path, tmp_path: Path
) -> None:
    said = interrupted([*search, "-n", 14], tmp_path / "run", "trials.jsonl", tmp_path)
    assert "Stopping after what is being measured now; once more to stop at once." in said
    before = (tmp_path / "run" / "trials.jsonl").read_bytes()
    assert 2 <= before.count(b"\n") < 14
    left = nascli("resume", tmp_path / "run")
    assert left.code == 0 and (tmp_path / "run" / "trials.jsonl").read_bytes().startswith(before)
    assert journal(tmp_path / "run") == journal(searched)
    assert Run.open(tmp_path / "run").front == Run.open(searched).front
    assert left.out == nascli("resume", searched).out


def test_a_stopped_training_goes_on_to_the_same_bits(nascli: Nascli, tmp_path: Path) -> None:
    long = [*TRAIN, "--epochs", 10]
    interrupted(long, tmp_path / "run", "steps.jsonl", tmp_path)
    assert not (tmp_path / "run" / "supernet.safetensors").exists()
    assert nascli("resume", tmp_path / "run").code == 0
    assert nascli(*long, "--out", tmp_path / "at-once").code == 0
    found, expected = (load_file(tmp_path / name / "supernet.safetensors") for name in ("run", "at-once"))
    assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found)
    assert journal(tmp_path / "run") == journal(tmp_path / "at-once")


def test_the_same_seed_gives_the_same_journal_and_another_does_not(
    nascli: Nascli, search: list[object], tmp_path: Path
) -> None:
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        assert nascli(*search, "-n", 6, "--seed", seed, "--out", name).code == 0
    assert journal(Path("a")) == journal(Path("b")) != journal(Path("c"))


COMMANDS = [
    "train --space resnet --data digits --dry-run",
    "search --space resnet -O macs -O params -n 3 --out new",
    "search --space resnet -O macs --dry-run",
    "resume RUN",
    "export RUN --to torch --out files",
    "doctor",
    "runs ls",
    "runs show RUN",
    "runs diff RUN RUN",
    "spaces ls",
    "spaces show resnet",
    "spaces sample resnet",
    "spaces check resnet --preset digits -n 1",
    "plugins ls",
    "config show",
    "config schema recipe plain",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_stdout_is_one_document(nascli: Nascli, searched: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    left = nascli(*(str(searched) if word == "RUN" else word for word in line.split()), "--json")
    document = json.loads(left.out)
    assert left.code == 0 and document.keys() == {"schema", "command", "ok", "data", "warnings"}
    assert document["schema"] == "nascli/1" and document["ok"] is True and line.startswith(document["command"])


def test_progress_goes_to_stderr_alone(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    left = nascli("search", *NUMBERS, "-n", 5, "--out", "a")
    assert "search: 40 %, " in left.err and "2 measured" in left.err
    assert "%, " not in left.out and "measured" not in left.out
    left = nascli(*TRAIN, "--set", "strategy.steps=10", "--out", "b")
    assert "train: 50 %, " in left.err and "loss " in left.err and "loss 2" not in left.out


def test_a_dry_run_writes_nothing(nascli: Nascli, search: list[object], supernet: Path) -> None:
    before = sorted(p.stat().st_mtime_ns for p in supernet.rglob("*"))
    left = nascli(*search, "-n", 14, "--dry-run")
    assert left.code == 0 and "largest.accuracy: " in left.out and "seconds_estimated: " in left.out
    assert nascli(*TRAIN, "--dry-run").code == 0
    assert list(Path().iterdir()) == [] and sorted(p.stat().st_mtime_ns for p in supernet.rglob("*")) == before
