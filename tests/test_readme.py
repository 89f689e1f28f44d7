"""The README is true: its commands run in their order, its links lead somewhere, and it names what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nascli import plugins
from tests.toy_runs import ENVIRONMENT, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the text of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def steps() -> Iterator[tuple[str, list[str]]]:
    """What the tour does, in order: "write" NAME TEXT, or a command with its shown output."""
    for language, text in blocks(README):
        if language == "toml":
            yield text.split("\n")[0].removeprefix("# "), [text]
        if language == "console":
            command, *output = "", ""
            for line in [*text.splitlines(), "$ "]:
                if line.startswith("$ "):
                    if command:
                        yield f"$ {command}", output
                    command, output = line.removeprefix("$ "), []
                else:
                    output.append(line)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_command_of_the_tour_works(
    nascli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for what, shown in steps():
        if not what.startswith("$ "):
            Path(what).write_text(shown[0])
            continue
        program, *arguments = shlex.split(what.removeprefix("$ "))
        if program == "nascli":
            left = nascli(*arguments)
            assert left.code == 0, f"{what}\n{left.err}"
            out = left.out
        else:
            assert program == "python"
            done = subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True)
            assert done.returncode == 0, f"{what}\n{done.stderr}"
            out = done.stdout
        ran += 1
        check(what, shown, out)
    assert ran >= 10


def check(what: str, shown: list[str], out: str) -> None:
    """The first line shown, which holds no measured numbers, is a line of the output; its columns may be fewer."""
    if not shown:
        return
    lines = out.splitlines()
    titles = re.split(r"\s{2,}", shown[0])
    assert any(set(titles) <= set(line.split("\t")) for line in lines), f"{what}\n{shown[0]!r} is not in\n{out}"


def test_every_command_of_the_tour_is_found() -> None:
    commands = [what.removeprefix("$ ") for what, _ in steps() if what.startswith("$ ")]
    assert len(commands) == README.count("\n$ ") and "search.toml" in dict(steps())
    for word in ("train", "search", "resume", "export", "score", "runs ls", "runs show", "runs diff", "plugins"):
        assert any(c.startswith(f"nascli {word}") for c in commands), word
    assert any("--dry-run" in c for c in commands) and any("--json" in c for c in commands)


def test_the_two_commands_to_set_up_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target} " in README and re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or link.startswith("http://") or (page.parent / link).exists(), link


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [p.name for p in PAGES[1:] if p.name != "index.md" and f"({p.name})" not in index] == []


@pytest.mark.parametrize("kind", ["space", "strategy", "recipe", "compressor", "data", "objective", "latency"])
def test_the_table_names_every_plugin(kind: str) -> None:
    table = README.split("## What there is")[1].split("## More")[0]
    assert [name for name in plugins.names(kind) if f"`{name}`" not in table] == []


def test_settings_in_the_docs_are_settings(nascli: Callable[..., Any], tmp_path: Path) -> None:
    for page in PAGES:
        for language, text in blocks(page.read_text(encoding="utf-8")):
            if language == "toml":
                (tmp_path / "a.toml").write_text(text)
                left = nascli("config", "show", "--config", tmp_path / "a.toml")
                assert left.code == 0, f"{page.name}: {left.err}"


def test_the_objective_in_the_docs_is_the_example(nascli: Callable[..., Any], tmp_path: Path) -> None:
    example = (ROOT / "examples" / "own_objective.py").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    (shown,) = [text for language, text in blocks(page) if language == "python"]
    assert shown.strip() in example
    objective = ["-O", "params", "-O", "examples.own_objective:DEPTH<=9"]
    left = nascli("search", "--space", "resnet", "--preset", "digits", *objective, "-n", 4, "--out", tmp_path / "a")
    assert left.code == 0 and "depth (layers)" in left.out.splitlines()[0]
    # The stem, two convolutions in one block of each stage, their shortcuts, and the classifier.
    assert left.out.splitlines()[1].split("\t")[2] == "8"
