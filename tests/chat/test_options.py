"""Options of a chat and of a call: where they go, and which are refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from openai2 import Chat, NoKey, NoRoom, system_msg, user_msg
from openai2.api import options
from openai2.offline import OfflineServer
from tests.support.chats import KEY, WAYS, Scripted, ask, awaited, chat_with, either
from tests.support.servers import completion


@pytest.mark.parametrize("how", WAYS)
def test_options_of_chat_and_call_reach_the_server(how: str, scripted: Scripted) -> None:
    server = scripted(either("yes"))
    chat = chat_with(
        server,
        default_headers={"X-Chat": "c"},
        default_query={"q": "1"},
        organization="org-1",
        temperature=0.5,
        seed=1,
        user="chat",
    )
    ask(
        *(chat, how, "hi"),
        seed=2,
        model="other",
        top_p=0.1,
        extra_headers={"X-Call": "d"},
        extra_query={"r": "2"},
        extra_body={"unheard": [1]},
        timeout=20.0,
    )
    ask(chat, how, "ho")
    first, second = (asked.body for asked in server.asked)
    assert (first["seed"], first["model"], first["top_p"], first["temperature"]) == (2, "other", 0.1, 0.5)
    assert (first["user"], first["unheard"]) == ("chat", [1])
    assert (second["seed"], second["model"], second.get("top_p")) == (1, "m", None)
    assert first.get("stream", False) == ("stream" in how)
    headers = server.asked[0].headers
    assert (headers["x-chat"], headers["x-call"]) == ("c", "d")
    assert headers["authorization"] == f"Bearer {KEY}" and headers["openai-organization"] == "org-1"
    assert server.asked[0].path == "/v1/chat/completions?q=1&r=2"
    assert "x-call" not in server.asked[1].headers
    options = [record.data["options"] for record in chat.events() if record.type == "request_started"]
    assert options[0] == {**options[1], "seed": 2, "top_p": 0.1, "extra_body": {"unheard": [1]}}
    assert not any(word in str(options) for word in ("X-Call", "timeout", KEY))


def test_api_base_means_base_url(offline: OfflineServer) -> None:
    chat = Chat(KEY, api_base=offline.base_url)
    assert chat.request("自然数1的后面是几?") == "2"


def test_each_request_reads_the_environment(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = scripted(completion("one")), scripted(completion("two"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", first.base_url)
    chat = Chat()
    assert chat.request("a") == "one"
    monkeypatch.setenv("OPENAI_BASE_URL", second.base_url)
    assert chat.request("b") == "two"
    monkeypatch.setattr(os, "environ", {**os.environ, "OPENAI_BASE_URL": first.base_url})
    assert chat.request("c") == "one"


def test_key_function_is_called_for_each_request(scripted: Scripted) -> None:
    server = scripted(completion("yes"))
    given = iter(["sk-fake-1111111111111111", "sk-fake-2222222222222222"])
    chat = chat_with(server, lambda: next(given))
    chat.request("a")
    chat.request("b")
    assert [asked.headers["authorization"][-4:] for asked in server.asked] == ["1111", "2222"]


def test_not_given_markers_are_dropped(scripted: Scripted) -> None:
    server = scripted(completion("yes"))
    chat_with(server, temperature=openai.NOT_GIVEN).request("a", seed=openai.omit)
    assert set(server.asked[0].body) == {"messages", "model"}


def test_msg_max_count_is_another_name_of_the_limit(offline: OfflineServer) -> None:
    chat = chat_with(offline, msg_max_count=2)
    for text in ("a", "b", "c"):
        chat.request(text)
    assert len(chat.fetch_messages()) == 2
    assert len(offline.requests[-1].body["messages"]) <= 2


@pytest.mark.parametrize("how", WAYS)
def test_unknown_option_of_a_call_is_refused(how: str, offline: OfflineServer) -> None:
    chat = chat_with(offline)
    before = len(offline.requests)
    with pytest.raises(TypeError, match="temprature"):
        ask(chat, how, "hi", temprature=1)
    with pytest.raises(TypeError, match="stream"):
        ask(chat, how, "hi", stream=True)
    assert chat.version == 0 and len(offline.requests) == before


@pytest.mark.parametrize("options", [{"nosuch": 1}, {"stream": True}, {"messages": []}], ids=str)
def test_unknown_option_is_refused_before_the_store_opens(options: Any, tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=name):
        Chat(KEY, db=tmp_path / "log.db", **options)
    assert not [*tmp_path.iterdir()]


def test_common_options_are_options_of_create() -> None:
    taken = options._COMMON  # pyright: ignore[reportPrivateUsage]
    assert not taken - options._create_names()  # pyright: ignore[reportPrivateUsage]


def test_chat_with_common_options_does_not_import_openai() -> None:
    made = "import sys, openai2; openai2.Chat('sk-0', temperature=0.5); sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", made], check=False).returncode == 0


def test_model_none_is_not_sent(scripted: Scripted) -> None:
    server = scripted(completion("hi"))
    assert Chat(KEY, None, base_url=server.base_url).request("hello") == "hi"
    assert server.asked[-1].body == {"messages": [user_msg("hello")]}


def test_request_without_key_raises_and_records_nothing(offline: OfflineServer) -> None:
    chat = Chat(base_url=offline.base_url)
    with pytest.raises(NoKey, match="OPENAI_API_KEY"):
        chat.request("hi")
    assert chat.version == 0
    chat.reset_api_key(KEY)
    chat.request("hi")


def test_names_of_the_original_package_work(offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline)
    assert asyncio.run(awaited(chat.asy_request("自然数1的后面是几?"))) == "2"
    chat.forge(user_msg("自然数7的后面是几?"))
    chat.pin(0)
    assert [held.pinned for held in chat.conversation.view_messages()] == [True, False, False]
    chat.unpin(0)
    assert not any(held.pinned for held in chat.conversation.view_messages())
    assert chat.dump(tmp_path / "d.json") is True
    other = chat_with(offline)
    assert other.load(tmp_path / "d.json") is True
    assert other.fetch_messages() == chat.fetch_messages()


def test_dalle_generates_images(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    assert chat.dalle(prompt="a cat", n=2).data

    async def main() -> Any:
        return await chat.async_dalle(prompt="a cat")

    assert asyncio.run(main()).data
    with pytest.raises(openai.BadRequestError):
        chat.dalle(prompt="")


def test_limit_leaves_pinned_messages_in_view(offline: OfflineServer) -> None:
    chat = chat_with(offline, MsgMaxCount=3)
    chat.add_dialogs(system_msg("a"), system_msg("b"), system_msg("c"))
    chat.pin_messages(0, 1, 2)
    before, sent = chat.version, len(offline.requests)
    for how in WAYS:
        with pytest.raises(NoRoom):
            ask(chat, how, "hi")
    assert chat.version == before and len(offline.requests) == sent
    chat.unpin_messages(1)
    chat.request("hi")
    assert [m["content"] for m in offline.requests[-1].body["messages"]] == ["a", "c", "hi"]
    assert len(chat.fetch_messages()) == 3
