"""What requests send and what their answers leave in the view and on record."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from openai2 import AKPool, BadInput, Chat, Multimodal_Part, UnknownVersion, system_msg, user_msg
from openai2.core.server_fields import SERVER_FIELDS
from openai2.offline import OfflineServer
from tests.support import servers
from tests.support.chats import KEY, WAYS, Scripted, ask, chat_with, either, event_types, roles
from tests.support.servers import Reply, completion, delta, sse, streamed


def test_text_and_images_make_one_message(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("what is this?", Multimodal_Part.jpeg(b"\xff\xd8"), Multimodal_Part.text("and this?"))
    expected = {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8").decode()},
            },
            {"type": "text", "text": "and this?"},
        ],
    }
    assert offline.requests[-1].body["messages"] == [expected]
    assert chat.fetch_messages()[0] == expected
    assert Multimodal_Part.png(b"x")["image_url"]["url"].startswith("data:image/png;base64,")
    with pytest.raises(TypeError, match="bytes"):
        Multimodal_Part.png("a path")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_messages_option_appends_to_the_text(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("one", messages=[system_msg("two"), user_msg("three")])
    assert [m["content"] for m in offline.requests[-1].body["messages"]] == ["one", "two", "three"]
    assert roles(chat) == "usua"
    chat.request(messages=[user_msg("four")])
    assert roles(chat) == "usuaua"


@pytest.mark.parametrize("how", WAYS)
def test_tool_call_and_result_are_sent_back(how: str, offline: OfflineServer) -> None:
    chat = chat_with(offline)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert ask(chat, how, 'weather {"city": "Ulm"}', tools=tools) == ""
    called = chat.fetch_messages()[-1]
    assert called["role"] == "assistant" and called["content"] is None
    (call,) = called["tool_calls"]
    assert set(call) == {"id", "type", "function"}
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Ulm"}'}
    chat.add_dialogs({"role": "tool", "tool_call_id": call["id"], "content": "rain"})
    assert "rain" in ask(chat, how, tools=tools)
    assert offline.requests[-1].body["messages"] == chat.fetch_messages()[:-1]
    assert roles(chat) == "uata"


def test_request_on_empty_view_without_text_is_refused(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    with pytest.raises(BadInput, match="nothing to ask"):
        chat.request()
    assert chat.version == 0


UNUSUAL: dict[str, dict[str, Any]] = {
    "refusal": {"role": "assistant", "content": None, "refusal": "I will not."},
    "null content": {"role": "assistant", "content": None},
    "audio": {"role": "assistant", "content": None, "audio": {"id": "a1", "data": "AAAA", "expires_at": 1}},
    "unknown": {"role": "assistant", "content": "x", "invented": {"deep": [1, 2.5, None, {"a": "b"}]}},
    "parts": {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
    "citations": {"role": "assistant", "content": "x", "annotations": [{"type": "url_citation"}]},
    "other role": {"role": "model", "content": "x"},
    "nul and odd characters": {"role": "assistant", "content": "a\x00b\u2028\U0001f600\x1b[31m"},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_answer_is_kept_verbatim(kind: str, scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(completion(UNUSUAL[kind]), completion("next"))
    chat = chat_with(server, db=tmp_path / "a.db", conversation="c")
    chat.request("hi")
    assert chat.fetch_messages()[-1] == UNUSUAL[kind]
    chat.request("again")
    sent = {name: value for name, value in UNUSUAL[kind].items() if name not in SERVER_FIELDS}
    assert server.asked[-1].body["messages"][1] == sent
    chat.close()
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as later:
        assert later.fetch_messages()[1] == UNUSUAL[kind]


def test_null_fields_of_an_answer_are_dropped(scripted: Scripted) -> None:
    full: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    chat = chat_with(scripted(completion(full)))
    chat.request("hi")
    assert chat.fetch_messages()[-1] == {"role": "assistant", "content": "x"}


def test_further_choices_are_on_record(scripted: Scripted) -> None:
    server = scripted(
        completion("one", "two", "three"),
        streamed(
            sse(
                delta(0, content="o"),
                delta(1, content="t"),
                delta(0, content="ne"),
                delta(1, content="wo"),
                delta(0, finish="stop"),
                delta(1, finish="length"),
            )
        ),
    )
    chat = chat_with(server)
    assert chat.request("hi", n=3) == "one"
    assert "".join(chat.stream_request("hi", n=2)) == "one"
    answers = [record.data["answer"] for record in chat.events() if "answer" in record.data]
    assert [choice["message"]["content"] for choice in answers[0]["choices"]] == ["two", "three"]
    assert answers[1]["choices"] == [
        {"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "length"}
    ]
    assert roles(chat) == "uaua"


@pytest.mark.parametrize("how", WAYS)
def test_answer_records_model_usage_key_and_duration(how: str, offline: OfflineServer) -> None:
    pool = AKPool([KEY])
    chat = chat_with(offline, pool)
    ask(chat, how, "自然数1的后面是几?")
    answer = [*chat.events()][-1].data["answer"]
    assert answer["model"] == "m" and answer["finish_reason"] == "stop"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["key"] == pool.status()[0].fingerprint
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    assert answer["seconds"] > 0
    assert pool.status()[0].completion_tokens == answer["usage"]["completion_tokens"]


def test_reasoning_is_recorded_and_not_sent_back(scripted: Scripted) -> None:
    server = scripted(
        completion({"role": "assistant", "content": "4", "reasoning_content": "2+2"}),
        streamed(sse(delta(reasoning_content="2+"), delta(reasoning_content="3"), delta(content="5"))),
        completion("done"),
    )
    chat = chat_with(server)
    chat.request("two and two?")
    assert list(chat.stream_request("two and three?")) == ["5"]
    assert [r.data["answer"]["reasoning"] for r in chat.events() if "answer" in r.data] == ["2+2", "2+3"]
    chat.request("more")
    sent = json.dumps(server.asked[-1].body)
    assert "2+" not in sent and "reasoning" not in sent


def test_chats_share_a_client_per_key_and_options(scripted: Scripted) -> None:
    server = scripted(either("yes"))
    one, same = chat_with(server), chat_with(server)
    for chat in (one, same, one):
        chat.request("hi")
        list(chat.stream_request("hi"))
    assert server.connections == 1
    chat_with(server, "sk-fake-another-0123456789").request("hi")
    assert server.connections == 2
    chat_with(server, timeout=17.0).request("hi")
    assert server.connections == 3
    one.close()
    same.request("hi")  # closing a chat does not close a shared client
    assert server.connections == 3


def test_answer_to_an_older_view_records_that_version(scripted: Scripted) -> None:
    chat: Chat

    def meanwhile(asked: servers.Asked) -> Reply:
        chat.add_dialogs(user_msg("meanwhile"))
        return completion("yes")

    chat = chat_with(scripted(meanwhile))
    chat.add_dialogs(user_msg("before"))
    chat.request("hi")
    assert [m["content"] for m in chat.fetch_messages()] == ["before", "meanwhile", "hi", "yes"]
    answered = [*chat.events()][-1]
    assert answered.data["answer"]["seen"] == 2


def test_control_characters_are_kept_exactly(offline: OfflineServer, tmp_path: Path) -> None:
    text = "a\x00b\r\n\u2028\ufeff\U0010ffff\x1b[0m\x7f"
    with chat_with(offline, db=tmp_path / "a.db", conversation="c") as chat:
        chat.request(text)
        assert offline.requests[-1].body["messages"][-1] == user_msg(text)
    with chat_with(offline, db=tmp_path / "a.db", conversation="c") as again:
        assert again.fetch_messages()[0] == user_msg(text)


def test_fork_restore_and_at_use_versions(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("自然数1的后面是几?")
    first = chat.version
    chat.request("再往后呢?")
    fork = chat.fork("f", at=first)
    assert fork.request("自然数7的后面是几?") == "8"
    assert [m["content"] for m in fork.fetch_messages()] == [
        "自然数1的后面是几?",
        "2",
        "自然数7的后面是几?",
        "8",
    ]
    chat.restore(first)
    assert chat.request("再往后呢?") == "3"
    assert chat.at(first) == chat.fetch_messages()[:2]
    assert chat.at(0) == []
    with pytest.raises(UnknownVersion):
        fork.at(0)  # a fork begins with its parent's view
    for bad in (-1, chat.version + 1, True, 1.0):
        with pytest.raises(UnknownVersion):
            chat.at(bad)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert len(chat.head) == 64 and chat.head != fork.head
    assert event_types(fork)[0] == "forked"


def test_version_of_an_empty_chat_can_be_given_back(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    empty = chat.version
    assert chat.at(empty) == []
    chat.restore(empty)
    assert chat.version == empty
    chat.request("自然数1的后面是几?")
    assert chat.at(empty) == []
    assert chat.fork(at=empty).fetch_messages() == []
    chat.restore(empty)
    assert chat.fetch_messages() == [] and chat.undo() == 1 and len(chat.fetch_messages()) == 2
    assert chat_with(offline).fork(at=empty).fetch_messages() == []
    assert chat.engine.verify().ok


def test_events_are_readable_when_printed(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("自然数1的后面是几?")
    for record in chat.events():
        for text in (repr(record), str(record), repr(record.event)):
            assert "\\x" not in text and "\\u" not in text and "=b'" not in text
    assert "自然数1的后面是几?" in repr([*chat.events()][2]) and "自然数" in repr([*chat.events()][2].event)
