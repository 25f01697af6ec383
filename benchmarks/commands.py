"""The start-up time of light commands, next to that of an interpreter with few imports.

The command and its floors run in a new environment with the files of the wheel, because the import hook of an
editable install would be measured, too.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sysconfig
import venv
from pathlib import Path

from benchmarks.harness import Bench, folder, messages

ROOT = Path(__file__).resolve().parent.parent
LIGHT = {
    "version": ["--version"],
    "help": ["--help"],
    "list": ["list"],
    "show": ["show", "here"],
    "search": ["search", "fork"],
}
_COMMAND = """\
#!{python}
import sys
from openai2.cli import cli
if __name__ == "__main__":
    sys.exit(cli())
"""


def installed() -> Path:
    """Return the folder with `python` and `openai2` of an environment in which openai2 is installed."""
    root = folder() / "installed"
    places = sysconfig.get_paths(vars={"base": str(root), "platbase": str(root)})
    commands, site = Path(places["scripts"]), Path(places["purelib"])
    if not root.exists():
        venv.create(root, symlinks=os.name != "nt")
        for source, target in (("openai2", "openai2"), ("store", "openai2/store"), ("cli", "openai2/cli")):
            shutil.copytree(ROOT / source, site / target, ignore=shutil.ignore_patterns("__pycache__"))
        # The dependencies of the current environment; .pth files in that folder are not read.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        compileall.compile_dir(site, quiet=1)
        command = commands / "openai2"
        command.write_text(_COMMAND.format(python=commands / "python"))
        command.chmod(0o755)
    return commands


def prepare() -> None:
    """Create a home folder whose database has a conversation."""
    home = folder() / "home"
    for name in [name for name in os.environ if name.startswith(("OPENAI2_HOME", "XDG_", "PYTHONPATH"))]:
        del os.environ[name]
    os.environ["HOME"] = str(home)
    if not home.exists():
        home.mkdir(mode=0o700)
        from openai2 import Engine
        from openai2.cli.settings.paths import database

        with Engine(database()) as engine:
            engine.create("here").add(messages(20))
            engine.search("fork")


if __name__ == "__main__":
    with Bench("commands") as bench:
        commands = installed()
        prepare()
        python, openai2 = str(commands / "python"), str(commands / "openai2")
        bench.command("pass", [python, "-c", "pass"])
        bench.command("import", [python, "-c", "import openai2"])
        bench.command("click", [python, "-c", "import click"])
        bench.command("click-sqlite3", [python, "-c", "import click, sqlite3"])
        for name, arguments in LIGHT.items():
            bench.command(f"openai2 {name}", [openai2, *arguments])
        asked = ("_OPENAI2_COMPLETE=bash_complete", "COMP_WORDS=openai2 s", "COMP_CWORD=1")
        bench.command("openai2 complete", ["env", *asked, openai2])
