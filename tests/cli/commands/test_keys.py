"""`add_apikey`, `read_apikey`, `remove_apikey`, `clear_apikey`: no key is ever shown unasked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from openai2.keys.pool import fingerprint, mask
from openai2.offline import OfflineServer
from tests.support.cli import KEY, Terminal, invoke, ok, refused

OTHER = "sk-another-key-that-is-made-up-0001"


@pytest.fixture
def file(home: Path) -> Path:
    return home / "openai2" / "keys"


def test_keys_are_added_listed_and_cleared(file: Path) -> None:
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


def test_key_list_shows_name_server_and_usage(server: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    ok("add_apikey", KEY, "--name", "work", "--base-url", server.base_url)
    assert ok("newchat", "自然数1的后面是几?") == "2\n", "the key's server is asked if none is given"
    line = ok("read_apikey")
    assert line == f"{mask(KEY)}  {fingerprint(KEY)}  work  {server.base_url}  1 request, 0 failed\n"
    (entry,) = json.loads(ok("read_apikey", "--json"))
    assert (entry["name"], entry["requests"], entry["failures"]) == ("work", 1, 0)
    assert KEY not in json.dumps(entry)
    assert ok("read_apikey", "--reveal") == KEY + "\n"


def test_key_is_removed_by_name_or_fingerprint() -> None:
    ok("add_apikey", KEY, "--name", "work")
    ok("add_apikey", OTHER)
    assert "named work" in refused("add_apikey", KEY + "x", "--name", "work")
    assert "no key has that name" in refused("remove_apikey", "home")
    assert KEY not in refused("remove_apikey", KEY)
    ok("remove_apikey", "work")
    ok("remove_apikey", fingerprint(OTHER))
    assert ok("read_apikey") == ""


@pytest.mark.parametrize(("name", "reason"), [("two words", "one word"), ("sk-x", "sk-")])
def test_bad_key_name_is_refused(name: str, reason: str) -> None:
    assert reason in refused("add_apikey", KEY, "--name", name)


def test_key_is_read_from_a_pipe() -> None:
    ok("add_apikey", input=KEY + "\r\nrest\n")
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    assert "no API key was given" in refused("add_apikey", input="")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_typed_key_is_not_shown() -> None:
    with Terminal("add_apikey") as terminal:
        terminal.shows("not shown").types(KEY + "\r").shows("added sk-…bkFJ")
        assert terminal.ends() == 0
        assert KEY not in "".join(terminal.lines)
    assert ok("read_apikey", "--reveal") == KEY + "\n"


@pytest.mark.parametrize(
    "bad", ["", f" {KEY}", f"{KEY}\n", f"钥{KEY}", f"{KEY}\x1b", f"#{KEY}", f"{KEY} {KEY}"], ids=range(7)
)
def test_bad_key_is_refused_and_not_shown(bad: str, file: Path) -> None:
    assert KEY[3:] not in refused("add_apikey", bad)
    assert not file.exists()


@pytest.mark.parametrize("pieces", [("sk-half", KEY), ("--" + KEY, "-" + KEY)], ids=["two", "options"])
def test_key_in_pieces_is_refused_and_not_shown(pieces: tuple[str, str]) -> None:
    assert KEY not in refused("add_apikey", *pieces, status=2)


def test_key_commands_tell_that_the_environment_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    assert "is used before" in invoke("add_apikey", KEY).stderr
    assert "is used before" in invoke("read_apikey").stderr
