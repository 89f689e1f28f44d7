from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nascli.engine.compressing import made
from nascli.errors import SettingsError
from tests.toy_compress import HALVE, Halve, sweep_task

TASK = sweep_task()


def test_the_task_has_the_settings() -> None:
    assert made(HALVE, TASK) == Halve()
    task = replace(TASK, compressors={HALVE: {"epochs": "3"}, "other": {"epochs": 7}})
    assert made(HALVE, task) == Halve(epochs=3.0)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("wgsff", {}, "No compressor is called 'wgsff'."),
        (HALVE, {"epoch": 3}, f"compressor '{HALVE}' has no setting 'epoch'. Did you mean 'epochs'?"),
        (HALVE, {"epochs": "many"}, f"compressor '{HALVE}': epochs='many': Input should be a valid number"),
        (HALVE, {"epochs": -1}, f"compressor '{HALVE}': epochs=-1.0 must be more than 0"),
        ("tests.toy_compress:net", {}, "'tests.toy_compress:net' is no compressor: a frozen dataclass with a method"),
        ("tests.toy_compress:Narrow", {}, "'tests.toy_compress:Narrow' is no compressor"),
        ("tests.toy_compress:Gone", {}, "tests.toy_compress has no 'Gone'."),
    ],
)
def test_what_is_refused(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        made(name, replace(TASK, compressors={name: given}))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_it_is_said_where_a_setting_was_written() -> None:
    task = replace(TASK, compressors={HALVE: {"epoch": 3}})
    with pytest.raises(SettingsError, match="^--epoch: compressor"):
        made(HALVE, task, origins={"epoch": "--epoch"})
