"""The store's contract: appending, sharing a sync of the disk, processes that meet, and files that last."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai2 import Engine, NameTaken, StoreError, VersionConflict, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.errors import Refused
from openai2.store import NO_HASH, SqliteStore, Transaction, codec, open_store, schema, share

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(open_store(tmp_path / "a.db" if request.param == "file" else None)) as one:
        yield one


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(open_store(tmp_path / "a.db")) as one:
        yield one


def added(text: str) -> ev.Event:
    return ev.MessageAdded(message=msgspec.Raw(msg.encode(user_msg(text), "it")))


def stream(store: SqliteStore, conversation: str = "c") -> list[ev.Recorded]:
    with store.reading() as reader:
        return list(reader.events(conversation))


def check_chain(store: SqliteStore, conversation: str = "c") -> None:
    """Every hash, by the words of codec's docstring."""
    previous = NO_HASH
    for number, record in enumerate(stream(store, conversation), 1):
        assert record.version == number
        previous = codec.link(
            *(previous, codec.digest(record.json), conversation, number),
            *(record.batch, record.type, record.time),
        )
        assert record.hash == previous.hex()


def python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- Appending ---------------------------------------------------------------------------------------


def test_append(store: SqliteStore) -> None:
    first = store.append("c", 0, [ev.Created(name="n"), added("a")])
    second = store.append("c", 2, [added("b")])
    assert [(r.version, r.position, r.batch, r.type) for r in [*first, *second]] == [
        (1, 1, 1, "created"),
        (2, 2, 1, "message_added"),
        (3, 3, 3, "message_added"),
    ]
    assert stream(store) == [*first, *second]
    assert first[0].time == first[1].time <= second[0].time
    assert first[1].event == added("a") and first[1].data["message"] == user_msg("a")
    check_chain(store)
    assert store.append("c", 3, []) == []


@pytest.mark.parametrize("expected", [0, 1, 3, 99])
def test_a_stale_version_is_refused(expected: int, store: SqliteStore) -> None:
    before = store.append("c", 0, [ev.Created(), added("a")])
    with pytest.raises(VersionConflict) as refusal:
        store.append("c", expected, [added("b")])
    assert (refusal.value.conversation, refusal.value.version) == ("c", 2)
    assert stream(store) == before


def test_append_is_all_or_nothing(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created(name="taken")])
    with pytest.raises(NameTaken):
        store.append("d", 0, [ev.Created(), added("a"), ev.Renamed(name="taken")])
    assert stream(store, "d") == []
    with store.reading() as reader:
        assert reader.conversation("d") is None and reader.last_position() == 1

    def job(tx: Transaction) -> None:
        tx.append("d", 0, [ev.Created(name="d")])
        tx.append("c", 1, [added("x")])
        raise KeyError("no")

    before = store.epoch
    with pytest.raises(KeyError):
        store.transact(job)
    assert stream(store, "d") == [] and len(stream(store)) == 1
    assert store.epoch > before  # whoever cached what the job saw has to read again
    store.append("d", 0, [ev.Created(name="d")])


def test_a_fork_chains_on_its_parent(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created(), added("a"), added("b")])
    (forked,) = store.append("f", 0, [ev.Forked(parent="c", version=2, base=2)])
    parent = stream(store)[1]
    link = codec.link(
        *(bytes.fromhex(parent.hash), codec.digest(forked.json), "f", 1, 1, "forked", forked.time)
    )
    assert forked.hash == link.hex()
    with pytest.raises(StoreError):
        store.append("g", 0, [ev.Forked(parent="c", version=9, base=9)])
    assert stream(store, "g") == []


# -- Guards ------------------------------------------------------------------------------------------

