"""The same tasks by others' hands: what is not installed is left out with a note.

Each adapter stores 100 turns of one dialogue one by one, then reads the dialogue back; where the peer can
fork, it forks it once. All write to a file, with the durability that the peer itself chooses.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from benchmarks.harness import Bench, Work, fresh, messages

TURNS = 100
Tasks = dict[str, Callable[[], Work]]


def _openai2() -> Tasks:
    from openai2 import Engine

    def append() -> Work:
        engine = Engine(fresh("peer"))
        said = messages(2 * TURNS)

        def work() -> None:
            conversation = engine.create()
            for start in range(0, len(said), 2):
                conversation.add(said[start : start + 2])

        return work

    def load() -> Work:
        path = fresh("peer")
        engine = Engine(path)
        id_ = engine.create()
        id_.add(messages(2 * TURNS))
        return lambda: engine.open(id_.id).messages()

    def fork() -> Work:
        conversation = Engine(fresh("peer")).create()
        conversation.add(messages(2 * TURNS))
        return conversation.fork

    return {"append": append, "load": load, "fork": fork}


def _llm() -> Tasks:
    import sqlite_utils
    from llm.migrations import migrate

    def database() -> sqlite_utils.Database:
        db = sqlite_utils.Database(fresh("llm"))
        migrate(db)
        return db

    def turn(db: sqlite_utils.Database, conversation: str, number: int, said: list[dict[str, Any]]) -> None:
        db.table("conversations").insert({"id": conversation, "name": "x", "model": "m"}, ignore=True)
        db.table("responses").insert(
            {
                "id": f"{conversation}-{number}",
                "model": "m",
                "prompt": said[0]["content"],
                "response": said[1]["content"],
                "conversation_id": conversation,
                "duration_ms": 1,
                "datetime_utc": "2026-11-22T10:05:00",
            }
        )

    def append() -> Work:
        db = database()
        said = messages(2 * TURNS)
        names = iter(range(10**6))

        def work() -> None:
            name = f"c{next(names)}"
            for start in range(0, len(said), 2):
                turn(db, name, start, said[start : start + 2])

        return work

    def load() -> Work:
        db = database()
        said = messages(2 * TURNS)
        for start in range(0, len(said), 2):
            turn(db, "c", start, said[start : start + 2])
        return lambda: list(db.table("responses").rows_where("conversation_id = ?", ["c"], order_by="id"))

    return {"append": append, "load": load}


def _agents() -> Tasks:
    from agents import SQLiteSession

    def append() -> Work:
        session = SQLiteSession("s", str(fresh("agents")))
        said: Any = messages(2 * TURNS)

        async def main() -> None:
            for start in range(0, len(said), 2):
                await session.add_items(said[start : start + 2])
            await session.clear_session()

        return lambda: asyncio.run(main())

    def load() -> Work:
        session = SQLiteSession("s", str(fresh("agents")))
        said: Any = messages(2 * TURNS)
        asyncio.run(session.add_items(said))
        return lambda: asyncio.run(session.get_items())

    return {"append": append, "load": load}


def _langgraph() -> Tasks:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    def saver() -> Any:
        held = SqliteSaver(sqlite3.connect(fresh("langgraph"), check_same_thread=False))
        held.setup()
        return held

    def fill(held: Any, thread: str) -> None:
        said: list[dict[str, Any]] = []
        whole = messages(2 * TURNS)
        for start in range(0, len(whole), 2):
            said = [*said, *whole[start : start + 2]]
            checkpoint: Any = {**empty_checkpoint(), "channel_values": {"messages": said}}
            held.put({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, checkpoint, {}, {})

    def append() -> Work:
        held = saver()
        names = iter(range(10**6))
        return lambda: fill(held, f"t{next(names)}")

    def load() -> Work:
        held = saver()
        fill(held, "t")
        return lambda: held.get({"configurable": {"thread_id": "t", "checkpoint_ns": ""}})

    return {"append": append, "load": load}


def _eventsourcing() -> Tasks:
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    class BaseChat(Aggregate):
        def __init__(self) -> None:
            self.said: list[dict[str, Any]] = []

        @event("Said")
        def say(self, said: list[dict[str, Any]]) -> None:
            self.said += said

    def application() -> Any:
        path = str(fresh("eventsourcing"))
        environment = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path}
        return Application(env=environment)

    def fill(app: Any) -> Any:
        dialogue = BaseChat()
        said = messages(2 * TURNS)
        for start in range(0, len(said), 2):
            dialogue.say(said[start : start + 2])
            app.save(dialogue)
        return dialogue.id

    def append() -> Work:
        app = application()
        return lambda: fill(app)

    def load() -> Work:
        app = application()
        name = fill(app)
        return lambda: app.repository.get(name)

    return {"append": append, "load": load}


PEERS: dict[str, tuple[str, Callable[[], Tasks]]] = {
    "openai2": ("openai2", _openai2),
    "llm": ("llm", _llm),
    "openai-agents": ("agents", _agents),
    "langgraph": ("langgraph.checkpoint.sqlite", _langgraph),
    "eventsourcing": ("eventsourcing", _eventsourcing),
}


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _late(adapter: Callable[[], Tasks], task: str) -> Callable[[], Work]:
    def prepare() -> Work:  # which imports the peer
        return adapter()[task]()

    return prepare


if __name__ == "__main__":
    with Bench("peers") as bench:
        for name, (module, adapter) in PEERS.items():
            if not _there(module):
                sys.stderr.write(f"        {name} is not installed, and left out\n")
                continue
            for task in ("append", "load", "fork"):
                if task != "fork" or name == "openai2":
                    bench.time(f"peers/{task}/{name}", _late(adapter, task))
