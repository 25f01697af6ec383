"""Streams that stop halfway, and checks that a request has ended and nothing of a store is left."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from openai2 import Engine, user_msg
from tests.support.servers import Reply, spoken, streamed

HALF = {"role": "assistant", "content": "half"}


def half(gate: threading.Event | None = None) -> Reply:
    """Reply with "half" and then with nothing until the gate opens."""
    return streamed([*spoken("half", None, done=False), gate or threading.Event(), *spoken("more")])


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("openai2-")]


def files_open(below: Path) -> list[str]:
    found: list[str] = []
    for number in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []:
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return [name for name in found if name.startswith(str(below))]


def check_nothing_left(below: Path) -> None:
    """Nothing refers to a store: its threads and files end, at once or soon."""
    gc.collect()
    deadline = time.monotonic() + 20
    while (left := our_threads() + files_open(below)) and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()  # what a thread held a moment ago may be a cycle now
    assert not left, left


def read_half(stream: Iterator[str]) -> Iterator[str]:
    assert "".join(next(stream) for _ in range(4)) == "half"
    return stream


async def aread_half(stream: AsyncIterator[str]) -> AsyncIterator[str]:
    assert "".join([await anext(stream) for _ in range(4)]) == "half"
    return stream


def check_stopped(db: Path) -> None:
    """The only request of the store ended with what had come, in the view."""
    with Engine(db) as engine:
        (listed,) = engine.conversations()
        conversation = engine.open(listed.id)
        types = [record.type for record in conversation.events()]
        assert types[-2:] == ["message_added", "request_stopped"]
        assert conversation.messages() == [user_msg("q"), HALF]
        with engine.store.reading() as reader:
            assert not reader.drafts()
        assert engine.verify().ok


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
