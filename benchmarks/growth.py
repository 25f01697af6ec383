"""Measure how cost grows with the view, the history, the number of conversations, and concurrency."""

from __future__ import annotations

from functools import partial

from benchmarks import concurrent, request, worlds
from benchmarks.harness import Bench, Work

VIEWS = (2, 20, 200, 2_000)
PASTS = (1_000, 10_000, 100_000)
STORES = (100, 10_000, 100_000)
AT_ONCE = (1, 8, 50, 150)


def past(events: int) -> Work:
    """Open a conversation with *events* events in an open store, and read its 20 messages."""
    from openai2 import Engine

    engine = Engine(worlds.turns(events))
    return lambda: engine.open(worlds.NAME).messages()


def append(events: int) -> Work:
    """Append one turn to a conversation with *events* events."""
    from benchmarks.harness import copied, message
    from openai2 import Engine

    conversation = Engine(copied(worlds.turns(events)), synchronous="NORMAL").open(worlds.NAME)
    turn = [message(0), message(1)]
    return lambda: conversation.add(turn)


def listed(conversations: int) -> Work:
    """List the last 20 of *conversations* conversations."""
    from openai2 import Engine

    engine = Engine(worlds.many(conversations))
    return lambda: engine.conversations(limit=20)


if __name__ == "__main__":
    with Bench("growth") as bench:
        for size in VIEWS:
            few = 2 if size > 200 else 10
            bench.cpu(f"growth/view/create/{size}", partial(request.create, size), few)
            bench.cpu(f"growth/view/openai2/{size}", partial(request.chat, size), 10)
        for size in PASTS:
            bench.time(f"growth/past/open/{size}", partial(past, size), 20)
            bench.time(f"growth/past/append/{size}", partial(append, size), 20)
        for size in STORES:
            bench.time(f"growth/store/list/{size}", partial(listed, size), 20)
        for size in AT_ONCE:
            bench.amount(
                f"growth/at-once/create/{size}",
                partial(concurrent.create, size, 300),
                "second",
            )
            bench.amount(
                f"growth/at-once/openai2/{size}",
                partial(concurrent.chats, size, 300),
                "second",
            )
