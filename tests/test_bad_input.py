"""What users get wrong: one sentence on stderr, the documented exit code, a JSON document on request, no traceback."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.toy_runs import IMAGES, NUMBERS, SHORT, run

Nascli = Callable[..., Any]
COUNTED = ["search", "--space", "resnet", "-O", "macs", "-O", "params", "-n", "4"]
"""A search of networks that are built and counted, not run on data."""
TRAINED = ["train", *IMAGES, *SHORT]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(*TRAINED, "--out", tmp_path_factory.mktemp("supernet") / "run")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("search", *NUMBERS, "-n", 6, "--out", tmp_path_factory.mktemp("numbers") / "run")


@pytest.fixture
def refused(nascli: Nascli) -> Callable[..., str]:
    """Runs a command that must fail, for people and for programs; the sentence."""

    def check(code: str, number: int, *arguments: object) -> str:
        left = nascli(*arguments)
        assert left.code == number, left.err
        told = [line for line in left.err.splitlines() if line.startswith("nascli: ")]
        assert left.out == "" and len(told) == 1 and "Traceback" not in left.err, left.err
        sentence = told[0].removeprefix("nascli: ")
        left = nascli(*arguments, "--json")
        answer = json.loads(left.out)
        assert left.code == number and answer["ok"] is False and answer["schema"] == "nascli/1"
        assert answer["error"]["code"] == code and answer["error"]["exit"] == number
        unnamed = re.compile(r"\b\d{8}T\d{6}Z\S*")
        assert unnamed.sub("", answer["error"]["message"]) == unnamed.sub("", sentence)
        return sentence

    return check


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "--space", "resnt"], "No space is called 'resnt'. Did you mean 'resnet'?"),
        ([*COUNTED, "--strategy", "evoluton"], "No strategy is called 'evoluton'. Did you mean 'evolution'?"),
        ([*COUNTED, "--data", "cifar"], "No data is called 'cifar'. Did you mean 'cifar10'?"),
        ([*COUNTED, "-O", "latency"], "No objective is called 'latency'. Did you mean 'latency_ms'?"),
        ([*COUNTED, "--latency", "rofline"], "No latency is called 'rofline'. Did you mean 'roofline'?"),
        (["train", *IMAGES, "--recipe", "sandwhich"], "No recipe is called 'sandwhich'. Did you mean 'sandwich'?"),
        ([*COUNTED, "--space", "no.such:Space"], "space 'no.such:Space': there is no module 'no.such' here or among"),
        ([*COUNTED, "--space", "search_spaces.resnet:ResNet"], "Did you mean 'ResNetSpace'?"),
        ([*COUNTED, "-O", "macs<=3"], "An objective is given twice in macs, params, macs<=3; give each once."),
        ([*COUNTED[:3], "-O", "macs>=3"], "'macs>=3': macs is minimised, so its limit is written macs<=VALUE."),
        ([*COUNTED[:3], "-O", "macs<=x"], "'macs<=x': the limit 'x' is not a number."),
        ([*COUNTED[:3], "-O", "macs<3"], "'macs<3' is no objective; write NAME, NAME:min, NAME<=LIMIT or NAME>=LIMIT."),
        (["search"], "No space is given; name one: --space NAME (see nascli plugins ls)."),
        (["search", "--space", "resnet"], "accuracy is measured on data: give --data NAME"),
        ([*COUNTED, "--device", "tpu9"], "'tpu9' is no device; give auto, cpu or cuda:0."),
        ([*COUNTED, "--time-limit", "5 weeks"], "'5 weeks' is no duration; write 90s, 30m or 1h30m."),
        ([*COUNTED, "--preset", "emagenet"], "preset"),
        ([*COUNTED, "--set", "strategy.population=many"], "strategy 'evolution': population='many': Input should be"),
        (
            [*COUNTED, "--set", "strategy.population=2"],
            "strategy 'evolution': population must be at least 4, but got 2",
        ),
        ([*COUNTED, "--set", "strategy.populaton=9"], "has no setting 'populaton'. Did you mean 'population'?"),
        ([*COUNTED, "--set", "sed=1"], "--set sed=1: nascli has no setting 'sed'. Did you mean 'seed'?"),
        ([*COUNTED, "--set", "seed.x=1"], "--set seed.x=1: "),
        ([*COUNTED, "--set", "seed"], "--set 'seed': write KEY=VALUE, as in --set strategy.population=20."),
        (
            [*COUNTED, "--latency", "roofline"],
            "latency 'roofline' needs gflops, gbytes_per_s; give --set latency.gflops=",
        ),
        ([*COUNTED, "--config", "none.toml"], "There is no settings file 'none.toml'."),
        ([*COUNTED, "--config", "."], ". can't be read: "),
    ],
)
def test_names_and_values(refused: Callable[..., str], arguments: list[str], sentence: str) -> None:
    assert sentence in refused("SETTINGS", 2, *arguments)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed = 1\n[strategy\n", "a.toml:2: "),
        ("seed = 1\nseed = 2\n", "a.toml:2: "),
        ("sed = 1\n", "a.toml:1: nascli has no setting 'sed'. Did you mean 'seed'?"),
        ("seed = 'one'\n", "a.toml:1: nascli: seed='one': Input should be a valid integer"),
        (
            "[strategy]\nname = 'evolution'\n\npopulaton = 5\n",
            "a.toml:4: strategy 'evolution' has no setting 'populaton'.",
        ),
        ("[strategy]\nname = 'evolution'\npopulation = 'x'\n", "a.toml:3: strategy 'evolution': population='x'"),
        ("[data]\nname = 'digits'\nlimt = 5\n", "a.toml:3: data 'digits' has no setting 'limt'. Did you mean 'limit'?"),
        ("[space]\nname = 'resnet'\ndepth = [1]\n", "a.toml:3: space 'resnet' has no setting 'depth'."),
        ("[budget]\nevaluation = 5\n", "a.toml:2: budget has no setting 'evaluation'. Did you mean 'evaluations'?"),
        ("[budget]\nseconds = 'soon'\n", "'soon' is no duration"),
    ],
)
def test_settings_files_name_the_line(refused: Callable[..., str], text: str, sentence: str) -> None:
    Path("a.toml").write_text(text)
    assert sentence in refused("SETTINGS", 2, *COUNTED, "--config", "a.toml")
    assert [p.name for p in Path().iterdir()] == ["a.toml"]


def test_an_architecture_of_another_space(refused: Callable[..., str]) -> None:
    sentence = refused("ARCHITECTURE", 2, *TRAINED, "--arch", "mobile:2/1,3/2,3")
    assert "is an architecture of 'mobile'; the space here is 'resnet'." in sentence
    assert "must begin with the space's name, 'resnet:'" in refused("ARCHITECTURE", 2, *TRAINED, "--arch", "big")
    listed = [*COUNTED, "--strategy", "listed", "--set", 'strategy.archs=["resnet:1,2,3"]']
    assert "slashes" in refused("ARCHITECTURE", 2, *listed)


def test_images_of_another_shape_than_the_space_reads(refused: Callable[..., str]) -> None:
    shape = 'space.signature={kind="image", shape=[3, 9, 9], classes=4}'
    sentence = refused("DATA", 3, *TRAINED, "--set", shape)
    assert sentence.startswith("The space 'resnet' reads image 3x9x9 -> 4 classes, but the data are image 1x4x4 -> 4")


def test_data_that_are_missing_empty_or_no_data(refused: Callable[..., str]) -> None:
    train = ["train", "--space", "resnet", "--data"]
    for name in ("cifar10", "mnist", "fashion-mnist"):
        assert str(Path.cwd()) in refused("DATA", 3, *train, name, "--data-path", Path.cwd())
    assert "none.npz" in refused("DATA", 3, *train, "npz", "--data-path", "none.npz")
    Path("torn.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "torn.npz" in refused("DATA", 3, *train, "npz", "--data-path", "torn.npz")
    np.savez("empty.npz", x=np.zeros((0, 8, 8), np.uint8), y=np.zeros(0, np.int64))
    refused("DATA", 3, *train, "npz", "--data-path", "empty.npz")
    Path("photos/cat").mkdir(parents=True)
    refused("DATA", 3, *train, "folder", "--data-path", "photos")
    Path("my_numbers.py").write_text("def numbers():\n    return 5\n")
    assert "returned a int instead of a nascli.data.Data" in refused("DATA", 3, *train, "my_numbers:numbers")


def test_a_learning_rate_beyond_reason(refused: Callable[..., str]) -> None:
    absurd = ["--set", "strategy.lr=1e12", "--set", "strategy.clip=inf"]
    sentence = refused("DIVERGED", 1, *TRAINED, *absurd)
    assert re.match(r"The loss became \w+ by step \d+: training diverged; give a lower lr", sentence)
    statuses = [json.loads(p.read_text())["status"] for p in Path("runs").glob("*/run.json")]
    assert statuses == ["failed", "failed"]


def test_limits_that_nothing_meets(refused: Callable[..., str]) -> None:
    sentence = refused("INFEASIBLE", 6, *COUNTED[:3], "-O", "params", "-O", "macs<=10", "-n", "4", "--out", "a")
    assert re.match(r"No network met macs<=10; the nearest of 4 has [\d,]+ MACs \(resnet:.*\)\. The front", sentence)
    assert json.loads(Path("a/front.json").read_text())["members"] == []


def test_a_latency_table_that_is_not_there(refused: Callable[..., str]) -> None:
    given = [*COUNTED, "--latency", "table", "--set", "latency.path=none.json"]
    assert "latency 'table': The latency table 'none.json' can't be read" in refused("SETTINGS", 2, *given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what must be missing")
def test_a_device_that_is_not_there(refused: Callable[..., str]) -> None:
    assert "there is no 'cuda:0'; give --device cpu" in refused("UNSUPPORTED", 5, *COUNTED, "--device", "cuda:0")


class Canary:
    """Unpickled carelessly, this writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self._path, "sung"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "renamed"])
