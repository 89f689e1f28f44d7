"""The errors a user can act on, and the exit code of each; `cli/app.py` turns them into one sentence on stderr."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class NascliError(Exception):
    """Something the user can mend. The message says what, where, and what to do next."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "ERROR"


class SettingsError(NascliError):
    """A wrong flag, TOML key, value or plugin name."""

    exit_code, code = 2, "SETTINGS"


class DataError(NascliError):
    """Data or a checkpoint that is missing, unreadable, unsafe, or of another shape than the space reads."""

    exit_code, code = 3, "DATA"


class RunError(NascliError):
    """A run directory that cannot be used as asked."""

    exit_code, code = 4, "RUN"


class RunBusyError(RunError):
    """Another process writes this run."""

    code = "RUN_BUSY"


class RunFormatError(RunError):
    """No run of ours, a damaged one, or one written by a newer nascli."""

    code = "RUN_FORMAT"


class RunConflictError(RunError):
    """The settings differ from those that the run was started with."""

    code = "RUN_CONFLICT"


class UnsupportedError(NascliError):
    """This space, device or installation cannot do that."""

    exit_code, code = 5, "UNSUPPORTED"


class InfeasibleError(NascliError):
    """The work is done, and no network met the limits."""

    exit_code, code = 6, "INFEASIBLE"


class VerifyError(NascliError):
    """A saved network does not reproduce what was reported of it."""

    exit_code, code = 8, "VERIFY"


class Interrupted(NascliError):
    """The user stopped the run; what was measured is safe."""

    exit_code, code = 130, "INTERRUPTED"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """' Did you mean 'evolution'?', or the whole list where nothing comes close."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There are {', '.join(names)}." if names else ""
