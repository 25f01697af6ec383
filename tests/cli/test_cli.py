"""The command as a whole: usage errors, databases, closed pipes and streams."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import COMMAND, TIMEOUT, environment, refused, run


def test_wrong_usage_exits_with_status_2() -> None:
    assert "--help" in refused("chat", "--nosuch", status=2)
    assert "nosuch" in refused("nosuch", status=2)
    refused("chat", "--max-messages", "-1", "hi", status=2)
    refused("chat", "one", "two", status=2)
    assert "chat has no option --json" in refused("--json", "chat", "hi", status=2)


def test_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("this is a letter, and no database at all, whatever its name may say" * 100)
    assert str(other) in refused("chat", "--offline", "--db", str(other), "hi")
    assert "folder" in refused("list", "--db", str(tmp_path))
    assert "sqlite:///" in refused("list", "--db", "postgres://secret@host/db")


@pytest.mark.parametrize("command", ["log", "list", "--help", "--version", "list --help", "", "(Tab)"])
def test_closed_output_pipe_exits_silently_with_141(command: str) -> None:
    run("newchat", "--offline", "hi")
    tab = {"_OPENAI2_COMPLETE": "bash_complete", "COMP_WORDS": "openai2 s", "COMP_CWORD": "1"}
    words, more = ([], tab) if command == "(Tab)" else (command.split(), {})
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**more)
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(TIMEOUT) == 141
    assert errors == b""


@pytest.mark.parametrize(("command", "status"), [("show nothing", 1), ("list --nothing", 2)])
def test_failure_keeps_its_status_if_stderr_is_closed(command: str, status: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, *command.split()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(TIMEOUT) == status


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_stream_is_treated_as_empty(closed: str) -> None:
    for command in ("newchat --offline hi", "list", "show --json"):
        line = f"{' '.join(shlex.quote(word) for word in COMMAND)} {command} {closed}"
        done = subprocess.run(
            ["sh", "-c", line], env=environment(), capture_output=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert len(json.loads(run("show", "--json").stdout)) == 2
