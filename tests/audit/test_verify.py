"""What verify promises: any change, removal, insertion and swap is found and named, and nothing else is."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai2 import BadInput, Conversation, Engine, StoreError, assistant_msg, user_msg
from openai2.audit import worker
from openai2.audit.verify import Problem
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.history import drafts
from openai2.store.audit_reader import Scan
from tests.support.stores import asked, busy, long, plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(params=["here", "beside"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The chain is read in this process, or in one beside it: what is found is the same."""
    if request.param == "beside":
        monkeypatch.setattr(worker, "WORTH", -1)
    return str(request.param)


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine(path) as engine:
        yield engine


def _found(engine: Engine) -> list[Problem]:
    """What verify finds, the guards aside, which these tests have taken off."""
    return [problem for problem in engine.verify().problems if "which guards the log" not in problem.what]


def _named(problems: list[Problem]) -> set[tuple[str | None, int | None]]:
    return {(problem.conversation, problem.version) for problem in problems}


# -- a sound store


def test_a_sound_store_is_sound(engine: Engine) -> None:
    busy(engine)
    report = engine.verify()
    assert report.ok and not report.problems
    assert report.conversations == 6
    assert report.events == len(list(engine.store.reading().__enter__().every_event()))


def test_an_empty_store_and_one_in_memory_are_sound(engine: Engine) -> None:
    assert engine.verify().ok
    with Engine() as memory:
        busy(memory)
        assert memory.verify(heads=memory.heads()).ok


def test_a_list_that_is_behind_is_no_fault(engine: Engine) -> None:
    conversation = engine.create("a")
    engine.conversations()
    conversation.add([user_msg("later")])
    engine.create("b")
    assert engine.verify().ok


def test_what_was_done_to_events_is_told_first(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1"), user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, '1', '3') WHERE version = 2")
    problems = engine.verify().problems
    assert (problems[0].conversation, problems[0].version, problems[0].position) == (conversation.id, 2, 2)
    assert any("which guards the log" in problem.what for problem in problems[1:])


def test_progress_is_told(engine: Engine) -> None:
    long(engine, size=10_000)
    told: list[tuple[int, int]] = []
    engine.verify(progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and len(told) > 3
    assert told[-1][0] == told[-1][1]


# -- heads


def test_heads_are_found_again(engine: Engine) -> None:
    busy(engine)
    heads = engine.heads()
    assert engine.verify(heads=heads).ok
    assert engine.verify(heads=heads.values()).ok
    engine.open("main").add([user_msg("on")])
    assert engine.verify(heads=heads).ok, "a stream may have gone on"


def test_a_cut_tail_is_found_by_its_head(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1"), user_msg("2")])
    heads = engine.heads()
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    assert not _found(engine)
    told = [p for p in engine.verify(heads=heads).problems if "tail was cut" in p.what]
    assert [p.conversation for p in told] == [conversation.id]
    assert any("tail was cut" in p.what for p in engine.verify(heads=heads.values()).problems)


def test_a_head_of_another_conversation_is_no_head_of_this_one(engine: Engine) -> None:
    engine.create("a")
    b = engine.create("b")
    mixed = {b.id: engine.open("a").head}
    assert _named(engine.verify(heads=mixed).problems) == {(b.id, None)}


@pytest.mark.parametrize("head", ["", "xyz", "ab" * 31, "ab" * 33, "ä" * 64])
def test_a_head_that_is_none_is_refused(engine: Engine, head: str) -> None:
    with pytest.raises(BadInput, match="no head"):
        engine.verify(heads=[head])


# -- every byte


def _changes(value: object) -> Iterator[object]:
    """The value with each of its bytes changed in turn."""
    if isinstance(value, int):
        yield from (value + 1, value - 1, value ^ 0x40, str(value) + "x")
        return
    raw = value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ (1 << place % 7)]) + raw[place + 1 :]
        yield changed
    yield raw[:-1]
    yield raw + b"0"
    yield b""


#: Changes that mean the same, and so cannot be found: none of those below is one of them. What is not
#: covered by the hash is the position alone; see `test_positions_are_checked_as_far_as_they_mean_anything`.
_COLUMNS = ("conversation", "version", "batch", "type", "data", "time", "hash")


