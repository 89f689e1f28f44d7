"""The rules of the house that can be read off the source: where tests lie, how long files are, what is never called."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("nascli", "search_spaces", "predictors")
SOURCES = sorted(p.relative_to(ROOT) for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
LONGEST_FILE = 250
LONG_FUNCTION = 30

PRINTS = {"nascli/cli/console.py"}
UNPICKLES = {"nascli/data/cifar.py"}
"""Its unpickler names stand-ins of ours and nothing else."""
CATCHES_ALL = {"nascli/cli/app.py", "nascli/engine/evaluate.py", "nascli/engine/executors.py"}
PICKLES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")

Finding = tuple[int, str]


def called(node: ast.Call) -> str:
    """The dotted name of what is called, "" if it has none."""
    return ast.unparse(node.func) if re.fullmatch(r"[\w.]+", ast.unparse(node.func)) else ""


def keyword(node: ast.Call, name: str) -> str:
    """The source of a keyword's value, "" if it is not given."""
    return next((ast.unparse(k.value) for k in node.keywords if k.arg == name), "")


def prints(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ("print", "builtins.print", "sys.stdout.write"):
            yield node.lineno, "prints; results and conversation go through nascli/cli/console.py"


def asserts(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "asserts; raise an error that says what to do"


def evaluates(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"):
            yield node.lineno, f"calls {called(node)}"


def unpickles(tree: ast.AST) -> Iterator[Finding]:
    """Everything that may run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("Unpickler" in ast.unparse(b) for b in node.bases):
            yield node.lineno, "makes an unpickler"
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            for alias in node.names:
                if not alias.name.endswith("Error"):
                    yield node.lineno, f"takes {alias.name} from {node.module}"
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        module, _, function = name.rpartition(".")
        if module in PICKLES and function in ("load", "loads", "Unpickler", "open"):
            yield node.lineno, f"calls {name}"
        if name == "torch.load" and keyword(node, "weights_only") != "True":
            yield node.lineno, "calls torch.load without weights_only=True"
        if name in ("torch.export.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"):
            yield node.lineno, f"calls {name}"
        if function in ("load", "read_pickle") and keyword(node, "allow_pickle") not in ("", "False"):
            yield node.lineno, f"calls {name} with allow_pickle"
        if function == "read_pickle":
            yield node.lineno, f"calls {name}"


def catches_all(tree: ast.AST) -> Iterator[Finding]:
    """Handlers of every error that neither raise it again nor name it as the cause of another."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        blind = any(k is None or ast.unparse(k) in ("Exception", "BaseException") for k in kinds)
        last = node.body[-1]
        cause = isinstance(last, ast.Raise) and isinstance(last.cause, ast.Name) and last.cause.id == node.name
        if blind and not (isinstance(last, ast.Raise) and (last.exc is None or cause)):
            yield node.lineno, "catches every error"


def unfinished(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            yield node.lineno, "raises NotImplementedError"


RULES: dict[str, tuple[Callable[[ast.AST], Iterator[Finding]], set[str]]] = {
    "print": (prints, PRINTS),
    "assert": (asserts, set()),
    "eval": (evaluates, set()),
    "unpickle": (unpickles, UNPICKLES),
    "blind except": (catches_all, CATCHES_ALL),
    "unfinished": (unfinished, set()),
}


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_the_source(rule: str) -> None:
    check, exempt = RULES[rule]
    found = [f"{p}:{line} {what}" for p in SOURCES if str(p) not in exempt for line, what in check(parsed(p))]
    assert found == [], "\n".join(found)


def test_exceptions_to_the_rules_are_still_needed() -> None:
    unneeded = [
        f"{name}: {path}"
        for name, (check, exempt) in RULES.items()
        for path in exempt - {"nascli/engine/executors.py", "nascli/cli/app.py"}
        if not list(check(parsed(Path(path))))
    ]
    assert unneeded == []


def test_every_module_has_its_test_file() -> None:
    modules = [p for p in SOURCES if p.name not in ("__init__.py", "__main__.py")]
    missing = [str(p) for p in modules if not (ROOT / "tests" / p.with_name(f"test_{p.name}")).exists()]
    assert missing == [], "modules without tests/<path>/test_<module>.py:\n" + "\n".join(missing)


def test_files_are_short() -> None:
    lengths = {str(p): len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {p: n for p, n in lengths.items() if n > LONGEST_FILE} == {}


def test_nine_functions_in_ten_are_short() -> None:
    nodes = [n for p in SOURCES for n in ast.walk(parsed(p)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = sorted((n.end_lineno or n.lineno) - n.lineno + 1 for n in nodes)
    assert lengths[len(lengths) * 9 // 10] <= LONG_FUNCTION


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(p) for p in SOURCES if marks.search((ROOT / p).read_text(encoding="utf-8"))] == []


def test_modules_say_what_they_are() -> None:
    assert [str(p) for p in SOURCES if not ast.get_docstring(parsed(p))] == []


def test_constraints_pin_every_requirement_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [p for p in pins if not re.fullmatch(r"[a-z0-9_.-]+==[0-9][0-9a-z.]*", p)] == [], (
        "exact public versions only"
    )
    names = [normal(p.partition("==")[0]) for p in pins]
    assert sorted(set(names)) == sorted(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = [
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        *(r for e in extras for r in e),
    ]
    required = {normal(re.split(r"[^\w.-]", r)[0]) for r in wanted} - {"nascli"}
    assert required - set(names) == set()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


BAD: Sequence[tuple[str, str]] = (
    ("print", "print(1)"),
    ("print", "import sys\nsys.stdout.write('x')"),
    ("assert", "def f(x):\n    assert x"),
    ("eval", "eval('1')"),
    ("eval", "def f():\n    exec(compile('1', '', 'exec'))"),
    ("unpickle", "import pickle\npickle.load(file)"),
    ("unpickle", "import pickle\nclass Mine(pickle.Unpickler): ..."),
    ("unpickle", "from pickle import loads"),
    ("unpickle", "import joblib\njoblib.load(path)"),
    ("unpickle", "torch.load(path)"),
    ("unpickle", "torch.load(path, weights_only=False)"),
    ("unpickle", "torch.load(path, weights_only=safe)"),
    ("unpickle", "torch.export.load(path)"),
    ("unpickle", "np.load(path, allow_pickle=True)"),
    ("unpickle", "pandas.read_pickle(path)"),
    ("blind except", "try: f()\nexcept: g()"),
    ("blind except", "try: f()\nexcept Exception: raise ValueError from None"),
    ("blind except", "try: f()\nexcept Exception as e: raise ValueError from other"),
    ("blind except", "try: f()\nexcept (OSError, BaseException) as e: g(e)"),
    ("unfinished", "def f():\n    raise NotImplementedError"),
    ("unfinished", "raise NotImplementedError('later')"),
)
GOOD = """
model.eval()
re.compile('x')
torch.load(path, map_location='cpu', weights_only=True)
np.load(path, allow_pickle=False)
json.loads(text)
spec.loader.exec_module(module)
try:
    f()
except BaseException:
    g()
    raise
except (OSError, pickle.UnpicklingError):
    pass
except Exception as error:
    raise ValueError from error
"""


@pytest.mark.parametrize(("rule", "source"), BAD)
def test_rules_see_what_breaks_them(rule: str, source: str) -> None:
    assert list(RULES[rule][0](ast.parse(source)))


@pytest.mark.parametrize("rule", RULES)
def test_rules_let_the_rest_be(rule: str) -> None:
    assert list(RULES[rule][0](ast.parse(GOOD))) == []
