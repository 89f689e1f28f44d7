from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nascli.errors import DataError, RunFormatError, SettingsError
from nascli.report.truth import Truth, read
from search_spaces import SpaceError
from search_spaces.nb201 import Nb201Space
from tests.toy_journal import trial, write
from tests.toy_runs import NUMBERS, run
from tests.toy_search import FOUR
from tests.toys import ToySpace

SPACE = ToySpace()
ARCHS = [SPACE.table.parse(f"toy:1/{block}/-/-") for block in ("1,plain", "2,wide", "8,plain")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def listed(text: str, name: str = "list.csv") -> str:
    Path(name).write_text(text)
    return name


def same(found: Truth, *values: float) -> bool:
    return bool(np.array_equal(found.values, values, equal_nan=True))


LIST = 'arch,accuracy,loss,who\n"toy:1/2,wide/-/-",71.5,0.5,me\n"toy:1/1,plain/-/-",60,0.9,you\n'


def test_a_list_of_architectures_says_what_each_reached() -> None:
    listed(LIST)
    found = read("list.csv:accuracy", ARCHS, SPACE)
    assert same(found, 60, 71.5, math.nan)
    assert (found.source, found.column, found.goal, found.label) == ("list.csv", "accuracy", "max", "accuracy")
    found = read("list.csv:loss:min", ARCHS, SPACE)
    assert same(found, 0.9, 0.5, math.nan) and found.goal == "min"


def test_a_single_column_needs_no_name_and_several_do() -> None:
    listed('arch,top1\n"toy:1/2,wide/-/-",71.5\n', "one.csv")
    assert read("one.csv", ARCHS, SPACE).column == "top1"
    listed(LIST)
    with pytest.raises(SettingsError, match="several columns; name the one to rank by: list.csv:COLUMN. There are"):
        read("list.csv", ARCHS, SPACE)
    with pytest.raises(SettingsError, match="list.csv has no column 'acuracy'. Did you mean 'accuracy'?"):
        read("list.csv:acuracy", ARCHS, SPACE)


def test_a_line_that_is_no_architecture_is_named() -> None:
    listed('arch,top1\n"toy:1/2,wide/-/-",71.5\n"toy:9/2,wide/-/-",1\n')
    with pytest.raises(DataError, match=r"list.csv, row 3: net.depth='9' is not in toy"):
        read("list.csv", ARCHS, SPACE)


def test_a_table_of_choices_may_have_them_in_any_order() -> None:
    class Four(ToySpace):
        table = FOUR  # type: ignore[assignment]

    listed("accuracy,choice.net.kind,choice.net.width\n50,plain,1\n60,wide,1\n70,wide,2\n", "four.csv")
    asked = [FOUR.parse(f"four:{text}") for text in ("2,wide", "1,plain", "2,plain")]
    found = read("four.csv", asked, Four())
    # A CSV does not say which way is up; a truth is something to maximise.
    assert same(found, 70, 50, math.nan) and found.goal == "max"


def test_a_table_of_other_choices_is_refused() -> None:
    listed("accuracy,choice.width\n50,1\n", "other.csv")
    with pytest.raises(DataError, match=r"other.csv tells architectures apart by width, but those of 'toy' have net"):
        read("other.csv", ARCHS, SPACE)


def test_a_table_without_the_networks_is_refused() -> None:
    listed('arch,top1\n"toy:1/2,plain/-/-",71.5\n')
    with pytest.raises(DataError, match="nothing in 'top1' of the 3 networks asked for, the first of them toy:1/1"):
        read("list.csv", ARCHS, SPACE)


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(SpaceError, match=r"There is no table 'none.csv'"):
        read("none.csv:top1", ARCHS, SPACE)
    with pytest.raises(RunFormatError, match="is no run directory"):
        read(".", ARCHS, SPACE)
    Path("binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="binary.csv is no readable CSV file"):
        read("binary.csv", ARCHS, SPACE)


def test_a_run_says_what_it_measured() -> None:
    path = run(
        "search", *NUMBERS, "--strategy", "listed", "--set", f"strategy.archs={list(map(str, ARCHS))}", "--out", "r"
    )
    found = read(str(path), ARCHS, SPACE)
    # 100 / (1 + size + 3 * wide), to be minimised.
    assert same(found, 100 / 2, 100 / 6, 100 / 9) and (found.column, found.goal, found.unit) == ("error", "min", "%")
    assert same(read(f"{path}:size", ARCHS, SPACE), 1, 2, 8)
    assert read(f"{path}:size:max", ARCHS, SPACE).goal == "max"


def test_of_several_trials_of_an_architecture_the_last_counts_and_final_values_join(tmp_path: Path) -> None:
    objectives = [{"name": "error", "goal": "min", "unit": "%", "limit": None}]
    with write(tmp_path / "r") as writer:
        writer._header |= {"objectives": objectives, "space": "toy"}
        for number in range(3):
            writer.record(trial(number))
        writer.record_final(trial(2).key, {"test_accuracy": 80.0})
        writer.mark("finished")
    smallest = [SPACE.table.smallest]
    assert same(read(f"{tmp_path}/r", smallest, SPACE), 2.0)
    found = read(f"{tmp_path}/r:test_accuracy", smallest, SPACE)
    assert same(found, 80.0) and found.goal == "max"


def test_a_run_on_another_space_is_refused() -> None:
    path = run("search", "--space", "resnet", "-O", "macs", "-O", "params", "-n", 2, "--out", "r")
    with pytest.raises(DataError, match="is a run on the space 'resnet' with other choices than those of 'toy' here"):
        read(str(path), ARCHS, SPACE)


@pytest.mark.data
def test_nas_bench_201_is_ranked_by_its_test_accuracy() -> None:
    space = Nb201Space()
    best = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    found = read("nasbench201.npz", [best, space.table.smallest], space)
    assert (found.column, found.goal, found.label) == ("cifar10_test", "max", "cifar10_test (%)")
    # The published figures: 94.36 for one of the best, chance for no operation at all.
    assert found.values == pytest.approx([94.2, 10.0], abs=0.3)
    assert read("nasbench201.npz:cifar100_valid", [best], space).values == pytest.approx([73.0], abs=1.0)
