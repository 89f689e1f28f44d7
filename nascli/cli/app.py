"""The typer application, and the only place where an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from nascli import __version__
from nascli.cli import (
    compress,
    config,
    console,
    doctor,
    draw,
    export,
    log,
    plugins,
    resume,
    runs,
    score,
    search,
    spaces,
    train,
)
from nascli.errors import Interrupted, NascliError
from predictors import ScoreError
from search_spaces import ArchitectureError, SpaceError

app = typer.Typer(
    name="nascli",
    help="Neural architecture search and compression: a Pareto front in a run directory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        console.text(f"nascli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Neural architecture search and compression: a Pareto front in a run directory."""


app.command()(train.train)
app.command()(search.search)
app.command()(score.score)
app.command()(compress.compress)
app.command()(resume.resume)
app.command()(export.export)
app.command()(draw.draw)
app.command()(doctor.doctor)
GROUPS = {"runs": runs, "spaces": spaces, "plugins": plugins, "config": config}
for group in GROUPS.values():
    app.add_typer(group.app)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, or the code of the error (docs/errors.md)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with log.to_stderr():
            code = app(args=arguments, standalone_mode=False, prog_name="nascli") or 0
        if code == Interrupted.exit_code:
            # How typer reports a Ctrl-C that came while no run was being written.
            raise Interrupted("Stopped at once; what was measured before is kept.")
        sys.stdout.flush()
    except TyperException as error:
        code = _misused(arguments, error)
    except NascliError as error:
        code = _refused(arguments, error.code, error.exit_code, str(error))
    except ArchitectureError as error:
        code = _refused(arguments, "ARCHITECTURE", 2, str(error))
    except SpaceError as error:
        code = _refused(arguments, "UNSUPPORTED", 5, str(error))
    except ScoreError as error:
        code = _refused(arguments, "SCORE", 1, str(error))
    except BrokenPipeError:
        # The reader of our output has gone (nascli ... | head): what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    raise SystemExit(code)


def _misused(arguments: Sequence[str], error: TyperException) -> int:
    message = error.format_message()
    if message.startswith("Usage:"):
        # No command was given, and the help says which there are.
        console.note(message)
        return error.exit_code
    return _refused(
        arguments, "USAGE", error.exit_code, message if message.endswith((".", "?", ")")) else f"{message}."
    )


def _refused(arguments: Sequence[str], code: str, exit_code: int, message: str) -> int:
    if "--json" in arguments:
        console.failure(_command(arguments), {"code": code, "exit": exit_code, "message": message})
    console.note(f"nascli: {message}")
    return exit_code


def _command(arguments: Sequence[str]) -> str:
    """The command's name as results carry it: "search", "runs show"."""
    words = [a for a in arguments if not a.startswith("-")][:2]
    return " ".join(words if words[:1] and words[0] in GROUPS else words[:1])
