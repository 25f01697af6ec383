"""The key file: who may read it, what is shown of it, and several processes at once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from openai2.cli.settings.key_file import Entry, KeyFile
from openai2.keys.pool import fingerprint
from tests.support.cli import COMMAND, TIMEOUT, Terminal, environment, invoke, ok, refused, run

KEY = "sk-T92mZYXHLWKt1234gtPKT3BlbkFJ"
posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


@pytest.fixture
def file(home: Path) -> Path:
    return home / "openai2" / "keys"


def test_the_tutorial(file: Path) -> None:
    result = invoke("add_apikey", KEY)
    assert result.exit_code == 0 and KEY not in result.output
    assert ok("read_apikey") == f"sk-…bkFJ  {fingerprint(KEY)}\n"
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    ok("add_apikey", KEY)
    ok("add_apikey", KEY + "x")
    assert ok("read_apikey", "--reveal").split() == [KEY, KEY + "x"]
    assert "removed 2 API keys" in invoke("clear_apikey").stderr
    assert ok("read_apikey") == ""
    assert not file.exists()
    assert "there was no API key" in invoke("clear_apikey").stderr


@posix
def test_nobody_else_may_read_it(file: Path) -> None:
    old = os.umask(0)
    try:
        ok("add_apikey", KEY)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_is_refused_with_what_mends_it(file: Path, mode: int) -> None:
    ok("add_apikey", KEY)
    file.chmod(mode)
    for command in (["read_apikey"], ["add_apikey", KEY + "x"], ["chat", "hi"]):
        line = refused(*command)
        assert f"chmod 600 {file}" in line and KEY not in line
    file.chmod(0o600)
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    file.chmod(mode)
    ok("clear_apikey")
    assert not file.exists()


def test_the_key_comes_by_pipe() -> None:
    ok("add_apikey", input=KEY + "\r\nrest\n")
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    assert "no API key was given" in refused("add_apikey", input="")


@posix
def test_the_key_is_typed_unseen() -> None:
    with Terminal("add_apikey") as terminal:
        terminal.shows("not shown").types(KEY + "\r").shows("added sk-…bkFJ")
        assert terminal.ends() == 0
        assert KEY not in "".join(terminal.lines)
    assert ok("read_apikey", "--reveal") == KEY + "\n"


@pytest.mark.parametrize(
    "bad", ["", f" {KEY}", f"{KEY}\n", f"钥{KEY}", f"{KEY}\x1b", f"#{KEY}", f"{KEY} {KEY}"], ids=range(7)
)
def test_bad_keys_are_refused_and_not_shown(bad: str, file: Path) -> None:
    line = refused("add_apikey", bad)
    assert KEY[3:] not in line
    assert not file.exists()


def test_a_key_in_pieces_is_not_shown() -> None:
    assert KEY not in refused("add_apikey", "sk-half", KEY, status=2)
    assert KEY not in refused("add_apikey", "--" + KEY, "-" + KEY, status=2)


def test_a_file_with_something_else_in_it(file: Path) -> None:
    ok("add_apikey", KEY)
    file.write_text("two words\n" + KEY, encoding="utf-8")
    line = refused("read_apikey")
    assert "clear_apikey" in line and "two" not in line


def test_the_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    ok("add_apikey", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "bad key")
    assert "a space at character 4" in refused("chat", "hi")
    assert "a control character" in refused("chat", "--key", "worse\x01key", "hi")
    assert "is used before" in invoke("read_apikey").stderr
    assert "is used before" in invoke("add_apikey", KEY).stderr


def test_processes_that_add_at_once_lose_nothing() -> None:
    keys = [f"{KEY}{number}" for number in range(6)]
    processes = [
        subprocess.Popen([*COMMAND, "add_apikey", key], env=environment(), stderr=subprocess.PIPE)
        for key in keys
    ]
    for process in processes:
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said
    assert set(run("read_apikey", "--reveal").stdout.split()) == set(keys)


def test_a_crash_leaves_no_lock_and_no_half_file(file: Path) -> None:
    keys = KeyFile(file)
    keys.add(Entry(key=KEY))
    file.with_name(f"keys.{os.getpid()}.new").write_text("sk-hal", encoding="utf-8")
    file.with_name("keys.lock").touch()
    keys.add(Entry(key=KEY + "x"))
    assert [entry.key for entry in keys.entries()] == [KEY, KEY + "x"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["keys", "keys.lock"]