def _change(sql: sqlite3.Connection, position: int, column: str, value: object) -> bool:
    cast = "CAST(? AS TEXT)" if column != "hash" and isinstance(value, bytes) else "?"
    try:
        sql.execute(f"UPDATE events SET {column} = {cast} WHERE position = ?", (value, position))
    except sqlite3.IntegrityError:
        return False  # the table's own constraints refuse it
    return True


def _try_changes(engine: Engine, sql: sqlite3.Connection, step: int = 1) -> int:
    tried = 0
    rows = sql.execute(
        f"SELECT position, conversation, version, {', '.join(_COLUMNS)} FROM events"
    ).fetchall()
    for position, conversation, version, *values in rows:
        for column, value in zip(_COLUMNS, values, strict=True):
            for number, changed in enumerate(_changes(value)):
                if number % step or not _change(sql, position, column, changed):
                    continue
                problems = _found(engine)
                _change(sql, position, column, value)
                near = {(conversation, version), (conversation, version + 1)}
                assert problems, f"{column} of {conversation} {version}: {value!r} -> {changed!r}"
                assert len(problems) <= 12
                if column not in ("conversation", "version"):
                    assert near & _named(problems), (column, changed, problems)
                tried += 1
    return tried


def test_every_byte_of_every_event_matters(engine: Engine, path: Path, way: str) -> None:
    root = engine.create("a")
    root.add([user_msg("hello"), assistant_msg("hi")])
    root.pin(0)
    fork = root.fork("b", at=2)
    fork.add([user_msg("more")])
    fork.restore(1)
    engine.conversations()
    with plain(path, unguarded=True) as sql:
        if way == "here":
            assert _try_changes(engine, sql) > 800
        else:  # a process each
            assert _try_changes(engine, sql, step=11) > 80
    assert not _found(engine)


@pytest.mark.torture
def test_every_byte_of_a_busy_store_matters(engine: Engine, path: Path) -> None:
    busy(engine)
    with plain(path, unguarded=True) as sql:
        assert _try_changes(engine, sql) > 6_000
    assert not _found(engine)


def test_positions_are_checked_as_far_as_they_mean_anything(engine: Engine, path: Path) -> None:
    """The one change that means the same: two neighbours of different streams and batches trade places,
    neither of which forks from the other. Which of two independent facts was committed first is not part
    of either's hash."""
    a = engine.create("a")
    b = engine.create("b")
    a.add([user_msg("1")])
    b.add([user_msg("1")])
    engine.conversations()
    with plain(path, unguarded=True) as sql:

        def swap(one: int, other: int) -> None:
            sql.execute("UPDATE events SET position = 99 WHERE position = ?", (one,))
            sql.execute("UPDATE events SET position = ? WHERE position = ?", (one, other))
            sql.execute("UPDATE events SET position = ? WHERE position = 99", (other,))

        swap(3, 4)
        assert not _found(engine), "it means the same"
        swap(3, 4)
        swap(1, 3)
        assert _found(engine), "a stream's own order"
        swap(1, 3)
        sql.execute("UPDATE events SET position = 7 WHERE position = 4")
        assert 4 in [p.position for p in _found(engine)], "a hole"


# -- events removed, inserted, swapped


def _removed(sql: sqlite3.Connection, conversation: str) -> None:
    sql.execute("DELETE FROM events WHERE conversation = ? AND version = 5", (conversation,))


def _removed_and_closed_up(sql: sqlite3.Connection, conversation: str) -> None:
    _removed(sql, conversation)
    sql.execute(
        "UPDATE events SET version = -version WHERE conversation = ? AND version > 5", (conversation,)
    )
    sql.execute("UPDATE events SET version = -version - 1 WHERE version < 0")
    for (position,) in sql.execute("SELECT position FROM events WHERE position > 5 ORDER BY 1").fetchall():
        sql.execute("UPDATE events SET position = ? WHERE position = ?", (position - 1, position))


def _swapped(sql: sqlite3.Connection, conversation: str) -> None:
    (five,), (six,) = sql.execute(
        "SELECT data FROM events WHERE conversation = ? AND version IN (5, 6) ORDER BY version",
        (conversation,),
    ).fetchall()
    for version, data in ((5, six), (6, five)):
        sql.execute(
            "UPDATE events SET data = ? WHERE conversation = ? AND version = ?", (data, conversation, version)
        )


def _swapped_whole(sql: sqlite3.Connection, conversation: str) -> None:
    for old, new in ((5, 1000), (6, 5), (1000, 6)):
        sql.execute(
            "UPDATE events SET version = ? WHERE conversation = ? AND version = ?", (new, conversation, old)
        )


