"""Fields that only one server knows stay on record, and are sent only to servers that want them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai2 import Chat
from openai2.core.server_fields import PROVIDERS, SERVER_FIELDS, for_server
from tests.support.chats import WAYS, ask
from tests.support.misbehaving_server import EVENTS, Misbehaving, completion, event, stream, whole

KEY = "sk-made-up-0123456789abcdef"
WANTED = {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s"}]}
UNWANTED = {"annotations": [{"type": "url_citation"}], "provider_specific_fields": {"a": 1}}


@pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])
@pytest.mark.parametrize("how", WAYS)
def test_fields_are_kept_and_sent_only_where_wanted(how: str, use_create: bool) -> None:
    fields: dict[str, Any] = {**WANTED, **UNWANTED}
    sent: list[Any] = []

    def answer(head: bytes, body: bytes) -> list[bytes]:
        request = json.loads(body)
        sent.append(request["messages"])
        if request.get("stream"):
            return [EVENTS, event(content="an answer", **fields), stream()]
        return [whole(completion("an answer", **fields))]

    with (
        Misbehaving(answer) as server,
        Chat(KEY, "m", base_url=server.base_url, use_create=use_create, max_retries=0) as chat,
    ):
        ask(chat, how, "a question")
        ask(chat, how, "another")
        kept = chat.fetch_messages()[1]
    assert kept == {"role": "assistant", "content": "an answer", **fields}
    assert sent[1][1] == {"role": "assistant", "content": "an answer", **WANTED}


@pytest.mark.parametrize("how", ["request", "stream"])
def test_calls_without_ids_are_sent_back_with_the_ids_on_record(how: str) -> None:
    sent: list[Any] = []
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}

    def answer(head: bytes, body: bytes) -> list[bytes]:
        request = json.loads(body)
        sent.append(request["messages"])
        if len(sent) > 1:
            return [EVENTS, stream("done")] if request.get("stream") else [whole(completion("done"))]
        if request.get("stream"):
            return [EVENTS, event(tool_calls=[call]), stream(finish="tool_calls")]
        return [whole(completion("", tool_calls=[call]).replace(b'"content": ""', b'"content": null'))]

    with Misbehaving(answer) as server, Chat(KEY, "m", base_url=server.base_url, max_retries=0) as chat:
        assert ask(chat, how, "a question") == ""
        (named,) = chat.fetch_messages()[1]["tool_calls"]
        assert named == {"id": named["id"], "type": "function", "function": call["function"]}
        result = {"role": "tool", "tool_call_id": named["id"], "content": "1"}
        assert ask(chat, how, messages=[result]) == "done"
    assert sent[1][1]["tool_calls"] == [named]


SIGNED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "f", "arguments": '{"annotations": 1}', "thought_signature": "s"},
            "extra_content": {"google": {"thought_signature": "s"}},
            "provider_specific_fields": {"thought_signature": "s"},
        }
    ],
}


@pytest.mark.parametrize(
    ("host", "is_wanted"),
    [
        ("generativelanguage.googleapis.com", True),
        ("127.0.0.1", True),
        ("gateway.example", True),
        ("api.openai.com", False),
        ("me.openai.azure.com", False),
        ("openrouter.ai", False),
    ],
)
def test_signatures_of_calls_are_sent_where_wanted(host: str, is_wanted: bool) -> None:
    (sent,) = for_server([json.dumps(SIGNED).encode()], host)
    (call,) = json.loads(sent)["tool_calls"]
    assert ("extra_content" in call, "thought_signature" in call["function"]) == (is_wanted, is_wanted)
    assert "provider_specific_fields" not in call
    assert call["function"]["arguments"] == '{"annotations": 1}'


@pytest.mark.parametrize("host", ["api.openai.com", "openrouter.ai", "127.0.0.1"])
def test_other_messages_and_unknown_fields_are_sent_as_they_are(host: str) -> None:
    messages = [
        {"role": "user", "content": "annotations", "annotations": 1},
        {"role": "assistant", "content": '"annotations": 1', "prefix": True},
    ]
    encoded = [json.dumps(message).encode() for message in messages]
    assert for_server(encoded, host) == encoded


def test_every_host_of_the_table_is_a_provider() -> None:
    assert {host for rule in SERVER_FIELDS.values() for host in rule.hosts} <= {*PROVIDERS}
