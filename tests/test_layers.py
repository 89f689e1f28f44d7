"""Imports point down: every one of them, those inside functions too, is held against the table of layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("nascli", "search_spaces", "predictors")

LEAVES = ("search_spaces.*", "predictors.*")
LAYERS: Sequence[tuple[int, str, Sequence[str]]] = (
    # layer, part, and what it may import when it runs; "x.*" is x and all below it, "x" is x alone
    (0, "search_spaces", ()),
    (0, "predictors", ()),
    (1, "nascli.errors", ()),
    (1, "nascli.plugins", ("nascli.errors",)),
    (1, "nascli.settings", ("nascli.errors",)),
    (2, "nascli.data", (*LEAVES, "nascli.errors", "nascli.plugins", "nascli.settings")),
    (2, "nascli.training", (*LEAVES, "nascli.errors")),
    (3, "nascli.engine", (*LEAVES, "nascli", "nascli.errors", "nascli.plugins", "nascli.settings", "nascli.data.*",
                          "nascli.training")),
    (4, "nascli.recipes", (*LEAVES, "nascli.errors", "nascli.training", "nascli.engine.*")),
    (5, "nascli.strategies", (*LEAVES, "nascli.errors", "nascli.training", "nascli.engine.*", "nascli.recipes.*")),
    (5, "nascli.compressors", (*LEAVES, "nascli.errors", "nascli.training", "nascli.engine.*", "nascli.recipes.*")),
    (5, "nascli.report", (*LEAVES, "nascli.errors", "nascli.training", "nascli.engine.*")),
    (6, "nascli.cli", ("nascli", "nascli.errors", "nascli.plugins", "nascli.settings", "nascli.engine.*",
                       "search_spaces", "predictors")),
    (7, "nascli.__main__", ("nascli.cli.app",)),
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import of a module of ours: where it stands, what it names, and whether it happens when the module loads."""

    module: str
    line: int
    target: str
    loading: bool
    typing: bool
    """Below `if TYPE_CHECKING:`."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def modules(root: Path) -> dict[str, Path]:
    """The modules of the three packages by dotted name; a package is its __init__."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    """All imports among the modules below a root."""
    known = modules(root)
    return [found for name, path in known.items() for found in _imports(name, path, known)]


def _imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST, loading: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node, package, known):
                yield Import(name, node.lineno, target, loading and not typing, typing)
        inner = loading and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checked = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner, typing or (checked and child in node.body))

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True, False)


def _targets(node: ast.Import | ast.ImportFrom, package: str, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that one statement loads; `from a import b` means a.b where that is a module."""
    if isinstance(node, ast.Import):
        named = [alias.name for alias in node.names]
    else:
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        named = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
    for target in dict.fromkeys(named):
        if target.partition(".")[0] in PACKAGES:
            yield target


def part(module: str) -> tuple[int, str, Sequence[str]]:
    """The row of the table that a module falls under."""
    for row in LAYERS:
        if module == row[1] or module.startswith(row[1] + "."):
            return row
    return (-1, module, ())


def allowed(found: Import) -> bool:
    """Whether the table lets this import be. What is only needed for annotations may also stay within its layer."""
    layer, own, below = part(found.module)
    to_layer, to, _ = part(found.target)
    if own == to:
        return True
    if found.typing:
        return 0 <= to_layer <= layer and not (layer == to_layer == 0)
    return any(found.target == b or (b.endswith(".*") and (found.target + ".").startswith(b[:-1])) for b in below)


def cycle(root: Path) -> list[str]:
    """The modules of an import cycle among those that load each other, [] if there is none."""
    graph: dict[str, set[str]] = {name: set() for name in modules(root)}
    for found in imports(root):
        if found.loading and found.target != found.module:
            graph[found.module].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_down() -> None:
    broken = [str(found) for found in imports(ROOT) if not allowed(found)]
    assert broken == [], "\n".join(["imports that the table of layers does not allow:", *broken])


def test_every_module_has_a_layer() -> None:
    assert [name for name in modules(ROOT) if part(name)[0] < 0 and name != "nascli"] == []
    assert not any(found.module == "nascli" for found in imports(ROOT)), (
        "nascli/__init__.py must import nothing of ours"
    )


def test_every_import_names_a_module() -> None:
    known = modules(ROOT)
    assert [str(found) for found in imports(ROOT) if found.target not in known] == []


def test_there_are_no_cycles() -> None:
    assert cycle(ROOT) == []


@pytest.fixture
def tree(tmp_path: Path):
    """Writes modules into a small tree of the same packages."""

    def write(sources: dict[str, str]) -> Path:
        for name, source in ({f"{p}/__init__": "" for p in PACKAGES} | sources).items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        return tmp_path

    return write


UP = "from nascli.cli.app import main"
SIDEWAYS = "from nascli.compressors import wgsef"
TYPED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}"


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("nascli/engine/drive", UP, True),
        ("nascli/engine/drive", f"def f():\n    {UP}", True),
        ("nascli/engine/drive", TYPED.format(UP), True),
        ("nascli/engine/drive", f"class A:\n    async def f(self):\n        {UP}", True),
        ("nascli/engine/drive", "from ..cli import app", True),
        ("nascli/engine/drive", "from nascli import errors, strategies", True),
        ("nascli/engine/drive", "from nascli import errors, data, __version__", False),
        ("nascli/strategies/linas", SIDEWAYS, True),
        ("nascli/strategies/linas", TYPED.format(SIDEWAYS), False),
        ("nascli/strategies/linas", "import nascli.data.streams", True),
        ("nascli/strategies/linas", TYPED.format("import nascli.data.streams"), False),
        ("nascli/strategies/linas", "from nascli.strategies import evolution", False),
        ("nascli/cli/app", "from predictors import ScoreError", False),
        ("nascli/cli/app", "from predictors import latency", True),
        ("nascli/cli/app", "def f():\n    from search_spaces.mobile import MobileSpace", True),
        ("nascli/data/cifar", "import nascli.training", True),
        ("nascli/plugins", "from nascli import settings", True),
        ("search_spaces/mobile", "import predictors", True),
        ("search_spaces/mobile", TYPED.format("import predictors"), True),
        ("predictors/cost", "from nascli.errors import NascliError", True),
    ],
)
def test_the_table_is_enforced(tree, module: str, source: str, broken: bool) -> None:
    others = ("nascli/errors", "nascli/settings", "nascli/cli/app", "nascli/strategies/__init__",
              "nascli/data/__init__", "predictors/latency")  # fmt: skip
    root = tree({name: "" for name in others} | {module: source})
    assert any(not allowed(found) for found in imports(root)) is broken


def test_a_cycle_is_found_but_not_within_functions(tree) -> None:
    here = {"nascli/engine/a": "from nascli.engine import b", "nascli/engine/b": "import nascli.engine.c"}
    root = tree(here | {"nascli/engine/c": "def f():\n    import nascli.engine.a"})
    assert cycle(root) == []
    root = tree(here | {"nascli/engine/c": "class C:\n    import nascli.engine.a"})
    assert set(cycle(root)) == {"nascli.engine.a", "nascli.engine.b", "nascli.engine.c"}
