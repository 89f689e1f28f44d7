from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.runs import Run

Nascli = Callable[..., Any]


def test_the_first_member_goes_below_the_run(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, run := tmp_path / "run")
    left = nascli("export", run, "--to", "torch")
    first = Run.open(run).front["members"][0]
    assert left.code == 0
    folder = run / "export" / str(first["n"])
    assert left.out.splitlines() == [str(folder / f"model.{end}") for end in ("json", "py", "safetensors")]
    description = json.loads((folder / "model.json").read_text())
    assert description["arch"] == first["arch"] and description["values"] == first["values"]
    assert description["run"] == str(run)


def test_a_member_by_number_into_a_folder_of_choice(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    last = Run.open(searched).front["members"][-1]
    left = nascli("export", searched, "--member", last["n"], "--to", "torch", "--out", tmp_path / "new", "--json")
    assert json.loads(left.out)["data"] == {
        "arch": last["arch"],
        "files": [str(tmp_path / "new" / f"model.{end}") for end in ("json", "py", "safetensors")],
    }


def test_neither_data_nor_supernet_nor_device_are_needed(nascli: Nascli, searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, run := tmp_path / "run")
    text = (run / "settings.toml").read_text()
    supernet = Run.open(run).settings["supernet"]
    text = text.replace("tests.toy_images:corners", "gone:data").replace(supernet, "/gone")
    (run / "settings.toml").write_text(text.replace('device = "cpu"', 'device = "cuda:7"'))
    assert "gone:data" in text and '"/gone"' in text
    assert nascli("export", run, "--to", "torch").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--member", 777], 4, "has no front member 777; it has "),
        (["--to", "torhc"], 2, "There is no export format 'torhc'. Did you mean 'torch'?"),
    ],
)
def test_refusals(nascli: Nascli, searched: Path, arguments: list[object], code: int, said: str) -> None:
    left = nascli("export", searched, *arguments)
    assert (left.code, left.out) == (code, "") and said in left.err


def test_untrained_members_are_refused_with_the_way_to_train_them(nascli: Nascli, numbers: Path) -> None:
    left = nascli("export", numbers)
    n = Run.open(numbers).front["members"][0]["n"]
    assert left.code == 4
    assert f"Member {n} of {numbers} has no trained weights" in left.err
    assert left.err.endswith(f"train it: nascli train --from {numbers} --member {n}\n")


def test_a_run_without_a_front_is_refused(nascli: Nascli, numbers: Path, tmp_path: Path) -> None:
    shutil.copytree(numbers, run := tmp_path / "run")
    (run / "front.json").unlink()
    left = nascli("export", run)
    assert left.code == 4 and left.err.endswith(f"has no front yet; go on with it: nascli resume {run}\n")
