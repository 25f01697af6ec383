"""Which server is asked, and with which key: named keys, commands, the keyring, profiles."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from openai2.keys.pool import fingerprint, mask
from openai2.offline import OfflineServer
from tests.support.cli import invoke, ok, refused

KEY = "sk-T92mZYXHLWKt1234gtPKT3BlbkFJ"
OTHER = "sk-another-key-that-is-made-up-0001"


@pytest.fixture
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


def paid() -> str:
    """The fingerprint of the key that the last answer was had with."""
    lines = [json.loads(line) for line in ok("log", "--json").splitlines()]
    return str([line["data"]["answer"]["key"] for line in lines if "answer" in line["data"]][-1])


# -- kept keys


def test_names_servers_and_health(server: OfflineServer) -> None:
    ok("add_apikey", KEY, "--name", "work", "--base-url", server.base_url)
    assert ok("newchat", "自然数1的后面是几?") == "2\n", "its server is asked, where none is named"
    line = ok("read_apikey")
    assert line == f"{mask(KEY)}  {fingerprint(KEY)}  work  {server.base_url}  1 request, 0 failed\n"
    (told,) = json.loads(ok("read_apikey", "--json"))
    assert (told["name"], told["requests"], told["failures"]) == ("work", 1, 0)
    assert KEY not in json.dumps(told)
    assert ok("read_apikey", "--reveal") == KEY + "\n"


def test_a_key_goes_to_no_other_server(server: OfflineServer) -> None:
    ok("add_apikey", KEY, "--name", "work", "--base-url", "http://127.0.0.1:1/v1")
    assert "no API key" in refused("newchat", "hi", "--base-url", server.base_url)
    assert "is for http://127.0.0.1:1" in refused(
        "newchat", "hi", "--base-url", server.base_url, "--key", "work"
    )
    ok("add_apikey", OTHER)
    ok("newchat", "hi", "--base-url", server.base_url)
    assert paid() == fingerprint(OTHER)
    assert not [request for request in server.requests if KEY in str(request)]


def test_a_key_by_its_name(server: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    ok("add_apikey", KEY, "--name", "work")
    ok("newchat", "hi", "--base-url", server.base_url)
    assert paid() == fingerprint(OTHER)
    ok("newchat", "hi", "--base-url", server.base_url, "--key", "work")
    assert paid() == fingerprint(KEY)


def test_remove(home: Path) -> None:
    ok("add_apikey", KEY, "--name", "work")
    ok("add_apikey", OTHER)
    assert "named work" in refused("add_apikey", KEY + "x", "--name", "work")
    assert "no key has that name" in refused("remove_apikey", "home")
    assert KEY not in refused("remove_apikey", KEY)
    ok("remove_apikey", "work")
    ok("remove_apikey", fingerprint(OTHER))
    assert ok("read_apikey") == ""
    assert "one word" in refused("add_apikey", KEY, "--name", "two words")
    assert "sk-" in refused("add_apikey", KEY, "--name", "sk-x")


def test_a_command_that_prints_the_key(server: OfflineServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(KEY + "\nlogin: anna\n")
    ok("add_apikey", "--command", f"cat {secret}", "--name", "pass")
    assert KEY not in (Path(ok("path", "keys").strip())).read_text()
    ok("newchat", "hi", "--base-url", server.base_url)
    assert paid() == fingerprint(KEY)
    assert ok("read_apikey") == f"printed by: cat {secret}  pass\n"
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    secret.write_text("")
    assert "printed no key" in refused("chat", "hi", "--base-url", server.base_url)
    secret.unlink()
    assert "failed with status 1" in refused("chat", "hi", "--base-url", server.base_url)
    ok("remove_apikey", "pass")
    ok("add_apikey", "--command", "no-such-command-here")
    assert "cannot run" in refused("chat", "hi", "--base-url", server.base_url)
    refused("add_apikey", KEY, "--command", "x", status=2)


class Ring(ModuleType):
    """A keyring, as the package of that name has one."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        return self.held.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        self.held[service, name] = password

    def delete_password(self, service: str, name: str) -> None:
        del self.held[service, name]


