"""The wire: however a stream is cut into pieces, it says the same; what is cut off or wrong is a fault."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from openai2.core.request_events import RequestError
from openai2.request.deltas import compact_usage, merge
from openai2.request.response import ResponseAccumulator
from openai2.request.sse import SSEDecoder

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": list(choices),
        **more,
    }


def choice(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The bytes in pieces that end at these places."""
    last = 0
    for place in sorted({place % (len(data) + 1) for place in places}):
        yield data[last:place]
        last = place
    yield data[last:]


def events_of(pieces: Iterator[bytes]) -> list[bytes]:
    events = SSEDecoder()
    found = [data for piece in pieces for data in events.feed(piece)]
    return [*found, *events.finish()]


def hear(pieces: Iterator[bytes] | list[bytes]) -> ResponseAccumulator:
    events, reply = SSEDecoder(), ResponseAccumulator()
    for piece in pieces:
        for data in events.feed(piece):
            reply.feed_chunk(data)
    for data in events.finish():
        reply.feed_chunk(data)
    reply.check_finished()
    return reply


# -- SSEDecoder ------------------------------------------------------------------------------------------

LINE_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
DATA = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12).map(
    str.encode
)
NOISE = st.sampled_from([b": comment", b"event: message", b"id: 7", b"retry: 5", b"unknown", b":"])


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream of events as some server may write it, and the data of each."""
    stream = b": hello\n"
    wanted: list[bytes] = []
    for lines in draw(st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=5)):
        end = draw(LINE_END)
        for line in lines:
            if draw(st.booleans()):
                stream += draw(NOISE) + end
            spaced = line.startswith(b" ") or draw(st.booleans())
            stream += (b"data: " if spaced else b"data:") + line + end
        following = draw(LINE_END)
        if end == b"\r" and following == b"\n":
            following = b"\r"  # that would be one CR LF
        stream += following
        if following == b"\r":
            stream += b": a comment parts this from what may begin with LF\n"
        wanted.append(b"\n".join(lines))
    return stream, wanted


@given(written(), st.lists(st.integers(0, 10**6), max_size=12))
def test_sse_events_survive_any_cut(stream: tuple[bytes, list[bytes]], places: list[int]) -> None:
    data, wanted = stream
    assert events_of(cut(data, places)) == wanted


@given(written())
def test_sse_events_arrive_byte_by_byte(stream: tuple[bytes, list[bytes]]) -> None:
    data, wanted = stream
    assert events_of(iter([data[at : at + 1] for at in range(len(data))])) == wanted


def test_sse_lone_cr_and_lf_end_lines() -> None:
    assert events_of(iter([b"data: a\rdata: b", b"\n\n", b"data: c\n\n"])) == [b"a\nb", b"c"]


# -- Answers -----------------------------------------------------------------------------------------


def arguments(place: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": place, "function": {"arguments": text}}]}


NOTHING: dict[str, Any] = {}
DELTAS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"content": TEXT | st.none()}),
    st.fixed_dictionaries({"refusal": TEXT}),
    st.builds(arguments, st.integers(0, 1), TEXT),
    st.just(NOTHING),
)
ROLE: dict[str, Any] = {"role": "assistant", "content": ""}
CALLS: dict[str, Any] = {
    "tool_calls": [
        {"index": place, "id": f"call{place}", "type": "function", "function": {"name": "f", "arguments": ""}}
        for place in range(2)
    ]
}


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The chunks of an answer: several choices, calls and refusals, empty chunks, a count of tokens."""
    count = draw(st.integers(1, 3))
    chunks: list[dict[str, Any]] = []
    for index in range(count):
        chunks.append(chunk(choice(ROLE, index)))
        if draw(st.booleans()):
            chunks.append(chunk(choice(CALLS, index)))
        else:
            chunks.append(chunk(choice({"content": "x"}, index)))
    called = {one["choices"][0]["index"] for one in chunks if "tool_calls" in one["choices"][0]["delta"]}
    for index, delta in draw(st.lists(st.tuples(st.integers(0, count - 1), DELTAS), max_size=10)):
        if "tool_calls" not in delta or index in called:
            chunks.append(chunk(choice(delta, index)))
    chunks += [chunk(choice({}, index, "stop")) for index in range(count)]
    if draw(st.booleans()):
        chunks.append(chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}))
    return chunks


