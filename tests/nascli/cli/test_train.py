from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.engine.runs import Run
from tests.toy_runs import IMAGES, SHORT

Nascli = Callable[..., Any]
SMALLEST = "resnet:1,0.25/0.25/-/1,0.25/0.25/-"


def test_a_supernet_is_stored_and_both_ends_are_told(supernet: Path) -> None:
    run = Run.open(supernet)
    assert run.header["command"] == "train" and run.header["status"] == "finished"
    assert [m["tag"] for m in run.front["members"]] == ["step8"] * len(run.front["members"])
    stored, state = load_file(supernet / "supernet.safetensors"), run.path / "state.pt"
    trained = torch.load(state, weights_only=True)["state"]["model"]
    assert stored.keys() == trained.keys() and all(torch.equal(stored[k], trained[k]) for k in stored)
    description = json.loads((supernet / "supernet.json").read_text())
    assert description["fingerprint"] == run.header["fingerprint"] and description["space"]["name"] == "resnet"


def test_one_network_is_stored_as_a_member(nascli: Nascli) -> None:
    left = nascli("train", *IMAGES, *SHORT, "--arch", SMALLEST, "--out", "a", "--json")
    (network,) = json.loads(left.out)["data"]["networks"]
    assert network["arch"] == SMALLEST and {"accuracy", "macs", "params", "test_accuracy"} <= network["values"].keys()
    assert Path("a/networks/0.safetensors").exists() and not Path("a/supernet.safetensors").exists()
    assert Run.open(Path("a")).settings["strategy"]["name"] == "plain"


def test_a_member_is_trained_further(nascli: Nascli, searched: Path) -> None:
    member = Run.open(searched).front["members"][-1]
    arguments = ["train", "--from", searched, "--member", member["n"], "--set", "strategy.steps=1"]
    assert nascli(*arguments, "--set", "strategy.lr=1e-9", "--out", "a").code == 0
    run = Run.open(Path("a"))
    assert run.settings["parent"] == f"{searched}#{member['n']}" and run.front["members"][0]["arch"] == member["arch"]
    assert run.settings["data"] == {"name": "tests.toy_images:corners"}
    before, after = load_file(Run.open(searched).network_path(member["n"])), load_file("a/networks/0.safetensors")
    assert torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-6)


def test_a_network_starts_from_a_supernet(nascli: Nascli, supernet: Path) -> None:
    frozen = ["--set", "strategy.steps=1", "--set", "strategy.lr=1e-9"]
    assert nascli("train", *IMAGES, *frozen, "--arch", SMALLEST, "--supernet", supernet, "--out", "a").code == 0
    bias = load_file(supernet / "supernet.safetensors")["classifier.bias"]
    assert torch.allclose(load_file("a/networks/0.safetensors")["classifier.bias"], bias, atol=1e-6)


def test_ones_own_model(nascli: Nascli) -> None:
    Path("my_network.py").write_text(
        "from torch import nn\n"
        "def net(width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4))\n"
    )
    arguments = ["--model", "my_network:net", "--data", "tests.toy_images:corners", *SHORT]
    assert nascli("train", *arguments, "--set", "space.arguments.width=6", "--out", "a").code == 0
    assert Run.open(Path("a")).front["members"][0]["values"]["params"] == 16 * 6 + 6 + 6 * 4 + 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--arch", "resnet:9,1/1/1/1,1/1/1"], 2, "stage1.depth='9' is not in resnet; the options are 1, 2."),
        (["--member", 3], 2, "--member needs --from RUN"),
        (["--supernet", "x"], 2, "--supernet needs --arch"),
        (["--model", "no_such_file:net"], 5, "no_such_file"),
        (["--time-limit", "soon"], 2, "'soon' is no duration; write 90s, 30m or 1h30m."),
    ],
)
def test_refusals_leave_nothing_behind(nascli: Nascli, arguments: list[object], code: int, said: str) -> None:
    left = nascli("train", *IMAGES[2 if "--model" in arguments else 0 : 4], *arguments)
    if "--model" not in arguments:
        left = nascli("train", *IMAGES, *arguments)
    assert left.code == code and said in left.err
    assert list(Path().iterdir()) == []


def test_a_dry_run_of_a_training(nascli: Nascli) -> None:
    facts = json.loads(nascli("train", *IMAGES, "--time-limit", "1m30s", "--dry-run", "--json").out)["data"]
    assert (
        facts["settings"]["strategy"]["time_limit_s"] == 90.0 and facts["largest"]["macs"] > facts["smallest"]["macs"]
    )
    assert list(Path().iterdir()) == []


def test_a_time_limit_is_kept(nascli: Nascli) -> None:
    assert nascli("train", *IMAGES, "--time-limit", "0.3s", "--out", "a").code == 0
    steps = [json.loads(line) for line in Path("a/steps.jsonl").read_text().splitlines()]
    assert steps[-1]["progress"] == 1.0 and steps[-1]["seconds"] >= 0.3
