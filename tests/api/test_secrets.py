"""No key is in a file, log record, traceback, repr or pickle, wherever a server echoes it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import AKPool, Chat
from openai2.api import clients
from openai2.keys.masking import Hidden
from openai2.offline import OfflineServer
from tests.support.chats import ask
from tests.support.misbehaving_server import (
    EVENTS,
    Misbehaving,
    Reset,
    Script,
    Sleep,
    chunked,
    completion,
    error,
    event,
    head,
    stream,
    whole,
)

KEY = "sk-made-up-Zq7-0123456789abcdef"
OTHER = "hdr-made-up-9876543210fedcba"  # sent in a header that the caller sets

_ECHO = f"your key {KEY} and {OTHER}"
_BAD: bytes = error(_ECHO, KEY, KEY)
ANSWERS: dict[str, Script] = {
    "401": [whole(_BAD, "401 Unauthorized", f"X-Echo: {KEY}", f"X-Request-Id: {KEY}")],
    "401 page": [whole(_ECHO.encode(), f"401 {KEY}", kind="text/html")],
    "400": [whole(json.dumps({KEY: [_ECHO, {"error": _ECHO}]}).encode(), "400 Bad")],
    "500": [whole(_BAD, "500 No", f"Set-Cookie: k={KEY}")],
    "429": [whole(_BAD, "429 No", f"Retry-After: {KEY}")],
    "answer": [whole(completion(_ECHO, refusal=KEY, **{KEY: [KEY]}), f"200 {KEY}", f"X-Echo: {KEY}")],
    "no json": [whole(_ECHO.encode())],
    "no choices": [whole(json.dumps({"choices": _ECHO}).encode())],
    "error in it": [whole(_BAD)],
    "cut": [head("200 OK", "Content-Length: 9999", f"X-Echo: {KEY}") + completion(_ECHO), Reset()],
    "no http": [f"HTTP/1.1 {KEY}\r\n".encode()],
    "bad header": [f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode()],
    "late": [f"HTTP/1.1 200 OK\r\nX-Echo: {KEY}\r\n".encode(), Sleep(60)],
    "redirect": [head("307 Moved", f"Location: http://127.0.0.1:9/{KEY}", "Content-Length: 0")],
    "bad utf-8": [whole(b'{"choices": "' + KEY.encode() + b'\xff"}')],
    "stream": [EVENTS, stream("your key ", KEY[:9], KEY[9:])],
    "stream reasoning": [EVENTS, event(reasoning_content=_ECHO), stream(_ECHO)],
    "stream error": [EVENTS, event(content=_ECHO), b"data: " + _BAD + b"\n\n"],
    "stream broken": [EVENTS, event(content=KEY), f"data: {{{_ECHO}\n\n".encode()],
    "stream utf-8": [EVENTS, b'data: {"choices": "' + KEY.encode() + b'\xff"}\n\n'],
    "stream cut": [
        head("200 OK", "Transfer-Encoding: chunked", f"X-Echo: {KEY}", kind="text/event-stream"),
        chunked(event(content=_ECHO), end=False),
    ],
    "stream in names": [EVENTS, stream("x").replace(b'"m"', f'"{KEY}"'.encode())],
}


class Everything(logging.Handler):
    """Keeps every log record as text and as a dict."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [record.getMessage(), repr(record.args), repr(record.__dict__)]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler.texts
    root.removeHandler(handler)
    root.setLevel(level)


def _shown(error: BaseException) -> Iterator[str]:
    """Yield what people, loggers and debuggers see of an exception."""
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        current = left.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        yield repr(current) + str(current) + repr(current.args) + repr(vars(current))
        for name in ("request", "response"):
            thing = getattr(current, name, None)
            yield repr(thing) + repr(vars(thing) if hasattr(thing, "__dict__") else "")
            yield repr(getattr(thing, "headers", None)) + str(getattr(thing, "url", ""))
            yield repr([*getattr(getattr(thing, "headers", None), "raw", [])])
            yield repr(getattr(thing, "content", None)) if name == "response" else ""
        try:
            yield repr(pickle.dumps(current))
        except Exception as fault:  # noqa: BLE001 - not every exception can be pickled
            yield str(fault)
        left += [current.__cause__, current.__context__]