VANDALISM = [
    "UPDATE events SET data = '{}'",
    "UPDATE events SET data = ''",
    "UPDATE events SET hash = zeroblob(32) WHERE position = 1",
    "UPDATE events SET position = position + 10",
    "DELETE FROM events",
    "DELETE FROM events WHERE position = 2",
    "INSERT OR REPLACE INTO events SELECT * FROM events",
    "REPLACE INTO events SELECT position, conversation, version, batch, type, '{}', time, hash FROM events",
    "INSERT OR IGNORE INTO events SELECT position + 5, 'c', 1, 1, type, data, time, hash FROM events",
    "INSERT INTO events SELECT position + 5, 'c', version + 5, 1, type, data, time, hash FROM events",
    "INSERT INTO events SELECT 1, 'd', 1, 1, type, data, time, hash FROM events LIMIT 1",
    "INSERT INTO events SELECT 99, 'd', 1, 1, type, data, time, hash FROM events LIMIT 1",
    "ALTER TABLE events DROP COLUMN data",
    "UPDATE OR REPLACE events SET version = 1",
    (
        "INSERT INTO events SELECT 2, 'c', 2, 1, type, '', time, hash FROM events WHERE true"
        " ON CONFLICT DO UPDATE SET data = ''"
    ),
]


@pytest.mark.parametrize("sql", VANDALISM)
def test_no_statement_changes_an_event(sql: str, file: SqliteStore) -> None:
    file.append("c", 0, [ev.Created(), added("a"), added("b")])
    before = stream(file)
    assert file.path is not None
    with contextlib.closing(sqlite3.connect(file.path)) as plain:
        with pytest.raises(sqlite3.Error):
            plain.execute(sql)
        plain.rollback()
    assert stream(file) == before
    file.append("c", 3, [added("c")])


def test_an_error_of_the_guards_is_ours(file: SqliteStore) -> None:
    file.append("c", 0, [ev.Created()])
    with pytest.raises(Refused, match="append-only"):
        file.transact(lambda tx: tx.sql.execute("DELETE FROM events"))


# -- The file ----------------------------------------------------------------------------------------


def test_pragmas(file: SqliteStore) -> None:
    def pragma(sql: sqlite3.Connection, name: str) -> Any:
        return sql.execute(f"PRAGMA {name}").fetchone()[0]

    names = ("journal_mode", "synchronous", "application_id", "user_version")
    found = file.transact(lambda tx: [pragma(tx.sql, name) for name in names])
    assert found == ["wal", 2, int.from_bytes(b"oai2", "big"), schema.SCHEMA_VERSION]
    with file.reading() as reader:
        assert pragma(reader.sql, "query_only") == 1
    assert file.path is not None
    with contextlib.closing(open_store(file.path, synchronous="NORMAL")) as other:
        assert other.transact(lambda tx: pragma(tx.sql, "synchronous")) == 1


def test_readers_cannot_write(file: SqliteStore) -> None:
    with pytest.raises(StoreError), file.reading() as reader:
        reader.sql.execute("DELETE FROM conversations")


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created()])
    store.close()
    store.close()
    uses: list[Callable[[], Any]] = [lambda: store.append("c", 1, [added("a")]), lambda: stream(store)]
    for use in uses:
        with pytest.raises(StoreError, match="closed"):
            use()
    with pytest.raises(StoreError, match="closed"):
        store.submit(lambda tx: None, lambda outcome: None)


def test_a_store_is_not_used_across_a_fork(file: SqliteStore) -> None:
    file.append("c", 0, [ev.Created()])
    code = """
import os, sys
from openai2.store import open_store
from openai2.core import events as ev
store = open_store(sys.argv[1])
child = os.fork()
if not child:
    try:
        store.append("c", 1, [])
    except Exception as error:
        print(type(error).__name__, "forked" in str(error), flush=True)
    store.close()
    fresh = open_store(sys.argv[1])
    fresh.append("c", 1, [ev.Renamed(name="from the child")])
    os._exit(0)
os.waitpid(child, 0)
store.append("c", 2, [ev.Archived()])
"""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    told, _ = python(code, file.path).communicate(timeout=60)
    assert told.split() == ["StoreError", "True"]
    assert [record.type for record in stream(file)] == ["created", "renamed", "archived"]
    check_chain(file)


