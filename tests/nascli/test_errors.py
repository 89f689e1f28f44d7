"""Errors have a code of their own, and suggestions come close."""

from __future__ import annotations

import pytest

from nascli import errors
from nascli.errors import NascliError, RunError, did_you_mean

KINDS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, NascliError)]


def test_codes_tell_the_kinds_apart() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(code == code.upper() for code in codes)


def test_exit_codes_are_as_documented() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == {
        "NascliError": 1,
        "SettingsError": 2,
        "DataError": 3,
        "RunError": 4,
        "RunBusyError": 4,
        "RunFormatError": 4,
        "RunConflictError": 4,
        "UnsupportedError": 5,
        "InfeasibleError": 6,
        "VerifyError": 8,
        "Interrupted": 130,
    }


def test_every_kind_is_caught_by_the_root_and_explained() -> None:
    assert all(kind.__doc__ for kind in KINDS)
    assert issubclass(errors.RunBusyError, RunError)
    with pytest.raises(NascliError, match="front is empty"):
        raise errors.InfeasibleError("No network met latency_ms<=5; the front is empty.")


@pytest.mark.parametrize(
    ("name", "names", "said"),
    [
        ("evoluton", ["random", "evolution"], " Did you mean 'evolution'?"),
        ("xyz", ["random", "evolution"], " There are evolution, random."),
        ("xyz", {"only": 1}, " There are only."),
        ("xyz", [], ""),
        ("xyz", iter(["b", "a"]), " There are a, b."),
    ],
)
def test_suggestions(name: str, names: list[str], said: str) -> None:
    assert did_you_mean(name, names) == said
