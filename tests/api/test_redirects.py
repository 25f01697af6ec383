"""Redirects: followed within a server, and never with the key to another one, nor without the question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2
import openai
import pytest

from openai2 import Chat
from tests.support.servers import Reply, ScriptedServer, completion

KEY = "sk-made-up-0123456789abcdef"
OWN = "a-key-of-the-caller-42"


def _request(chat: Chat) -> str:
    return chat.request("hi")


def _async_request(chat: Chat) -> str:
    return asyncio.run(chat.async_request("hi"))


def _own_client(chat: Chat) -> str:
    own = httpx2.Client(follow_redirects=True)
    with own:
        return chat.request("hi", http_client=own)


Ask = Callable[[Chat], str]
ASK = pytest.mark.parametrize("ask", [_request, _async_request, _own_client])
EITHER = pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])


def _to(location: str, status: int) -> Reply:
    return Reply(status, [b"moved"], {"Location": location, "Content-Type": "text/plain"})


def _chat(server: ScriptedServer, use_create: bool) -> Chat:
    headers = {"api-key": OWN, "x-api-key": OWN, "X-Team": OWN}
    chat = Chat(KEY, "m", base_url=server.base_url, max_retries=0, default_headers=headers)
    chat.use_create = use_create
    return chat


@EITHER
@ASK
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_origin_is_a_failure(status: int, ask: Ask, use_create: bool) -> None:
    with ScriptedServer(completion("not the answer")) as other:
        with ScriptedServer(_to(f"{other.base_url}/chat/completions", status)) as server:
            chat = _chat(server, use_create)
            with pytest.raises(openai.APIStatusError, match="redirects to http://127") as caught:
                ask(chat)
        assert not other.asked
    assert caught.value.status_code == status
    assert other.base_url in str(caught.value)
    assert not chat.fetch_messages()
    assert [record.type for record in chat.events()][-1] == "request_failed"


@EITHER
@ASK
@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirect_that_drops_the_question_is_a_failure(status: int, ask: Ask, use_create: bool) -> None:
    with (
        ScriptedServer(_to("/elsewhere", status), completion("not the answer")) as server,
        pytest.raises(openai.APIStatusError, match="question would not be sent"),
    ):
        ask(_chat(server, use_create))
    assert len(server.asked) == 1


@EITHER
@ASK
@pytest.mark.parametrize("status", [307, 308])
def test_redirect_within_the_server_is_followed(status: int, ask: Ask, use_create: bool) -> None:
    with ScriptedServer(_to("/elsewhere?a=1", status), completion("yes")) as server:
        assert ask(_chat(server, use_create)) == "yes"
    first, second = server.asked
    assert second.path == "/elsewhere?a=1"
    assert second.body == first.body
    assert second.headers["authorization"] == f"Bearer {KEY}"


def test_long_question_is_sent_again_after_a_redirect() -> None:
    question = "long " * 200_000
    with ScriptedServer(_to("/elsewhere", 307), completion("yes")) as server:
        chat = Chat(KEY, "m", base_url=server.base_url)
        assert asyncio.run(chat.async_request(question)) == "yes"
    assert server.asked[1].body["messages"][0]["content"] == question
