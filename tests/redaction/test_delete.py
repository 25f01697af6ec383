"""delete: all content of a conversation is removed, and it is in no list."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from openai2 import Engine, Refused, UnknownConversation, user_msg
from openai2.store import Draft
from tests.support.stores import SECRET, asked, busy, files_with, long, plain


def test_deleted_conversation_is_empty_and_not_listed(engine: Engine, path: Path) -> None:
    a = engine.create("name-" + SECRET)
    a.add([user_msg(f"{SECRET} {number}") for number in range(50)])
    a.set_role("Ann", SECRET)
    asked(a, SECRET, None)
    engine.store.transact(lambda tx: tx.put_draft(Draft(a.id, 9, "me", 0.0, SECRET.encode())))
    head = a.head
    other = Engine(path).open(a.id)
    other.messages()
    report = engine.delete(a.id, reason="asked to")
    assert report.clean and not files_with(path)
    assert engine.verify(heads=[head]).ok
    assert not engine.conversations(archived=None)
    for handle in (a, other):
        with pytest.raises(UnknownConversation, match="deleted"):
            handle.messages()
        with pytest.raises(UnknownConversation, match="deleted"):
            handle.add([user_msg("more")])
    with pytest.raises(UnknownConversation):
        engine.open(a.id)
    engine.rebuild()
    assert not engine.conversations(archived=None) and engine.verify().ok
    other.store.close()


def test_long_conversation_is_deleted_in_linear_time(engine: Engine, path: Path) -> None:
    long(engine, size=6000)
    schema = engine.store.transact(lambda tx: tx.sql.execute("PRAGMA schema_version").fetchone())
    started = time.process_time()
    assert len(engine.delete("long").versions) == 6001
    assert time.process_time() - started < 8, "quadratic time takes longer"
    assert engine.verify().ok
    # VACUUM changes the schema once; dropping and creating a guard would be two more changes.
    assert engine.store.transact(lambda tx: tx.sql.execute("PRAGMA schema_version").fetchone()) == (
        schema[0] + 1,
    )
    with plain(path) as sql, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql.execute("UPDATE events SET data = '' WHERE version = 6001 + 5")


def test_delete_refuses_a_reason_that_quotes_a_text(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("x"), user_msg(f"it is {SECRET}, say no more")])
    with pytest.raises(Refused, match="the reason quotes"):
        engine.delete("a", reason=f"{SECRET} was typed")
    assert conversation.version == 3 and conversation.messages()[0] == user_msg("x")
    engine.delete("a", reason="no more needed")
    assert not files_with(path)


def test_conversation_with_forks_is_not_deleted(engine: Engine) -> None:
    a = engine.create("a")
    a.add([user_msg("x")])
    a.fork("b")
    a.fork()
    before = engine.heads()
    with pytest.raises(Refused, match="b, "):
        engine.delete("a")
    assert engine.heads() == before
    for name in [line.id for line in engine.conversations() if line.parent]:
        engine.delete(name)
    engine.delete("a")
    assert engine.verify().ok and not engine.conversations()


def test_every_busy_conversation_can_be_deleted(engine: Engine) -> None:
    conversations = busy(engine)
    for name in ("group", "put away", "deeper", "side", "main"):
        engine.delete(conversations[name].id)
        assert engine.verify().ok
        engine.rebuild()
        assert engine.verify().ok
