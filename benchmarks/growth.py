"""How cost grows: with the history, with the conversations in the store, with what happens at once."""

from __future__ import annotations

from functools import partial

from benchmarks import concurrent, request, worlds
from benchmarks.harness import Bench, Work

VIEWS = (2, 20, 200, 2_000)
PASTS = (1_000, 10_000, 100_000)
STORES = (100, 10_000, 100_000)
AT_ONCE = (1, 8, 50, 150)


def past(events: int) -> Work:
    """Open a conversation with so long a past, in a store that is open, and read its 20 messages."""
    from openai2 import Engine

    engine = Engine(worlds.turns(events))
    return lambda: engine.open(worlds.NAME).messages()


def going_on(events: int) -> Work:
    """A turn in a conversation with so long a past."""
    from benchmarks.harness import copied, message
    from openai2 import Engine

    conversation = Engine(copied(worlds.turns(events)), synchronous="NORMAL").open(worlds.NAME)
    said = [message(0), message(1)]
    return lambda: conversation.add(said)


def listed(conversations: int) -> Work:
    """The last 20 of so many."""
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
            bench.time(f"growth/past/append/{size}", partial(going_on, size), 20)
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
