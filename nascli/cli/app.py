"""The typer application, and the only place where an error becomes an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from nascli import __version__
from nascli.cli import config, console, doctor, export, plugins, resume, runs, search, spaces, train
from nascli.errors import NascliError
from predictors import ScoreError
from search_spaces import ArchitectureError

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
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Neural architecture search and compression: a Pareto front in a run directory."""


app.command()(train.train)
app.command()(search.search)
app.command()(resume.resume)
app.command()(export.export)
app.command()(doctor.doctor)
for group in (runs, spaces, plugins, config):
    app.add_typer(group.app)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, or the code of the error (docs/errors.md)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = 0
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="nascli") or 0
    except TyperException as error:
        if str(error):
            code = _refused(arguments, "USAGE", error.exit_code, str(error))
        else:
            code = error.exit_code
    except NascliError as error:
        code = _refused(arguments, error.code, error.exit_code, str(error))
    except ArchitectureError as error:
        code = _refused(arguments, "ARCHITECTURE", 2, str(error))
    except ScoreError as error:
        code = _refused(arguments, "SCORE", 1, str(error))
    except KeyboardInterrupt:
        code = _refused(arguments, "INTERRUPTED", 130, "Stopped at once; what was measured before is kept.")
    except BrokenPipeError:
        # The reader of our output has gone (nascli ... | head): nobody is left to tell.
        sys.stderr.close()
    raise SystemExit(code)


def _refused(arguments: Sequence[str], code: str, exit_code: int, message: str) -> int:
    message = message.rstrip(".") + "." if message[-1:].isalnum() else message
    if "--json" in arguments:
        command = next((a for a in arguments if not a.startswith("-")), "")
        console.failure(command, {"code": code, "exit": exit_code, "message": message})
    console.note(f"nascli: {message}")
    return exit_code
