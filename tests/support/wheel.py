"""Builds the wheel and tests it with the source out of the way; `make wheel` runs it.

1. The wheel is built from a copy of what git has or would take, so nothing stale gets in.
2. Its modules must be the tree's, under `openai2` alone.
3. It is installed with nothing but what it asks for, and the command must start.
4. The tests run against it, from a folder that holds all but the source, on every supported Python that
   this machine has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"openai2": "openai2", "store": "openai2/store", "cli": "openai2/cli"}  # in the tree, in the wheel
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13")


class Failed(Exception):
    """A failure, told in one line."""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints. It is quiet unless it fails."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "OPENAI2_HOME": str(cwd.parent / "home")}
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        raise Failed(f"status {done.returncode} from: {' '.join(map(str, command))}")
    return done.stdout


def copy(to: Path, *, source: bool) -> None:
    """The files that git has or would take; without the packages unless *source*."""
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        path, target = ROOT / name, to / name
        if path.is_symlink() or not path.is_file() or (not source and name.partition("/")[0] in SOURCES):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def build(tree: Path, to: Path) -> Path:
    """Makes the wheel, and gives its path."""
    pip = (sys.executable, "-m", "pip", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", to, ".", cwd=tree)
    (wheel,) = to.glob("*.whl")
    return wheel


def check_contents(wheel: Path, tree: Path) -> None:
    """The wheel holds the tree's modules, is typed, and keeps to one top-level name."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (top,) = (archive.read(n).decode().split() for n in names if n.endswith("dist-info/top_level.txt"))
    expected = {
        f"{inside}/{path.relative_to(tree / folder).as_posix()}"
        for folder, inside in SOURCES.items()
        for path in (tree / folder).rglob("*.py")
    }
    modules = {name for name in names if name.endswith(".py")}
    if missing := expected - modules:
        raise Failed(f"not in the wheel: {', '.join(sorted(missing))} (see packages in pyproject.toml)")
    if extra := modules - expected:
        raise Failed(f"in the wheel, but not in the tree: {', '.join(sorted(extra))}")
    if top != ["openai2"]:
        raise Failed(f"the wheel would install {', '.join(top)} at the top level, not openai2 alone")
    if "openai2/py.typed" not in names:
        raise Failed("the wheel holds no openai2/py.typed")


def pythons() -> list[str]:
    """This Python, and every other supported one that is here and runs."""
    found = {f"python{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for name in PYTHONS:
        if name not in found and (path := shutil.which(name)):
            runs = subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True, check=False)
            if not runs.returncode:
                found[name] = path
    return list(found.values())


def check_installed(wheel: Path, python: str, rest: Path, venv: Path) -> str:
    """Installs the wheel and runs the tests against it; gives pytest's last line."""
    run(python, "-m", "venv", venv, cwd=rest)
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = (scripts / "python", "-m", "pip", "--quiet")
    run(*pip, "install", wheel, cwd=rest)
    run(*pip, "check", cwd=rest)
    run(scripts / "openai2", "--version", cwd=rest)
    run(scripts / "python", "-m", "openai2", "demo", cwd=rest)
    where = run(scripts / "python", "-c", "import openai2; print(openai2.__file__)", cwd=rest)
    if not Path(where.strip()).is_relative_to(venv):
        raise Failed(f"the tests would run against {where.strip()}, not against the wheel")

    run(*pip, "install", "pip>=25.1", cwd=rest)
    run(*pip, "install", "--group", "test", cwd=rest)
    tests = ("--quiet", "--numprocesses=auto", "--maxprocesses=8", "--ignore=tests/house/test_layers.py")
    return run(scripts / "python", "-m", "pytest", *tests, cwd=rest).strip().splitlines()[-1]


def main() -> int:
    """Exit status 0 if the wheel is good."""
    with tempfile.TemporaryDirectory(prefix="openai2-wheel-") as folder:
        base = Path(folder).resolve()
        tree, rest = base / "tree", base / "rest"
        copy(tree, source=True)
        copy(rest, source=False)
        try:
            wheel = build(tree, base / "dist")
            check_contents(wheel, tree)
            shutil.rmtree(tree)
            for python in pythons():
                version = run(python, "-V", cwd=base).strip()
                print(f"{wheel.name} on {version}: ", end="", flush=True)
                print(check_installed(wheel, python, rest, base / version.replace(" ", "-")))
        except Failed as failure:
            print(f"wheel: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