def test_sharing(tmp_path: Path) -> None:
    one, let_go_of_one = share(tmp_path / "a.db")
    two, let_go_of_two = share(str(tmp_path / "." / "a.db"))
    other, let_go_of_other = share(tmp_path / "b.db")
    memory, let_go_of_memory = share(None)
    assert one is two and one.users == 2
    assert len({id(one), id(other), id(memory), id(share(None)[0])}) == 4
    let_go_of_one()
    let_go_of_one()  # twice is once
    one.append("c", 0, [ev.Created()])
    let_go_of_two()
    with pytest.raises(StoreError, match="closed"):
        one.append("c", 1, [added("a")])
    again, let_go = share(tmp_path / "a.db")
    assert again is not one and len(stream(again)) == 1
    for last in (let_go, let_go_of_other, let_go_of_memory):
        last()


def test_many_share_and_let_go_at_once(tmp_path: Path) -> None:
    def use(number: int) -> None:
        store, let_go = share(tmp_path / "a.db")
        store.append(f"c{number}", 0, [ev.Created()])
        let_go()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(100)))
    with contextlib.closing(open_store(tmp_path / "a.db")) as store, store.reading() as reader:
        assert reader.last_position() == 100


# -- Threads and processes ---------------------------------------------------------------------------


def test_two_who_know_where_streams_end_learn_of_each_others_events(tmp_path: Path) -> None:
    """Each as a process of its own would: what one remembers, the other makes untrue."""
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(contextlib.closing(open_store(tmp_path / "a.db"))) for _ in "ab")
        for version in range(0, 20, 2):
            for store, number in ((one, version), (two, version + 1)):
                store.append("c", number, [added(f"c{number}")])
                with pytest.raises(VersionConflict):  # it knows that without asking
                    store.append("c", number, [added("late")])
                with pytest.raises(Refused, match="append-only"):
                    store.transact(_past_the_end)
                store.append(f"d{number}", 0, [added("of its own")])
            with pytest.raises(VersionConflict):
                one.append("c", version + 1, [added("late")])
            assert one.transact(lambda tx: tx.head("c")) == two.transact(lambda tx: tx.head("c"))
        check_chain(one)
        assert [record.version for record in stream(two)] == list(range(1, 21))
        assert one.append("e", 0, [added("last")])[0].position == 41


def test_what_was_undone_is_no_end_of_a_stream(store: SqliteStore) -> None:
    store.append("c", 0, [added("0")])

    def undone(tx: Transaction) -> None:
        tx.append("c", 1, [added("1"), added("2")])
        raise KeyError("no")

    def refused(tx: Transaction) -> None:
        with contextlib.suppress(sqlite3.IntegrityError):
            _past_the_end(tx)
        assert tx.head("c")[0] == 2 and tx.append("c", 2, [added("2")])[0].position == 3

    with pytest.raises(KeyError):
        store.transact(undone)
    store.append("c", 1, [added("1")])
    store.transact(refused)
    check_chain(store)
    assert [record.position for record in stream(store)] == [1, 2, 3]


def test_more_streams_than_ends_are_remembered(file: SqliteStore) -> None:
    names = [f"c{number}" for number in range(3000)]
    for version in range(2):
        file.transact(lambda tx: [tx.append(name, version, [added("x")]) for name in names])  # noqa: B023 - it is run here
    assert len(file._transaction._heads) < 2000  # pyright: ignore[reportPrivateUsage]
    check_chain(file, "c7")


def _past_the_end(tx: Transaction) -> None:
    """An event that the guards refuse, as codec would link it to an end that is none."""
    version, link = tx.head("c")
    records = codec.chain("c", (version + 5, link), tx.last_position(), [added("far")], codec.timestamp())
    tx._insert(records)  # pyright: ignore[reportPrivateUsage]


