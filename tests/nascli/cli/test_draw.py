from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.runs import Run
from tests.toy_drawings import seen
from tests.toy_runs import run

Nascli = Callable[..., Any]
FIELD = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search among the cells of NAS-Bench-201, by what can be counted."""
    small = ["--set", "space.channels=4", "--set", "space.cells=1"]
    objectives = ["-O", "macs", "-O", "params:max"]
    out = tmp_path_factory.mktemp("found") / "run"
    return run("search", "--space", "nb201", *small, *objectives, "-n", 12, "--out", out)


def test_all_members_of_a_front(nascli: Nascli, found: Path, tmp_path: Path) -> None:
    shutil.copytree(found, copied := tmp_path / "run")
    members = Run.open(copied).front["members"]
    left = nascli("draw", copied)
    assert left.code == 0 and len(members) > 1
    assert left.out.splitlines() == [str(copied / "drawings" / f"{m['n']}.svg") for m in members]
    for member in members:
        picture = seen((copied / "drawings" / f"{member['n']}.svg").read_text())
        operations = member["arch"].removeprefix("nb201:").replace("/", ",").split(",")
        assert sorted(label for label, _ in picture.labels) == sorted(o for o in operations if o != "none")
    # The run is still one that goes on.
    assert nascli("resume", copied).code == 0 and nascli("runs", "show", copied).code == 0


def test_one_member_in_both_formats_into_a_folder_of_choice(nascli: Nascli, found: Path) -> None:
    member = Run.open(found).front["members"][-1]
    left = nascli("draw", found, "--member", member["n"], "--to", "svg,dot", "--out", "there", "--json")
    files = [f"there/{member['n']}.svg", f"there/{member['n']}.dot"]
    assert json.loads(left.out)["data"] == [{"n": member["n"], "arch": member["arch"], "files": files}]
    assert all(Path(file).stat().st_size for file in files) and not (found / "drawings").exists()


def test_a_given_network(nascli: Nascli) -> None:
    left = nascli("draw", "--space", "nb201", "--arch", FIELD)
    assert (left.code, left.out) == (0, "nb201.svg\n")
    shown = [label for label, _ in seen(Path("nb201.svg").read_text()).labels]
    assert sorted(shown) == ["avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3", "skip_connect"]


def test_a_network_of_a_space_that_settings_describe(nascli: Nascli) -> None:
    Path("space.toml").write_text('[space]\nname = "darts"\npreset = "s2"\n')
    arch = nascli("spaces", "sample", "darts", "--preset", "s2").out.strip()
    left = nascli("draw", "--config", "space.toml", "--arch", arch, "--to", "dot", "--to", "svg")
    assert left.code == 0 and len(left.out.splitlines()) == 3
    assert all(Path(file).exists() for file in left.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Give either a run, to draw the members of its front, or --space and --arch."),
        (["RUN", "--arch", FIELD], 2, "Give either a run"),
        (["RUN", "--set", "space.cells=2"], 2, "A run has its own space"),
        (["RUN", "--member", 777], 4, "has no front member 777; it has "),
        (["RUN", "--to", "pdf"], 2, "There is no format 'pdf' of drawings."),
        (["--arch", FIELD], 2, "No space is given; name the one that --arch is of"),
        (["--arch", FIELD, "--member", 1], 2, "--member needs RUN"),
        (["--space", "nb201", "--arch", "nonsense"], 2, "nonsense"),
        (["--space", "resnet", "--arch", "x"], 5, "of the space 'resnet' can't be drawn; those of "),
        (["nowhere"], 4, "nowhere"),
    ],
)
def test_refusals_write_nothing(nascli: Nascli, found: Path, arguments: list[object], code: int, said: str) -> None:
    left = nascli("draw", *(found if a == "RUN" else a for a in arguments))
    assert (left.code, left.out) == (code, "") and said in left.err
    assert list(Path().iterdir()) == [] and not (found / "drawings").exists()


def test_spaces_that_can_be_drawn_are_named(nascli: Nascli) -> None:
    said = nascli("draw", "--space", "resnet", "--arch", "x").err
    assert "nb201" in said and "darts" in said and "mobile" not in said
