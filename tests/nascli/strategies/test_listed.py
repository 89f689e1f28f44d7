from pathlib import Path

import pytest

from nascli.engine.task import Task
from nascli.errors import DataError, SettingsError
from nascli.strategies.listed import Listed
from search_spaces import ArchitectureError
from search_spaces.nb201 import Nb201Space
from tests.toy_search import FOUR, talk, task


def listed(strategy: Listed) -> list[list[str]]:
    return talk(strategy, task(table=FOUR), lambda n, _: None, trials=100).steps  # type: ignore[arg-type, return-value]


def test_the_list_comes_once_each_in_its_order() -> None:
    archs = ("four:2,wide", "four:1,plain", "four:2,wide")
    assert listed(Listed(archs)) == [["four:2,wide", "four:1,plain"]]
    assert listed(Listed(archs, batch=1)) == [["four:2,wide"], ["four:1,plain"]]


def test_a_file_has_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "archs.txt"
    path.write_text("# the best so far\nfour:2,wide\n\n  four:1,wide \r\nfour:2,wide\n")
    assert listed(Listed(("four:1,plain",), file=str(path))) == [["four:1,plain", "four:2,wide", "four:1,wide"]]


def test_a_sample_fills_up_with_others() -> None:
    (step,) = listed(Listed(("four:2,wide",), sample=2))
    assert step[0] == "four:2,wide" and len(set(step)) == 3
    assert len(listed(Listed(sample=100))[0]) == 4


def test_a_list_of_nothing_is_an_error() -> None:
    with pytest.raises(SettingsError, match="nothing to list; give it archs, file or sample"):
        listed(Listed())


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing.txt': No such file"):
        listed(Listed(file=str(tmp_path / "missing.txt")))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        listed(Listed(file=str(tmp_path / "binary")))


def test_a_slip_in_the_last_line_stops_before_the_first_measurement() -> None:
    search = Listed(("four:1,wide", "four:3,wide"), batch=1).search(task(table=FOUR))
    with pytest.raises(ArchitectureError, match="'3'"):
        next(search)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="batch must be at least 1"):
        Listed(batch=0)
    with pytest.raises(ValueError, match="sample must not be negative, but got -1"):
        Listed(sample=-1)


def test_of_those_that_compute_the_same_one_may_stand_for_all() -> None:
    archs = ("four:2,wide", "four:2,plain", "four:1,wide")
    apart, once = Listed(archs), Listed(archs, equivalents="once")
    assert listed(apart) == [list(archs)] and listed(once) == [["four:2,plain", "four:1,plain"]]
    about = task(table=FOUR)
    assert [str(arch) for arch in once.asked(about)] == list(archs)
    assert [str(once.measured(arch, about)) for arch in once.asked(about)] == [
        "four:2,plain",
        "four:2,plain",
        "four:1,plain",
    ]


def test_a_longer_sample_begins_with_the_shorter() -> None:
    few, many = (Listed(("toy:16,1/1,plain/-/-",), sample=count).asked(task()) for count in (5, 40))
    assert len(few) == 6 and len(set(many)) == 41 and many[:6] == few


def test_architectures_are_read_as_the_space_reads_them() -> None:
    cell = "|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    found = Listed((cell,), equivalents="once").asked(Task(Nb201Space()))
    assert [str(arch) for arch in found] == ["nb201:skip_connect,none,none,nor_conv_3x3,none,none"]
