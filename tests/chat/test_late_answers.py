"""The conversation changes while an answer is on its way: where the answer then joins the view, if at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from openai2 import Chat, Engine, Refused, assistant_msg, system_msg, user_msg
from openai2.core import events as ev
from tests.support import servers
from tests.support.chats import WAYS, Scripted, ask, chat_with, either
from tests.support.servers import Reply, ScriptedServer, completion, error

LATE = "late answer"
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "sun"}

#: What happens between question and answer. All of it can be done on any of the views below.
GAPS: dict[str, Callable[[Chat], object]] = {
    "nothing": lambda other: None,
    "round": lambda other: other.request("Q?"),
    "added round": lambda other: other.add_dialogs(user_msg("U"), assistant_msg("V")),
    "added answer": lambda other: other.add_dialogs(assistant_msg("W")),
    "added system": lambda other: other.add_dialogs(system_msg("S")),
    "rollback": lambda other: other.rollback(),
    "rollback and round": lambda other: (other.rollback(), other.request("Q?")),
    "all pinned": lambda other: other.pin_messages(*range(len(other.fetch_messages()))),
    "restore": lambda other: other.restore(1),
    "undo": lambda other: other.undo(),
    "undo and redo": lambda other: (other.undo(), other.redo()),
    "truncation": lambda other: _limited(other, 2).request("Q?"),
    "retry": lambda other: other.retry(),
    "rename": lambda other: other.conversation.rename("n"),
    "archive": lambda other: other.conversation.archive(),
    "role and remark": lambda other: other.conversation.commit(
        lambda state: [
            ev.RoleSet(name="a", description="b"),
            ev.RemarkAdded(speaker="a", audiences=["b"], remark="c"),
        ]
    ),
}


def _limited(chat: Chat, limit: int) -> Chat:
    chat.MsgMaxCount = limit
    return chat


#: How the question is put: what is in view before, and the call.
QUESTIONS: dict[str, tuple[list[Any], str, tuple[Any, ...], dict[str, Any]]] = {
    "retry": ([user_msg("0"), assistant_msg("1"), user_msg("2"), assistant_msg("3")], "retry", (), {}),
    "view as it is": ([user_msg("0"), assistant_msg("1"), user_msg("2")], "request", (), {}),
    "tool result": ([user_msg("0"), CALL], "request", (), {"messages": [RESULT]}),
    "new question": ([user_msg("0"), assistant_msg("1")], "request", ("2",), {}),
}


@pytest.fixture
def others() -> Iterator[ScriptedServer]:
    with ScriptedServer(either("other answer")) as server:
        yield server


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_answer_stands_behind_its_question_or_view_stays(
    question: str, how: str, scripted: Scripted, others: ScriptedServer, tmp_path: Path
) -> None:
    before, name, args, options = QUESTIONS[question]
    changed: list[list[Any]] = []

    def meanwhile(gap: str) -> Callable[[servers.Asked], Reply]:
        def reply(asked: servers.Asked) -> Reply:
            other = chat_with(others, db=second, conversation=gap)
            with contextlib.suppress(Refused):  # a retry without a question
                GAPS[gap](other)
            changed.append(other.fetch_messages())
            return either(LATE)(asked)

        return reply

    server = scripted(*map(meanwhile, GAPS))
    with Engine(tmp_path / "a.db") as first, Engine(tmp_path / "a.db") as second:
        for gap in GAPS:
            chat = chat_with(server, db=first, conversation=gap)
            chat.add_dialogs(*before)
            refused = _refused(lambda chat=chat: ask(chat, how, *args, method=name, **options))  # type: ignore[misc]
            old = changed.pop()
            assert not changed
            if name == "retry" and refused is None:
                old = [message for message in old if message != before[-1]]
            place = _place(before[-2] if name == "retry" else before[-1], old)
            if name == "retry" and gap == "all pinned":
                place = None  # the old answer may not be taken out
            come = [*options.get("messages", ()), assistant_msg(LATE)]
            if question == "new question":
                place, come = len(old), [user_msg("2"), *come]
            assert (refused is None) == (place is not None), gap
            assert chat.fetch_messages() == (old if place is None else [*old[:place], *come, *old[place:]]), (
                gap
            )
            if refused is not None:
                assert chat.conversation.message(refused.facts["message"]) == assistant_msg(LATE), gap
        assert first.verify().ok, first.verify()
        listed = [(line.id, line.messages) for line in first.conversations()]
        first.rebuild()
        assert [(line.id, line.messages) for line in first.conversations()] == listed


def _refused(ask: Callable[[], object]) -> Refused | None:
    try:
        ask()
    except Refused as error:
        return error
    return None


def _place(question: Any, view: list[Any]) -> int | None:
    """The place right behind the question, if it is there and free."""
    if question not in view:
        return None
    place = view.index(question) + 1
    return place if place == len(view) or view[place]["role"] in ("user", "system") else None


def test_second_of_two_retries_at_once_is_refused(others: ScriptedServer) -> None:
    chat = chat_with(others)
    chat.add_dialogs(user_msg("Q1"), assistant_msg("old"))
    one, two = chat.stream_retry(), chat.stream_retry()
    assert next(one) and next(two)
    assert "".join(one)
    before = chat.fetch_messages()
    with pytest.raises(Refused, match="on record"):
        list(two)
    assert chat.fetch_messages() == before
    late = [*chat.events()][-1].event
    assert isinstance(late, ev.MessageAdded) and not late.joined
    assert chat.undo() == 1 and [m["content"] for m in chat.fetch_messages()] == ["Q1", "old"]


def test_retries_at_once_of_a_failed_question_answer_it_once(scripted: Scripted) -> None:
    chat = chat_with(scripted(error(500, "no"), either("yes")))
    with pytest.raises(openai.InternalServerError):
        chat.request("Q1")
    one, two = chat.stream_retry(), chat.stream_retry()
    assert next(one) and next(two)
    list(one)
    with pytest.raises(Refused):
        list(two)
    assert chat.fetch_messages() == [user_msg("Q1"), assistant_msg("yes")]
    assert chat.engine.verify().ok


def test_stopped_answer_without_place_is_on_record_only(others: ScriptedServer) -> None:
    chat = chat_with(others)
    chat.add_dialogs(user_msg("Q1"), assistant_msg("old"))
    stream = chat.stream_retry()
    next(stream)
    chat.rollback()
    stream.close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert chat.fetch_messages() == []
    added, ended = [record.event for record in chat.events()][-2:]
    assert isinstance(added, ev.MessageAdded) and not added.joined
    assert isinstance(ended, ev.RequestStopped) and ended.kept
    assert chat.engine.verify().ok
    with pytest.raises(Refused, match="no question"):
        chat.retry()


def test_inserted_answer_is_seen_by_every_reader(scripted: Scripted, tmp_path: Path) -> None:
    """At any version, in forks, in `why`, in a search, in a copy by archive, and in a replay."""
    chat = chat_with(scripted(either("new words")), db=tmp_path / "a.db", conversation="c")
    chat.add_dialogs(user_msg("Q1"), assistant_msg("old"))
    stream = chat.stream_retry()
    next(stream)
    chat.add_dialogs(user_msg("Q2"), assistant_msg("A2"))
    list(stream)
    expected = ["Q1", "new words", "Q2", "A2"]
    assert [m["content"] for m in chat.fetch_messages()] == expected
    assert [m["content"] for m in chat.at(chat.version)] == expected
    assert [m["content"] for m in chat.conversation.messages(last=2)] == expected[2:]
    with chat.fork() as fork:
        assert [m["content"] for m in fork.fetch_messages()] == expected
    (put_in,) = [why.put_in for why in chat.conversation.why() if why.message["content"] == "new words"]
    assert put_in is not None and put_in.type == "message_added"
    found = chat.engine.search("words")
    assert [hit.joined for hit in found] == [True]
    chat.engine.export(file=tmp_path / "a.jsonl")
    with Engine(tmp_path / "b.db") as other:
        other.import_(tmp_path / "a.jsonl")
        assert [m["content"] for m in other.open("c").messages()] == expected
        assert other.verify().ok
    with chat.replay() as replayed:
        assert [m["content"] for m in replayed.fetch_messages()] == expected
    chat.close()


def test_replay_asks_an_inserted_answer_on_the_view_it_answered(scripted: Scripted) -> None:
    server = scripted(either("new"))
    chat = chat_with(server)
    chat.request("Q1")
    stream = chat.stream_retry()
    next(stream)
    chat.request("Q2")
    list(stream)
    asked = [request.body["messages"] for request in server.asked]
    assert chat.fetch_messages() == [
        *[user_msg("Q1"), assistant_msg("new")],
        *asked[2][2:],
        assistant_msg("new"),
    ]
    replayed = chat.replay()
    assert replayed.fetch_messages() == chat.fetch_messages()
    assert [request.body["messages"] for request in server.asked[3:]] == [asked[0], asked[2], asked[1]]
    assert chat.engine.verify().ok


def test_answer_that_pinned_messages_leave_no_room_for_is_on_record_only(scripted: Scripted) -> None:
    def meanwhile(asked: servers.Asked) -> Reply:
        chat.pin_messages(0, 1)
        return completion("yes")

    chat = chat_with(scripted(meanwhile), MsgMaxCount=2)
    chat.add_dialogs(user_msg("0"), assistant_msg("1"))
    with pytest.raises(Refused):
        chat.request("2")
    assert chat.fetch_messages() == [user_msg("0"), assistant_msg("1")]
    assert chat.engine.verify().ok
