"""The shape of the source tree: who may import whom, how long things get, what stays out.

A room is a folder (or a lone file) directly under src/regard. MAY_IMPORT is the table of
docs/design/architecture.md; one test holds the two together.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

MAY_IMPORT = {
    "errors": "",
    "ir": "errors",
    "lang": "errors ir",
    "passes": "errors ir",
    "reference": "errors ir",
    "backends": "errors ir passes",
    "ops": "errors ir lang passes reference backends",
    "flex": "errors ir lang passes backends ops",
    "catalogue": "errors ir lang",
    "nn": "errors ir lang passes ops",
    "modes": "errors ir lang catalogue ops",
    "search": "errors ir passes catalogue modes ops",
    "hf": "errors ir lang passes ops flex modes nn",
    "data": "errors",
    "metrics": "errors",
    "tasks": "errors catalogue data modes",
    "learners": "errors data hf metrics tasks",
    "train": "errors data hf learners metrics tasks modes view",
    "customise": "errors ir passes catalogue data hf learners metrics modes nn search tasks train"
    " view",
    "view": "errors ir ops",
    "serve": "errors hf modes view",
    "testing": "errors ir lang backends reference ops",
}
MAY_IMPORT["cli"] = " ".join(room for room in MAY_IMPORT if room != "testing")
# `import regard` offers these, lazily; `python -m regard` is the command line.
FRONT = {
    "__init__": "errors ir lang passes reference backends ops flex catalogue nn modes hf view",
    "__main__": "cli",
}
SHARED_BY_BACKENDS = {"base", "values"}
# Backends that run parts of their work in another's kernels.
BUILT_ON = {"linear": {"cpu"}, "triton": {"cpu", "measured"}, "measured": {"cpu"}}

FILE_LINES = 500
FUNCTION_LINES = 60
EMITTER_LINES = 120
MACHINE_PATHS = re.compile("|".join("/" + name + "/" for name in ("work", "farm", "root", "home")))
TEXT_SUFFIXES = {
    *(".py", ".pyi", ".ipynb", ".md", ".toml", ".cfg", ".ini", ".txt", ".json", ".yml", ".yaml"),
    *(".cff", ".sh", ".cpp", ".cc", ".c", ".h", ".hpp", ".css", ".js", ".html", ""),
}


class Import(NamedTuple):
    """One imported module or name, as a dotted path, and the line that imports it."""

    line: int
    target: str


def python_files(source: Path) -> list[Path]:
    return sorted((source / "regard").rglob("*.py"))


def parts_of(source: Path, file: Path) -> tuple[str, ...]:
    """The module's path inside the package: ops/check.py gives ("ops", "check")."""
    return file.relative_to(source / "regard").with_suffix("").parts


def imports_of(source: Path, file: Path) -> Iterator[Import]:
    """Every import of a file, at any depth, with relative ones made absolute."""
    package = ["regard", *parts_of(source, file)[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            kept = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*kept, *filter(None, [node.module])])
            for name in node.names:
                yield Import(node.lineno, f"{base}.{name.name}")
        elif (name := imported_by_call(node)) is not None:
            dots = len(name) - len(name.lstrip("."))
            kept = package[: len(package) - dots + 1] if dots else []
            yield Import(node.lineno, ".".join([*kept, name.lstrip(".")]))


