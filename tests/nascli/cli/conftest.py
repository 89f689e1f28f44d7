"""Runs that are made once and only read by tests; a test that writes copies them first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_runs import IMAGES, NUMBERS, SHORT, run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, so that `runs/` is never the checkout's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="package")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of 12 trials."""
    return run("search", *NUMBERS, "-n", 12, "--out", tmp_path_factory.mktemp("numbers") / "run")


@pytest.fixture(scope="package")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained supernet."""
    return run("train", *IMAGES, *SHORT, "--out", tmp_path_factory.mktemp("supernet") / "run")


@pytest.fixture(scope="package")
def searched(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of 6 trials in that supernet."""
    out = tmp_path_factory.mktemp("searched") / "run"
    return run("search", *IMAGES, "--supernet", supernet, "-n", 6, "--out", out)