def _inserted(sql: sqlite3.Connection, conversation: str) -> None:
    for column in ("position", "version"):
        where = "position > 5" if column == "position" else "position > 5 AND conversation = ?"
        values = () if column == "position" else (conversation,)
        sql.execute(f"UPDATE events SET {column} = -{column} - 1 WHERE {where}", values)
        sql.execute(f"UPDATE events SET {column} = -{column} WHERE {column} < 0")
        if column == "position":
            sql.execute(
                "INSERT INTO events SELECT 6, conversation, 999, batch, type, data, time, hash FROM events"
                " WHERE position = 5"
            )
            sql.execute("UPDATE events SET position = -6 WHERE position = 6")
    sql.execute("UPDATE events SET position = 6, version = 6 WHERE version IN (999, 1000)")


@pytest.mark.parametrize("harm", [_removed, _removed_and_closed_up, _swapped, _swapped_whole, _inserted])
def test_harm_is_named_once_or_twice(
    engine: Engine, path: Path, harm: Callable[[sqlite3.Connection, str], None]
) -> None:
    conversation = engine.create("a")
    for number in range(200):
        conversation.add([user_msg(str(number))])
    engine.conversations()
    with plain(path, unguarded=True) as sql:
        sql.execute("PRAGMA ignore_check_constraints = 1")
        harm(sql, conversation.id)
    problems = _found(engine)
    assert 1 <= len(problems) <= 3, problems
    assert {(conversation.id, 5), (conversation.id, 6)} & _named(problems)