def imported_by_call(node: ast.AST) -> str | None:
    """The text given to import_module or __import__, when it is written out."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else None
    called = node.func.id if isinstance(node.func, ast.Name) else called
    given = node.args[0]
    if called not in ("import_module", "__import__") or not isinstance(given, ast.Constant):
        return None
    return given.value if isinstance(given.value, str) else None


def is_module(source: Path, *parts: str) -> bool:
    path = source.joinpath("regard", *parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def complaint(source: Path, file: Path, target: str) -> str | None:
    """Why this file may not import that target, or None if it may."""
    here = parts_of(source, file)
    top, *inner = target.split(".")
    if top != "regard":
        return None
    if here[0] in FRONT and len(here) == 1:
        room, allowed = f"regard/{here[0]}.py", FRONT[here[0]].split()
    elif here[0] in MAY_IMPORT:
        room, allowed = here[0], [here[0], *MAY_IMPORT[here[0]].split()]
    else:
        return f"'{here[0]}' is no room of the table in docs/design/architecture.md"
    if inner and inner[0].startswith("__"):
        return None  # regard.__version__ and its like
    if not inner or inner[0] not in MAY_IMPORT:
        named = "the front of the package" if not inner else f"'{inner[0]}' of the package's front"
        return f"'{room}' imports {named}; import from the room that defines it"
    if inner[0] not in allowed:
        return f"'{room}' may import {' '.join(allowed) or 'nothing'}, not '{inner[0]}'"
    if here[0] == inner[0] == "backends":
        return neighbour_complaint(source, here[1:], inner[1:])
    return None


def neighbour_complaint(source: Path, here: tuple[str, ...], inner: list[str]) -> str | None:
    """Why one backend, or what backends share, may not import this part of backends/."""
    if here == ("__init__",):
        return None
    other = inner[0] if inner and is_module(source, "backends", inner[0]) else "__init__"
    may = {here[0], *SHARED_BY_BACKENDS, *BUILT_ON.get(here[0], ())}
    if other in may:
        return None
    allowed = " ".join(sorted(may))
    return f"'backends/{here[0]}' may import {allowed} of backends, not '{other}'"


def import_violations(source: Path) -> list[str]:
    found = []
    for file in python_files(source):
        for line, target in imports_of(source, file):
            if why := complaint(source, file, target):
                found.append(f"{file.relative_to(source.parent)}:{line}: {why}")
    return found


def length_violations(source: Path) -> list[str]:
    """Files and functions that grew too long; an emitter of a backend may be twice as long."""
    found = []
    for file in python_files(source):
        where, text = file.relative_to(source.parent), file.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > FILE_LINES:
            found.append(f"{where}: {lines} lines, at most {FILE_LINES}")
        here = parts_of(source, file)
        emits = len(here) > 2 and here[0] == "backends" and here[2].startswith("emit")
        limit = EMITTER_LINES if emits else FUNCTION_LINES
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > limit:
                found.append(
                    f"{where}:{node.lineno}: {node.name} has {lines} lines, at most {limit}"
                )
    return found


def undocumented_modules(source: Path) -> list[str]:
    return [
        str(file.relative_to(source.parent))
        for file in python_files(source)
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]


def machine_paths(root: Path, files: list[str]) -> list[str]:
    """Lines of our own text that name a folder of somebody's machine."""
    found = []
    for name in files:
        file = root / name
        if file.suffix not in TEXT_SUFFIXES or not file.is_file() or "data" in Path(name).parts:
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := MACHINE_PATHS.search(line):
                found.append(f"{name}:{number}: names {match.group()}")
    return found


def files_of_the_project() -> list[str]:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def table_in(page: Path) -> dict[str, str]:
    """The rooms of the architecture page's table and what each may import."""
    table = page.read_text(encoding="utf-8").split("```")[1]
    rows = re.findall(r"^  (\w+)(?:\.py|/) .* {2,}(\S.*)$", table, flags=re.MULTILINE)
    return {room: "" if may == "–" else may for room, may in rows}