def sse(chunks: list[dict[str, Any]]) -> bytes:
    lines = [f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def without_empties(message: dict[str, Any]) -> dict[str, Any]:
    """What the two sides need not agree on: fields that say nothing."""
    return {name: value for name, value in message.items() if value not in (None, [], "")}


@given(answers(), st.lists(st.integers(0, 10**6), max_size=8))
def test_accumulator_agrees_with_the_sdk(chunks: list[dict[str, Any]], places: list[int]) -> None:
    reply = hear(cut(sse(chunks), places))
    sdk = ChatCompletionStreamState()
    for one in chunks:
        sdk.handle_chunk(ChatCompletionChunk.model_validate(one))
    theirs = [c.message.model_dump(exclude_unset=True) for c in sdk.current_completion_snapshot.choices]
    for message in theirs:
        message.pop("parsed", None)
        calls: list[dict[str, Any]] = message.get("tool_calls") or []
        for call in calls:
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
    ours = [reply.message(), *(json.loads(bytes(raw))["message"] for raw in reply.choices())]
    assert [without_empties(m or {}) for m in ours] == [without_empties(m) for m in theirs]
    assert (reply.id, reply.model, reply.finish_reason) == ("c1", "m", "stop")
    assert (reply.usage is not None) == ("usage" in chunks[-1])


@given(answers(), st.integers(0, 10**6))
def test_cut_stream_raises(chunks: list[dict[str, Any]], place: int) -> None:
    """Before the first finish reason, wherever it is: in an event, a word, a character."""
    finish = next(at for at, one in enumerate(chunks) if one["choices"][0]["finish_reason"])
    data = sse(chunks[:finish]).removesuffix(b"data: [DONE]\n\n")
    with pytest.raises(RequestError) as fault:
        hear([data[: place % len(data)]])
    assert fault.value.kind == "APIConnectionError"


@given(answers(), st.data())
def test_draft_is_a_prefix_of_the_answer(chunks: list[dict[str, Any]], data: st.DataObject) -> None:
    reply = ResponseAccumulator()
    texts = ""
    for one in chunks[: data.draw(st.integers(0, len(chunks)))]:
        texts += reply.feed_chunk(json.dumps(one).encode())
    partial = reply.partial()
    assert (json.loads(partial).get("content") or "" if partial else "") == texts


BAD: dict[str, tuple[bytes, str]] = {
    "error": (b'{"error": {"message": "overloaded", "code": "busy", "type": "server_error"}}', "APIError"),
    "error as text": (b'{"error": "overloaded"}', "APIError"),
    "broken": (b'{"choices": [', "APIConnectionError"),
    "text": (b"oops", "APIConnectionError"),
    "a list": (b"[]", "APIConnectionError"),
    "bad UTF-8": (b'{"choices": [{"delta": {"content": "\xff"}}]}', "APIConnectionError"),
    "a delta of text": (b'{"choices": [{"delta": "x"}]}', "APIConnectionError"),
    "content of numbers": (b'{"choices": [{"delta": {"content": 5}}]}', "APIConnectionError"),
    "choices of text": (b'{"choices": "x"}', "APIConnectionError"),
    "deep": (b'{"choices": [{"delta": {"x": ' + b"[" * 100_000, "APIConnectionError"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_chunk_raises(kind: str) -> None:
    data, expected = BAD[kind]
    with pytest.raises(RequestError) as fault:
        hear([sse([chunk(choice({"content": "x"}))])[:-14], b"data: " + data + b"\n\n", b"data: [DONE]\n\n"])
    assert fault.value.kind == expected


def test_empty_chunks_add_nothing() -> None:
    nothing: list[Any] = [chunk(), chunk(usage=None), {"choices": None}, {}, chunk(choice({"content": None}))]
    reply = hear(
        [sse([*nothing, chunk(choice({"content": "x"})), *nothing, chunk(choice({}, finish="stop"))])]
    )
    assert reply.message() == {"role": "assistant", "content": "x"}


def test_unknown_field_of_a_delta_is_kept() -> None:
    deltas: list[dict[str, Any]] = [
        {"content": "x", "new": {"a": "1", "n": 1}},
        {"new": {"a": "2", "b": [1]}},
        {"other": [1]},
    ]
    reply = hear([sse([*(chunk(choice(one)) for one in deltas), chunk(choice({}, finish="stop"))])])
    assert reply.message() == {
        "role": "assistant",
        "content": "x",
        "new": {"a": "12", "n": 1, "b": [1]},
        "other": [1],
    }


def test_time_is_linear_in_size_and_number_of_chunks() -> None:
    big = sse([chunk(choice({"content": "é" * 2_500_000})), chunk(choice({}, finish="stop"))])
    small = sse([*([chunk(choice({"content": "x"}))] * 100_000), chunk(choice({}, finish="stop"))])
    calls = sse(
        [
            chunk(choice(CALLS)),
            *([chunk(choice({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}))] * 20_000),
            chunk(choice({}, finish="tool_calls")),
        ]
    )
    started = time.process_time()
    reply = hear([big[at : at + 4096] for at in range(0, len(big), 4096)])
    assert len((reply.message() or {})["content"]) == 2_500_000
    reply = hear([small[at : at + 100] for at in range(0, len(small), 100)])
    assert (reply.message() or {})["content"] == "x" * 100_000
    reply = hear([calls])
    assert len((reply.message() or {})["tool_calls"][0]["function"]["arguments"]) == 20_000
    assert time.process_time() - started < 10  # a second on any machine of today; hours if it were squared


# -- Merging -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=4))
@settings(max_examples=100)
def test_merge_takes_anything_and_changes_no_delta(deltas: list[dict[str, Any]]) -> None:
    before = json.dumps(deltas)
    into: dict[str, Any] = {}
    for delta in deltas:
        merge(into, delta)
    assert json.dumps(deltas) == before
    if deltas:
        alone: dict[str, Any] = {}
        merge(alone, deltas[0])
        assert alone == deltas[0]


def test_compact_usage_drops_nulls_and_zeros() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "details": {"cached": 0, "audio": None}}
    assert compact_usage(usage) == {"prompt_tokens": 3}
    assert compact_usage(None) is compact_usage({}) is None
