"""The key file: permissions, bad content, and concurrent writers."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from openai2.cli.settings.key_file import Entry, KeyFile
from tests.support.cli import KEY, TIMEOUT, ok, refused, run, started

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


@pytest.fixture
def file(home: Path) -> Path:
    return home / "openai2" / "keys"


@posix
def test_new_key_file_is_readable_by_owner_only(file: Path) -> None:
    old = os.umask(0)
    try:
        ok("add_apikey", KEY)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_file_open_to_others_is_refused_with_repair(file: Path, mode: int) -> None:
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


def test_invalid_line_is_refused_without_quoting_it(file: Path) -> None:
    ok("add_apikey", KEY)
    file.write_text("two words\n" + KEY, encoding="utf-8")
    line = refused("read_apikey")
    assert "clear_apikey" in line and "two" not in line


def test_processes_that_add_keys_concurrently_lose_none() -> None:
    keys = [f"{KEY}{number}" for number in range(6)]
    with ExitStack() as stack:
        for process in [stack.enter_context(started("add_apikey", key)) for key in keys]:
            _, errors = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, errors
    assert set(run("read_apikey", "--reveal").stdout.split()) == set(keys)


def test_leftovers_of_a_crash_do_not_block_writers(file: Path) -> None:
    keys = KeyFile(file)
    keys.add(Entry(key=KEY))
    file.with_name(f"keys.{os.getpid()}.new").write_text("sk-hal", encoding="utf-8")
    file.with_name("keys.lock").touch()
    keys.add(Entry(key=KEY + "x"))
    assert [entry.key for entry in keys.entries()] == [KEY, KEY + "x"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["keys", "keys.lock"]
