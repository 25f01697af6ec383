"""Addresses as people write them: without a path, with a line end, with a password, or wrong."""

from __future__ import annotations

import logging

import pytest

from openai2 import Chat
from openai2.errors import BadInput
from tests.support.chats import ask
from tests.support.servers import ScriptedServer, completion

KEY = "sk-made-up-0123456789abcdef"
PASSWORD = "hunter2"


HOW = pytest.mark.parametrize("how", ["request", "async"])
EITHER = pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])


def _chat(base_url: str, use_create: bool) -> Chat:
    chat = Chat(KEY, "m", base_url=base_url, max_retries=0)
    chat.use_create = use_create
    return chat


@EITHER
@HOW
@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("{root}", "/chat/completions"),
        ("{root}/", "/chat/completions"),
        ("{root}/v1", "/v1/chat/completions"),
        ("{root}/v1/", "/v1/chat/completions"),
        (" {root}/v1\r\n", "/v1/chat/completions"),
        ("{root}/a%20b/v1", "/a%20b/v1/chat/completions"),
    ],
)
def test_address_is_asked_at_its_path(written: str, path: str, how: str, use_create: bool) -> None:
    with ScriptedServer(completion("yes")) as server:
        root = server.base_url.removesuffix("/v1")
        assert ask(_chat(written.format(root=root), use_create), how, "hi") == "yes"
    assert server.asked[0].path == path


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("http://host:1/v1/chat/completions", "http://host:1/v1"),
        ("http://me:hunter2@host/v1/chat/completions/?k=hunter2", "http://host/v1"),
        ("http://host/v1?api-version=hunter2", "http://host/v1"),
        ("http://host/v1#hunter2", "http://host/v1"),
        ("host:8000/v1", "https://api.example.com/v1"),
        ("ftp://host/v1", "https://api.example.com/v1"),
        ("http://[::1/v1", "https://api.example.com/v1"),
        ("http://host/v1\nhttp://other/v1", "https://api.example.com/v1"),
        ("", "https://api.example.com/v1"),
    ],
)
@pytest.mark.parametrize("place", ["option", "call", "environment"])
def test_wrong_address_is_refused_with_the_expected_one(
    written: str, expected: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> None:
        if place == "option":
            Chat(KEY, "m", base_url=written)
        elif place == "call":
            Chat(KEY, "m").request("hi", base_url=written)
        else:
            monkeypatch.setenv("OPENAI_BASE_URL", written or "x")
            Chat(KEY, "m").request("hi")

    with pytest.raises(BadInput) as caught:
        ask()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


@EITHER
@HOW
@pytest.mark.parametrize("in_environment", [False, True], ids=["option", "environment"])
def test_password_is_sent_and_never_logged(
    how: str,
    use_create: bool,
    in_environment: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(completion("yes")) as server:
        address = server.base_url.replace("//", f"//me:{PASSWORD}@")
        if in_environment:
            monkeypatch.setenv("OPENAI_BASE_URL", address)
        chat = Chat(KEY, "m", base_url=None if in_environment else address)
        chat.use_create = use_create
        assert ask(chat, how, "hi") == "yes"
    assert server.asked[0].headers["authorization"] == "Basic bWU6aHVudGVyMg=="
    assert caplog.records
    for record in caplog.records:
        assert PASSWORD not in f"{record.getMessage()} {record.__dict__}"
        assert "bWU6aHVudGVyMg" not in f"{record.getMessage()} {record.__dict__}"