def test_threads_share_a_sync_of_the_disk(file: SqliteStore) -> None:
    commits: list[str] = []
    file.transact(lambda tx: tx.sql.set_trace_callback(commits.append))

    def write(number: int) -> None:
        for version in range(20):
            file.append(f"c{number}", version, [ev.Created() if not version else added(str(version))])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    file.transact(lambda tx: tx.sql.set_trace_callback(None))
    for number in range(16):
        assert len(stream(file, f"c{number}")) == 20
        check_chain(file, f"c{number}")
    assert 1 <= commits.count("COMMIT") <= 16 * 20 + 1
    assert commits.count("BEGIN IMMEDIATE") >= commits.count("COMMIT") - 1


def test_jobs_that_wait_share_one_commit_and_fail_apart(file: SqliteStore) -> None:
    statements: list[str] = []
    ready, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        tx.sql.set_trace_callback(statements.append)
        ready.set()
        assert go_on.wait(30)

    def bad(tx: Transaction) -> None:
        tx.append("c3", 0, [ev.Created()])
        raise KeyError("mine alone")

    def good(number: int) -> Callable[[Transaction], Any]:
        return lambda tx: tx.append(f"c{number}", 0, [ev.Created()])

    outcomes: list[Any] = []
    told = threading.Semaphore(0)

    def tell(outcome: Any) -> None:
        outcomes.append(outcome)
        told.release()

    leader = threading.Thread(target=file.transact, args=(slow,))
    leader.start()
    assert ready.wait(30)
    for number in range(6):
        file.submit(bad if number == 3 else good(number), tell)
    go_on.set()
    leader.join(30)
    for _ in range(6):
        assert told.acquire(timeout=30)
    for number, outcome in enumerate(outcomes):
        if number == 3:
            with pytest.raises(KeyError, match="mine alone"):
                outcome()
        else:
            assert len(outcome()) == 1
    assert [len(stream(file, f"c{n}")) for n in range(6)] == [1, 1, 1, 0, 1, 1]
    assert statements.count("COMMIT") == 2  # the leader's, and one for the six that waited


def test_readers_do_not_wait_for_a_writer(file: SqliteStore) -> None:
    before = file.append("c", 0, [ev.Created()])
    writing, read = threading.Event(), threading.Event()

    def job(tx: Transaction) -> None:
        tx.append("c", 1, [added("not yet")])
        writing.set()
        assert read.wait(30)

    writer = threading.Thread(target=file.transact, args=(job,))
    writer.start()
    assert writing.wait(30)
    assert stream(file) == before  # neither waits, nor sees what is not committed
    read.set()
    writer.join(30)
    assert len(stream(file)) == 2