def test_the_keyring(server: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert "--name" in refused("add_apikey", KEY, "--keyring")
    ok("add_apikey", KEY, "--keyring", "--name", "work")
    assert ring.held == {("openai2", "work"): KEY}
    assert KEY not in Path(ok("path", "keys").strip()).read_text()
    ok("newchat", "hi", "--base-url", server.base_url)
    assert paid() == fingerprint(KEY)
    assert ok("read_apikey") == "in the keyring  work\n"
    ring.held.clear()
    assert "no key named work" in refused("chat", "hi", "--base-url", server.base_url)
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "needs the package keyring" in refused("chat", "hi", "--base-url", server.base_url)
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert "KeyError" in refused("remove_apikey", "work")


# -- profiles


def test_a_profile_of_ones_own(server: OfflineServer) -> None:
    ok("add_apikey", KEY, "--name", "mine")
    ok("add_apikey", OTHER)
    ok("config", "work", "base_url", server.base_url)
    ok("config", "work", "model", "small")
    ok("config", "work", "keys", '["mine"]')
    ok("config", "work", "create.temperature", "0.25")
    ok("newchat", "--profile", "work", "hi")
    body = server.requests[-1].body
    assert (body["model"], body["temperature"], paid()) == ("small", 0.25, fingerprint(KEY))
    ok("newchat", "--profile", "work", "-m", "large", "-o", "temperature", "1", "hi")
    body = server.requests[-1].body
    assert (body["model"], body["temperature"]) == ("large", 1)
    assert json.loads(ok("config", "work"))["create"] == {"temperature": 0.25}
    assert json.loads(ok("config", "work", "model")) == "small"


def test_the_profile_that_is_used_where_none_is_named(
    server: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("config", "work", "base_url", server.base_url)
    ok("config", "work", "model", "small")
    ok("config", "work", "key", "false")
    ok("config", "work", "--use")
    assert "* work" in ok("config")
    ok("newchat", "hi")
    assert server.requests[-1].body["model"] == "small"
    monkeypatch.setenv("OPENAI2_MODEL", "medium")
    ok("newchat", "hi")
    assert server.requests[-1].body["model"] == "medium"
    with OfflineServer() as other:
        ok("newchat", "hi", "--base-url", other.base_url, "--key", KEY)
        assert len(other.requests) == 1
    ok("config", "--use")
    assert "* work" not in ok("config")


def test_a_named_profile_asks_for_its_own_key(monkeypatch: pytest.MonkeyPatch, server: OfflineServer) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    ok("add_apikey", KEY)
    line = refused("newchat", "--profile", "deepseek", "hi")
    assert "DEEPSEEK_API_KEY" in line and "--base-url https://api.deepseek.com" in line
    ok("config", "deepseek", "base_url", server.base_url)
    assert "DEEPSEEK_API_KEY" in refused("newchat", "--profile", "deepseek", "hi")
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    ok("newchat", "--profile", "deepseek", "hi")
    assert (server.requests[-1].body["model"], paid()) == ("deepseek-chat", fingerprint(KEY))
    assert "base_url" in refused("newchat", "--profile", "azure", "hi")


def test_configs_that_cannot_be(home: Path) -> None:
    assert "use one of openai" in refused("newchat", "--profile", "no", "hi")
    assert "colour" in refused("config", "work", "colour", "blue")
    assert "there is no field a.b" in refused("config", "work", "a.b", "1")
    assert "one of: openai" in refused("config", "work", "like", "no")
    assert "list of names" in refused("config", "work", "keys", "mine")
    assert "no profile work" in refused("config", "work", "--unset")
    refused("config", "--unset", status=2)
    refused("config", "work", "model", "x", "--use", status=2)
    file = home / "openai2" / "config.json"
    assert not file.exists()
    ok("config", "work", "model", "x")
    assert "does not set base_url" in refused("config", "work", "base_url", "--unset")
    ok("config", "work", "create.no_such", "1")
    assert "no_such" in refused("newchat", "--profile", "work", "--base-url", "http://127.0.0.1:1/v1", "hi")
    ok("config", "work", "create.no_such", "--unset")
    ok("config", "work", "model", "--unset")
    ok("config", "work", "--unset")
    assert file.stat().st_mode & 0o077 == 0
    file.write_text('{"profil": "x"}')
    assert "profil" in refused("config") and "profil" in refused("newchat", "hi")
    file.write_text("{")
    assert "invalid config" in refused("config")


def test_the_order_is_in_the_help() -> None:
    for command in ("chat", "add_apikey", "read_apikey"):
        text = " ".join(invoke(command, "--help").output.split())
        assert text.index("--key, else") < text.index("OPENAI_API_KEY")
