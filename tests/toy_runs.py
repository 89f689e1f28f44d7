"""Command lines that take milliseconds: numbers instead of networks, and a tiny supernet on tiny images."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from nascli.cli.app import main

ROOT = Path(__file__).parents[1]
NUMBERS = ["--space", "tests.toys:ToySpace", "-O", "tests.toys:ERROR", "-O", "tests.toys:SIZE"]
"""A search that needs neither data nor training."""
IMAGES = [
    *("--space", "resnet", "--data", "tests.toy_images:corners"),
    *("--set", "space.widths=[4, 8]", "--set", "space.strides=[1, 2]", "--set", "space.depths=[1, 2]"),
]
"""A space and data for training."""
SHORT = ["--epochs", "2", "--set", "strategy.batch=24"]
"""A training of eight steps."""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::ResourceWarning"}


def run(*arguments: object) -> Path:
    """The run directory that a command wrote, given by --out; for fixtures that outlive a test."""
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main([str(a) for a in arguments])
    except SystemExit as left:
        if left.code:
            raise AssertionError(said.getvalue()) from left
    return Path(str(arguments[list(arguments).index("--out") + 1]))


def child(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own, stdout and stderr piped."""
    command = [sys.executable, "-m", "nascli", *(str(a) for a in arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
