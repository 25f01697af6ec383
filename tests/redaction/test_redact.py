"""redact: the text is gone from every file, the chain stays valid, and caches are dropped."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai2 import BadInput, Engine, Refused, UnknownConversation, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.redaction.redact import left_of
from openai2.store import sqlite
from openai2.store.erase import empty
from tests.support.stores import SECRET, asked, busy, files_with, long, plain


def _message_id(engine: Engine, name: str, text: str) -> int:
    return next(item.id for item in engine.open(name).view_messages() if text in str(item.message["content"]))


def test_redacted_secret_is_gone_from_every_file(engine: Engine, path: Path) -> None:
    busy(engine)
    conversation = engine.create("a")
    for number in range(60):
        conversation.add(
            [user_msg(f"{number} my password is {SECRET} {number}" * (number == 30) or "x" * 900)]
        )
    engine.search("password")
    before = conversation.messages()
    assert files_with(path)
    head = conversation.head
    report = engine.redact("a", _message_id(engine, "a", SECRET), reason="it slipped")
    assert report.clean and report.versions == [32] and not report.also_in
    assert not files_with(path)
    assert engine.verify(heads=[head]).ok
    after = conversation.messages()
    assert after[30] == {"role": "user", "content": "[redacted]"}
    assert after[:30] + after[31:] == before[:30] + before[31:]
    assert not list(engine.search("password"))
    engine.rebuild()
    assert engine.verify().ok
    with Engine(path) as again:
        assert again.open("a").messages() == after
        assert again.open("a").at(40) == after[:39]


def test_redaction_reaches_forks_and_open_conversations(engine: Engine, path: Path) -> None:
    parent = engine.create("parent")
    parent.add([user_msg(SECRET), assistant_msg("fine")])
    fork = parent.fork("fork")
    fork.add([user_msg("on")])
    early = parent.fork("early", at=1)
    other = Engine(path).open("fork")
    for handle in (parent, fork, other):
        assert SECRET in str(handle.messages())
    report = engine.redact("fork", 2)
    assert report.conversation == parent.id
    assert report.shared_by == [fork.id] and early.id not in report.shared_by
    for handle in (parent, fork, other):
        assert SECRET not in str(handle.messages())
        assert SECRET not in str(handle.view_messages())
    assert engine.verify().ok
    other.store.close()


def test_redacted_answer_keeps_its_facts(engine: Engine) -> None:
    a = engine.create("a")
    asked(a, "question", "answer " + SECRET)
    engine.redact("a", _message_id(engine, "a", SECRET))
    event = list(a.events())[3].event
    assert isinstance(event, ev.MessageAdded) and event.answer
    assert event.answer.model == "gpt-test" and event.answer.finish_reason == "stop"
    assert a.messages()[-1] == assistant_msg("[redacted]")
    assert a.undo() == 1 and a.redo() == 1
    assert engine.verify().ok


def test_failed_request_remark_and_role_can_be_redacted(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    asked(a, "question", None)
    a.set_role("Ann", SECRET)
    a.commit(lambda state: [ev.RemarkAdded(speaker="Ann", audiences=[], remark=SECRET)])
    for number in (4, 5, 6):
        engine.redact("a", number)
    assert not files_with(path) and not files_with(path, "half an")
    assert a.roles() == {"Ann": "[redacted]"}
    assert a.remarks()[0].remark == "[redacted]"
    assert engine.verify().ok


def test_names_can_be_redacted(engine: Engine, path: Path) -> None:
    a = engine.create(SECRET)
    a.rename("plain")
    engine.redact("plain", 1)
    assert not files_with(path)
    assert a.name == "plain"
    engine.redact("plain", 2)
    assert a.name is None
    assert engine.verify().ok
    engine.rebuild()
    assert engine.verify().ok


def test_left_event_keeps_its_kind() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": SECRET}}]
    for message in (
        user_msg(SECRET),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "assistant", "content": None, "function_call": {"name": SECRET, "arguments": SECRET}},
        {"role": "tool", "tool_call_id": "c1", "content": SECRET},
        {"role": "user", "content": [{"type": "text", "text": SECRET}], "name": SECRET, "x": {"y": SECRET}},
    ):
        event = ev.MessageAdded(message=msgspec.Raw(msg.encode(message, "it")))
        left = left_of(event)
        assert isinstance(left, ev.MessageAdded)
        assert SECRET not in ev.encode(left).decode()
        assert msg.kind_of(left.message) == msg.kind_of(event.message)
        assert msg.decode(bytes(left.message)).get("tool_call_id") == message.get("tool_call_id")


@pytest.mark.parametrize("number", [0, -1, 3, 99])
def test_event_without_content_is_refused(engine: Engine, number: int) -> None:
    a = engine.create("a")
    a.add([user_msg("x")])
    a.pin(0)
    with pytest.raises(Refused):
        engine.redact("a", number)
    assert a.version == 3


def test_second_redaction_is_refused(engine: Engine) -> None:
    engine.create("a").add([user_msg("x")])
    engine.redact("a", 2)
    with pytest.raises(Refused, match="has no content"):
        engine.redact("a", 2)
    with pytest.raises(UnknownConversation):
        engine.redact("nobody", 2)


def test_reason_that_quotes_the_text_is_refused(engine: Engine, path: Path) -> None:
    engine.create("a").add([user_msg(f"it is {SECRET}, say no more")])
    with pytest.raises(Refused, match="the reason quotes"):
        engine.redact("a", 2, reason=f"typed {SECRET} by mistake")
    assert engine.open("a").version == 2
    engine.redact("a", 2, reason="typed a password by mistake")
    assert not files_with(path)


@pytest.mark.parametrize("reason", [5, True, ["why"], b"why", "\ud800"])
def test_reason_that_is_not_text_is_refused(engine: Engine, reason: Any) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET)])
    with pytest.raises(BadInput, match="a reason"):
        engine.redact("a", 2, reason)
    with pytest.raises(BadInput, match="a reason"):
        engine.delete("a", reason)
    with pytest.raises(BadInput, match="a reason"):
        conversation.fork(reason=reason)
    assert engine.open("a").messages() == [user_msg(SECRET)]
    assert engine.verify().ok


def test_reader_in_another_connection_makes_it_unclean(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_CHECKPOINT_TIMEOUT", 50)
    engine.create("a").add([user_msg(SECRET)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchone()
    report = engine.redact("a", 2)
    assert not report.clean and files_with(path)
    other.execute("COMMIT")
    other.close()
    assert engine.scrub() and not files_with(path)


def test_guard_works_without_its_index(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET), user_msg("stays")])
    with plain(path) as sql:
        sql.execute("DROP INDEX events_redacted")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            sql.execute("UPDATE events SET data = '' WHERE version = 3")
    engine.redact("a", 2)
    assert not files_with(path)
    assert [problem.what for problem in engine.verify().problems] == [
        "the index events_redacted, which guards the log, is missing"
    ]
    engine.rebuild()
    assert engine.verify().ok
    assert conversation.messages() == [user_msg("[redacted]"), user_msg("stays")]


def test_events_without_redaction_cannot_be_emptied(engine: Engine, path: Path) -> None:
    conversation = long(engine, size=200)
    before = conversation.messages()
    with pytest.raises(Refused, match="append-only"):
        engine.store.transact(lambda tx: empty(tx, [(conversation.id, number) for number in range(2, 90)]))
    assert engine.open("long").messages() == before
    assert engine.verify().ok
