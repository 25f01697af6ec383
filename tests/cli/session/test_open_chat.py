"""Which conversation, model, key and server a question goes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from openai2.offline import OfflineServer
from tests.support.cli import KEY, NOTICE, invoke, ok, refused, shown
from tests.support.servers import ScriptedServer, error

if TYPE_CHECKING:
    import pytest


def test_newchat_starts_another_and_chat_continues_the_last(server: OfflineServer) -> None:
    ok("newchat", "-c", "旅行", "自然数1的后面是几?")
    ok("newchat", "自然数100的后面是几?")
    assert ok("chat", "再往后是几?") == "102\n"
    assert ok("chat", "-c", "旅", "再往后是几?") == "3\n"
    assert ok("chat", "再往后是几?") == "4\n"
    assert "旅行" in refused("newchat", "-c", "旅行", "x")
    assert len(json.loads(ok("list", "--json"))) == 2


def test_chat_with_a_new_name_creates_the_conversation(server: OfflineServer) -> None:
    result = invoke("chat", "-c", "新的", "自然数1的后面是几?")
    assert result.stdout == "2\n" and "新的" in result.stderr
    assert "openai2 fork 新的@2" in refused("chat", "-c", "新的@2", "x")


def test_ambiguous_reference_names_the_candidates(server: OfflineServer) -> None:
    ok("newchat", "-c", "trip one", "hi")
    ok("newchat", "-c", "trip two", "hi")
    for command in (["chat", "-c", "trip", "x"], ["show", "trip"]):
        line = refused(*command)
        assert "trip one" in line and "trip two" in line


def test_system_message_is_added_once_and_pinned(server: OfflineServer) -> None:
    ok("newchat", "-s", "你是诗人", "自然数1的后面是几?")
    ok("chat", "-s", "你是诗人", "--max-messages", "3", "再往后是几?")
    ok("chat", "再往后是几?")
    assert shown() == ["你是诗人", "再往后是几?", "4"]
    assert "(pinned)" in ok("show").splitlines()[0]
    assert "empty" in refused("chat", "-s", " ", "x")


def test_chosen_model_and_limit_are_kept_for_next_time(
    server: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI2_MODEL", "from-the-environment")
    ok("newchat", "自然数1的后面是几?")
    assert server.requests[-1].body["model"] == "from-the-environment"
    ok("chat", "-m", "chosen", "--max-messages", "2", "再往后是几?")
    ok("chat", "再往后是几?")
    assert server.requests[-1].body["model"] == "chosen"
    assert shown() == ["再往后是几?", "4"]
    ok("newchat", "自然数1的后面是几?")
    assert server.requests[-1].body["model"] == "from-the-environment"


def test_model_is_kept_only_once_it_has_answered(server: OfflineServer) -> None:
    ok("newchat", "自然数1的后面是几?")
    usual = server.requests[-1].body["model"]
    with ScriptedServer(error(404, "no such model")) as refusing:
        assert "no such model" in refused("chat", "-m", "gtp-4", "--base-url", refusing.base_url, "hi")
    ok("chat", "再往后是几?")
    assert server.requests[-1].body["model"] == usual


def test_limit_can_be_taken_off_for_good(server: OfflineServer) -> None:
    ok("newchat", "--max-messages", "2", "自然数1的后面是几?")
    ok("chat", "再往后是几?")
    assert len(json.loads(ok("show", "--json"))) == 2
    ok("chat", "--max-messages", "0", "再往后是几?")
    ok("chat", "再往后是几?")
    assert len(json.loads(ok("show", "--json"))) == 6
    assert "no limit" in ok("log")


def test_saved_key_is_recorded_as_its_fingerprint(
    server: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ok("add_apikey", KEY)
    ok("add_apikey", KEY + "2")
    ok("newchat", "自然数1的后面是几?")
    (paid,) = [line for line in ok("log", "--json").splitlines() if '"answer"' in line]
    assert KEY not in paid and json.loads(paid)["data"]["answer"]["key"] in ok("read_apikey")


def test_offline_needs_no_key_and_records_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("no_proxy", "example.org")
    assert ok("newchat", "--offline", "随便") == NOTICE + "随便\n"
    assert '"model":"offline"' in ok("log", "--json")


def test_missing_key_names_three_ways_to_give_one() -> None:
    line = refused("chat", "hi")
    assert "openai2 add_apikey" in line and "OPENAI_API_KEY" in line and "--offline" in line
    assert not Path(ok("path", "database").strip()).exists()
