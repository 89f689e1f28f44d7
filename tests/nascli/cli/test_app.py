from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nascli import errors
from nascli.cli import runs
from nascli.cli.app import app, main
from predictors import ScoreError
from search_spaces import ArchitectureError, SpaceError
from tests.toy_runs import ROOT, child

Nascli = Callable[..., Any]


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the application by its full name."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        yield from ((f"{name} {inner}", c) for inner, c in below.items())
        if not below:
            yield name, command


COMMANDS = dict(commands())


def test_the_version(nascli: Nascli) -> None:
    from nascli import __version__

    assert nascli("--version") == type(nascli("--version"))(0, f"nascli {__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["runs"], ["spaces"], ["plugins"], ["config"]], ids=" ".join)
def test_without_a_command_the_help_is_the_answer(nascli: Nascli, words: list[str]) -> None:
    left = nascli(*words)
    assert (left.code, left.out) == (2, "")
    assert left.err.startswith(f"Usage: nascli {''.join(f'{w} ' for w in words)}[OPTIONS] COMMAND")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(nascli: Nascli, name: str) -> None:
    command = COMMANDS[name]
    assert command.help and command.help.strip().endswith(".")
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
    assert command.help.split("\n")[0].rstrip(".")[:40] in " ".join(nascli(*name.split(), "--help").out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert f"## nascli {name}\n" in text
    section = text.split(f"## nascli {name}\n")[1].split("\n## ")[0]
    for parameter in COMMANDS[name].params:
        spelled = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        for flag in spelled or [str(parameter.metavar).strip("[]")]:
            assert flag == "--help" or f"`{flag}" in section, f"{flag} of nascli {name} is not in docs/commands.md"


def test_what_is_documented_exists() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## nascli ") for line in text.splitlines() if line.startswith("## nascli ")}
    assert headings == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serch"], "No such command 'serch'. Did you mean 'search'?"),
        (["runs", "list"], "No such command 'list'"),
        (["search", "--stratgy", "x"], "No such option: --stratgy (Possible options: --strategy)"),
        (["search", "--evaluations", "many"], "Invalid value for '--evaluations' / '-n'"),
        (["search", "--evaluations", "0"], "'--evaluations' / '-n': Input should be greater than or equal to 1."),
        (["export"], "Missing argument 'RUN'."),
        (["export", "a", "b"], "Got unexpected extra argument"),
    ],
)
def test_misuse_is_one_sentence(nascli: Nascli, arguments: list[str], said: str) -> None:
    left = nascli(*arguments)
    assert (left.code, left.out) == (2, "")
    assert left.err.startswith("nascli: ") and said in left.err and left.err.count("\n") == 1
    answer = json.loads(nascli(*arguments, "--json").out)
    assert answer["ok"] is False and answer["command"] == " ".join(arguments[: 1 + (arguments[0] == "runs")])
    assert answer["error"]["code"] == "USAGE" and said in answer["error"]["message"]


RAISED = [
    (errors.NascliError("Bad."), "ERROR", 1),
    (errors.SettingsError("Bad."), "SETTINGS", 2),
    (errors.DataError("Bad."), "DATA", 3),
    (errors.RunError("Bad."), "RUN", 4),
    (errors.RunBusyError("Bad."), "RUN_BUSY", 4),
    (errors.RunFormatError("Bad."), "RUN_FORMAT", 4),
    (errors.RunConflictError("Bad."), "RUN_CONFLICT", 4),
    (errors.UnsupportedError("Bad."), "UNSUPPORTED", 5),
    (errors.InfeasibleError("Bad."), "INFEASIBLE", 6),
    (errors.VerifyError("Bad."), "VERIFY", 8),
    (errors.Interrupted("Bad."), "INTERRUPTED", 130),
    (ArchitectureError("Bad."), "ARCHITECTURE", 2),
    (SpaceError("Bad."), "UNSUPPORTED", 5),
    (ScoreError("Bad."), "SCORE", 1),
]


@pytest.mark.parametrize(("error", "code", "number"), RAISED, ids=lambda v: type(v).__name__)
def test_an_error_becomes_its_exit_code(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, number: int
) -> None:
    def refuse(root: Path) -> None:
        raise error

    monkeypatch.setattr(runs, "_listing", refuse)
    left = nascli("runs", "ls")
    assert (left.code, left.out, left.err) == (number, "", "nascli: Bad.\n")
    left = nascli("runs", "ls", "--json")
    assert (left.code, left.err) == (number, "nascli: Bad.\n")
    assert json.loads(left.out) == {
        "schema": "nascli/1",
        "command": "runs ls",
        "ok": False,
        "error": {"code": code, "exit": number, "message": "Bad."},
    }


@pytest.mark.parametrize(("error", "code", "number"), RAISED, ids=lambda v: type(v).__name__)
def test_every_exit_code_is_documented(error: Exception, code: str, number: int) -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert any(line.startswith(f"| {number} | `{code}` |") for line in text.splitlines())


def test_a_bug_keeps_its_traceback(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(root: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(runs, "_listing", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["runs", "ls"])


def test_ctrl_c_outside_of_a_run(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(root: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_listing", stopped)
    left = nascli("runs", "ls")
    assert left.code == 130 and left.err.strip() == "nascli: Stopped at once; what was measured before is kept."


def test_a_reader_that_has_gone_is_no_crash(tmp_path: Path) -> None:
    process = child("spaces", "sample", "resnet", "-n", 5000, cwd=tmp_path)
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert said == ""


def test_loggers_are_left_as_they_were(nascli: Nascli) -> None:
    logger = logging.getLogger("nascli")
    before = (logger.handlers, logger.level, logger.propagate)
    nascli("runs", "ls")
    assert (logger.handlers, logger.level, logger.propagate) == before


def test_arguments_default_to_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nascli", "serch"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
