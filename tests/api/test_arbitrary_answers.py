"""Whatever JSON a server sends, a request is answered or fails with an `openai` exception, and its end is on
record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import openai
import pytest
from hypothesis import HealthCheck, given, settings

from openai2 import Chat
from openai2.core import messages
from openai2.core.typeguards import is_list
from tests.support.chats import WAYS, ask
from tests.support.misbehaving_server import EVENTS, Misbehaving, whole

KEY = "sk-made-up-0123456789abcdef"

TEXT = st.text(max_size=4)  # with lone halves of surrogate pairs
SCALAR = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT
#: The names that a reader of answers knows.
NAMES = st.sampled_from(
    (
        *("choices", "message", "delta", "content", "role", "tool_calls", "function", "function_call"),
        *("name", "arguments", "id", "index", "type", "text", "usage", "model", "error", "logprobs"),
        *("refusal", "finish_reason", "reasoning", "reasoning_content", "prompt_tokens", "thinking", "audio"),
    )
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXT, inner, max_size=4),
    max_leaves=12,
)


def _of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, each sometimes of any kind."""
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in fields.items()})


PARTS = st.lists(
    _of(type=st.sampled_from(("text", "thinking", "image_url")), text=TEXT, thinking=JSON), max_size=3
)
CALLS = st.lists(
    _of(index=st.integers(0, 1), id=st.sampled_from(("a", "b")), function=_of(name=TEXT, arguments=TEXT)),
    max_size=3,
)
SAYS = _of(
    role=st.just("assistant"),
    content=TEXT | PARTS,
    tool_calls=CALLS,
    reasoning=TEXT,
    refusal=TEXT,
    extra=JSON,
)
CHOICE = _of(
    index=st.integers(0, 2),
    message=SAYS,
    delta=SAYS,
    finish_reason=st.sampled_from(("stop", "length")),
    logprobs=JSON,
)
BODY = (
    _of(id=TEXT, model=TEXT, choices=st.lists(CHOICE, min_size=1, max_size=2), usage=JSON, error=JSON) | JSON
)
END: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


class AnyAnswer:
    """A server that sends *answer*."""

    answer: Any = None
    ends = True

    def __call__(self, head: bytes, body: bytes) -> list[bytes]:
        if not json.loads(body).get("stream"):
            return [whole(json.dumps(self.answer).encode())]
        chunks: list[Any] = [*(self.answer if is_list(self.answer) else [self.answer]), *[END] * self.ends]
        return [EVENTS, *(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)]


@pytest.fixture(scope="module")
def scripted() -> Iterator[tuple[AnyAnswer, Misbehaving]]:
    script = AnyAnswer()
    with Misbehaving(script) as server:
        yield script, server


@pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])
@pytest.mark.parametrize("how", WAYS)
@given(body=BODY, more=BODY, ends=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_ends_a_request(
    scripted: tuple[AnyAnswer, Misbehaving], how: str, use_create: bool, body: Any, more: Any, ends: bool
) -> None:
    script, server = scripted
    script.answer, script.ends = [body, more] if "stream" in how else body, ends
    with Chat(KEY, "m", base_url=server.base_url, max_retries=0, use_create=use_create) as chat:
        try:
            ask(chat, how, "a question")
        except openai.APIError:
            assert chat.fetch_messages() == []
            assert [record.type for record in chat.events()][-1] == "request_failed"
        else:
            assert [record.type for record in chat.events()][-2:] == ["message_added", "message_added"]
            question, answer = chat.fetch_messages()
            # A role that the server invents is kept; one of another kind of message is not.
            assert isinstance(answer["role"], str)
            assert answer["role"] not in {"user", "system", "developer", "tool", "function"}
            messages.encode_all([question, answer])
            messages.text_of(answer).encode()
        assert not chat.interrupted()
        assert chat.at(chat.version) == chat.fetch_messages()
        with chat.engine.store.reading() as reader:
            assert not [*reader.drafts()]
