"""Any behaviour of a server leads to an answer or an `openai` exception, by the deadline and on record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from openai2 import Chat
from openai2.core import events as ev
from tests.support.chats import WAYS, ask
from tests.support.misbehaving_server import (
    DONE,
    EVENTS,
    Dribble,
    Misbehaving,
    Reset,
    Script,
    Sleep,
    chunked,
    completion,
    error,
    event,
    head,
    slices,
    stream,
    whole,
    zipped,
)

KEY = "sk-made-up-0123456789abcdef"

REQUESTS, STREAMS = ("request", "async"), ("stream", "async stream")
EITHER = pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])


def _chat(server: Misbehaving, **options: Any) -> Chat:
    chosen: dict[str, Any] = {"max_retries": 0, "timeout": 20.0, **options}
    return Chat(KEY, "m", base_url=server.base_url, **chosen)


def _last(chat: Chat) -> ev.Event:
    return [*chat.events()][-1].event


def _fails(how: str, script: Script, use_create: bool, **options: Any) -> openai.OpenAIError:
    """Return the exception that the script leads to; check the log and the view."""
    with Misbehaving(script) as server, _chat(server, use_create=use_create, **options) as chat:
        chat.add_dialogs({"role": "user", "content": "before"})
        with pytest.raises(openai.OpenAIError) as caught:
            ask(chat, how, "a question")
        assert chat.fetch_messages() == [{"role": "user", "content": "before"}]
        kinds = [record.type for record in chat.events()]
        assert kinds[-3:] == ["request_started", "message_added", "request_failed"]
        failed = _last(chat)
        assert isinstance(failed, ev.RequestFailed) and failed.error == type(caught.value).__name__
        assert caught.value.__cause__ is not caught.value
        assert not chat.interrupted()
    return caught.value


def _answers(how: str, script: Script, use_create: bool, text: str, **options: Any) -> ev.Answer:
    """Return the record of the answer that the script leads to; check the view."""
    with Misbehaving(script) as server, _chat(server, use_create=use_create, **options) as chat:
        assert ask(chat, how, "a question") == text
        assert chat.fetch_messages() == [
            {"role": "user", "content": "a question"},
            {"role": "assistant", "content": text},
        ]
        added = _last(chat)
        assert isinstance(added, ev.MessageAdded) and added.answer is not None
    return added.answer


# -- Whole answers -----------------------------------------------------------------------------------

BAD_BODIES: dict[str, Script] = {
    "empty": [whole(b"")],
    "no json": [whole(b"I am a proxy")],
    "a page": [whole(b"<html>hello</html>", kind="text/html")],
    "a list": [whole(b"[1, 2]")],
    "a number": [whole(b"7")],
    "null": [whole(b"null")],
    "no choices": [whole(b'{"id": "x"}')],
    "empty choices": [whole(b'{"choices": []}')],
    "choices that are none": [whole(b'{"choices": {"a": 1}}')],
    "choice without message": [whole(b'{"choices": [{"index": 0}]}')],
    "error in a good answer": [whole(error("out of luck"))],
    "cut json": [head(), completion()[:40]],
    "bad utf-8": [whole(completion().replace(b"an answer", b"\xff\xfe"))],
    "nested without end": [whole(b'{"choices":' + b"[" * 100_000)],
    "short of its length": [head("200 OK", "Content-Length: 9999") + completion()],
    "chunks without end": [head("200 OK", "Transfer-Encoding: chunked") + chunked(completion(), end=False)],
    "chunks that are none": [head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\nwhat\r\n"],
    "gzip that is none": [head("200 OK", "Content-Encoding: gzip", "Content-Length: 5") + b"hello"],
    "nothing": [],
    "no http": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "reset before": [Reset()],
    "reset in the head": [b"HTTP/1.1 200 OK\r\nContent-", Sleep(0.05), Reset()],
    "reset in the body": [head("200 OK", "Content-Length: 9999") + completion()[:50], Sleep(0.05), Reset()],
    "redirect in a circle": [
        head("307 Temporary Redirect", "Location: /v1/chat/completions", "Content-Length: 0")
    ],
    "no content": [head("204 No Content")],
}


@EITHER
@pytest.mark.parametrize("how", REQUESTS)
@pytest.mark.parametrize("kind", BAD_BODIES)
def test_bad_body_raises(how: str, kind: str, use_create: bool) -> None:
    failure = _fails(how, BAD_BODIES[kind], use_create)
    assert isinstance(failure, openai.APIError), failure
    if kind == "error in a good answer":
        assert "out of luck" in str(failure)
    else:
        assert isinstance(failure, openai.APIConnectionError)


GOOD_BODIES: dict[str, Script] = {
    "plain": [whole(completion())],
    "closed by the connection": [head(version="1.0"), completion()],
    "in a strange type": [whole(completion(), kind="text/json")],
    "gzip": [zipped(completion())],
    "byte by byte": [*slices(whole(completion()), 1)],
    "chunked": [head("200 OK", "Transfer-Encoding: chunked"), chunked(*slices(completion(), 7))],
    "reset after": [whole(completion()), Reset()],
}


@EITHER
@pytest.mark.parametrize("how", REQUESTS)
@pytest.mark.parametrize("kind", GOOD_BODIES)
def test_good_body_is_read_in_any_framing(how: str, kind: str, use_create: bool) -> None:
    if use_create and kind == "in a strange type":
        pytest.skip("create() returns the text unless the type is application/json")
    answer = _answers(how, GOOD_BODIES[kind], use_create, "an answer")
    assert answer.finish_reason == "stop" and answer.usage is not None


@EITHER
def test_bytes_after_a_response_are_not_part_of_it(use_create: bool) -> None:
    more = [whole(completion()) + b"garbage"]
    _answers("request", more, use_create, "an answer")
    failure = _fails("async", more, use_create)  # aiohttp refuses it
    assert isinstance(failure.__cause__, httpx2.RemoteProtocolError)


@EITHER
@pytest.mark.parametrize("how", REQUESTS)
def test_json_is_read_under_any_content_type(how: str, use_create: bool) -> None:
    _answers(how, [whole(completion(), kind="text/plain")], use_create, "an answer")


@pytest.mark.parametrize("how", REQUESTS)
def test_unrequested_stream_is_read_as_answer(how: str) -> None:
    _answers(how, [EVENTS, stream("an ", "answer")], False, "an answer")


@pytest.mark.parametrize("how", REQUESTS)
def test_large_answer_is_read(how: str) -> None:
    _answers(how, [whole(completion("x" * 5_000_000))], False, "x" * 5_000_000)


STATUSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@EITHER
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("status", STATUSES)
def test_status_raises_its_exception(how: str, status: int, use_create: bool) -> None:
    failure = _fails(how, [whole(error("no luck", "a_code"), f"{status} Said")], use_create)
    assert type(failure) is STATUSES[status]
    assert isinstance(failure, openai.APIStatusError)
    assert failure.code == "a_code" and failure.response.json()["error"]["message"] == "no luck"


@EITHER
@pytest.mark.parametrize("how", WAYS)
def test_cut_error_page_raises(how: str, use_create: bool) -> None:
    cut: Script = [head("502 Bad Gateway", "Content-Length: 999") + b"<html>", Reset()]
    assert isinstance(_fails(how, cut, use_create), openai.APIError)


# -- Streams -----------------------------------------------------------------------------------------

BAD_STREAMS: dict[str, Script] = {
    "nothing": [EVENTS],
    "only [DONE]": [EVENTS, DONE],
    "cut after a piece": [EVENTS, event(content="half an ")],
    "cut in an event": [EVENTS, event(content="half an "), event(content="answer")[:30]],
    "cut in a chunk": [
        head("200 OK", "Transfer-Encoding: chunked", kind="text/event-stream"),
        chunked(event(content="half"), end=False),
    ],
    "empty choices only": [EVENTS, b'data: {"choices": []}\n\n' * 3],
    "error inside": [
        EVENTS,
        event(content="half"),
        b"data: " + error("overloaded", "server_error") + b"\n\n",
    ],
    "error that is a word": [EVENTS, b'data: {"error": "overloaded"}\n\n'],
    "no json": [EVENTS, event(content="half"), b"data: {oops\n\n"],
    "no object": [EVENTS, b"data: 7\n\n"],
    "a delta that is none": [EVENTS, b'data: {"choices": [{"delta": 7}]}\n\n'],
    "content that is none": [EVENTS, b'data: {"choices": [{"delta": {"content": 7, "x": 1}}]}\n\n'],
    "bad utf-8": [EVENTS, event(content="AB").replace(b"AB", b"\xe4\xbd"), stream("more")],
    "a page": [whole(b"<html>hello</html>", kind="text/html")],
    "json that is no answer": [whole(b'{"hello": "world"}')],
    "reset before": [Reset()],
    "reset after the head": [EVENTS, Sleep(0.05), Reset()],
    "reset in the answer": [EVENTS, event(content="half"), Sleep(0.05), Reset()],
}


@EITHER
@pytest.mark.parametrize("how", STREAMS)
@pytest.mark.parametrize("kind", BAD_STREAMS)
def test_bad_stream_raises(how: str, kind: str, use_create: bool) -> None:
    failure = _fails(how, BAD_STREAMS[kind], use_create)
    assert isinstance(failure, openai.APIError), failure


@pytest.mark.parametrize("how", WAYS)
def test_html_page_is_named_and_not_retried(how: str) -> None:
    page = whole(b"\n<!DOCTYPE html><title>Sign in</title>", kind="text/html")
    with Misbehaving([page]) as server:
        with pytest.raises(openai.APIConnectionError, match="a page"):
            ask(_chat(server, max_retries=5), how, "a question")
        assert server.asked == 1


@pytest.mark.parametrize("how", STREAMS)
def test_cut_stream_is_recorded_with_its_text(how: str) -> None:
    chunks = head("200 OK", "Transfer-Encoding: chunked", kind="text/event-stream")
    half = event(content="half an ")
    with Misbehaving([chunks, chunked(half, end=False), Sleep(0.05), Reset()]) as server:
        chat = _chat(server)
        with pytest.raises(openai.APIConnectionError) as caught:
            ask(chat, how, "a question")
        assert isinstance(caught.value.__cause__, httpx2.TransportError)
        failed = _last(chat)
        assert isinstance(failed, ev.RequestFailed) and failed.partial is not None
        assert b"half an " in bytes(failed.partial)


_CHINESE = stream("你好", "，世界", "🌍")
GOOD_STREAMS: dict[str, tuple[Script, str]] = {
    "plain": ([EVENTS, stream("an ", "answer")], "an answer"),
    "no [DONE]": ([EVENTS, stream("an ", "answer", done=False)], "an answer"),
    "comments between": (
        [EVENTS, b": ping\n\n", stream("an answer").replace(b"\n\n", b"\n\n: p\n\n")],
        "an answer",
    ),
    "CR LF": ([EVENTS, *slices(stream("an ", "answer").replace(b"\n", b"\r\n"), 1)], "an answer"),
    "CR": ([EVENTS, stream("an ", "answer").replace(b"\n", b"\r")], "an answer"),
    "utf-8 cut anywhere": ([EVENTS, *slices(_CHINESE, 1)], "你好，世界🌍"),
    "empty choices between": (
        [EVENTS, b'data: {"choices": []}\n\n', event(content="an answer"), b'data: {"choices": null}\n\n',
         stream()],
        "an answer",
    ),
    "empty data": ([EVENTS, b"data:\n\n", stream("an answer")], "an answer"),
    "no blank line at the end": ([EVENTS, stream("an answer", done=False)[:-2]], "an answer"),
    "strange fields": (
        [EVENTS, b'data: {"id": 5, "usage": [], "choices": [{"index": null, "delta": null}]}\n\n',
         stream("an answer")],
        "an answer",
    ),
    "reset after the finish": ([EVENTS, stream("an answer", done=False), Sleep(0.05), Reset()], "an answer"),
    "broken after the finish": (
        [head("200 OK", "Transfer-Encoding: chunked", kind="text/event-stream"),
         chunked(stream("an answer", done=False), end=False)],
        "an answer",
    ),
    "HTTP/1.0": ([head(version="1.0", kind="text/event-stream"), stream("an answer")], "an answer"),
    "in no type": ([head(kind="application/octet-stream"), stream("an answer")], "an answer"),
}  # fmt: skip


@EITHER
@pytest.mark.parametrize("how", STREAMS)
@pytest.mark.parametrize("kind", GOOD_STREAMS)
def test_good_stream_is_read_in_any_framing(how: str, kind: str, use_create: bool) -> None:
    if use_create and kind in ("empty data", "strange fields", "no blank line at the end"):
        pytest.skip("the SDK's decoder rejects this")
    script, said = GOOD_STREAMS[kind]
    _answers(how, script, use_create, said)


@pytest.mark.parametrize("how", STREAMS)
def test_whole_answer_to_a_stream_request_is_read(how: str) -> None:
    _answers(how, [whole(completion())], False, "an answer")


@EITHER
def test_done_ends_a_stream_without_finish_reason(use_create: bool) -> None:
    """`create` hides [DONE]: there, only a finish reason shows that a stream is complete."""
    script = [EVENTS, stream("an answer", finish=None)]
    if use_create:
        _fails("stream", script, use_create)
    else:
        _answers("stream", script, use_create, "an answer")


@pytest.mark.parametrize("how", STREAMS)
def test_large_chunk_is_read(how: str) -> None:
    _answers(how, [EVENTS, stream("x" * 5_000_000)], False, "x" * 5_000_000)


@pytest.mark.parametrize("how", STREAMS)
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_many_chunks_are_read(how: str, field: str) -> None:
    pieces = event(**{field: "ab"}) * 100_000
    said = "ab" * 100_000 if field == "content" else ""
    tail = stream() if said else event("stop", content="") + DONE
    answer = _answers(how, [EVENTS, *slices(pieces, 100_000), tail], False, said, timeout=60.0)
    assert field == "content" or answer.reasoning == "ab" * 100_000


# -- Deadlines -----------------------------------------------------------------------------------------

HEAD_DRIBBLES: dict[str, Script] = {
    "the head": [b"HTTP/1.1 200 OK\r\nX-Slow: ", Dribble(b"x")],
    "headers": [b"HTTP/1.1 200 OK\r\n", Dribble(b"X-Slow: x\r\n")],
}
DRIBBLES: dict[str, Script] = {
    **HEAD_DRIBBLES,
    "nothing": [Sleep(60)],
    "the body": [head("200 OK", "Content-Length: 99999"), Dribble(b" ")],
    "chunks": [head("200 OK", "Transfer-Encoding: chunked"), Dribble(b"1\r\n \r\n")],
}
STREAM_DRIBBLES: dict[str, Script] = {
    "nothing": [EVENTS, Sleep(60)],
    "comments": [EVENTS, Dribble(b": ping\n\n")],
    "empty chunks": [EVENTS, Dribble(event(role="assistant", content=""))],
    "empty choices": [EVENTS, Dribble(b'data: {"choices": []}\n\n')],
    "a line without end": [EVENTS, Dribble(b"x")],
    "comments after a piece": [EVENTS, event(content="half"), Dribble(b": ping\n\n")],
}


def _dribbles() -> Iterator[Any]:
    """(how, script, use_create), less what a blocking request does not guarantee (api/deadline.py)."""
    for how in WAYS:
        scripts = DRIBBLES if how in REQUESTS else {**STREAM_DRIBBLES, **HEAD_DRIBBLES}
        for kind, script in scripts.items():
            for use_create in (False, True):
                pieces = kind.startswith("empty") if use_create else kind not in HEAD_DRIBBLES
                if how.startswith("async") or pieces or kind == "nothing":
                    way = "create" if use_create else "post"
                    yield pytest.param(how, script, use_create, id=f"{kind}-{how}-{way}")


@pytest.mark.parametrize(("how", "script", "use_create"), [*_dribbles()])
def test_dribbling_server_times_out(how: str, script: Script, use_create: bool) -> None:
    began = time.monotonic()
    failure = _fails(how, script, use_create, timeout=0.4)
    assert isinstance(failure, openai.APITimeoutError)
    assert time.monotonic() - began < 10.0


def test_retries_and_pauses_end_by_the_deadline() -> None:
    with Misbehaving(DRIBBLES["the body"]) as server, _chat(server, timeout=0.5, max_retries=50) as chat:
        began = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            chat.request("a question")
        assert time.monotonic() - began < 10.0
        assert server.asked == 1
    with (
        Misbehaving([whole(error(), "503 Busy")]) as server,
        _chat(server, timeout=1.2, max_retries=50) as chat,
    ):
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError):
            chat.request("a question")
        assert time.monotonic() - began < 10.0
        assert 1 < server.asked < 6


@pytest.mark.parametrize("how", STREAMS)
def test_steady_stream_may_exceed_the_timeout(how: str) -> None:
    pieces: list[Any] = []
    for word in ("a ", "long ", "but ", "steady ", "answer"):
        pieces += [event(content=word), Sleep(0.4)]
    _answers(how, [EVENTS, *pieces, stream()], False, "a long but steady answer", timeout=1.5)


def test_time_of_the_reader_does_not_count() -> None:
    with Misbehaving([EVENTS, stream("a ", "b ")]) as server, _chat(server, timeout=0.5) as chat:
        for _ in chat.stream_request("a question"):
            time.sleep(0.6)
        assert chat.fetch_messages()[-1]["content"] == "a b "


@pytest.mark.parametrize("how", STREAMS)
def test_finished_answer_is_not_waited_on(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai2.request.flow.TAIL", 0.3)
    began = time.monotonic()
    _answers(how, [EVENTS, stream("an answer", done=False), Dribble(b": ping\n\n")], False, "an answer")
    assert time.monotonic() - began < 10.0


# -- Retries ------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("how", WAYS)
def test_fault_of_the_server_is_retried(how: str, use_create: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai2.keys.classify.FIRST_BACKOFF", 0.01)

    def good(head: bytes, body: bytes) -> Script:
        return (
            [EVENTS, stream("an answer")]
            if b'"stream":' in body.replace(b": ", b":")
            else [whole(completion())]
        )

    scripts: list[Any] = [[Reset()], [whole(error(), "503 Busy", "Retry-After: 0.01")], good]
    with Misbehaving(*scripts) as server, _chat(server, max_retries=2, use_create=use_create) as chat:
        assert ask(chat, how, "a question") == "an answer"
        added = _last(chat)
        assert isinstance(added, ev.MessageAdded) and added.answer is not None
        assert [attempt["reason"] for attempt in added.answer.attempts] == ["connection", "server"]
        assert server.asked == 3


def test_single_key_waits_out_a_rate_limit() -> None:
    limited = [whole(error(), "429 Slow", "Retry-After-Ms: 20")]
    with Misbehaving(limited, [whole(completion())]) as server, _chat(server, max_retries=1) as chat:
        assert chat.request("a question") == "an answer"
        assert server.asked == 2


def test_answer_that_is_not_json_is_not_retried() -> None:
    with Misbehaving([whole(b"<html>")]) as server, _chat(server, max_retries=5) as chat:
        with pytest.raises(openai.APIConnectionError):
            chat.request("a question")
        assert server.asked == 1


def test_stream_is_not_retried_after_the_first_piece() -> None:
    with (
        Misbehaving([EVENTS, event(content="half"), Reset()]) as server,
        _chat(server, max_retries=5) as chat,
    ):
        with pytest.raises(openai.APIError):
            ask(chat, "stream", "a question")
        assert server.asked == 1
