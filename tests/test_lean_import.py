"""The tool answers at once: torch and other heavy libraries are loaded when there is work for them, not before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "pymoo", "optuna", "pandas", "sklearn", "scipy", "onnx", "matplotlib")
"""numpy is not among them: architectures need it, and it costs a tenth of a second where torch costs seconds."""

COMMANDS = [f"nascli.cli.{p.stem}" for p in sorted((ROOT / "nascli" / "cli").glob("*.py")) if p.stem != "__init__"]
TORCH_FREE = [
    "search_spaces",
    "search_spaces.choices",
    "predictors",
    "nascli",
    "nascli.errors",
    "nascli.plugins",
    "nascli.settings",
    *(f"nascli.engine.{name}" for name in ("protocol", "network", "task", "drive", "front", "runs", "writer")),
    *(f"nascli.strategies.{name}" for name in ("random", "evolution", "bayes", "listed", "regularised", "reinforce")),
    "nascli.cli",
    *COMMANDS,
]

IMPORT = """
import importlib, json, sys
guilty = ""
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    if "torch" in sys.modules:
        guilty = name
        break
print(json.dumps(guilty))
"""
RUN = """
import json, runpy, sys
sys.argv = ["nascli", *sys.argv[2:]]
try:
    runpy.run_module("nascli", run_name="__main__")
except SystemExit as left:
    code = left.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that ran the code in the root of the tree."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def loads_torch(*modules: str) -> str:
    """The first of the modules, imported in their order, after which torch is loaded; "" if none is."""
    done = child(IMPORT, json.dumps(modules))
    assert done.returncode == 0, done.stderr
    guilty: str = json.loads(done.stdout)
    return guilty


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["search", "--help"], ["no-such-command"]], ids=str)
def test_talking_loads_nothing_heavy(arguments: list[str]) -> None:
    done = child(RUN, "", *arguments)
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["code"] == (2 if arguments == ["no-such-command"] else 0), done.stderr
    assert sorted(set(HEAVY) & set(told["modules"])) == []
    assert "nascli" in done.stdout + done.stderr


def test_modules_that_promise_it_load_without_torch() -> None:
    assert loads_torch(*TORCH_FREE) == ""


def test_the_check_sees_torch() -> None:
    assert loads_torch("nascli.errors", "search_spaces.space") == "search_spaces.space"


def test_the_torch_free_list_names_every_command() -> None:
    assert {"nascli.cli.app", "nascli.cli.search", "nascli.cli.console"} <= set(COMMANDS)
