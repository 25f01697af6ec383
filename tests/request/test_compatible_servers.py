"""Answers as compatible servers send them: roles, parts, halves of characters, calls of tools."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from openai2.core.request_events import RequestError
from openai2.request import halves
from openai2.request.deltas import name_calls
from openai2.request.response import ResponseAccumulator
from openai2.request.sse import SSEDecoder


def _streamed(*deltas: Any, finish: str | None = "stop") -> tuple[ResponseAccumulator, list[str]]:
    """Feed these deltas; return the response, and the texts that were handed out."""
    response = ResponseAccumulator()
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    texts = [response.feed_chunk(json.dumps(chunk).encode()) for chunk in chunks]
    response.check_finished()
    return response, [text for text in texts if text]


def _whole(message: Any, **choice: Any) -> tuple[ResponseAccumulator, str]:
    response = ResponseAccumulator()
    text = response.feed_body(json.dumps({"choices": [{"message": message, **choice}]}).encode())
    return response, text


# -- roles and parts


@pytest.mark.parametrize("role", [None, "", 5, "user", "system", "tool", "assistant"])
def test_role_of_an_answer_is_the_assistants(role: Any) -> None:
    assert _whole({"role": role, "content": "x"})[0].message() == {"role": "assistant", "content": "x"}
    response, texts = _streamed({"role": role, "content": ""}, {"role": role, "content": "x"})
    assert response.message() == {"role": "assistant", "content": "x"} and texts == ["x"]


def test_content_of_text_parts_is_text() -> None:
    parts = [{"type": "text", "text": "an "}, "answer"]
    response, text = _whole({"content": parts})
    assert text == "an answer" and (response.message() or {})["content"] == parts
    streamed, texts = _streamed(
        {"content": parts}, {"content": [{"type": "text", "text": "!"}]}, {"content": "?"}
    )
    assert "".join(texts) == "an answer!?" and (streamed.message() or {})["content"] == "an answer!?"


def test_streamed_parts_of_other_kinds_are_kept_in_order() -> None:
    def thinking(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    image = {"type": "image_url", "image_url": {"url": "data:"}}
    response, texts = _streamed(
        {"content": [thinking("let me ")]},
        {"content": [thinking("see")]},
        {"content": "an "},
        {"content": "answer"},
        {"content": [image]},
    )
    assert texts == ["an ", "answer"]
    assert (response.message() or {})["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}]},
        {"type": "text", "text": "an answer"},
        image,
    ]


@pytest.mark.parametrize("message", [{}, {"reasoning": "hm"}, {"content": None, "reasoning": "hm"}])
def test_whole_answer_without_text_is_an_empty_text(message: Any) -> None:
    assert (_whole(message)[0].message() or {})["content"] == ""


# -- halves of surrogate pairs


@given(st.lists(st.text(max_size=5), max_size=4))
def test_halves_meet_across_pieces_and_alone_are_replaced(pieces: list[str]) -> None:
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    fields = ("content", "reasoning")
    response, texts = _streamed(*({name: piece} for name in fields for piece in pieces))
    message = response.message() or {}
    assert "".join(texts) == message["content"] == whole
    assert message.get("reasoning", "") == whole
    joined = ["".join(pieces)]
    assert _whole({"content": joined[0]})[1] == whole


def test_halves_meet_in_arguments_and_names() -> None:
    function = {"name": "f", "arguments": '{"x": "\ud83d'}
    more = {"function": {"arguments": '\ude00\ud83d"}'}}
    response, _ = _streamed(
        {"tool_calls": [{"index": 0, "id": "a", "function": function}]},
        {"tool_calls": [{"index": 0, **more}]},
    )
    call = (response.message() or {})["tool_calls"][0]
    assert call["function"]["arguments"] == '{"x": "😀\ufffd"}'


def test_half_is_held_until_its_second_half_comes() -> None:
    response = ResponseAccumulator()
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in ("a\ud83d", "\ude00b")]
    texts = [response.feed_chunk(json.dumps(chunk).encode()) for chunk in chunks]
    assert texts == ["a", "😀b"]
    assert json.loads(response.partial() or b"")["content"] == "a😀b"


def test_escaped_backslashes_and_whole_pairs_are_not_marked() -> None:
    assert halves.mark(rb'"\\ud83d \ud83d\ude00 \n"') is None
    assert halves.join(json.loads(halves.mark(rb'"\\ud83d \ud83d"') or b"")) == "\\ud83d \ufffd"


# -- calls of tools


def _call(name: str | None = None, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value is not None}}


def _called(*deltas: list[dict[str, Any]]) -> list[tuple[Any, str, str]]:
    response, _ = _streamed(*({"tool_calls": delta} for delta in deltas), finish="tool_calls")
    calls = (response.message() or {})["tool_calls"]
    assert all(call["type"] == "function" and "index" not in call for call in calls)
    return [
        (call.get("id") or None, call["function"]["name"], call["function"]["arguments"]) for call in calls
    ]


A, B = ("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')
STREAMS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[Any, str, str]]]] = {
    "as the API": (
        [[_call("f", "", index=0, id="a")], [_call(None, '{"x":', index=0)], [_call(None, " 1}", index=0)],
         [_call("g", "", index=1, id="b")], [_call(None, '{"y": 2}', index=1)]],
        [A, B],
    ),
    "one index, two ids": ([[_call(*A[1:], index=0, id="a")], [_call(*B[1:], index=0, id="b")]], [A, B]),
    "one index, two ids, in pieces": (
        [[_call("f", "", index=0, id="a")], [_call(None, '{"x": 1}', index=0)],
         [_call("g", "", index=0, id="b")], [_call(None, '{"y": 2}', index=0)]],
        [A, B],
    ),
    "one index, two ids, the same function": (
        [[_call("f", "{}", index=0, id="a"), _call("f", "{}", index=0, id="b")]],
        [("a", "f", "{}"), ("b", "f", "{}")],
    ),
    "one index, no ids": (
        [[_call(*A[1:], index=0)], [_call(*B[1:], index=0, id="")]], [(None, *A[1:]), (None, *B[1:])]
    ),
    "a repeated name": (
        [[_call("f", "", index=0, id="a")], [_call("f", '{"x":', index=0)], [_call("f", " 1}", index=0)]],
        [A],
    ),
    "a repeated name and id": (
        [[_call("f", '{"x":', index=0, id="a")], [_call("f", " 1}", index=0, id="a")]], [A]
    ),
    "a growing name": (
        [[_call("get_", index=0, id="a")], [_call("get_x", "{}", index=0)]], [("a", "get_x", "{}")]
    ),
    "a name in pieces": (
        [[_call("get_", index=0, id="a")], [_call("x", "{}", index=0)]], [("a", "get_x", "{}")]
    ),
    "no index": (
        [[_call("f", "", id="a")], [_call(None, '{"x":')], [_call(None, " 1}")], [_call(*B[1:], id="b")]],
        [A, B],
    ),
    "no index, null": ([[_call(*A[1:], id="a", index=None)], [_call(*B[1:], id="b", index=None)]], [A, B]),
    "no index, all at once": ([[_call(*A[1:], id="a"), _call(*B[1:], id="b")]], [A, B]),
    "no index, no ids": (
        [[_call(*A[1:]), _call(*B[1:])], [_call(*A[1:])]], [(None, *A[1:]), (None, *B[1:]), (None, *A[1:])]
    ),
    "no index, no ids, no arguments": (
        [[_call("f", "")], [_call("g", "")]], [(None, "f", ""), (None, "g", "")]
    ),
    "ids late": ([[_call("f", index=0)], [_call("f", '{"x": 1}', index=0, id="a")]], [A]),
    "another id with each piece": (
        [[_call("f", "", index=0, id="z")], [_call(None, '{"x": 1}', index=0, id="a")]], [A]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", STREAMS)
def test_streamed_calls_are_told_apart(kind: str) -> None:
    deltas, expected = STREAMS[kind]
    assert _called(*deltas) == expected


def test_whole_calls_are_as_the_api_defines_them() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}
    assert (_whole({"content": None, "tool_calls": [call]})[0].message() or {})["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}, "type": "function"}
    ]


def test_calls_without_ids_get_ones_of_their_request() -> None:
    message: dict[str, Any] = {"tool_calls": [_call("f"), _call("g", id="b"), _call("h", id="")]}
    name_calls(message, 7)
    assert [call["id"] for call in message["tool_calls"]] == ["call_7_0", "b", "call_7_2"]


# -- log probabilities of several choices


def test_streamed_logprobs_of_every_choice_are_kept() -> None:
    response = ResponseAccumulator()
    for text in ("a", "b"):
        for index in (1, 0):
            choice: dict[str, Any] = {"index": index, "delta": {"content": text}, "finish_reason": "stop"}
            choice["logprobs"] = {"content": [{"token": f"{text}{index}", "logprob": -1.0}]}
            response.feed_chunk(json.dumps({"choices": [choice]}).encode())
    other = json.loads(bytes(response.choices()[0]))["logprobs"]
    kept = [json.loads(bytes(response.logprobs() or b"")), other]
    assert [[token["token"] for token in each["content"]] for each in kept] == [["a0", "b0"], ["a1", "b1"]]


# -- a server's words

ERRORS: dict[str, tuple[Any, str]] = {
    "the API's": ({"error": {"message": "no luck", "code": "c", "type": "t"}}, "no luck"),
    "a text": ({"error": "no luck"}, "no luck"),
    "a list": ([{"error": {"code": 400, "message": "no luck", "status": "INVALID"}}], "no luck"),
    "a detail": ({"detail": "no luck"}, "no luck"),
    "FastAPI's details": (
        {"detail": [{"loc": ["body", "model"], "msg": "field required"}, {"loc": ["x"], "msg": "too long"}]},
        "body.model: field required; x: too long",
    ),
    "a message": ({"object": "error", "message": "no luck", "code": 40003}, "no luck"),
    "a router's": (
        {"error": {"message": "Provider says", "metadata": {"raw": '{"error":{"message":"no luck"}}'}}},
        "Provider says: no luck",
    ),
    "nested": ({"error": {"error": {"msg": "no luck"}}}, "no luck"),
    "no words": ({"error": {"code": 7}}, "without a reason"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_servers_words_are_the_error(kind: str) -> None:
    body, words = ERRORS[kind]
    with pytest.raises(RequestError) as whole:
        ResponseAccumulator().feed_body(json.dumps(body).encode())
    with pytest.raises(RequestError) as streamed:
        ResponseAccumulator().feed_chunk(json.dumps(body).encode())
    for caught in (whole, streamed):
        assert words in caught.value.message and caught.value.kind == "APIError"


def test_error_of_a_choice_is_an_error() -> None:
    error = {"message": "no luck", "code": 502}
    with pytest.raises(RequestError, match="no luck"):
        _whole({"content": ""}, error=error)
    with pytest.raises(RequestError, match="no luck"):
        ResponseAccumulator().feed_chunk(json.dumps({"choices": [{"delta": {}, "error": error}]}).encode())


def _fed(stream: bytes, size: int) -> None:
    """Read *stream* in pieces of *size* bytes."""
    decoder, response = SSEDecoder(), ResponseAccumulator()
    for start in range(0, len(stream), size):
        for data in decoder.feed(stream[start : start + size]):
            response.feed_chunk(data)
    for data in decoder.finish():
        response.feed_chunk(data)
    response.check_finished(decoder.stray)


@pytest.mark.parametrize(
    "stream",
    [
        b'error: {"code": 500, "message": "no luck"}\n\n',
        b"error: no luck\n\n",
        b'event: error\ndata: {"message": "no luck"}\n\n',
        b'event: error\ndata: {"error": {"message": "no luck"}}\n\n',
        b"event: error\ndata: no luck\n\n",
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_error_events_are_errors(stream: bytes, size: int) -> None:
    with pytest.raises(RequestError, match="no luck") as caught:
        _fed(stream, size)
    assert caught.value.kind == "APIError"


@pytest.mark.parametrize("answer", [b"data: out of memory\n\n", b"out of memory\n", b"out of memory"])
def test_plain_text_in_a_stream_is_in_the_error(answer: bytes) -> None:
    with pytest.raises(RequestError, match="out of memory"):
        _fed(answer, 100)


def test_title_of_a_page_is_in_the_error() -> None:
    page = b"<!DOCTYPE html><html><head><title>502 Bad&nbsp;Gateway</title></head><body>nginx</body></html>"
    with pytest.raises(RequestError, match=r"a page .*: 502 Bad Gateway"):
        ResponseAccumulator().feed_body(page)
