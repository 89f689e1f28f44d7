"""What all tests share: one torch thread, real data and GPUs only where there are any, the command line in process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    # The networks of the tests are so small that threads cost more than they bring.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    data = os.environ.get("NASCLI_DATA", "")
    missing = {
        "data": "" if data and Path(data).is_dir() else "NASCLI_DATA names no folder with the data sets",
        "gpu": "" if torch.cuda.is_available() else "there is no CUDA device",
    }
    for item in items:
        for mark, reason in missing.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def nascli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process: `nascli("search", "--space", "resnet").code`."""
    from nascli.cli.app import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        code = left.value.code
        assert isinstance(code, int), f"exited with {code!r} instead of a number"
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def data_root() -> Path:
    """The folder of the real data sets, for tests marked `data`."""
    return Path(os.environ["NASCLI_DATA"])
