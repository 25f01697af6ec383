"""What must not grow with the history: statements and rows are counted, no clock is used."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from openai2 import Chat, Engine
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.messages import assistant_msg, user_msg
from openai2.history.lineage import Lineage
from openai2.history.messages import last_messages
from openai2.offline import OfflineServer

KEY = "sk-counting-000000000"


@contextmanager
def statements(engine: Engine) -> Generator[list[str], None, None]:
    """Collect the statements that the store runs on all its connections, except those of triggers."""
    seen: list[str] = []

    def trace(statement: str) -> None:
        # SQLite reports an INSERT that fires a trigger twice, and the trigger as a comment.
        if not statement.startswith("--") and (not seen or statement != seen[-1]):
            seen.append(statement)

    store: Any = engine.store
    assert store._steps.connection  # opens the writer's connection, which is opened lazily
    with store.reading():
        pass  # opens a reader's connection, if the writer took the idle one
    connections = list(store._connections)
    for connection in connections:
        connection.set_trace_callback(trace)
    yield seen
    for connection in connections:
        connection.set_trace_callback(None)


def rounds(count: int) -> list[dict[str, Any]]:
    return [made(f"{number}") for number in range(count) for made in (user_msg, assistant_msg)]


def test_append_takes_five_statements_at_any_length(engine: Engine) -> None:
    conversation = engine.create()
    counts: list[int] = []
    for size in (1, 10, 100):
        conversation.add(rounds(size))
        with statements(engine) as seen:
            conversation.add(rounds(1))
        counts.append(len(seen))
    # BEGIN, whether another process has written, an INSERT for each of two rows, COMMIT.
    assert counts == [5, 5, 5]


def test_append_of_many_adds_one_statement_per_row(engine: Engine) -> None:
    conversation = engine.create()
    with statements(engine) as seen:
        conversation.add(rounds(50))
    others = [statement for statement in seen if not statement.startswith("INSERT INTO events")]
    assert len(others) <= 3 and len(seen) - len(others) == 100, others


def test_request_takes_two_transactions(engine: Engine) -> None:
    with OfflineServer() as server:
        chat = Chat(KEY, "offline", base_url=server.base_url, db=engine)
        counts: list[int] = []
        for _ in range(4):
            with statements(engine) as seen:
                chat.request("自然数50的后面是几?")
            assert seen.count("COMMIT") == 2, seen
            counts.append(len(seen))
    assert counts[1:] == [counts[1]] * 3 and counts[1] <= 14


def test_next_request_reads_no_messages_again(engine: Engine) -> None:
    engine.create("long").add(rounds(1000))
    with OfflineServer() as server:
        chat = Chat(KEY, "offline", base_url=server.base_url, db=engine, conversation="long")
        assert len(chat.fetch_messages()) == 2000

        def ask() -> None:
            chat.request("自然数50的后面是几?")

        assert rows_read(engine, ask) == 2000  # which were looked at, and not kept
        assert [rows_read(engine, ask) for _ in range(2)] == [0, 0]
        assert rows_read(engine, chat.fetch_messages) == 0


@pytest.mark.parametrize("change", ["fork", "rollback", "restore"])
def test_change_writes_one_event_at_any_length(engine: Engine, change: str) -> None:
    conversation = engine.create()
    changes: dict[str, Callable[[], object]] = {
        "fork": lambda: conversation.fork(at=3),
        "rollback": lambda: conversation.rollback(10),
        "restore": lambda: conversation.restore(conversation.version - 1),
    }
    counts: list[int] = []
    for size in (20, 200):
        conversation.add(rounds(size))
        conversation.messages()
        with statements(engine) as seen:
            changes[change]()
        assert sum("INSERT INTO events" in statement for statement in seen) == 1, seen
        counts.append(len(seen))
    assert counts[0] == counts[1], seen


def rows_read(engine: Engine, work: Callable[[], object]) -> int:
    """Rows of events that are handed to Python, counted where each becomes one."""
    count = 0

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Reader, name)

        def method(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
            nonlocal count
            for row in original(self, *args, **options):
                count += 1
                yield row

        return method

    from openai2.store import Reader

    plainly = Reader.added_joined

    def joined(self: Any, conversation: str, first: int, last: int) -> Any:
        nonlocal count
        count += last - first + 1
        return plainly(self, conversation, first, last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "added_joined", joined)
        for name in ("events", "data", "added", "backwards"):
            patch.setattr(Reader, name, counted(name))
        work()
    return count


def add_turns(conversation: Conversation, turns: int, limit: int = 20) -> None:
    """So many turns under a limit, as requests put them on record."""
    from openai2.core import decisions

    def turn(state: Any) -> list[ev.Event]:
        view = state.view.copy()
        events = decisions.add([b'{"role":"user","content":"%s"}' % (b"word " * 20)] * 2)
        for place, event in enumerate(events):
            view.apply(event, state.next_id + place)
        return [*events, *decisions.truncated(view, limit)]

    for _ in range(turns):
        conversation.commit(turn)


def test_fork_appends_without_reading_its_parent(engine: Engine) -> None:
    parent = engine.create()
    counts: list[list[str]] = []
    for size in (1, 500):
        parent.add(rounds(size))
        with statements(engine) as seen:
            parent.fork().add([user_msg("on")])
        counts.append(seen)
    assert len(counts[0]) == len(counts[1])
    assert not any("snapshots" in statement or "version > " in statement for statement in counts[1])


def test_fork_and_parent_share_no_later_change(engine: Engine) -> None:
    parent = engine.create()
    parent.add(rounds(3))
    early, first = parent.fork(at=1), parent.fork()
    second, of_first = parent.fork(), first.fork()
    family = [parent, early, first, second, of_first]
    for number, one in enumerate(family):
        one.add(rounds(number))
        one.pin(*range(number))
    parent.rollback()
    of_first.rollback(2)
    first.pin(0)
    failing: list[ev.Event] = [ev.RolledBack(spans=[(99, 99)], messages=1)]
    fresh = second.fork()
    with pytest.raises(ValueError, match="is not in the view"):
        fresh.commit(lambda state: failing)
    fresh.add(rounds(1))
    for one in [*family, fresh]:
        assert one.view() == engine.open(one.id).view()
        assert one.messages() == engine.open(one.id).messages()
    assert engine.verify().ok


def test_undo_reads_no_snapshot(engine: Engine) -> None:
    conversation = engine.create()
    for number in range(60):
        conversation.add([user_msg(f"{number} " * 300)])
    conversation.restore(30)
    with statements(engine) as seen:
        assert (conversation.undo(), conversation.undo(), conversation.redo()) == (1, 1, 1)
    assert not any("FROM snapshots" in statement for statement in seen)


def test_open_reads_the_view_not_the_history(engine: Engine) -> None:
    conversation = engine.create("long")
    counts: list[int] = []
    for turns in (300, 300, 1200):
        add_turns(conversation, turns)
        counts.append(rows_read(engine, lambda: engine.open("long").messages()))
    assert max(counts) < 400 < conversation.version, counts


def test_any_version_reads_a_bounded_number_of_events(engine: Engine) -> None:
    conversation = engine.create("long")
    add_turns(conversation, 1500)
    fresh = engine.open("long")
    last = fresh.version
    counts = [rows_read(engine, partial(fresh.at, at)) for at in range(1, last, last // 40)]
    assert max(counts) < 400 < last, counts


def test_last_messages_are_read_without_the_rest(engine: Engine) -> None:
    engine.create("long").add(rounds(2000))
    conversation = engine.open("long")
    assert rows_read(engine, lambda: conversation.messages(last=20)) < 30
    assert conversation.messages(last=20) == conversation.messages()[-20:]


def test_last_messages_equal_the_end_of_the_view(engine: Engine) -> None:
    chance = random.Random(7)
    conversation = engine.create("changed")
    for step in range(150):
        action = chance.randrange(7)
        if action < 3:
            conversation.add(rounds(chance.randint(1, 3)))
        elif action == 3:
            conversation.rollback(chance.randint(1, 2))
        elif action == 4:
            conversation.restore(chance.randint(1, conversation.version))
        elif action == 5 and chance.random() < 0.3:
            conversation = conversation.fork(at=chance.randint(1, conversation.version))
        elif len(conversation.messages()) > 4:
            add_turns(conversation, 1, limit=4)
        whole = conversation.messages()
        for last in (0, 1, 3, 20):
            fresh = engine.open(conversation.id)
            assert fresh.messages(last=last) == (whole[-last:] if last else []), step


def test_reading_backwards_stops_after_long_rollback(engine: Engine) -> None:
    conversation = engine.create("rolled")
    conversation.add(rounds(500))
    conversation.rollback(490)
    with engine.store.reading() as reader:
        lineage = Lineage.read(reader, conversation.id)
        assert last_messages(reader, lineage, conversation.version, 5) is None
    assert engine.open("rolled").messages(last=5) == rounds(500)[15:20]


def test_search_takes_six_statements(engine: Engine) -> None:
    engine.create("c").add([*rounds(50), user_msg("fox"), user_msg("fox too")])
    engine.search("fox")
    with statements(engine) as seen:
        assert len(engine.search("fox")) == 2
    # What FTS5 asks of its own tables aside: BEGIN, how far the index goes, the hits, each of them, ROLLBACK.
    assert len(seen) == 6, seen
