"""Which key is used for which server: options, profiles, environment, stored keys."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from openai2.keys.pool import fingerprint
from openai2.offline import OfflineServer
from tests.support.cli import KEY, invoke, logged_answers, ok, refused

OTHER = "sk-another-key-that-is-made-up-0001"


def _ask(offline: OfflineServer, *args: str) -> str:
    """Ask the server; return the fingerprint of the key that was used."""
    ok("newchat", "hi", "--base-url", offline.base_url, *args)
    return str(logged_answers()[-1]["key"])


def test_stored_key_goes_to_its_own_server_only(offline: OfflineServer) -> None:
    before = len(offline.requests)
    ok("add_apikey", KEY, "--name", "work", "--base-url", "http://127.0.0.1:1/v1")
    assert "no API key" in refused("newchat", "hi", "--base-url", offline.base_url)
    line = refused("newchat", "hi", "--base-url", offline.base_url, "--key", "work")
    assert "is for http://127.0.0.1:1" in line
    ok("add_apikey", OTHER)
    assert _ask(offline) == fingerprint(OTHER)
    assert not [request for request in offline.requests[before:] if KEY in str(request)]


def test_environment_key_precedes_stored_ones(
    offline: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("add_apikey", KEY, "--name", "work")
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    assert _ask(offline) == fingerprint(OTHER)
    assert _ask(offline, "--key", "work") == fingerprint(KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "bad key")
    assert "a space at character 4" in refused("chat", "hi")
    assert "a control character" in refused("chat", "--key", "worse\x01key", "hi")


def test_key_comes_from_a_command(offline: OfflineServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(KEY + "\nlogin: anna\n")
    ok("add_apikey", "--command", f"cat {secret}", "--name", "pass")
    assert KEY not in (Path(ok("path", "keys").strip())).read_text()
    assert _ask(offline) == fingerprint(KEY)
    assert ok("read_apikey") == f"printed by: cat {secret}  pass\n"
    assert ok("read_apikey", "--reveal") == KEY + "\n"
    secret.write_text("")
    assert "printed no key" in refused("chat", "hi", "--base-url", offline.base_url)
    secret.unlink()
    assert "failed with status 1" in refused("chat", "hi", "--base-url", offline.base_url)
    ok("remove_apikey", "pass")
    ok("add_apikey", "--command", "no-such-command-here")
    assert "cannot run" in refused("chat", "hi", "--base-url", offline.base_url)
    refused("add_apikey", KEY, "--command", "x", status=2)


class Keyring(ModuleType):
    """The functions of the package `keyring` that the command uses."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.passwords: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        return self.passwords.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        self.passwords[service, name] = password

    def delete_password(self, service: str, name: str) -> None:
        del self.passwords[service, name]


def test_key_comes_from_the_keyring(offline: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert "--name" in refused("add_apikey", KEY, "--keyring")
    ok("add_apikey", KEY, "--keyring", "--name", "work")
    assert keyring.passwords == {("openai2", "work"): KEY}
    assert KEY not in Path(ok("path", "keys").strip()).read_text()
    assert _ask(offline) == fingerprint(KEY)
    assert ok("read_apikey") == "in the keyring  work\n"
    keyring.passwords.clear()
    assert "no key named work" in refused("chat", "hi", "--base-url", offline.base_url)
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "needs the package keyring" in refused("chat", "hi", "--base-url", offline.base_url)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert "KeyError" in refused("remove_apikey", "work")


def test_profile_with_its_own_variable_uses_no_other_key(
    offline: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    ok("add_apikey", KEY)
    line = refused("newchat", "--profile", "deepseek", "hi")
    assert "DEEPSEEK_API_KEY" in line and "--base-url https://api.deepseek.com" in line
    ok("config", "deepseek", "base_url", offline.base_url)
    assert "DEEPSEEK_API_KEY" in refused("newchat", "--profile", "deepseek", "hi")
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    ok("newchat", "--profile", "deepseek", "hi")
    assert offline.requests[-1].body["model"] == "deepseek-chat"
    assert logged_answers()[-1]["key"] == fingerprint(KEY)
    assert "base_url" in refused("newchat", "--profile", "azure", "hi")


@pytest.mark.parametrize("command", ["chat", "add_apikey", "read_apikey"])
def test_help_tells_the_order_of_keys(command: str) -> None:
    text = " ".join(invoke(command, "--help").output.split())
    assert text.index("--key, else") < text.index("OPENAI_API_KEY")