def write_tree(source: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = source / "regard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source


def test_every_import_follows_the_table():
    assert import_violations(SOURCE) == []


def test_the_documented_table_is_the_one_tested():
    documented = table_in(ROOT / "docs" / "design" / "architecture.md")
    tested = {**MAY_IMPORT, "cli": "all above"}
    assert {room: set(may.split()) for room, may in documented.items()} == {
        room: set(may.split()) for room, may in tested.items()
    }


def test_the_table_has_no_cycle():
    settled: set[str] = set()
    while ready := {
        room
        for room, may in MAY_IMPORT.items()
        if room not in settled and set(may.split()) <= settled
    }:
        settled |= ready
    assert settled == set(MAY_IMPORT)


def test_nothing_grew_too_long():
    assert length_violations(SOURCE) == []


def test_every_module_says_what_it_is_for():
    assert undocumented_modules(SOURCE) == []


def test_no_file_names_a_folder_of_somebodys_machine():
    assert machine_paths(ROOT, files_of_the_project()) == []


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("ir/a.py", "import regard.ops", "'ir' may import ir errors, not 'ops'"),
        ("ir/a.py", "from regard.lang.trace import f", "'ir' may import ir errors, not 'lang'"),
        ("ir/a.py", "from regard import lang", "'ir' may import ir errors, not 'lang'"),
        ("ir/a.py", "from .. import lang", "'ir' may import ir errors, not 'lang'"),
        ("ir/a.py", "from ..lang import trace", "'ir' may import ir errors, not 'lang'"),
        ("ir/deep/a.py", "from ...lang import f", "'ir' may import ir errors, not 'lang'"),
        ("ir/a.py", "def f():\n    import regard.ops", "'ir' may import ir errors, not 'ops'"),
        ("ir/a.py", "if TYPE_CHECKING:\n    from regard import nn", "not 'nn'"),
        ("ir/a.py", "importlib.import_module('regard.hf')", "not 'hf'"),
        ("ir/a.py", "import_module('..hf', __package__)", "not 'hf'"),
        ("ir/a.py", "import regard as rg", "imports the front of the package"),
        ("ir/a.py", "from regard import program", "imports 'program' of the package's front"),
        ("errors.py", "from regard import ir", "'errors' may import errors, not 'ir'"),
        ("ops/a.py", "from regard.testing import budget", "not 'testing'"),
        ("__init__.py", "from .cli import main", "'regard/__init__.py' may import"),
        ("cellar/a.py", "from regard import errors", "'cellar' is no room of the table"),
        (
            "backends/tiled/run.py",
            "from regard.backends.sdpa import recognise",
            "'backends/tiled' may import base tiled values of backends, not 'sdpa'",
        ),
        (
            "backends/linear/run.py",
            "from regard.backends.sdpa import recognise",
            "'backends/linear' may import base cpu linear values of backends, not 'sdpa'",
        ),
        ("backends/tiled/run.py", "from .. import sdpa", "of backends, not 'sdpa'"),
        ("backends/tiled.py", "from . import sdpa", "of backends, not 'sdpa'"),
        ("backends/tiled/run.py", "from regard.backends import Backend", "not '__init__'"),
        (
            "backends/values/layout.py",
            "from regard.backends.sdpa import recognise",
            "'backends/values' may import base values of backends, not 'sdpa'",
        ),
        ("backends/base.py", "from .sdpa import recognise", "of backends, not 'sdpa'"),
    ],
)
def test_forbidden_import_is_reported_with_its_line(tmp_path, file, text, why):
    tree = {"backends/sdpa/__init__.py": "", file: "# one line above\n" + text}
    (found,) = import_violations(write_tree(tmp_path, tree))
    line = 2 + text.count("\n")
    assert found.startswith(f"{tmp_path.name}/regard/{file}:{line}: ")
    assert why in found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("ir/a.py", "import math, torch\nfrom . import nodes\nfrom regard.ir.b import c"),
        ("ir/a.py", "from regard import errors, __version__\nfrom ..errors import E"),
        ("backends/tiled/run.py", "from ..base import Backend\nfrom .blocks import each"),
        ("backends/tiled/run.py", "from regard.passes.plan import f\nfrom ..values import layout"),
        ("backends/linear/run.py", "from regard.backends.cpu.states import sum_states"),
        ("backends/values/layout.py", "from ..base import Request\nfrom . import evaluate"),
        ("backends/__init__.py", "from .tiled.run import Tiled\nfrom . import sdpa"),
        ("__init__.py", "from .lang import program\nimport_module('regard.hf')"),
        ("__main__.py", "from regard.cli.main import app"),
        ("cli/main.py", "from regard import hf, train, view"),
        ("testing/contract.py", "from regard import backends, lang, reference"),
    ],
)
def test_allowed_import_passes(tmp_path, file, text):
    folders = ("cpu", "sdpa", "values")
    tree = {"backends/base.py": "", **{f"backends/{name}/__init__.py": "" for name in folders}}
    assert import_violations(write_tree(tmp_path, {**tree, file: text})) == []


def test_long_file_and_long_function_are_reported(tmp_path):
    def function(lines):
        return "def f():\n" + "    pass\n" * (lines - 1)

    tree = {
        "ir/long.py": "# a line\n" * 501,
        "ir/function.py": function(61),
        "ir/fits.py": function(60),
        "backends/cpu/emit_forward.py": function(120),
        "backends/cpu/emit_backward.py": function(121),
        "backends/cpu/build.py": function(61),
    }
    assert length_violations(write_tree(tmp_path, tree)) == [
        f"{tmp_path.name}/regard/backends/cpu/build.py:1: f has 61 lines, at most 60",
        f"{tmp_path.name}/regard/backends/cpu/emit_backward.py:1: f has 121 lines, at most 120",
        f"{tmp_path.name}/regard/ir/function.py:1: f has 61 lines, at most 60",
        f"{tmp_path.name}/regard/ir/long.py: 501 lines, at most 500",
    ]


def test_module_without_a_sentence_is_reported(tmp_path):
    write_tree(tmp_path, {"ir/a.py": "import math", "ir/b.py": '"""Says what it is for."""'})
    assert undocumented_modules(tmp_path) == [f"{tmp_path.name}/regard/ir/a.py"]


@pytest.mark.parametrize("folder", ["work", "root", "home", "farm"])
def test_machine_path_is_reported(tmp_path, folder):
    (tmp_path / "a.py").write_text(f"import os\nx = '/{folder}/main'\n", encoding="utf-8")
    (tmp_path / "b.md").write_text(f"a {folder} of art", encoding="utf-8")
    assert machine_paths(tmp_path, ["a.py", "b.md"]) == [f"a.py:2: names /{folder}/"]
