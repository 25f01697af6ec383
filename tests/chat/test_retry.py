"""`retry` after answers, failures and interruptions."""

from __future__ import annotations

import openai
import pytest

from openai2 import Chat, Engine, GroupChat, Refused, system_msg, user_msg
from openai2.core import decisions
from openai2.core.request_events import RequestSpec
from openai2.request.effects import Open
from tests.support.chats import KEY, Scripted, chat_with, roles
from tests.support.servers import ScriptedServer, completion, error


def test_retry_replaces_the_answer_when_the_new_one_is_there(scripted: Scripted) -> None:
    server = scripted(completion("one"), completion("two"), error(500, "no"), completion("three"))
    chat = chat_with(server)
    with pytest.raises(Refused, match="no question"):
        chat.retry()
    assert chat.version <= 1
    chat.request("hi")
    assert chat.retry() == "two"
    assert server.asked[-1].body["messages"] == [user_msg("hi")]
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "two"]
    with pytest.raises(openai.InternalServerError):
        chat.retry()
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "two"]
    assert chat.retry() == "three"
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "three"]
    answers = [r.data["message"]["content"] for r in chat.events() if "answer" in r.data]
    assert answers == ["one", "two", "three"]


def test_group_retry_uses_the_remarks_of_the_failed_question(scripted: Scripted) -> None:
    server = scripted(error(500, "no"), completion("[]"))
    with GroupChat(KEY, "m", base_url=server.base_url, max_retries=0) as group:
        group.add_dialog("Ann", ["Bob"], "hello")
        with pytest.raises(openai.InternalServerError):
            group.request([("Bob", ["Ann"])])
        group.add_dialog("Ann", ["Bob"], "are you there?")
        assert group.retry() == "[]"
        assert "hello" in server.asked[-1].body["messages"][0]["content"]
        assert [each.remark for each in group.pending_remarks()] == ["are you there?"]


def test_retry_after_failure_asks_on_the_tool_result(scripted: Scripted) -> None:
    server = scripted(error(500, "no"), completion("sunny"))
    chat = chat_with(server)
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    chat.add_dialogs(
        user_msg("weather?"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    )
    with pytest.raises(openai.InternalServerError):
        chat.request()
    assert chat.retry() == "sunny"
    assert len(server.asked[-1].body["messages"]) == 3
    assert roles(chat) == "uata"


def test_kept_draft_of_a_retry_replaces_the_old_answer() -> None:
    with Engine() as engine:
        conversation = engine.create()
        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        conversation.add(
            [
                user_msg("weather?"),
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "1", "content": "sun"},
                {"role": "assistant", "content": "old"},
            ]
        )
        conversation.pin(0)
        opening = Open(RequestSpec(question=[], model="m", retry=True), lambda: None)
        conversation.store.transact(conversation.begin_job(opening))
        # Meanwhile the limit removes the call, the first message of the old answer.
        conversation.commit(lambda state: decisions.truncated(state.view, 2))
        with engine.store.reading() as reader:
            (draft,) = reader.drafts()
        partial = b'{"role":"assistant","content":"new"}'
        conversation.keep(draft._replace(partial=partial))
        assert [m["content"] for m in conversation.messages()] == ["weather?", "new"]


def test_retry_of_a_failed_retry_is_a_retry() -> None:
    """Its question was rolled back meanwhile, so there is nothing to ask again."""
    with ScriptedServer(error(400, "no")) as server:
        chat = Chat(KEY, "m", base_url=server.base_url)
        chat.add_dialogs(system_msg("be brief"), user_msg("hello"))
        with pytest.raises(openai.BadRequestError):
            chat.retry()
        chat.rollback()
        with pytest.raises(Refused):
            chat.retry()
        assert chat.fetch_messages() == [system_msg("be brief")]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_retry_asks_the_last_question_even_if_it_left_the_view(scripted: Scripted, limit: int) -> None:
    server = scripted(completion("A1"), completion("A2"), completion("new"))
    chat = chat_with(server)
    if limit == 3:
        chat.request("pinned")
        chat.pin_messages(0, 1)
    chat.MsgMaxCount = limit
    chat.request("last")
    before = chat.fetch_messages()
    answer = chat.retry()
    assert server.asked[-1].body["messages"][-1] == user_msg("last")
    assert chat.fetch_messages() == [*before[:-1], {"role": "assistant", "content": answer}]
    assert chat.undo() == 1 and chat.fetch_messages() == before
    assert chat.engine.verify().ok


def test_retry_never_takes_a_pinned_message_out(scripted: Scripted) -> None:
    server = scripted(completion("one"), completion("two"))
    chat = chat_with(server)
    chat.request("hi")
    chat.add_dialogs(system_msg("be brief"))
    chat.pin_messages(-1)
    chat.retry()
    assert server.asked[-1].body["messages"] == [user_msg("hi"), system_msg("be brief")]
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "two", "be brief"]
    chat.pin_messages(1)
    before = chat.version
    with pytest.raises(Refused, match="pinned"):
        chat.retry()
    assert chat.version == before and len(server.asked) == 2


@pytest.mark.parametrize("depth", [1, 2])
def test_retry_in_a_fork_asks_the_question_that_failed(scripted: Scripted, depth: int) -> None:
    server = scripted(completion("one"), error(500, "no"), completion("two"))
    chat = chat_with(server)
    chat.request("first")
    with pytest.raises(openai.InternalServerError):
        chat.request("failed")
    fork = chat
    for _ in range(depth):
        fork = fork.fork()
    assert fork.retry() == "two"
    assert [m["content"] for m in fork.fetch_messages()] == ["first", "one", "failed", "two"]
    assert len(chat.fetch_messages()) == 2 and chat.engine.verify().ok


def test_retry_of_a_failed_retry_asks_the_question_that_left_the_view(scripted: Scripted) -> None:
    server = scripted(completion("one"), error(500, "no"), completion("two"))
    chat = chat_with(server, MsgMaxCount=1)
    chat.request("hi")
    with pytest.raises(openai.InternalServerError):
        chat.retry()
    assert chat.retry() == "two"
    assert [asked.body["messages"] for asked in server.asked] == [[user_msg("hi")]] * 3
    assert [m["content"] for m in chat.fetch_messages()] == ["two"]
