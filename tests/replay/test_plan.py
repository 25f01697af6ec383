"""What a replay asks again, repeats, copies and leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openai2 import BadInput, Chat, GroupChat, Refused, UnknownVersion, assistant_msg, system_msg, user_msg
from openai2.core import events as ev
from openai2.offline import OfflineServer
from tests.support.chats import event_types
from tests.support.replays import KEY, FakeApi, check_store


def pins_of(chat: Chat) -> list[bool]:
    return [item.pinned for item in chat.conversation.view_messages()]


def texts_of(chat: Chat) -> list[str]:
    return [message["content"] for message in chat.fetch_messages()]


def test_each_question_is_asked_after_the_new_answers() -> None:
    api = FakeApi(lambda body: f"{body['model']} {len(body['messages'])}")
    with api.chat(model="old", temperature=0.5) as chat:
        chat.request("one")
        chat.request("two", seed=7)
        with chat.replay("new", temperature=1.0, name="again") as twin:
            assert twin.fetch_messages() == [
                *(user_msg("one"), assistant_msg("new 1"), user_msg("two"), assistant_msg("new 3"))
            ]
            assert api.bodies[-1] == {
                "messages": [user_msg("one"), assistant_msg("new 1"), user_msg("two")],
                "temperature": 1.0,
                "seed": 7,
                "model": "new",
            }
            assert twin.model == "new" and twin.conversation.name == "again"
            first = next(twin.events()).event
            assert isinstance(first, ev.Forked) and first.reason == "replay" and first.replay is not None
            assert (first.replay.source, first.replay.model) == (chat.conversation.id, "new")
            assert [r.event.replays for r in twin.events() if r.type == "request_started"] == [4, 7]
            twin.request("three")
            assert api.bodies[-1]["temperature"] == 0.5  # the dialogue's own again
        check_store(chat)
        told = chat.engine.diff(chat.conversation, "again")
        assert (told.changed, told.only_b, told.same) == (2, 1, 0)


def test_other_changes_of_the_view_are_repeated(offline: OfflineServer) -> None:
    with Chat(KEY, base_url=offline.base_url, MsgMaxCount=6) as chat:
        chat.add_dialogs(system_msg("be short"))
        chat.pin_messages(0)
        for _ in range(4):
            chat.request("自然数1的后面是几?")
        chat.pin_messages(-1, -2)
        list(chat.stream_request("再往后是几?"))
        chat.rollback()
        chat.undo()
        chat.retry()
        chat.unpin_messages(-3)
        chat.restore(8)
        chat.add_dialogs(user_msg("made up"), assistant_msg("by hand"))
        with chat.replay() as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert pins_of(twin) == pins_of(chat)
            assert event_types(twin)[1:] == event_types(chat)[1:]
        check_store(chat)


def test_new_system_message_keeps_place_and_pin() -> None:
    api = FakeApi()
    with api.chat() as chat:
        chat.add_dialogs(user_msg("hello"), {"role": "developer", "content": "old", "name": "boss"})
        chat.pin_messages(1)
        chat.request("one")
        with chat.replay(system="new") as twin:
            assert twin.fetch_messages()[1] == {"role": "developer", "content": "new", "name": "boss"}
            assert pins_of(twin)[:2] == [False, True]
        chat.request("two")
        asked = len(api.bodies)
        with chat.replay(system="new", at=chat.version - 2) as twin:
            assert len(api.bodies) == asked + 1 and api.asked[-1] == "two"
            assert texts_of(twin)[:3] == ["hello", "new", "one"]
            assert pins_of(twin)[:2] == [False, True]
        check_store(chat)


def test_first_system_message_comes_first_and_is_pinned() -> None:
    with FakeApi().chat() as chat:
        chat.request("one")
        chat.request("two")
        for at in (None, 5):
            with chat.replay(system="new", at=at) as twin:
                held = twin.conversation.view_messages()
                assert held[0].message == system_msg("new") and held[0].pinned and len(held) == 5
        check_store(chat)


def test_replay_from_a_version_shares_earlier_events() -> None:
    api = FakeApi(lambda body: f"{len(api.bodies)}")
    with api.chat() as chat:
        for text in ("one", "two", "three"):
            chat.request(text)
        with chat.replay(at=6) as twin:  # the second question
            assert api.asked[3:] == ["two", "three"]
            assert texts_of(twin) == ["one", "1", "two", "4", "three", "5"]
            assert next(twin.events()).event.version == 4  # type: ignore[attr-defined]
        check_store(chat)
        with pytest.raises(UnknownVersion):
            chat.replay(at=100)


def test_restore_to_before_the_fork_copies_the_messages() -> None:
    api = FakeApi()
    with api.chat() as chat:
        chat.add_dialogs(system_msg("s"))
        chat.pin_messages(0)
        chat.request("one")
        chat.request("two")
        chat.restore(3)
        chat.request("three")
        with chat.replay(at=8) as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert pins_of(twin) == [True, False, False]
        check_store(chat)


def test_replay_of_a_fork_includes_inherited_rounds() -> None:
    api = FakeApi(lambda body: f"{body['model']}: {body['messages'][-1]['content']}")
    with api.chat() as chat:
        chat.request("one")
        chat.request("two")
        with chat.fork(at=4) as branch:
            branch.request("three")
            with branch.replay("new") as twin:
                assert texts_of(twin) == ["one", "new: one", "three", "new: three"]
            with branch.replay("new", at=1) as twin:  # its own part only
                assert texts_of(twin) == ["one", "gpt-4o-mini: one", "three", "new: three"]
            with branch.replay("third").replay("fourth") as twin:
                assert twin.fetch_messages()[-1]["content"] == "fourth: three"
        check_store(chat)


def test_failed_requests_are_left_out_stopped_ones_asked() -> None:
    api = FakeApi(lambda body: "a whole answer")
    with api.chat() as chat:
        api.fails = lambda number: number == 1
        with pytest.raises(openai.InternalServerError):
            chat.request("fails")
        chat.request("works")
        stream = chat.stream_request("stopped")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert api.asked == ["fails", "works", "stopped"]
        chat.replay("new").close()
        assert api.asked[3:] == ["works", "stopped"]
        api.fails = lambda number: number == 6
        with pytest.raises(openai.InternalServerError):
            chat.request("fails, then works")
        chat.retry()
        asked = len(api.asked)
        chat.replay("third").close()
        assert api.asked[asked:] == ["works", "stopped", "fails, then works"]
        check_store(chat)


def test_tool_calls_are_copied_with_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "add", "parameters": {}}}]

    def said(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] not in ("add", "add, and leave it"):
            return body["model"]
        mine = call | {"id": f"c{len(body['messages'])}"}
        return {"role": "assistant", "content": None, "tool_calls": [mine]}

    api = FakeApi(said)
    with api.chat() as chat:
        assert chat.request("add", tools=tools) == ""
        result = {"role": "tool", "tool_call_id": "c1", "content": "5"}
        chat.request(messages=[result])
        chat.request("add, and leave it")
        with chat.replay("new") as twin:
            assert api.asked[3:] == ["5", "add, and leave it"]  # the second call has no result: it is asked
            question, called, told, last = twin.fetch_messages()[:4]
            assert question == user_msg("add") and called["tool_calls"] == [call] and told == result
            assert last == assistant_msg("new")
        check_store(chat)


def test_redacted_question_is_not_asked() -> None:
    from openai2.replay.source import Source, SourceEvent

    asked = ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), request=2)
    message = msgspec.Raw(b'{"role":"assistant","content":"y"}')
    said = ev.MessageAdded(message=message, request=2, question=[3], answer=ev.Answer())
    stream: list[ev.Event] = [ev.Created(), ev.RequestStarted(view=1), asked, said]
    for emptied, steps in ((False, [4]), (True, [])):
        told = [SourceEvent(n, n, 0, event, emptied and n == 3) for n, event in enumerate(stream, 1)]
        assert list(Source(told, 1).steps) == steps


def test_deleted_replay_hides_the_new_system_message(tmp_path: Path) -> None:
    from openai2.redaction import redact

    db = tmp_path / "log.db"
    with FakeApi().chat(db) as chat:
        chat.request("one")
        with chat.replay(system="a secret prompt") as twin:
            redact.delete(chat.engine.store, twin.conversation.id)
        check_store(chat)
    assert b"a secret prompt" not in db.read_bytes()


def test_group_chat_is_replayed_with_roles_and_remarks(offline: OfflineServer) -> None:
    with GroupChat(KEY, base_url=offline.base_url) as group:
        group.roles = {"苏轼": "诗人", "李清照": "词人"}
        group.add_dialog("李清照", ["苏轼"], "你好")
        group.request([("苏轼", ["李清照"])])
        group.add_dialog("李清照", ["苏轼"], "再见")
        with group.replay("new") as twin:
            assert isinstance(twin, GroupChat)
            assert twin.fetch_messages() == group.fetch_messages()
            assert dict(twin.roles) == dict(group.roles)
            assert twin.pending_remarks() == group.pending_remarks()
            assert group.engine.verify().ok


actions = st.lists(
    st.tuples(st.sampled_from("request stream add pin unpin rollback undo redo restore retry".split()),
              st.integers(0, 40)),
    max_size=14,
)  # fmt: skip


@example([("request", 0), ("retry", 0), ("restore", 40)], None, 1, 0)
@example([("request", 0)] * 3 + [("restore", 0), ("restore", 3), ("undo", 0)], None, 8, 0)
@settings(max_examples=40)
@given(actions, st.sampled_from([None, None, 3, 4]), st.integers(1, 20), st.integers(0, 6))
def test_replay_with_equal_answers_gives_an_equal_view(
    steps: list[tuple[str, int]], limit: int | None, at: int, fails: int
) -> None:
    """Whatever happened, from wherever on, and wherever the server gave up in between."""
    api = FakeApi(lambda body: f"after {body['messages'][-1]['content']}")
    with api.chat(MsgMaxCount=limit) as chat:
        for kind, number in steps:
            _act(chat, kind, number)
        questions = [r for r in chat.events() if r.type == "request_started"]
        for start in (None, max(1, min(at, chat.version))):
            asked = len(api.bodies)
            api.fails = lambda number, asked=asked: number == asked + fails  # type: ignore[misc]
            for _ in range(2):
                try:
                    twin = chat.replay(at=start)
                except (Refused, UnknownVersion):
                    assert start is not None or not questions
                    break
                except openai.InternalServerError:
                    continue
                else:
                    assert twin.fetch_messages() == chat.fetch_messages()
                    assert pins_of(twin) == pins_of(chat)
                    twin.close()
                    break
            if start is None:
                assert len(api.bodies) - asked <= len(questions) + 1
        check_store(chat)


def _act(chat: Chat, kind: str, number: int) -> None:
    size = len(chat.fetch_messages())
    try:
        if kind == "request":
            chat.request(f"question {number}")
        elif kind == "stream":
            list(chat.stream_request(f"question {number}"))
        elif kind == "add":
            chat.add_dialogs(user_msg(f"made up {number}"), assistant_msg("yes"))
        elif kind in ("pin", "unpin") and size:
            getattr(chat, f"{kind}_messages")(number % size)
        elif kind == "restore" and chat.version:
            chat.restore(1 + number % chat.version)
        elif kind in ("undo", "redo", "rollback"):
            getattr(chat, kind)(1 + number % 3)
        elif kind == "retry":
            chat.retry()
    except (BadInput, Refused):
        pass
