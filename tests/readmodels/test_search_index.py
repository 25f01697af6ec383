"""The full-text index: catching up, merging, damage, and removing redacted text."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from openai2 import DamagedStore, Engine, StoreUnavailable, user_msg
from openai2.store import fulltext as index
from openai2.store import schema
from tests.support.stores import texts_of


def sql(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    return engine.store.transact(lambda tx: tx.sql.execute(statement).fetchall())


def tables(engine: Engine) -> set[object]:
    return {name for (name,) in sql(engine, "SELECT name FROM sqlite_master WHERE name LIKE 'search%'")}


def test_index_is_made_and_updated_by_search_only(engine: Engine) -> None:
    engine.create("c").add([user_msg("fox")])
    assert not tables(engine)
    engine.rebuild()
    assert not tables(engine)
    engine.search("fox")
    assert "search" in tables(engine)
    assert sql(engine, "SELECT count(*) FROM search_docsize") == [(1,)]
    engine.open("c").add([user_msg("fox")])
    assert sql(engine, "SELECT count(*) FROM search_docsize") == [(1,)]
    assert len(engine.search("fox")) == 2


def test_index_catches_up_in_batches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 3)
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(10)])
    assert len(engine.search("fox")) == 10
    monkeypatch.setattr(index, "_BATCH_BYTES", 1)
    chat.add([user_msg("fox"), user_msg("fox")])
    chat.rename("d")
    assert len(engine.search("fox")) == 12
    assert sql(engine, f"SELECT position FROM cursors WHERE name = '{index.CURSOR}'") == [(14,)]


def pieces(engine: Engine) -> object:
    return sql(engine, "SELECT count(DISTINCT segid) FROM search_idx")[0][0]


def merged(engine: Engine) -> list[tuple[object, ...]]:
    return sql(engine, f"SELECT position FROM cursors WHERE name = '{index.MERGED}'")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 5)
    monkeypatch.setattr(index, "_BATCH_PAGES", 1)
    monkeypatch.setattr(index, "_MERGE_LEAST", 50)


@pytest.mark.usefixtures("small_batches")
def test_index_that_grew_by_an_eighth_is_merged(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(40)])
    assert len(engine.search("fox", limit=None)) == 40
    assert pieces(engine) != 1 and not merged(engine), "too few to be worth it"
    chat.add([user_msg(f"fox {number}") for number in range(400)])
    before = engine.search("fox", limit=None)
    assert pieces(engine) == 1 and merged(engine) == [(441,)]
    chat.add([user_msg("hound")] * 54)
    assert len(engine.search("hound", limit=None)) == 54
    assert pieces(engine) != 1 and merged(engine) == [(441,)], "less than an eighth was added"
    chat.add([user_msg("hound")] * 2)
    assert len(engine.search("hound", limit=None)) == 56
    assert pieces(engine) == 1 and merged(engine) == [(497,)]
    assert {it.id for it in engine.search("fox", limit=None)} == {it.id for it in before}
    assert engine.verify().ok
    sql(engine, "INSERT INTO search (search) VALUES ('integrity-check')")
    sql(engine, "DROP TABLE search")
    assert len(engine.search("hound", limit=None)) == 56 and merged(engine) == [(497,)]


@pytest.mark.usefixtures("small_batches")
def test_interrupted_merge_is_continued(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(400)])
    with monkeypatch.context() as patch:
        patch.setattr(index, "_MERGE_LEAST", 1000)
        engine.search("fox")
    assert pieces(engine) != 1 and engine.store.transact(index.merge_step)
    chat.add([user_msg("fox")])
    assert len(engine.search("fox", limit=None)) == 401
    assert pieces(engine) == 1 and merged(engine) == [(402,)]


def test_marker_is_reused_without_its_texts() -> None:
    from openai2.store import scratch_index

    with scratch_index.marker() as first, scratch_index.marker() as second:
        assert first is not second
        assert first.marks('"fox"', ["a fox", "no"]) == [[(2, 5)], []]
        with pytest.raises(sqlite3.OperationalError):
            first.marks('"', ["a fox"])
        assert first.marks('"fox"', ["fox"]) == [[(0, 3)]]
        assert second.marks('"fox"', ["foxes"]) == [[]]
    with scratch_index.marker() as again:
        assert again in (first, second)
    markers = [scratch_index.marker() for _ in range(8)]
    with contextlib.ExitStack() as stack:
        assert len({stack.enter_context(marker) for marker in markers}) == 8


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE search",
        f"DELETE FROM cursors WHERE name = '{index.CURSOR}'",
        "UPDATE cursors SET position = 999 WHERE name LIKE 'search%'",
        "UPDATE cursors SET position = 'x' WHERE name LIKE 'search%'",
        "UPDATE cursors SET name = 'search 0' WHERE name LIKE 'search%'",
    ],
)
def test_index_without_table_or_cursor_is_rebuilt(engine: Engine, damage: str) -> None:
    engine.create("c").add([user_msg("fox"), user_msg("hound")])
    before = engine.search("fox")
    sql(engine, damage)
    assert engine.search("fox") == before
    sql(engine, damage)
    engine.rebuild()
    with engine.store.reading() as reader:
        assert index.reached(reader) == reader.last_position()
    assert engine.search("fox") == before


@pytest.mark.parametrize("part", ["config", "data", "docsize", "idx"])
@pytest.mark.parametrize("damage", ["DROP TABLE search_{}", "DELETE FROM search_{}"])
def test_damaged_index_is_repaired_by_rebuild(tmp_path: Path, part: str, damage: str) -> None:
    with Engine(tmp_path / "store.db") as engine:
        engine.create("c").add([user_msg("fox")])
        before = engine.search("fox")
        sql(engine, damage.format(part))
    with Engine(tmp_path / "store.db") as engine:
        # FTS5 does not look at all of its tables for each question.
        with contextlib.suppress(DamagedStore):
            assert engine.search("fox") == before
        engine.rebuild()
        assert engine.search("fox") == before
        assert len(tables(engine)) == 5


def test_read_only_store_is_searched_to_its_end(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("old fox")])
    engine.search("fox")
    chat.add([user_msg("new fox fox"), user_msg("else")])
    engine.store.read_only = True
    assert {*texts_of(engine.search("fox"))} == {"old fox", "new fox fox"}
    assert len(engine.search("fox", limit=1)) == 1
    assert texts_of(engine.search("else", current=True, conversation="c")) == ["else"]
    engine.store.read_only = False
    sql(engine, "DROP TABLE search")
    engine.store.read_only = True
    assert texts_of(engine.search("new")) == ["new fox fox"]


def test_search_without_fts5_is_unavailable(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = engine.create("c")
    chat.add([user_msg("fox")])
    engine.search("fox")

    def lacks_it(connection: sqlite3.Connection) -> bool:
        return False

    monkeypatch.setattr(schema, "has_fts5", lacks_it)
    with pytest.raises(StoreUnavailable, match="FTS5"):
        engine.search("fox")
    with pytest.raises(StoreUnavailable, match="FTS5"):
        engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    engine.rebuild()
    monkeypatch.undo()
    assert len(engine.search("fox")) == 1


def test_concurrent_searches_build_one_sound_index(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 7)
    engine.create("c").add([user_msg(f"fox {number}") for number in range(100)])
    found: list[int] = []

    def look(synchronous: str) -> None:
        with Engine(tmp_path / "store.db", synchronous=synchronous) as another:
            found.append(len(another.search("fox", limit=None)))

    threads = [threading.Thread(target=look, args=(kind,)) for kind in ("FULL", "FULL", "NORMAL", "OFF")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [100] * 4
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []


def test_removed_text_leaves_no_byte_in_index(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg(f"word{number} 普通话") for number in range(50)])
    chat.add([user_msg("the password is hunter2 暗号"), user_msg("plain")])
    engine.search("x")
    chat.add([user_msg("swordfish")])

    def kept() -> tuple[bytes, set[object]]:
        """The index's bytes, and its words (of which the bytes show but the ends that differ)."""
        rows = sql(engine, "SELECT block FROM search_data UNION ALL SELECT term FROM search_idx")
        sql(engine, "CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, search, 'row')")
        known = {term for (term,) in sql(engine, "SELECT term FROM temp.terms")}
        sql(engine, "DROP TABLE temp.terms")
        return b"".join(block for (block,) in rows if isinstance(block, bytes)), known

    raw, known = kept()
    assert b"hunter2" in raw and {"hunter2", "暗", "号"} < known
    forgotten = [(chat.id, 52), (chat.id, 54), (chat.id, 1), ("no such id", 1)]
    engine.store.transact(lambda tx: index.forget(tx, forgotten))
    raw, known = kept()
    assert b"hunter2" not in raw and not {"hunter2", "暗", "号"} & known
    with engine.store.reading() as reader:
        # Its event is not emptied in this test, so it counts as missing.
        assert index.flaws(reader) == [index.Flaw(52, True)]
    assert not engine.search("hunter2")
    assert engine.search("word7") and engine.search("plain") and engine.search("swordfish")
    sql(engine, "INSERT INTO search (search) VALUES ('integrity-check')")