def test_a_removed_first_event_and_a_removed_stream_are_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("1")])
    engine.create("b")
    a.add([user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE conversation = ? AND version = 1", (a.id,))
        assert (a.id, 1) in _named(_found(engine))
        sql.execute("DELETE FROM events WHERE conversation = ?", (a.id,))
        problems = _found(engine)
    assert {problem.position for problem in problems} >= {1}
    assert any(p.conversation == a.id and "has no events" in p.what for p in problems)


def test_a_fork_whose_parent_is_gone_is_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    b = a.fork("b")
    c = b.fork("c")
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE conversation = ?", (a.id,))
    named = _named(_found(engine))
    assert (b.id, 1) in named
    assert (c.id, 1) in named or (c.id, None) not in named


def test_a_change_in_a_parent_is_the_parents_alone(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("secret")])
    b = a.fork("b")
    b.add([user_msg("x")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, 'secret', 'Secret')")
        assert _named(_found(engine)) == {(a.id, 2)}
        sql.execute("UPDATE events SET data = replace(data, 'Secret', 'secret')")
        sql.execute("UPDATE events SET hash = zeroblob(32) WHERE position = 2")
        assert _named(_found(engine)) == {(a.id, 2)}


def test_data_that_was_emptied_without_a_record_is_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("1")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = '' WHERE position = 2")
    assert [(p.version, "no redaction" in p.what) for p in _found(engine)] == [(2, True)]


def test_a_redaction_without_a_digest_is_named(engine: Engine, path: Path) -> None:
    """Another program may have written it, with a chain that is sound."""
    conversation = engine.create("a")
    conversation.add([user_msg("1")])
    left = msgspec.Raw(b'{"message":{"role":"user","content":""}}')
    redacted = ev.Redacted(version=2, digest="none at all", left=left)
    engine.store.transact(lambda tx: tx.append(conversation.id, 2, [redacted]))
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = '' WHERE version = 2")
    assert [(p.version, "digest" in p.what) for p in _found(engine)] == [(2, True)]


def test_a_message_that_is_none_is_named(engine: Engine) -> None:
    conversation = engine.create("a")
    forged = ev.MessageAdded(message=msgspec.Raw(b"5"))
    engine.store.transact(lambda tx: tx.append(conversation.id, 1, [forged]))
    assert [(p.version, "cannot be read" in p.what) for p in _found(engine)] == [(2, True)]


def test_streams_that_go_on_side_by_side_are_folded_each_for_itself(engine: Engine, path: Path) -> None:
    many = [engine.create(f"c{number}") for number in range(20)]
    forks: list[Conversation] = []
    for step in range(8):
        for number, conversation in enumerate(many):
            conversation.add([user_msg(f"{step} {number}"), assistant_msg("yes")])
            if step == 4:
                forks.append(conversation.fork(f"f{number}", at=conversation.version - 1))
            if step == 6:
                conversation.restore(4)
                forks[number].add([user_msg("on")])
    engine.conversations()
    assert engine.verify().ok
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE conversations SET messages = 9 WHERE name IN ('c3', 'f5')")
        assert _named(_found(engine)) == {(many[3].id, None), (forks[5].id, None)}
        sql.execute(
            "UPDATE events SET data = replace(data, '7 3', '7 4') WHERE conversation = ?", (many[3].id,)
        )
        # Of a stream that was changed, and of its forks, nothing else is told.
        changed = many[3].version - 1
        assert _named(_found(engine)) == {(many[3].id, changed), (forks[5].id, None)}


def test_a_row_of_a_wrong_type_is_named_and_the_rest_is_looked_at(engine: Engine, path: Path) -> None:
    a, b = engine.create("a"), engine.create("b")
    for conversation in (a, b):
        conversation.add([user_msg("1"), user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = CAST(data AS BLOB) WHERE position = 4")
        sql.execute("UPDATE events SET data = replace(data, '2', '3') WHERE position = 6")
    problems = _found(engine)
    assert {(a.id, 3), (b.id, 3)} <= _named(problems)
    assert any("data: blob ≠ text" in problem.what for problem in problems)


def test_a_check_that_came_to_nothing_is_not_taken_for_sound(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(engine)

    def fail(self: Scan) -> Iterator[str]:
        raise MemoryError

    monkeypatch.setattr(Scan, "damage", fail)
    with pytest.raises(MemoryError):
        engine.verify()


def test_a_check_that_is_broken_off_lets_go(engine: Engine, path: Path) -> None:
    busy(engine)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.verify(progress=stop)
    assert not any(thread.name == "openai2-filecheck" for thread in threading.enumerate())
    assert engine.verify().ok
    engine.close()


def test_missing_and_foreign_guards_are_named(engine: Engine, path: Path) -> None:
    engine.create("a")
    with plain(path) as sql:
        sql.execute("DROP TRIGGER events_are_not_changed")
        sql.execute("CREATE TRIGGER other AFTER INSERT ON events BEGIN SELECT 1; END")
        sql.execute("CREATE INDEX mine ON events (time)")
    whats = [problem.what for problem in engine.verify().problems]
    assert len(whats) == 2
    assert any("events_are_not_changed" in what for what in whats) and any("other" in what for what in whats)
    engine.rebuild()
    assert len(engine.verify().problems) == 1, "rebuild puts guards back"


# -- what an event refers to


@pytest.mark.parametrize(
    "event",
    [
        ev.Pinned(messages=[77]),
        ev.Pinned(messages=[1]),
        ev.Unpinned(messages=[2]),
        ev.RolledBack(spans=[(2, 77)], messages=1),
        ev.RolledBack(spans=[(2, 3)], messages=1),
        ev.RolledBack(spans=[(3, 2)], messages=1),
        ev.Truncated(spans=[(9, 9)], messages=1, limit=1),
        ev.Restored(version=4),
        ev.Restored(version=0),
        ev.Restored(version=2, cause="undo", redo=9),
        ev.RequestStarted(view=9),
        ev.RequestStarted(view=3, question=[1]),
        ev.RequestStarted(view=3, without=[(8, 8)]),
        ev.RequestStopped(request=2),
        ev.RequestFailed(request=5, error="E"),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), request=3),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), question=[1]),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), question=[2]),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), kinds="u"),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), remarks=[2]),
        ev.Redacted(version=2, digest="00" * 32, left=msgspec.Raw(b"{}")),
        ev.Redacted(version=9, digest="00" * 32, left=msgspec.Raw(b"{}")),
        ev.Created(),
    ],
    ids=lambda event: event.type,
)
def test_what_refers_to_nothing_is_named(engine: Engine, event: ev.Event) -> None:
    """A chain can be sound and still tell nonsense: another program may have written it."""
    conversation = engine.create()
    conversation.add([user_msg("1"), user_msg("2")])
    list_of = engine.create("list")

    def write(tx: object) -> None:
        from openai2.store import Transaction

        assert isinstance(tx, Transaction)
        tx.enlist = lambda *args, **more: None  # type: ignore[method-assign]
        try:
            tx.append(conversation.id, 3, [event])
        finally:
            del tx.enlist

    engine.store.transact(write)
    assert _named(engine.verify().problems) == {(conversation.id, 4)}
    assert list_of.version == 1


