"""Small stores for tests, in which every event occurs, and helpers to read and damage them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from openai2 import Conversation, Engine, assistant_msg, system_msg, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.core.request_events import RequestSpec
from openai2.readmodels.search import Found
from openai2.request.effects import Open
from openai2.store import NO_HASH, SqliteStore, codec

ROOT = Path(__file__).resolve().parents[2]


def asked(
    conversation: Conversation,
    text: str,
    answer: str | None,
    *,
    limit: int | None = None,
    retry: bool = False,
    again: int | None = None,
) -> None:
    """Record a request, failed if *answer* is None. *again* is the id of a question that is asked again."""
    begun: list[request_events.OpenRequest] = []
    question = [] if retry or again else [msg.encode(user_msg(text), "the prompt")]
    repeated = [] if again is None else [(again, msg.USER)]

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        ask = RequestSpec(question=question, model="gpt-test", limit=limit, retry=retry, again=repeated)
        events, one = request_events.begin(ask, state)
        begun.append(one)
        return events

    def end(state: request_events.StreamState) -> list[ev.Event]:
        if answer is None:
            partial = msg.encode(assistant_msg("half an"), "the answer")
            return request_events.failed(
                begun[0], partial, ev.Answer(), request_events.RequestError("APIError", "no luck")
            )
        given = ev.Answer(model="gpt-test", finish_reason="stop", key="sk-…abcd", seconds=0.5)
        return request_events.answered(
            begun[0], state, msg.encode(assistant_msg(answer), "the answer"), given
        )

    conversation.commit(begin)
    conversation.commit(end)


def busy(engine: Engine) -> dict[str, Conversation]:
    """Make conversations with every event: pins, undo, forks of forks, a group, requests."""
    main = engine.create("main")
    main.add([system_msg("be brief"), user_msg("one"), assistant_msg("1")])
    main.pin(0)
    asked(main, "two, with ünïcode 二 🎈", "2")
    side = main.fork("side", at=main.version)
    asked(main, "three", None)
    asked(main, "three again", "3", limit=4)
    main.rollback()
    main.undo()
    main.undo()
    main.redo()
    main.restore(5)
    asked(main, "", "a better one", retry=True)
    main.unpin(0)
    side.add([user_msg("elsewhere")])
    deeper = side.fork(at=1)
    deeper.rename("deeper")
    deeper.add([user_msg("x" * 300), {"role": "user", "content": [{"type": "text", "text": "part"}]}])
    asked(deeper, "deep?", "deep.")
    group = engine.create("group")
    group.set_role("Ann", "is kind")
    group.set_role("Bob", "is not")
    group.commit(lambda state: [ev.RemarkAdded(speaker="Ann", audiences=["Bob"], remark="hello")])
    group.set_role("Bob", None)
    group.configure("gpt-test", 7)
    put_away = engine.create("put away")
    put_away.add([user_msg("old")])
    put_away.archive()
    engine.create()
    engine.conversations()
    return {"main": main, "side": side, "deeper": deeper, "group": group, "put away": put_away}


def long(engine: Engine, name: str = "long", size: int = 1200) -> Conversation:
    """Make a conversation that is long enough for snapshots."""
    conversation = engine.create(name)
    for start in range(0, size // 2, 10):
        numbers = range(start, start + 10)
        rounds = [(user_msg(f"question {n} " * 5), assistant_msg(f"answer {n} " * 5)) for n in numbers]
        conversation.add([message for one in rounds for message in one])
    return conversation


def retry_late(conversation: Conversation, text: str, meanwhile: Callable[[], object]) -> None:
    """Retry the last question; *meanwhile* is called before the answer comes."""
    opening = Open(RequestSpec(question=[], model="m", retry=True), lambda: None)
    opened = conversation.store.transact(conversation.begin_job(opening)).request
    meanwhile()
    raw = msg.encode(assistant_msg(text), "the answer")
    ending = conversation.end_job(
        opened.request, lambda state: request_events.answered(opened, state, raw, ev.Answer())
    )
    conversation.store.transact(ending)


@contextmanager
def plain(path: Path, *, unguarded: bool = False) -> Generator[sqlite3.Connection, None, None]:
    """Open the file with plain sqlite3; *unguarded*: drop the guards on the log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        if unguarded:
            triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                connection.execute(f"DROP TRIGGER {name}")
        yield connection


SECRET = "hunter2-correct-horse"


def files_with(path: Path, text: str = SECRET) -> list[str]:
    """Return the names of a store's files that hold *text*."""
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    return [file.name for file in files if text.encode() in file.read_bytes()]


def texts_of(found: Iterable[Found]) -> list[str]:
    """Return the texts that a search found."""
    return [it.text for it in found]


def added(text: str) -> ev.Event:
    """Return the event that adds a user message."""
    return ev.MessageAdded(message=msgspec.Raw(msg.encode(user_msg(text), "it")))


def stream(store: SqliteStore, conversation: str = "c") -> list[ev.Recorded]:
    """Return the events of a stream."""
    with store.reading() as reader:
        return list(reader.events(conversation))


def check_chain(store: SqliteStore, conversation: str = "c") -> None:
    """Recompute every hash as documented in `store.codec`."""
    previous = NO_HASH
    for number, record in enumerate(stream(store, conversation), 1):
        assert record.version == number
        previous = codec.link(
            *(previous, codec.digest(record.json), conversation, number),
            *(record.batch, record.type, record.time),
        )
        assert record.hash == previous.hex()


def python(code: str, *args: object) -> subprocess.Popen[str]:
    """Start *code* in another process, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