def test_removing_text_without_index_does_nothing(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("secret")])
    engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    assert not tables(engine)
    engine.search("secret")
    sql(engine, "DELETE FROM cursors")
    engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    assert not tables(engine)


def test_flaws_lists_missing_and_forged_rows(engine: Engine) -> None:
    chat = engine.create("c")
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    chat.add([user_msg("one"), user_msg("two"), user_msg("")])
    engine.search("one")
    chat.add([user_msg("not read yet")])
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    sql(engine, "INSERT INTO search (search, rowid, text) VALUES ('delete', 2, 'one')")
    sql(engine, "INSERT INTO search (rowid, text) VALUES (1, 'forged')")
    with engine.store.reading() as reader:
        assert index.flaws(reader) == [index.Flaw(2, True), index.Flaw(1, False)]
        assert index.flaws(reader, most=1) == [index.Flaw(2, True)]
    assert engine.search("forged") == []
    engine.rebuild()
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    assert texts_of(engine.search("one")) == ["one"]


def test_index_is_readable_with_plain_sqlite(engine: Engine, tmp_path: Path) -> None:
    engine.create("c").add([user_msg("fox")])
    engine.search("fox")
    plain = sqlite3.connect(tmp_path / "store.db")
    try:
        assert plain.execute("SELECT rowid FROM search WHERE search MATCH 'fox'").fetchall() == [(2,)]
    finally:
        plain.close()
