"""API keys appear in no exception, repr, view, event or file."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from openai2 import AKPool, BadInput, Chat
from tests.support.chats import KEY, WAYS, Scripted, ask, chat_with, either
from tests.support.servers import Reply, delta, error, sse, streamed


def _traces(error: BaseException) -> Iterator[str]:
    """Yield everything that a logger or a debugger could print of an exception."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        value = todo.pop()
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        yield repr(value)
        if isinstance(value, BaseException):
            yield str(value)
            yield "".join(traceback.format_exception(value))
            todo += [value.__cause__, value.__context__, *value.args, *vars(value).values()]
        for name in ("headers", "content", "text", "url", "request", "response", "body"):
            with contextlib.suppress(Exception):
                todo.append(getattr(value, name, None))
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value
        elif callable(pairs := getattr(value, "multi_items", None)):
            todo.append(list(cast(Iterable[Any], pairs())))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", ["401", "echo", "stream echo", "error inside", "broken", "headers"])
def test_key_is_in_no_exception_event_or_file(
    kind: str, pooled: bool, how: str, scripted: Scripted, tmp_path: Path
) -> None:
    split = len(KEY) // 2
    echo = [delta(content="your key is "), delta(content=KEY[:split]), delta(content=KEY[split:])]
    replies = {
        "401": error(401, f"Incorrect API key provided: {KEY}.", KEY, X_Echo=KEY),
        "echo": either(f"your key is {KEY}"),
        "stream echo": streamed(sse(*echo, delta(finish="stop"))),
        "error inside": streamed(
            sse(*echo, {"error": {"message": f"bad {KEY}", "code": KEY, "param": [KEY]}})
        ),
        "broken": Reply(200, [f"<p>{KEY}".encode()]),
        "headers": Reply(500, [b"no"], {"Set-Cookie": f"key={KEY}", "X-Echo": KEY}),
    }
    server = scripted(replies[kind])
    chat = chat_with(server, AKPool([KEY]) if pooled else KEY, db=tmp_path / "a.db")
    seen: list[str] = [repr(chat), repr(chat.__dict__)]
    try:
        ask(chat, how, "hi")
    except Exception as failure:  # noqa: BLE001 - every exception is searched
        seen += _traces(failure)
    seen += [repr(chat.fetch_messages()), repr([*chat.events()])]
    chat.close()
    assert KEY not in "".join(seen)
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("key", ["sk-line\n", " sk-space", "sk-sch\u00f6n", "sk-\x00", "", 5])
def test_invalid_key_is_refused_and_not_shown(key: Any, tmp_path: Path) -> None:
    with pytest.raises((BadInput, TypeError)) as failure:
        Chat(key, db=tmp_path / "a.db")
    if isinstance(key, str) and key:
        assert "".join(_traces(failure.value)).count(key) == 0
