"""The reason of a failure is in its message: the server's own words, or why the connection failed."""

from __future__ import annotations

import json
import socket
from typing import Any

import openai
import pytest

from openai2 import Chat
from openai2.core import events as ev
from tests.support.chats import WAYS, ask
from tests.support.misbehaving_server import EVENTS, Misbehaving, event, whole

KEY = "sk-made-up-0123456789abcdef"
HOW = pytest.mark.parametrize("how", WAYS)
EITHER = pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])


def _chat(base_url: str, **options: Any) -> Chat:
    return Chat(KEY, "m", base_url=base_url, max_retries=0, **options)


STREAM_OPTIONS = "(pass stream_options=None: this server does not know it)"

BODIES: dict[str, tuple[bytes, str]] = {
    "the API's": (b'{"error": {"message": "no luck"}}', "Error code: 400 - no luck"),
    "a text": (b'{"error": "no luck"}', "Error code: 400 - no luck"),
    "a list": (b'[{"error": {"message": "no luck", "code": 7}}]', "Error code: 400 - no luck"),
    "a detail": (b'{"detail": "no luck"}', "Error code: 400 - no luck"),
    "plain text": (b"no  luck\n", "Error code: 400 - no luck"),
    "a page": (b"<html><title>no luck</title><body>x</body></html>", "Error code: 400 - no luck"),
    "nothing": (b"", "Error code: 400 - Bad Request, without a message from the server"),
    "empty JSON": (b"{}", "Error code: 400 - Bad Request, without a message from the server"),
    "stream_options": (
        b'{"detail": "extra field: stream_options"}',
        f"Error code: 400 - extra field: stream_options {STREAM_OPTIONS}",
    ),
}


@HOW
@EITHER
@pytest.mark.parametrize("kind", BODIES)
def test_words_of_a_refusal_are_in_the_message(how: str, kind: str, use_create: bool) -> None:
    body, message = BODIES[kind]
    refusal = whole(body, "400 Bad Request", kind="text/html" if kind == "a page" else "application/json")
    with Misbehaving([refusal]) as server, _chat(server.base_url, use_create=use_create) as chat:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(chat, how, "a question")
        failed = [*chat.events()][-1].event
    assert str(caught.value) == caught.value.message == message
    assert isinstance(failed, ev.RequestFailed) and failed.message == message


@EITHER
@pytest.mark.parametrize("how", ["stream", "async stream"])
@pytest.mark.parametrize(
    "error",
    [{"error": "no luck"}, {"error": {"detail": "no luck"}}, {"error": {"message": "no luck", "code": 7}}],
)
def test_words_of_an_error_in_a_stream_are_in_the_message(how: str, use_create: bool, error: Any) -> None:
    script = [EVENTS, event(content="half"), b"data: " + json.dumps(error).encode() + b"\n\n"]
    with (
        Misbehaving(script) as server,
        _chat(server.base_url, use_create=use_create) as chat,
        pytest.raises(openai.APIError) as caught,
    ):
        ask(chat, how, "a question")
    assert str(caught.value) == caught.value.message == "no luck"


@HOW
def test_refused_connection_says_so(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(openai.APIConnectionError, match=r"^Connection error: Connection refused$"):
        ask(_chat(f"http://127.0.0.1:{port}/v1"), how, "a question")


class LibraryError(Exception):
    """An exception of a library that openai2 does not know."""


@EITHER
@HOW
def test_exception_of_any_library_is_a_connection_error(
    how: str, use_create: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise LibraryError("no luck")

    for name in ("OpenAI", "AsyncOpenAI"):
        monkeypatch.setattr(getattr(openai, name), "post", fail)
    with _chat("http://127.0.0.1:9/v1", use_create=use_create) as chat:
        with pytest.raises(openai.APIConnectionError, match="no luck") as caught:
            ask(chat, how, "a question")
        assert isinstance(caught.value.__cause__, LibraryError)
        assert [record.type for record in chat.events()][-1] == "request_failed"


@HOW
def test_unknown_host_says_so(how: str) -> None:
    with pytest.raises(openai.APIConnectionError, match=r"(?i)^Connection error: .*(name|address|host)"):
        ask(_chat("http://nowhere.invalid/v1"), how, "a question")


@HOW
def test_closed_connection_says_so(how: str) -> None:
    with (
        Misbehaving([]) as server,
        _chat(server.base_url) as chat,
        pytest.raises(openai.APIConnectionError, match=r"^Connection error: .*(disconnected|cut)"),
    ):
        ask(chat, how, "a question")
