"""Rules of the source tree: layers of imports, the pure core, the public names, and the repository's files.

`make wheel` runs all other tests against an installed wheel.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import openai2

ROOT = Path(__file__).resolve().parents[2]

# -- The tables --------------------------------------------------------------------------------------

# Low to high. A module imports from its own row and the rows above it in this table, never from one below.
# No two modules import each other, not even late. Names are those after `openai2.`; `x.*` is the package x
# and
# everything in it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("core.*",),
    ("profiles", "keys.*"),
    ("request.*",),
    ("store.*",),
    ("history.*",),
    ("readmodels.*",),
    ("audit.*",),
    ("archive.*",),
    ("html.*", "redaction.*"),
    ("handle",),
    ("conversation", "engine"),
    ("replay.*", "tools.*", "recording.*"),
    ("api.*",),
    ("drivers",),
    ("base_chat",),
    ("chat", "group", "testing", "pytest_plugin", "offline.*"),
    ("cli.terminal.*",),
    ("cli.settings.*",),
    ("cli.views.*",),
    ("cli.arguments.*",),
    ("cli.session.*",),
    ("cli.commands.*",),
    ("cli",),
    ("__main__",),
)

# Rows that may import less than what is above them.
SEES_ONLY = {"store.*": ("errors", "core.*", "store.*")}

# The core: no I/O, no clock; sync and async share it.
CORE = (
    "errors core.* keys.* profiles request.* redaction.copies replay.source replay.plan"
    " readmodels.usage store.tokenizer"
).split()

# The modules of the standard library that the core may import; none of them does I/O.
PURE = frozenset(
    "__future__ abc base64 binascii bisect collections contextlib copy dataclasses datetime difflib enum"
    " functools hashlib heapq html itertools json math operator re string textwrap types typing"
    " unicodedata".split()
)
# New ids are random. Threads share a pool of keys, whose clock and random numbers can be passed in.
PURE_TOO = {
    "core.ids": frozenset({"secrets"}),
    "keys.retry_after": frozenset({"email"}),
    "keys.pool": frozenset({"random", "threading", "time"}),
}

# Calls that are I/O, a clock or randomness even with only those modules.
IMPURE_CALLS = frozenset({"open", "print", "input", "now", "utcnow", "today", "breakpoint", "__import__"})

# The modules that may import each third-party package.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "msgspec": ("*",),
    "openai": ("api.*", "recording.transport"),
    # What openai speaks HTTP with, and shows in its own interface.
    "httpx2": ("api.*", "recording.transport"),
    "httpcore2": ("api.errors", "api.clients"),
    "anyio": ("api.*", "drivers", "base_chat"),
    "pytest": ("pytest_plugin",),
    "sqlite_utils": ("store.*",),
    "click": ("cli.*",),
    "prompt_toolkit": ("cli.*",),
    "rich": ("cli.*",),
    "markdown_it": ("cli.terminal.markdown",),
    "platformdirs": ("cli.*",),
}

# What `import openai2` must not import: these are slow, or open something.
LATE = (
    "openai msgspec sqlite3 sqlite_utils click rich prompt_toolkit httpx2 pydantic platformdirs asyncio json"
).split()

# -- Reading the tree --------------------------------------------------------------------------------


class Import(NamedTuple):
    """One import of one module by its full name; *names* are the names imported from it."""

    module: str
    names: tuple[str, ...]
    line: int
    for_types: bool  # under `if TYPE_CHECKING:`


def _files() -> dict[str, Path]:
    """Return our modules by their names after `openai2.`; the package itself is ''."""
    files: dict[str, Path] = {}
    for folder, prefix in (("openai2", ()), ("store", ("store",)), ("cli", ("cli",))):
        for path in (ROOT / folder).rglob("*.py"):
            parts = (*prefix, *path.relative_to(ROOT / folder).with_suffix("").parts)
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def _under_type_checking(tree: ast.Module) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            found.update(inner for statement in node.body for inner in ast.walk(statement))
    return found


def _imports(tree: ast.Module) -> Iterator[Import]:
    """Yield all imports, also those inside functions."""
    for_types = _under_type_checking(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, node in for_types)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "ruff refuses relative imports"
            assert node.module
            yield Import(node.module, tuple(a.name for a in node.names), node.lineno, node in for_types)


FILES = _files()
#: The packages among them: folders with an `__init__.py`.
PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
IMPORTS = {name: list(_imports(tree)) for name, tree in TREES.items()}


def _is_docstring_only(tree: ast.Module) -> bool:
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or (pattern.endswith(".*") and name == pattern[:-2])


def _is_core(name: str) -> bool:
    return any(_matches(name, pattern) for pattern in CORE)


def _layer(name: str) -> int | None:
    """Return the row of LAYERS that a module is in."""
    rows = [row for row, patterns in enumerate(LAYERS) if any(_matches(name, p) for p in patterns)]
    assert len(rows) < 2, f"{name} is in several rows of LAYERS"
    return rows[0] if rows else None


def _ours(found: Import) -> Iterator[str]:
    """Yield which of our modules an import loads, by name after `openai2.`; '' is the package itself."""
    if found.module.partition(".")[0] != "openai2":
        return
    base = found.module.partition(".")[2]
    members = [".".join(filter(None, (base, name))) for name in found.names]
    yield from (member for member in members if member in FILES)
    if not members or not all(member in FILES for member in members):
        yield base


def _place(name: str, found: Import) -> str:
    return f"{FILES[name].relative_to(ROOT)}:{found.line}"


# -- Imports point one way ---------------------------------------------------------------------------


def test_every_module_has_a_row() -> None:
    homeless = [n for n, tree in TREES.items() if n and _layer(n) is None and not _is_docstring_only(tree)]
    assert not homeless, (
        f"no row for {', '.join(homeless)}: add the name to the row of LAYERS in tests/house/test_layers.py"
        " that it belongs to, as low as what it imports allows (and to CORE there, if it does no I/O)"
    )


def test_every_folder_of_modules_is_packaged() -> None:
    """A package that pyproject.toml does not list works in a checkout and is missing from the wheel."""
    folders = {".".join(("openai2", *name.split("."))) if name else "openai2" for name in PACKAGES}
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"^packages = \[(.*?)\]", project, re.MULTILINE | re.DOTALL)
    assert listed
    assert set(re.findall(r'"([\w.]+)"', listed[1])) == folders


def test_imports_point_one_way() -> None:
    wrong: list[str] = []
    for name, found in ((name, found) for name, all_ in IMPORTS.items() if name for found in all_):
        here = _layer(name)
        narrowed = next((seen for p, seen in SEES_ONLY.items() if _matches(name, p)), None)
        for target in _ours(found):
            there = _layer(target)
            if target == "":
                if set(found.names) != {"__version__"}:
                    wrong.append(f"{_place(name, found)}: import from the module itself, not from openai2")
            elif here is not None and there is not None and there > here:
                wrong.append(
                    f"{_place(name, found)}: {name} is in a lower row than {target} and may not import it"
                )
            elif narrowed and not any(_matches(target, p) for p in narrowed):
                wrong.append(f"{_place(name, found)}: {name} may import only {', '.join(narrowed)}")
    assert not wrong, "\n".join(wrong)


def test_no_circular_imports() -> None:
    graph = {
        name: {target for found in found_all if not found.for_types for target in _ours(found)} - {name, ""}
        for name, found_all in IMPORTS.items()
        if name
    }
    # Importing a module also runs its package's __init__, which may import from the module.
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circular imports: {' -> '.join(error.args[1])}")


def test_third_parties_are_imported_by_their_modules_only() -> None:
    wrong: list[str] = []
    for name, found in ((name, found) for name, all_ in IMPORTS.items() for found in all_):
        top = found.module.partition(".")[0]
        if top == "openai2" or top in sys.stdlib_module_names or found.for_types:
            continue
        if top not in THIRD_PARTY:
            wrong.append(f"{_place(name, found)}: {top} is not in THIRD_PARTY of tests/house/test_layers.py")
        elif not any(_matches(name, p) for p in THIRD_PARTY[top]):
            wrong.append(f"{_place(name, found)}: only {', '.join(THIRD_PARTY[top])} may import {top}")
    assert not wrong, "\n".join(wrong)


# -- The core is pure --------------------------------------------------------------------------------


def test_core_imports_nothing_that_does_io() -> None:
    wrong: list[str] = []
    for name in (name for name in FILES if _is_core(name)):
        for found in IMPORTS[name]:
            top = found.module.partition(".")[0]
            ours = list(_ours(found))
            if top in ("msgspec", *PURE, *PURE_TOO.get(name, ())) or (ours and all(map(_is_core, ours))):
                continue
            wrong.append(f"{_place(name, found)}: {name} is in the core and may not import {found.module}")
    assert not wrong, "\n".join(wrong)


def test_core_calls_no_clock_and_no_io() -> None:
    wrong: list[str] = []
    for name in (name for name in FILES if _is_core(name)):
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPURE_CALLS:
                place = f"{FILES[name].relative_to(ROOT)}:{node.lineno}"
                wrong.append(f"{place}: {ast.unparse(node.func)} is not allowed in the core")
    assert not wrong, "\n".join(wrong)


# -- The public names --------------------------------------------------------------------------------


def test_public_names_can_be_imported() -> None:
    assert len(set(openai2.__all__)) == len(openai2.__all__)
    for name in openai2.__all__:
        assert getattr(openai2, name) is not None, name
    assert set(openai2.__all__) <= set(dir(openai2))
    star: dict[str, object] = {}
    exec("from openai2 import *", star)
    assert set(star) - {"__builtins__"} == set(openai2.__all__)


def test_type_checkers_see_the_public_names() -> None:
    """Editors read the imports under TYPE_CHECKING; programs use `__getattr__`."""
    seen = {name for found in IMPORTS[""] if found.for_types and [*_ours(found)] for name in found.names}
    assert set(openai2.__all__) - {"__version__"} == seen


def test_public_names_have_docstrings() -> None:
    """So have the public methods and properties of public classes."""
    public: dict[str, object] = {}
    for name in set(openai2.__all__) - {"__version__"}:
        public[name] = thing = getattr(openai2, name)
        if isinstance(thing, type):
            public |= {
                f"{name}.{member}": getattr(thing, member) for member in dir(thing) if member[0] != "_"
            }
    missing = [n for n, it in public.items() if (callable(it) or isinstance(it, property)) and not it.__doc__]
    assert not missing, f"no docstring: {', '.join(sorted(missing))}"


def test_unknown_name_raises_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(openai2, name)


@pytest.mark.parametrize("package", ["keys", "offline", "replay", "tools"])
def test_package_exports_its_public_names(package: str) -> None:
    module = import_module(f"openai2.{package}")
    assert all(getattr(module, name).__doc__ for name in module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def _python(code: str) -> str:
    """Return what *code* prints in a new interpreter that imports the same openai2."""
    assert openai2.__file__
    parent = Path(openai2.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=parent, capture_output=True, text=True, check=True
    ).stdout


def test_import_openai2_loads_nothing_heavy() -> None:
    loaded = _python("import sys, openai2; print(*sys.modules)").split()
    early = sorted({*loaded} & {*LATE})
    assert not early, f"import openai2 loads {', '.join(early)}"


def test_package_is_typed_and_has_a_version() -> None:
    assert (ROOT / "openai2" / "py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+|rc\d+|\.dev\d+)?", openai2.__version__)


# -- The repository ----------------------------------------------------------------------------------


def test_every_dependency_is_explained() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    named = set(re.findall(r'^    "([A-Za-z0-9_-]+)[\[<>=~]', project, re.MULTILINE))
    explained = set(re.findall(r"^\| \[([\w-]+)\]", page, re.MULTILINE))
    assert "msgspec" in named
    assert named == explained


def _committed() -> list[Path]:
    """Return the files that git tracks or would add."""
    listed = subprocess.run(
        # The clone may belong to another user.
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# Written so that they do not match themselves.
_HOSTS = r"(?:[t]est\.)?[p]ypi\.(?:org|python\.org)|[f]iles\.pythonhosted|[r]egistry\.npmjs|[c]rates\.io"
_LOCAL_FOLDER = r"(?<![\w.~/-])/(?:[r]oot|[w]ork|[w]orkspace|[U]sers/\w+|[h]ome/\w+)/[\w.]+"


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        (_HOSTS, "the host of a package registry, which differs from place to place"),
        (_LOCAL_FOLDER, "a folder of the machine that it was written on"),
    ],
    ids=["hosts", "folders"],
)
def test_no_file_contains(pattern: str, what: str) -> None:
    wrong: list[str] = []
    for path in _committed():
        text = path.read_bytes().decode("utf-8", "replace")
        wrong += [
            f"{path.relative_to(ROOT)} contains {what}: {match[0]}" for match in re.finditer(pattern, text)
        ]
    assert not wrong, "\n".join(wrong)


def test_no_lock_file() -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"}
    assert not [path for path in _committed() if path.name in locks]