def test_a_question_that_stands_in_the_view_is_found_wherever_it_stands(engine: Engine) -> None:
    def added(text: str, **more: Any) -> ev.Event:
        return ev.MessageAdded(message=msgspec.Raw(msg.encode(user_msg(text), "it")), **more)

    def write(*events: ev.Event) -> None:
        conversation.commit(lambda state: list(events))

    conversation = engine.create()
    write(ev.RequestStarted(view=1), added("question", request=2))
    write(added("before its answer"))
    write(added("answer", request=2, question=[3], answer=ev.Answer()))
    write(ev.RolledBack(spans=[(5, 5)], messages=1))
    assert conversation.view().ids == [4, 3] and engine.verify().ok
    write(added("again", question=[4]))
    assert _named(engine.verify().problems) == {(conversation.id, 7)}


def test_an_event_that_cannot_be_read_is_named(engine: Engine, path: Path) -> None:
    from openai2.store import codec

    a = engine.create("a")
    with plain(path) as sql:
        for version, (tag, data) in enumerate([("happened", "{}"), ("archived", '{"no":1}')], 2):
            head = sql.execute("SELECT hash FROM events ORDER BY position DESC LIMIT 1").fetchone()[0]
            link = codec.link(head, codec.digest(data.encode()), a.id, version, version, tag, "t")
            sql.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (version, a.id, version, version, tag, data, "t", link),
            )
            assert any(p.version == 2 and "cannot be read" in p.what for p in engine.verify().problems)


# -- what is derived


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        ("UPDATE snapshots SET view = replace(view, ',1,1', ',1,2')", "snapshot"),
        ("UPDATE snapshots SET view = 'garbage'", "snapshot"),
        ("UPDATE snapshots SET version = version + 1", "snapshot"),
        ("UPDATE OR REPLACE snapshots SET version = 99999", "snapshot"),
        ("UPDATE snapshots SET conversation = 'nobody'", "snapshot"),
        ("UPDATE OR REPLACE snapshots SET version = 'x'", "snapshot"),
        ("UPDATE conversations SET name = 'other' WHERE name = 'long'", "'other'"),
        ("UPDATE conversations SET messages = messages + 1 WHERE name = 'long'", "messages"),
        ("UPDATE conversations SET updated = '2001' WHERE name = 'long'", "updated"),
        ("UPDATE conversations SET archived = 1 WHERE name = 'long'", "archived"),
        ("UPDATE conversations SET version = 3 WHERE name = 'long'", "version"),
        ("UPDATE conversations SET base = 3 WHERE name = 'long'", "base"),
        ("UPDATE conversations SET parent = 'x' WHERE name = 'long'", "parent"),
        ("UPDATE conversations SET asked = 3 WHERE name = 'long'", "asked"),
        ("UPDATE conversations SET created = x'ff' WHERE name = 'long'", "created"),
        ("DELETE FROM conversations WHERE name = 'long'", "missing in the list"),
        ("UPDATE conversations SET id = 'nobody' WHERE name = 'long'", "has no events"),
        ("UPDATE cursors SET position = 99999", "has read"),
        ("UPDATE cursors SET position = 'x'", "has read"),
        ("DROP TABLE conversations", "table conversations is missing"),
        ("DROP TABLE snapshots", "table snapshots is missing"),
        ("DROP TABLE cursors", "table cursors is missing"),
        ("DROP TABLE drafts", "table drafts is missing"),
        ("ALTER TABLE snapshots ADD COLUMN more", "table snapshots is not as"),
        ("DROP VIEW messages", "view messages is missing"),
        ("DROP VIEW answers; CREATE VIEW answers AS SELECT 1 AS position", "view answers is not as"),
        (
            "CREATE TRIGGER other AFTER UPDATE ON drafts BEGIN DELETE FROM drafts; END",
            "trigger other is not openai2's",
        ),
    ],
)
def test_what_is_derived_is_compared_and_rebuilt(engine: Engine, path: Path, harm: str, word: str) -> None:
    long(engine)
    engine.conversations()
    assert engine.verify().ok
    with plain(path) as sql:
        assert sql.execute("SELECT count(*) FROM snapshots").fetchone()[0]
        before = _derived(sql)
        sql.executescript(harm)
    problems = engine.verify().problems
    assert any(word in problem.what for problem in problems), problems
    assert len(problems) <= 5
    engine.rebuild()
    assert engine.verify().ok
    with plain(path) as sql:
        assert _derived(sql) == before


