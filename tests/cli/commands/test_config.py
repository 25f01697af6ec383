"""`config`: profiles of servers, and how `chat` uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openai2.keys.pool import fingerprint
from openai2.offline import OfflineServer
from tests.support.cli import KEY, logged_answers, ok, refused


def test_profile_sets_server_model_key_and_options(offline: OfflineServer) -> None:
    ok("add_apikey", KEY, "--name", "mine")
    ok("add_apikey", "sk-another-key-that-is-made-up-0001")
    ok("config", "work", "base_url", offline.base_url)
    ok("config", "work", "model", "small")
    ok("config", "work", "keys", '["mine"]')
    ok("config", "work", "create.temperature", "0.25")
    ok("newchat", "--profile", "work", "hi")
    body = offline.requests[-1].body
    assert (body["model"], body["temperature"]) == ("small", 0.25)
    assert logged_answers()[-1]["key"] == fingerprint(KEY)
    ok("newchat", "--profile", "work", "-m", "large", "-o", "temperature", "1", "hi")
    body = offline.requests[-1].body
    assert (body["model"], body["temperature"]) == ("large", 1)
    assert json.loads(ok("config", "work"))["create"] == {"temperature": 0.25}
    assert json.loads(ok("config", "work", "model")) == "small"


def test_default_profile_is_used_unless_a_server_is_named(
    offline: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("config", "work", "base_url", offline.base_url)
    ok("config", "work", "model", "small")
    ok("config", "work", "key", "false")
    ok("config", "work", "--use")
    assert "* work" in ok("config")
    ok("newchat", "hi")
    assert offline.requests[-1].body["model"] == "small"
    monkeypatch.setenv("OPENAI2_MODEL", "medium")
    ok("newchat", "hi")
    assert offline.requests[-1].body["model"] == "medium"
    with OfflineServer() as other:
        ok("newchat", "hi", "--base-url", other.base_url, "--key", KEY)
        assert len(other.requests) == 1
    ok("config", "--use")
    assert "* work" not in ok("config")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("config work colour blue", "colour"),
        ("config work a.b 1", "there is no field a.b"),
        ("config work like no", "one of: openai"),
        ("config work keys mine", "list of names"),
        ("config work --unset", "no profile work"),
        ("newchat --profile no hi", "use one of openai"),
    ],
)
def test_bad_config_is_refused_and_not_written(home: Path, args: str, reason: str) -> None:
    assert reason in refused(*args.split())
    assert not (home / "openai2" / "config.json").exists()


@pytest.mark.parametrize("args", ["config --unset", "config work model x --use"])
def test_contradictory_config_arguments_are_wrong_usage(args: str) -> None:
    refused(*args.split(), status=2)


def test_config_fields_are_set_and_unset(home: Path) -> None:
    ok("config", "work", "model", "x")
    assert (home / "openai2" / "config.json").stat().st_mode & 0o077 == 0
    assert "does not set base_url" in refused("config", "work", "base_url", "--unset")
    ok("config", "work", "create.no_such", "1")
    assert "no_such" in refused("newchat", "--profile", "work", "--base-url", "http://127.0.0.1:1/v1", "hi")
    ok("config", "work", "create.no_such", "--unset")
    ok("config", "work", "model", "--unset")
    ok("config", "work", "--unset")
    assert "work" not in json.loads(ok("config", "--json")).get("profiles", {})


def test_damaged_config_file_is_refused(home: Path) -> None:
    ok("config", "work", "model", "x")
    file = home / "openai2" / "config.json"
    file.write_text('{"profil": "x"}')
    assert "profil" in refused("config") and "profil" in refused("newchat", "hi")
    file.write_text("{")
    assert "invalid config" in refused("config")
