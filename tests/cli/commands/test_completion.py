"""Completion in a shell, and that light commands import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openai2.offline import OfflineServer
from tests.support.cli import environment, ok, run


def _complete(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    line = {"COMP_WORDS": " ".join(["openai2", *words]), "COMP_CWORD": str(len(words))}
    done = run(_OPENAI2_COMPLETE="bash_complete", **line)
    assert done.returncode == 0, done.stderr
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if entry]


def test_completion_offers_names_and_creates_no_database(server: OfflineServer, tmp_path: Path) -> None:
    assert _complete("show", "") == []
    assert not Path(ok("path", "database").strip()).exists()
    ok("newchat", "-c", "旅行 one", "hi")
    ok("newchat", "-c", "旅行 two", "hi")
    ok("chat", "--save", "sum", "{input}")
    assert _complete("show", "旅") == ["旅行 two", "旅行 one"]
    assert _complete("chat", "-c", "'旅行 o") == ["旅行 one"]
    assert _complete("chat", "-t", "") == ["sum"]
    assert "deepseek" in _complete("chat", "--profile", "")
    assert _complete("--db", str(tmp_path / "no.db"), "show", "") == []
    assert "show" in _complete("sh")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_each_shell(shell: str) -> None:
    assert "_OPENAI2_COMPLETE" in ok("completion", shell)
    assert shell in ok("completion", "--help")


_CODE = """
import sys
from openai2.cli import cli
try:
    cli(sys.argv[1:])
except SystemExit:
    pass
heavy = {"openai", "rich", "prompt_toolkit", "sqlite_utils", "httpx2"} & {*sys.modules}
assert not heavy, heavy
"""


@pytest.mark.parametrize("command", ["why", "log --graph", "template", "config", "export", "chat --help"])
def test_reading_command_imports_nothing_heavy(server: OfflineServer, command: str) -> None:
    """tests/house/test_import_weight.py counts the modules of the lightest commands."""
    ok("newchat", "-c", "one", "hi")
    subprocess.run(
        [sys.executable, "-c", _CODE, *command.split()], env=environment(), capture_output=True, check=True
    )
