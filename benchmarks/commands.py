"""What a command costs before it does anything, beside an interpreter that imports the least."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from benchmarks.harness import FOLDER, Bench, messages

LIGHT = {
    "version": ["--version"],
    "help": ["--help"],
    "list": ["list"],
    "show": ["show", "here"],
    "search": ["search", "fork"],
}


def command() -> str | None:
    """The `openai2` command beside this interpreter."""
    path = Path(sys.executable).with_name("openai2")
    return str(path) if path.exists() and importlib.util.find_spec("openai2.cli") else None


def prepare(home: Path) -> None:
    """A home with some conversations in it."""
    os.environ["OPENAI2_HOME"] = str(home)
    if not home.exists():
        home.mkdir(mode=0o700)
        from openai2 import Engine

        with Engine(home / "openai2.db") as engine:
            engine.create("here").add(messages(20))
            engine.search("fork")


if __name__ == "__main__":
    with Bench("commands") as bench:
        python = sys.executable
        bench.command("pass", [python, "-c", "pass"])
        bench.command("import", [python, "-c", "import openai2"])
        bench.command("click", [python, "-c", "import click"])
        bench.command("click-sqlite3", [python, "-c", "import click, sqlite3"])
        prepare(Path(os.environ[FOLDER]) / "home")
        if (openai2 := command()) is not None:
            for name, arguments in LIGHT.items():
                bench.command(f"openai2 {name}", [openai2, *arguments])
            asked = ("_OPENAI2_COMPLETE=bash_complete", "COMP_WORDS=openai2 s", "COMP_CWORD=1")
            bench.command("openai2 complete", ["env", *asked, openai2])