_MESSAGE = '{"role":"assistant","content":"half"}'


def _begin(conversation: Conversation, text: str) -> int:
    """A request that stays open; its id."""
    begun: list[request_events.OpenRequest] = []

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        question = [msg.encode(user_msg(text), "the prompt")]
        events, one = request_events.begin(request_events.RequestSpec(question=question, model="m"), state)
        begun.append(one)
        return events

    conversation.commit(begin)
    return begun[0].request


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("", None),
        (f"partial = '{_MESSAGE}', lease = 0.0", None),
        ("conversation = 'nobody'", "a conversation that is not there"),
        ("request = request + 1", "which is not on record"),
        ("request = 1", "which is not on record"),
        ("request = :ended", "which has ended"),
        ("request = :answered", "which has ended"),
        ("request = :inherited", "which is not on record"),
        ("request = 'x'", "request: text ≠ integer"),
        ("writer = x'00'", "writer: blob ≠ text"),
        ("lease = 'soon'", "lease: text ≠ real"),
        ("lease = -1", "no time"),
        ("lease = 9e999", "no time"),
        ("partial = x'00'", "partial: blob ≠ text"),
        ("partial = 'half a'", "holds no message"),
        ("partial = '[]'", "holds no message"),
        ("partial = '{}'", "holds no message"),
        ('partial = \'{"role":7,"content":"x"}\'', "holds no message"),
    ],
)
def test_a_draft_is_of_a_request_that_is_open(
    engine: Engine, path: Path, change: str, word: str | None
) -> None:
    parent = engine.create("parent")
    asked(parent, "answered", "yes")
    inherited = _begin(parent, "inherited")
    fork = parent.fork("fork")
    asked(fork, "failed", None)
    with engine.store.reading() as reader:
        failed = [one for one in reader.events(fork.id) if one.type == "request_started"][-1].version
    asked(fork, "answered", "yes")
    request = _begin(fork, "open")
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(fork.id, request)))
    base = request - fork.version + 1
    values = {"ended": base + failed, "answered": request - 3, "inherited": inherited}
    with plain(path) as sql:
        if change:
            sql.execute(f"UPDATE drafts SET {change}", values)
    report = engine.verify()
    if word is None:
        assert report.ok, report.problems
    else:
        (problem,) = report.problems
        assert word in problem.what and problem.what == problem.template.format(**problem.facts)
        assert problem.conversation == ("nobody" if "nobody" in change else fork.id)


def test_of_a_stream_that_was_changed_nothing_is_said_of_its_drafts(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1")])
    request = _begin(conversation, "open")
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(conversation.id, request + 7)))
    assert ["not on record" in problem.what for problem in _found(engine)] == [True]
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, '1', '3') WHERE version = 2")
    assert _named(_found(engine)) == {(conversation.id, 2)}


def test_a_draft_in_a_deleted_conversation_has_ended(engine: Engine) -> None:
    conversation = engine.create("a")
    request = _begin(conversation, "open")
    engine.delete("a")
    assert engine.verify().ok
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(conversation.id, request)))
    assert ["has ended" in problem.what for problem in engine.verify().problems] == [True]


