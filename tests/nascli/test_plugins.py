"""Names lead to objects: ours by the table, others' by entry points or in full; a refusal says which part is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nascli import plugins
from nascli.errors import SettingsError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points that other packages are taken to have; fill it before asking."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(plugins, "entry_points", lambda *, group: [p for p in points if p.group == group])
    plugins._table.cache_clear()
    yield points
    plugins._table.cache_clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in plugins.kinds() for n in plugins.BUILT_IN[k]])
def test_every_built_in_loads_and_says_what_it_is(kind: str, name: str) -> None:
    found = plugins.load(kind, name)
    assert found.__doc__


def test_names_are_ours_first_then_theirs(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("linas", "their.package:Linas", "nascli.strategy"))
    installed.append(EntryPoint("moon", "their.package:Moon", "nascli.space"))
    assert plugins.names("strategy") == [*plugins.BUILT_IN["strategy"], "linas"]
    assert plugins.target("strategy", "linas") == "their.package:Linas"


def test_an_entry_point_loads(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("join", "os.path:join", "nascli.strategy"))
    import os.path

    assert plugins.load("strategy", "join") is os.path.join


def test_a_name_taken_twice_names_both_owners(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("random", "their.package:Random", "nascli.strategy"))
    with pytest.raises(SettingsError, match=r"nascli\.strategies\.random:Random and their\.package:Random"):
        plugins.names("strategy")


def test_unknown_names_and_kinds_are_answered_with_suggestions() -> None:
    with pytest.raises(SettingsError, match=r"No strategy is called 'evoluton'\. Did you mean 'evolution'\?"):
        plugins.load("strategy", "evoluton")
    with pytest.raises(SettingsError, match=r"no kind of plugin called 'stratgy'\. Did you mean 'strategy'\?"):
        plugins.names("stratgy")


def test_listing_imports_nothing() -> None:
    code = "import sys; from nascli import plugins; [plugins.names(k) for k in plugins.kinds()]; "
    code += "print([m for m in sys.modules if m.startswith(('nascli.', 'search_spaces', 'predictors'))])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['nascli.errors', 'nascli.plugins']"


def test_modules_in_the_working_directory_are_found(here: Path) -> None:
    (here / "my_models.py").write_text("class Nets:\n    def tiny(): return 'tiny'\n", encoding="utf-8")
    assert plugins.load("space", "my_models:Nets.tiny")() == "tiny"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("my_model:net", r"no module 'my_model' here or among the installed packages"),
        ("my_models.parts:net", r"no module 'my_models.parts' here"),
        ("my_models:nett", r"my_models has no 'nett'\. Did you mean 'net'\?"),
        ("my_models:net.inner", r"my_models has no 'net\.inner'"),
        ("my_models:", r"'my_models:' is not of the form 'package\.module:attribute'"),
        (":net", r"':net' is not of the form"),
        ("needy:net", r"needy needs the module 'no_such_library', which is not installed"),
    ],
)
def test_what_does_not_load_is_named(here: Path, path: str, said: str) -> None:
    (here / "my_models.py").write_text("def net(): ...\n", encoding="utf-8")
    (here / "needy.py").write_text("import no_such_library\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        plugins.load("space", path)


def test_a_bug_in_the_users_module_keeps_its_own_error(here: Path) -> None:
    (here / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        plugins.load("space", "broken:net")
