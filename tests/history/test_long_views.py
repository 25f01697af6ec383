"""Reading messages by id: page by page for long views, with redactions and damage."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from openai2 import Conversation, DamagedStore, Engine, Openai2Error, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import decoded_messages, encoded_messages
from openai2.store import Reader
from tests.support.stores import asked, long, plain


def _read_singly(engine: Engine, conversation: Conversation) -> list[msg.Message]:
    with engine.store.reading() as reader:
        lineage = Lineage.read(reader, conversation.id)
        ids = views.view_at(reader, lineage, reader.head(conversation.id)[0]).ids
        texts = encoded_messages(reader, lineage, ids)
    return [msg.decode(texts[number]) for number in ids]


def test_long_view_equals_its_events_read_singly(engine: Engine) -> None:
    conversation = long(engine, size=1500)
    conversation.add([{"role": "user", "content": [{"type": "text", "text": "ünïcode 二 🎈"}], "name": "x"}])
    asked(conversation, "and?", "then, some.")
    asked(conversation, "failed", None)
    conversation.rollback(300)
    fork = conversation.fork("fork", at=1300)
    fork.add([user_msg(f"on {number}") for number in range(700)])
    fork.restore(200)
    fork.add([user_msg("last")])
    conversation.undo()
    for name in ("long", "fork"):
        opened = engine.open(name)
        expected = _read_singly(engine, opened)
        assert opened.messages() == expected and len(expected) > 1400
        assert [item.message for item in opened.view_messages()] == opened.with_limit(5000) == expected
        assert opened.messages(last=800) == expected[-800:]
        opened.add([user_msg("kept in memory")])
        assert opened.messages() == [*expected, user_msg("kept in memory")]


def test_redacted_message_is_masked_in_long_view(engine: Engine) -> None:
    conversation = long(engine, size=1200)
    before = conversation.messages()
    engine.redact("long", conversation.view().ids[700])
    after = engine.open("long").messages()
    assert "question 350" not in str(after[700]) and after[700]["role"] == "user"
    assert [*after[:700], *after[701:]] == [*before[:700], *before[701:]]


def test_messages_are_new_dicts_each_time(engine: Engine) -> None:
    conversation = long(engine, size=1200)
    first = conversation.messages()
    first[0]["content"] = "changed"
    assert conversation.messages()[0]["content"].startswith("question 0")


def test_sparse_messages_are_read_singly(engine: Engine) -> None:
    conversation = engine.create("sparse")
    for _ in range(520):
        conversation.add([user_msg("stays")])
        conversation.pin(-1)
        conversation.add([user_msg("goes")] * 6)
        conversation.rollback(6)
    found = engine.open("sparse").messages()
    assert found == [user_msg("stays")] * 520 == _read_singly(engine, conversation)


@pytest.mark.parametrize("harm", ['{"message":{"role":"user"', '{"message":1}', '{},{"message":{}}'])
def test_damaged_message_raises_damaged_store(engine: Engine, tmp_path: Path, harm: str) -> None:
    conversation = long(engine, size=1200)
    engine.close()
    with plain(tmp_path / "store.db", unguarded=True) as sql:
        sql.execute("UPDATE events SET data = ? WHERE version = 700", (harm,))
    with Engine(tmp_path / "store.db") as damaged, pytest.raises(DamagedStore):
        damaged.open(conversation.id).messages()


def test_missing_event_raises_an_error(engine: Engine, tmp_path: Path) -> None:
    long(engine, size=1200)
    with plain(tmp_path / "store.db", unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE version = 300")
        sql.execute("UPDATE events SET version = version + 5000 WHERE version = 301")
    with pytest.raises(Exception, match="has no message 300"):
        engine.open("long").view_messages(1200)


def test_reading_last_messages_caches_no_text(engine: Engine) -> None:
    written = engine.create("a")
    watching: Any = engine.open("a")
    for number in range(200):
        written.add([user_msg(str(number))])
        assert watching.messages(last=1) == [user_msg(str(number))] and watching.version == number + 2
    assert not watching._stream._texts


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("number", [-1, 0, 1, 99])
def test_id_without_message_raises_an_error(engine: Engine, read: bool, number: int) -> None:
    engine.create("a").add([user_msg("x")])
    conversation = engine.open("a")
    if read:
        conversation.messages()
    assert conversation.message(2) == user_msg("x")
    with pytest.raises(Openai2Error, match=f"has no message {number}"):
        conversation.message(number)


def test_text_lost_without_redaction_is_damage(engine: Engine, tmp_path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("x")])
    conversation.commit(lambda state: [ev.RemarkAdded(speaker="Ann", audiences=["Bob"], remark="hello")])
    with plain(tmp_path / "store.db", unguarded=True) as sql:
        sql.execute("UPDATE events SET data = '' WHERE version IN (2, 3)")
    for lost in (lambda: engine.open("a").message(2), conversation.group_state):
        with pytest.raises(DamagedStore, match="has lost the content"):
            lost()


if sys.version_info >= (3, 11):  # before, sqlite3 cannot set limits

    def test_page_above_sqlite_limit_is_read_singly(engine: Engine) -> None:
        conversation = long(engine, size=1200)
        with engine.store.reading() as reader:
            plainly = reader.added_joined(conversation.id, 2, 600)
            assert plainly is not None and len(plainly[1]) > 50_000
            before = reader.sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
            try:
                assert reader.added_joined(conversation.id, 2, 600) is None
                lineage = Lineage.root(conversation.id)
                found = decoded_messages(reader, lineage, range(2, 1202))
            finally:
                reader.sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
        assert list(found.values()) == conversation.messages()


def test_long_view_is_read_in_pages_of_512(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    long(engine, size=4000)
    pages = 0
    plainly = Reader.added_joined

    def counted(self: Reader, conversation: str, first: int, last: int) -> tuple[str, bytes] | None:
        nonlocal pages
        pages += 1
        return plainly(self, conversation, first, last)

    monkeypatch.setattr(Reader, "added_joined", counted)
    assert len(engine.open("long").messages()) == 4000
    assert pages == 8
