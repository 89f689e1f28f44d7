from __future__ import annotations

from typing import get_args

import pytest
from typer.main import get_command
from typer.models import ArgumentInfo, OptionInfo

from nascli.cli import options
from nascli.cli.app import app

SHARED = {name: get_args(value)[1] for name, value in vars(options).items() if get_args(value)[1:]}


@pytest.mark.parametrize("name", SHARED)
def test_each_says_what_it_is_for(name: str) -> None:
    option = SHARED[name]
    assert isinstance(option, OptionInfo | ArgumentInfo)
    assert option.help and option.help.endswith(".")


def test_a_flag_means_the_same_setting_everywhere() -> None:
    """One spelling a parameter: no command calls --evaluations something else, and short flags never change meaning."""
    flags: dict[str, set[str]] = {}
    commands = list(get_command(app).commands.values())  # type: ignore[attr-defined]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            for flag in parameter.opts:
                if parameter.param_type_name == "option":
                    flags.setdefault(flag, set()).add(parameter.name)
    ambiguous = {flag: names for flag, names in flags.items() if len(names) > 1}
    # -n is "how many" in both of its meanings; --arch is an architecture to train, or the number of one to export.
    assert ambiguous == {"-n": {"evaluations", "count"}, "--arch": {"arch", "member"}}