def test_a_change_is_found_where_the_tables_that_are_derived_are_gone(engine: Engine, path: Path) -> None:
    conversation = long(engine)
    with plain(path, unguarded=True) as sql:
        for table in ("conversations", "snapshots", "cursors", "drafts"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute("UPDATE events SET data = replace(data, 'question 7', 'question 8') WHERE version = 16")
    assert (conversation.id, 16) in _named(engine.verify().problems)


def _derived(sql: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [
        sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("conversations", "snapshots", "cursors")
    ]


def test_a_schema_whose_names_are_no_text_is_told(engine: Engine, path: Path) -> None:
    busy(engine)
    engine.close()
    with plain(path) as sql:
        sql.execute("CREATE TRIGGER mine AFTER UPDATE ON drafts BEGIN SELECT 1; END")
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute("UPDATE sqlite_master SET name = CAST(name AS BLOB) WHERE name IN ('mine', 'answers')")
    with Engine(path) as damaged:
        assert any("mine is not openai2's" in problem.what for problem in damaged.verify().problems)


def test_rebuild_works_whatever_lies_in_its_place(engine: Engine, path: Path) -> None:
    busy(engine)
    with plain(path) as sql:
        before = _derived(sql)
        for view in ("messages", "answers", "failures"):
            sql.execute(f"DROP VIEW {view}")
        sql.execute("CREATE TABLE messages (x)")
        for table in ("conversations", "snapshots", "cursors", "drafts"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute("CREATE VIEW conversations AS SELECT 1 AS id")
        sql.execute("CREATE TABLE snapshots (x)")
        sql.execute("CREATE TABLE drafts (x)")
    engine.rebuild()
    assert engine.verify().ok
    with plain(path) as sql:
        assert _derived(sql) == before
        assert sql.execute("SELECT count(*) FROM messages").fetchone()[0] > 3
    assert not engine.open("main").interrupted()
    engine.rebuild()
    assert engine.verify().ok


def test_rebuild_keeps_drafts(engine: Engine) -> None:
    from openai2.store import Draft

    a = engine.create("a")
    draft = Draft(a.id, 2, "somebody", 0.0, b'{"role":"assistant","content":"half"}')
    engine.store.transact(lambda tx: tx.put_draft(draft))
    engine.rebuild()
    assert a.interrupted() == [draft]


def test_a_rebuild_that_fails_leaves_what_was_there(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai2.readmodels import rebuild

    busy(engine)
    with plain(path) as sql:
        before = _derived(sql)

        def broken(tx: object) -> None:
            raise RuntimeError("pulled the plug")

        monkeypatch.setattr(rebuild, "bring_list_up", broken)
        with pytest.raises(RuntimeError, match="plug"):
            engine.rebuild()
        assert _derived(sql) == before
    assert engine.verify().ok


# -- damaged files


def _flip(whole: bytes, path: Path, place: int, bit: int) -> None:
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])


def _file_of_a_small_store(path: Path) -> bytes:
    with Engine(path) as engine:
        busy(engine)
    with plain(path) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


def _every_event(path: Path) -> list[tuple[object, ...]]:
    with plain(path) as sql:
        sql.text_factory = bytes
        return sql.execute("SELECT * FROM events ORDER BY position").fetchall()


def _try_flips(tmp_path: Path, tries: int, seed: int) -> None:
    """A byte of the file is flipped: what verify calls sound holds the same events, and nothing crashes."""
    path = tmp_path / "whole.db"
    whole = _file_of_a_small_store(path)
    truth = _every_event(path)
    chance = random.Random(seed)
    found = 0
    for number in range(tries):
        path = tmp_path / f"flipped{number % 2}.db"
        for old in tmp_path.glob("flipped*"):
            old.unlink()
        place = chance.randrange(len(whole)) if number % 4 else chance.randrange(100)
        _flip(whole, path, place, 1 << chance.randrange(8))
        try:
            with Engine(path) as engine:
                report = engine.verify()
        except StoreError:
            found += 1
            continue
        if report.ok:
            assert _every_event(path) == truth, place
        else:
            found += 1
    assert found > tries / 10


def test_flipped_bytes_of_the_file(tmp_path: Path, way: str) -> None:
    _try_flips(tmp_path, 250 if way == "here" else 50, 1)


@pytest.mark.torture
def test_many_flipped_bytes_of_the_file(tmp_path: Path, way: str) -> None:
    _try_flips(tmp_path, 8000 if way == "here" else 500, 2)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "whole.db"
    whole = _file_of_a_small_store(path)
    path.write_bytes(whole[: int(len(whole) * keep)])
    try:
        with Engine(path) as engine:
            found = [problem.what for problem in engine.verify().problems]
    except StoreError as error:
        found = [str(error)]
    assert any("damaged" in what or "cannot be used" in what for what in found), found


def test_a_schema_that_lost_its_numbers_is_told(tmp_path: Path) -> None:
    """One flipped bit in the text of the schema makes the positions columns of nulls."""
    path = tmp_path / "store.db"
    with Engine(path) as engine:
        engine.create("x").add([user_msg("hello")])
    whole = path.read_bytes()
    assert b"PRIMARY KEY CHECK" in whole
    path.write_bytes(whole.replace(b"PRIMARY KEY CHECK", b"PRIMARY0KEY CHECK"))
    with Engine(path) as engine:
        report = engine.verify()
        assert not report.ok and any("numbers its rows" in problem.what for problem in report.problems)
