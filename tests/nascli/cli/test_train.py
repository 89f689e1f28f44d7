from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nascli.engine.runs import Run
from tests.toy_runs import IMAGES, ROOT, SHORT

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


def test_a_member_keeps_its_architecture_and_weights_under_another_recipe(nascli: Nascli, searched: Path) -> None:
    member = Run.open(searched).front["members"][-1]
    start = ["train", "--from", searched, "--member", member["n"], "--recipe", "cells", "--set", "strategy.steps=1"]
    frozen = [*start, "--set", "strategy.lr=1e-9", "--set", "strategy.cutout=0"]
    assert nascli(*frozen, "--out", "kept").code == 0
    assert nascli(*frozen, "--set", "strategy.weights=fresh", "--out", "fresh").code == 0
    before = load_file(Run.open(searched).network_path(member["n"]))["stem.conv.weight"]
    for name, kept in (("kept", True), ("fresh", False)):
        run = Run.open(Path(name))
        assert run.settings["strategy"]["name"] == "cells" and run.settings["strategy"]["batch"] == 96
        assert run.settings["strategy"]["arch"] == run.front["members"][0]["arch"] == member["arch"]
        after = load_file(f"{name}/networks/0.safetensors")["stem.conv.weight"]
        assert torch.allclose(before, after, atol=1e-6) is kept
        assert not Path(f"{name}/supernet.safetensors").exists()


def test_a_recipe_named_in_a_file_keeps_them_too(nascli: Nascli, searched: Path) -> None:
    Path("recipe.toml").write_text("[strategy]\nname = 'cells'\nsteps = 1\nweights = 'fresh'\n")
    left = nascli("train", "--from", searched, "--config", "recipe.toml", "--dry-run", "--json")
    strategy = json.loads(left.out)["data"]["settings"]["strategy"]
    first = Run.open(searched).front["members"][0]
    assert (strategy["name"], strategy["arch"], strategy["weights"]) == ("cells", first["arch"], "fresh")


def test_a_recipe_for_supernets_does_not_go_on_from_a_member(nascli: Nascli, searched: Path) -> None:
    left = nascli("train", "--from", searched, "--recipe", "sandwich", "--out", "a")
    assert left.code == 2 and "--from: recipe 'sandwich' has no setting 'arch'" in left.err and not Path("a").exists()


def test_a_found_cell_is_trained_larger_than_it_was_searched(nascli: Nascli) -> None:
    data, small = ["--data", "tests.toy_images:corners"], ["--set", "space.channels=2", "--set", "space.cells=3"]
    counted = ["-O", "macs", "-O", "params", "-n", 4]
    assert nascli("search", "--space", "darts", *data, *small, *counted, "--out", "search").code == 0
    grown = ["--set", "space.channels=4", "--set", "space.pool_norm=false", "--set", "strategy.weights=fresh"]
    short = ["--set", "strategy.steps=2", "--set", "strategy.batch=24", "--set", "strategy.cutout=2"]
    assert nascli("train", "--from", "search", "--recipe", "cells", *grown, *short, "--out", "a").code == 0
    run, found = Run.open(Path("a")), Run.open(Path("search")).front["members"][0]
    assert (run.settings["space"]["channels"], run.settings["space"]["cells"]) == (4, 3)
    assert run.front["members"][0]["arch"] == found["arch"]
    state = torch.load("a/state.pt", weights_only=True)["state"]["model"]
    stored = load_file("a/networks/0.safetensors")
    assert any(name.startswith("auxiliary.") for name in state) and not any("auxiliary" in name for name in stored)
    again = ["train", "--space", "darts", *data, *small, "--arch", found["arch"], "--recipe", "cells", *short]
    assert nascli(*again, "--out", "b").code == 0
    assert Run.open(Path("b")).settings["space"]["channels"] == 2
    assert nascli("resume", "b").code == 0


def test_the_recipe_of_nas_bench_201_is_a_settings_file(nascli: Nascli) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    Path("nb201.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    arch = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    arguments = ["--config", "nb201.toml", "--data", "tests.toy_images:corners", "--arch", arch]
    left = nascli("train", *arguments, "--set", "space.cells=1", "--dry-run", "--json")
    strategy = json.loads(left.out)["data"]["settings"]["strategy"]
    assert strategy["name"] == "cells" and strategy["arch"] == arch
    assert (strategy["acceleration"], strategy["clip"], strategy["weight_decay"]) == ("nesterov", "inf", 5e-4)
    assert (strategy["ramp"], strategy["decayed"], strategy["drop_path"]) == (0, "all", 0)