def test_a_conversation_does_not_show_what_is_not_committed(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create()
        appended, read = threading.Event(), threading.Event()

        def job(tx: Transaction) -> None:
            conversation.commit_job(lambda state: [added("not yet")])(tx)
            appended.set()
            assert read.wait(30)
            raise KeyError("it comes to nothing")

        def write() -> None:
            with pytest.raises(KeyError):
                engine.store.transact(job)

        writer = threading.Thread(target=write)
        writer.start()
        assert appended.wait(30)
        assert (conversation.version, conversation.messages()) == (1, [])
        read.set()
        writer.join(30)
        assert (conversation.version, conversation.messages()) == (1, [])
        conversation.add([user_msg("now")])
        assert conversation.messages() == [user_msg("now")]


WRITER = """
import sys
from openai2 import Engine, user_msg
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = Engine(path, synchronous="OFF")
print("ready", flush=True)
sys.stdin.readline()
conversation = engine.open_or_create("shared")
for number in range(count):
    conversation.add([user_msg(f"{who} {number}"), user_msg(f"{who} {number}")])
engine.close()
"""


def test_processes_make_one_file_and_write_to_one_conversation(tmp_path: Path) -> None:
    writers = [python(WRITER, tmp_path / "a.db", who, 25) for who in "abc"]
    for writer in writers:  # each of them made the tables, or waited for who did
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Engine(tmp_path / "a.db") as engine:
        texts = [message["content"] for message in engine.open("shared").messages()]
        assert texts[::2] == texts[1::2]  # what was added together stands together
        for who in "abc":
            assert [t for t in texts[::2] if t[0] == who] == [f"{who} {n}" for n in range(25)]
        assert engine.verify().ok


def test_a_new_file_is_opened_while_somebody_else_makes_it(tmp_path: Path) -> None:
    """To change a file to WAL mode, SQLite does not wait for whoever writes: who opens it has to."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        letting_go = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        letting_go.start()
        with Engine(path) as engine:
            letting_go.join()
            engine.open_or_create("a").add([user_msg("here")])
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


MAKER = """
import sys, time
from openai2 import Engine
folder, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(count):
    while time.time() < start + 0.03 * number:
        pass
    Engine(f"{folder}/{number}.db", synchronous="OFF").close()
"""


def test_processes_make_the_same_files_at_the_same_moments(tmp_path: Path) -> None:
    makers = [python(MAKER, tmp_path, 20) for _ in range(3)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    start = time.time() + 0.1
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write(f"{start}\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=60)
    assert [maker.returncode for maker in makers] == [0, 0, 0]


# -- What it costs -----------------------------------------------------------------------------------


def test_statements_are_few(tmp_path: Path) -> None:
    """A guard against a look-up that slips into a loop: what one more message costs does not grow."""
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create()
        seen: list[str] = []
        engine.store.transact(lambda tx: tx.sql.set_trace_callback(seen.append))

        def cost(size: int) -> int:
            seen.clear()
            conversation.add([user_msg("x")] * size)
            return len([sql for sql in seen if not sql.startswith("--")])

        cost(1)
        one, again = cost(1), cost(1)
        for _ in range(200):
            cost(1)
        assert cost(1) == again <= one
        assert cost(50) - cost(1) <= 2 * 49  # an INSERT each, and what its guard looks up
        assert one <= 8
        engine.store.transact(lambda tx: tx.sql.set_trace_callback(None))


def test_a_path_whose_file_was_deleted_is_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"
    with Engine(path) as engine:
        engine.create("old")
        for file in tmp_path.glob("gone.db*"):
            file.unlink()
        with Engine(path) as other:
            assert other.conversations() == []
            other.create("new")
            assert [line.name for line in other.conversations()] == ["new"]


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    with Engine(tmp_path / "own.db") as engine:
        engine.create("x")
        for file in tmp_path.glob("own.db*"):
            assert file.stat().st_mode & 0o777 == 0o600, file


def test_a_store_on_read_only_media_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cd.db"
    with Engine(path) as engine:
        engine.create("x").add([user_msg("hello")])
    access = os.access

    def no_writing(place: str, mode: int) -> bool:
        return mode != os.W_OK and access(place, mode)

    monkeypatch.setattr(os, "access", no_writing)
    with Engine(path) as engine:
        assert [line.name for line in engine.conversations()] == ["x"]
        assert len(engine.open("x").messages()) == 1
        with pytest.raises(StoreError, match="read-only"):
            engine.create("y")
    assert [file.name for file in tmp_path.iterdir()] == ["cd.db"]


def test_a_list_that_cannot_be_written_says_what_the_written_one_would(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create("x")
        engine.conversations()
        late = [added("when the clock had been set back")]
        engine.store.transact(
            lambda tx: tx.append(conversation.id, 1, late, time="2001-01-01T00:00:00.000000Z")
        )
        engine.store.read_only = True
        aside = engine.conversations()
        engine.store.read_only = False
        assert aside == engine.conversations() and aside[0].messages == 1