def test_a_malicious_checkpoint_is_not_run(refused: Callable[..., str], tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / ("evil.safetensors" if kind == "renamed" else "evil.pt")
    if kind == "torch":
        torch.save({"state_dict": {"stem.weight": Canary(canary)}}, path)
    else:
        path.write_bytes(pickle.dumps(Canary(canary)))
    sentence = refused("DATA", 3, "search", *IMAGES, "-n", "2", "--supernet", path)
    assert str(path) in sentence and not canary.exists()
    if kind == "torch":
        assert "asks for " in sentence and "only tensors are read" in sentence
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()  # the test can fail


def test_the_supernet_of_another_space(refused: Callable[..., str], supernet: Path) -> None:
    other = ["--set", "space.widths=[4, 16]", "--supernet", supernet, "-n", 2]
    sentence = refused("DATA", 3, "search", *IMAGES, *other)
    assert "is no supernet of this 'resnet' space" in sentence and "train another" in sentence


def test_a_supernet_that_is_not_there(refused: Callable[..., str], numbers: Path) -> None:
    sentence = refused("DATA", 3, "search", *IMAGES, "--supernet", "none")
    assert sentence == "There is no supernet 'none'; train one with nascli train --out none."
    sentence = refused("DATA", 3, "search", *IMAGES, "--supernet", numbers)
    assert sentence.startswith(f"{numbers} holds no trained supernet (supernet.safetensors)")


def test_folders_that_can_not_hold_a_run(refused: Callable[..., str], tmp_path: Path) -> None:
    Path("file").write_text("mine")
    for out in ("file", "file/run"):
        assert f"{out} can't be written: " in refused("RUN", 4, *COUNTED, "--out", out)
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    sentence = refused("RUN", 4, *COUNTED, "--out", "full")
    assert sentence == "full holds other files and is no run directory; give --out an empty or new folder."
    assert [p.name for p in Path("full").iterdir()] == ["thesis.txt"] and Path("file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(refused: Callable[..., str]) -> None:
    Path("closed").mkdir(mode=0o500)
    assert "permission denied" in refused("RUN", 4, *COUNTED, "--out", "closed/run")


HOLD = """
import fcntl, json, os, socket, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_writes(refused: Callable[..., str], nascli: Nascli) -> None:
    assert nascli("search", *NUMBERS, "-n", 2, "--out", "a").code == 0
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, "a/lock"], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        expected = (
            f"a is being written by process {holder.pid} on this machine. Wait for it, or give --out another folder."
        )
        assert refused("RUN_BUSY", 4, "resume", "a") == expected
        assert refused("RUN_BUSY", 4, "search", *NUMBERS, "-n", 9, "--out", "a") == expected
        assert nascli("runs", "show", "a").code == 0  # readers need no lock
        holder.communicate()
    assert nascli("resume", "a").code == 0


def test_other_settings_than_the_run_was_started_with(refused: Callable[..., str], numbers: Path) -> None:
    sentence = refused("RUN_CONFLICT", 4, "search", *NUMBERS, "-n", 6, "--seed", 5, "--out", numbers)
    assert sentence.startswith(f"{numbers} was started with other settings (seed: 0 -> 5). Only budgets may change")
    sentence = refused("RUN_CONFLICT", 4, *TRAINED, "--out", numbers)
    assert sentence == f"{numbers} is a run of nascli search; give --out another folder."


def test_a_run_of_a_newer_nascli(refused: Callable[..., str], nascli: Nascli) -> None:
    nascli("search", *NUMBERS, "-n", 2, "--out", "a")
    header = json.loads(Path("a/run.json").read_text())
    Path("a/run.json").write_text(json.dumps(header | {"schema": 99, "nascli": "9.9"}))
    for command in (["resume", "a"], ["runs", "show", "a"], ["export", "a"], ["train", "--from", "a"]):
        sentence = refused("RUN_FORMAT", 4, *command)
        assert sentence.startswith("a was written by nascli 9.9 in format 99; this nascli ")


def test_folders_that_are_no_run_and_damaged_runs(refused: Callable[..., str], nascli: Nascli) -> None:
    for command in (["resume"], ["runs", "show"], ["export"], ["train", "--from"]):
        sentence = refused("RUN_FORMAT", 4, *command, "nothing")
        assert sentence.startswith("nothing is no run directory: it has no run.json. See what there is")
    nascli("search", *NUMBERS, "-n", 3, "--out", "a")
    journal = Path("a/trials.jsonl").read_text().splitlines()
    Path("a/trials.jsonl").write_text("\n".join([journal[0][:20], *journal[1:]]) + "\n")
    assert refused("RUN_FORMAT", 4, "resume", "a").startswith("a/trials.jsonl:1 is damaged")
    Path("a/run.json").write_text("{")
    assert refused("RUN_FORMAT", 4, "runs", "show", "a").startswith("a/run.json can't be read as JSON")


def test_members_that_are_not_there(refused: Callable[..., str], numbers: Path) -> None:
    for command in (["export", numbers, "--member", 777], ["train", "--from", numbers, "--member", 777]):
        assert f"{numbers} has no front member 777; it has " in refused("RUN", 4, *command)


def test_networks_that_all_fail(refused: Callable[..., str]) -> None:
    sentence = refused("ERROR", 1, "search", "--space", "tests.toys:ToySpace", "-O", "tests.toys:BROKEN", "--out", "a")
    assert "The last 25 networks could not be measured; the last error: ValueError: this network is broken" in sentence