def _cases() -> Iterator[Any]:
    """Yield (kind, how, use_create, pooled): each answer sync and async, some with a pool."""
    for kind in ANSWERS:
        whole_ways = () if kind.startswith("stream") else ("request", "async")
        streamed_ways = ("stream", "async stream")
        both = not whole_ways or kind in ("401", "cut", "answer")
        for how in (*whole_ways, *(streamed_ways if both else ())):
            for use_create, pooled in ((False, False), (True, False), (False, True)):
                if not pooled or kind in ("401", "429", "answer", "stream error"):
                    ways = ("create" if use_create else "post", "pool" if pooled else "key")
                    name = "-".join((kind, how, *ways))
                    yield pytest.param(kind, how, use_create, pooled, id=name)


@pytest.mark.parametrize(("kind", "how", "use_create", "pooled"), [*_cases()])
def test_key_is_nowhere(
    kind: str,
    how: str,
    use_create: bool,
    pooled: bool,
    tmp_path: Path,
    logged: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    shown: list[str] = []
    with Misbehaving(ANSWERS[kind]) as server:
        chat = Chat(
            AKPool([KEY]) if pooled else KEY,
            "m",
            base_url=server.base_url,
            db=tmp_path / "log.db",
            max_retries=0,
            timeout=0.5 if kind in ("late", "429") else 20.0,
            use_create=use_create,
            default_headers={"X-Api-Key": OTHER},
        )
        try:
            answer = ask(chat, how, "hi")
            shown += [] if "stream" in how else [answer]
        except Exception as failure:  # noqa: BLE001 - each is searched for the key
            shown += _shown(failure)
        shown += [repr(chat), repr(chat.conversation), repr(chat.engine), repr(vars(chat)["_keys"])]
        shown += [repr([*chat.events()]), repr(chat.fetch_messages())]
        for path in tmp_path.iterdir():
            data = path.read_bytes()
            assert KEY.encode() not in data and OTHER.encode() not in data, path.name
        chat.close()
    shown += logged
    shown += capfd.readouterr()
    for text in shown:
        for secret in (KEY, OTHER):
            assert secret not in text, text[max(0, text.index(secret) - 300) : text.index(secret) + 60]
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path.name


def test_caches_show_no_key() -> None:
    with Misbehaving([whole(completion())]) as server:
        Chat(KEY, "m", base_url=server.base_url).request("hi")
    for name, value in vars(clients).items():
        assert KEY not in repr(value), name
    caches: Any = [value for name, value in vars(clients).items() if name.endswith("_clients")]
    assert len(caches) == 2 and KEY not in repr([[*cache.items()] for cache in caches])


def test_key_is_not_pickled() -> None:
    for thing in (Chat(KEY), AKPool([KEY]), vars(Chat(KEY))["_keys"], Hidden(KEY)):
        for leave in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                leave(thing)


def test_hidden_key_is_a_str_with_a_masked_repr() -> None:
    hidden = Hidden(KEY)
    assert hidden == KEY and hash(hidden) == hash(KEY) and f"Bearer {hidden}" == f"Bearer {KEY}"
    assert KEY not in repr(hidden) and KEY not in repr({hidden: [hidden]})


def test_frames_of_a_stopped_request_show_no_key() -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with Misbehaving([EVENTS, event(content="half"), event(reasoning="hm"), Sleep(60)]) as server:
        chat = Chat(KEY, "m", base_url=server.base_url)
        with pytest.raises(KeyboardInterrupt) as stopped:
            list(chat.stream_request("hi", on_reasoning=interrupt))
    trace = traceback.TracebackException.from_exception(stopped.value, capture_locals=True)
    ours = [f for f in trace.stack if "openai2" in f.filename and f.locals]
    assert ours and KEY not in repr([frame.locals for frame in ours])


@pytest.mark.parametrize("word", ["any", "offline", "EMPTY", "lm-studio"])
def test_word_used_as_key_is_not_masked(word: str) -> None:
    with OfflineServer() as server, Chat(word, "m", base_url=server.base_url) as chat:
        answer = chat.request(f"Say {word} and {word}!")
        assert answer.endswith(f"Say {word} and {word}!")
        assert chat.fetch_messages()[-1]["content"] == answer
