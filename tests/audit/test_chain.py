"""The chain: any change, removal, insertion and swap of events is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from openai2 import Engine, assistant_msg, user_msg
from openai2.core import events as ev
from tests.support.problems import found_problems, places
from tests.support.stores import busy, plain


def _changed_values(value: object) -> Iterator[object]:
    """Yield *value* with each of its bytes changed in turn."""
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


_COLUMNS = ("conversation", "version", "batch", "type", "data", "time", "hash")


def _update(sql: sqlite3.Connection, position: int, column: str, value: object) -> bool:
    cast = "CAST(? AS TEXT)" if column != "hash" and isinstance(value, bytes) else "?"
    try:
        sql.execute(f"UPDATE events SET {column} = {cast} WHERE position = ?", (value, position))
    except sqlite3.IntegrityError:
        return False  # the table's own constraints refuse it
    return True


def _try_changes(engine: Engine, sql: sqlite3.Connection) -> int:
    tried = 0
    rows = sql.execute(
        f"SELECT position, conversation, version, {', '.join(_COLUMNS)} FROM events"
    ).fetchall()
    for position, conversation, version, *values in rows:
        for column, value in zip(_COLUMNS, values, strict=True):
            for changed in _changed_values(value):
                if not _update(sql, position, column, changed):
                    continue
                problems = found_problems(engine)
                _update(sql, position, column, value)
                near = {(conversation, version), (conversation, version + 1)}
                assert problems, f"{column} of {conversation} {version}: {value!r} -> {changed!r}"
                assert len(problems) <= 12
                if column not in ("conversation", "version"):
                    assert near & places(problems), (column, changed, problems)
                tried += 1
    return tried


def test_change_of_any_byte_is_found(engine: Engine, path: Path) -> None:
    root = engine.create("a")
    root.add([user_msg("hello"), assistant_msg("hi")])
    root.pin(0)
    fork = root.fork("b", at=2)
    fork.add([user_msg("more")])
    fork.restore(1)
    engine.conversations()
    with plain(path, unguarded=True) as sql:
        assert _try_changes(engine, sql) > 800
    assert not found_problems(engine)


@pytest.mark.torture
def test_change_of_any_byte_of_a_busy_store_is_found(engine: Engine, path: Path) -> None:
    busy(engine)
    with plain(path, unguarded=True) as sql:
        assert _try_changes(engine, sql) > 6_000
    assert not found_problems(engine)


def test_swapped_positions_are_found_if_they_have_meaning(engine: Engine, path: Path) -> None:
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
        assert not found_problems(engine), "it means the same"
        swap(3, 4)
        swap(1, 3)
        assert found_problems(engine), "a stream's own order"
        swap(1, 3)
        sql.execute("UPDATE events SET position = 7 WHERE position = 4")
        assert 4 in [p.position for p in found_problems(engine)], "a hole"


def _remove(sql: sqlite3.Connection, conversation: str) -> None:
    sql.execute("DELETE FROM events WHERE conversation = ? AND version = 5", (conversation,))


def _remove_and_renumber(sql: sqlite3.Connection, conversation: str) -> None:
    _remove(sql, conversation)
    sql.execute(
        "UPDATE events SET version = -version WHERE conversation = ? AND version > 5", (conversation,)
    )
    sql.execute("UPDATE events SET version = -version - 1 WHERE version < 0")
    for (position,) in sql.execute("SELECT position FROM events WHERE position > 5 ORDER BY 1").fetchall():
        sql.execute("UPDATE events SET position = ? WHERE position = ?", (position - 1, position))


def _swap_data(sql: sqlite3.Connection, conversation: str) -> None:
    (five,), (six,) = sql.execute(
        "SELECT data FROM events WHERE conversation = ? AND version IN (5, 6) ORDER BY version",
        (conversation,),
    ).fetchall()
    for version, data in ((5, six), (6, five)):
        sql.execute(
            "UPDATE events SET data = ? WHERE conversation = ? AND version = ?", (data, conversation, version)
        )


def _swap_versions(sql: sqlite3.Connection, conversation: str) -> None:
    for old, new in ((5, 1000), (6, 5), (1000, 6)):
        sql.execute(
            "UPDATE events SET version = ? WHERE conversation = ? AND version = ?", (new, conversation, old)
        )


def _insert(sql: sqlite3.Connection, conversation: str) -> None:
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


@pytest.mark.parametrize("damage", [_remove, _remove_and_renumber, _swap_data, _swap_versions, _insert])
def test_one_damage_gives_few_problems(
    engine: Engine, path: Path, damage: Callable[[sqlite3.Connection, str], None]
) -> None:
    conversation = engine.create("a")
    for number in range(200):
        conversation.add([user_msg(str(number))])
    engine.conversations()
    with plain(path, unguarded=True) as sql:
        sql.execute("PRAGMA ignore_check_constraints = 1")
        damage(sql, conversation.id)
    problems = found_problems(engine)
    assert 1 <= len(problems) <= 3, problems
    assert {(conversation.id, 5), (conversation.id, 6)} & places(problems)


def test_removed_first_event_and_removed_stream_are_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("1")])
    engine.create("b")
    a.add([user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE conversation = ? AND version = 1", (a.id,))
        assert (a.id, 1) in places(found_problems(engine))
        sql.execute("DELETE FROM events WHERE conversation = ?", (a.id,))
        problems = found_problems(engine)
    assert {problem.position for problem in problems} >= {1}
    assert any(p.conversation == a.id and "has no events" in p.what for p in problems)


def test_fork_of_a_removed_parent_is_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    b = a.fork("b")
    c = b.fork("c")
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE conversation = ?", (a.id,))
    named = places(found_problems(engine))
    assert (b.id, 1) in named
    assert (c.id, 1) in named or (c.id, None) not in named


def test_change_in_a_parent_is_reported_for_the_parent_only(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("secret")])
    b = a.fork("b")
    b.add([user_msg("x")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, 'secret', 'Secret')")
        assert places(found_problems(engine)) == {(a.id, 2)}
        sql.execute("UPDATE events SET data = replace(data, 'Secret', 'secret')")
        sql.execute("UPDATE events SET hash = zeroblob(32) WHERE position = 2")
        assert places(found_problems(engine)) == {(a.id, 2)}


def test_emptied_data_without_redaction_is_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    a.add([user_msg("1")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = '' WHERE position = 2")
    assert [(p.version, "no redaction" in p.what) for p in found_problems(engine)] == [(2, True)]


def test_redaction_without_valid_digest_is_named(engine: Engine, path: Path) -> None:
    """The chain is sound: another program may have written it."""
    conversation = engine.create("a")
    conversation.add([user_msg("1")])
    left = msgspec.Raw(b'{"message":{"role":"user","content":""}}')
    redacted = ev.Redacted(version=2, digest="none at all", left=left)
    engine.store.transact(lambda tx: tx.append(conversation.id, 2, [redacted]))
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = '' WHERE version = 2")
    assert [(p.version, "digest" in p.what) for p in found_problems(engine)] == [(2, True)]


def test_column_of_wrong_type_is_named_and_the_rest_checked(engine: Engine, path: Path) -> None:
    a, b = engine.create("a"), engine.create("b")
    for conversation in (a, b):
        conversation.add([user_msg("1"), user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = CAST(data AS BLOB) WHERE position = 4")
        sql.execute("UPDATE events SET data = replace(data, '2', '3') WHERE position = 6")
    problems = found_problems(engine)
    assert {(a.id, 3), (b.id, 3)} <= places(problems)
    assert any("data: blob ≠ text" in problem.what for problem in problems)
