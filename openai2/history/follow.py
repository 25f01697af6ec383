"""Follow a log: yield the events of every process as they are committed.

Invariants:
- Positions have no gaps and follow the order of commit, so reading on from the last position seen neither
  loses nor repeats an event.
- No transaction is open while the caller handles an event.
- A poll reads the store's last position, one page. The pause between polls is 1 ms after an event and
  doubles up to *poll* seconds.

`Engine.follow` resolves the conversation and hands the shared store in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from openai2.core import events as ev
from openai2.core.typeguards import is_int
from openai2.errors import BadInput
from openai2.store import Store

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_SHORTEST_PAUSE = 0.001  # seconds
_PAGE = 256  # events


def check_options(after: int | None, poll: float) -> None:
    """Raise BadInput if *after* is not a version or position, or *poll* is not positive."""
    if after is not None and not is_int(after, 0):
        raise BadInput(
            "expected the number of an event (0 or more) to follow after, got {after}", after=after
        )
    if not poll > 0:
        raise BadInput("expected more than 0 seconds between two polls, got {poll}", poll=poll)


class Following(Iterator[ev.Recorded], AsyncIterator[ev.Recorded]):
    """The events of a store, or of one conversation in it, for `for` and `async for`.

    Made by `Engine.follow`. `stop()`, from any thread, ends the iteration after the events already read.
    *release* is called when the iteration ends. Until then it keeps the store open.
    """

    def __init__(
        self,
        store: Store,
        conversation: str | None,
        after: int | None,
        poll: float,
        release: Callable[[], None],
    ) -> None:
        self._store = store
        self._conversation = conversation
        self._poll = poll
        self._pause = _SHORTEST_PAUSE
        self._pending: deque[ev.Recorded] = deque()
        self._stopped = threading.Event()
        self._release = release
        with store.reading() as reader:
            self._polled = self._read_upto = reader.last_position()
            if after is not None:
                self._after = after
                self._read_upto = -1  # events after *after* may exist already
            elif conversation is not None:
                self._after = reader.head(conversation)[0]
            else:
                self._after = self._polled

    def stop(self) -> None:
        """End the iteration. Safe to call from any thread or task, and more than once."""
        self._stopped.set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ev.Recorded:
        while not self._pending:
            if self._has_ended():
                raise StopIteration
            if self._has_news():
                self._read_page()
            if not self._pending:
                self._stopped.wait(self._next_pause())
        return self._pending.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ev.Recorded:
        while not self._pending:
            if self._has_ended():
                raise StopAsyncIteration
            if self._has_news():
                await asyncio.to_thread(self._read_page)
            if not self._pending:
                await asyncio.sleep(self._next_pause())
        return self._pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _has_ended(self) -> bool:
        if self._stopped.is_set():
            self._release()
            return True
        return False

    def _next_pause(self) -> float:
        pause = min(self._pause, self._poll)
        self._pause = min(pause * 2, self._poll)
        return pause

    def _has_news(self) -> bool:
        """Return True if the store has grown since the log was last read to its end."""
        with self._store.reading() as reader:
            self._polled = reader.last_position()
        return self._polled != self._read_upto

    def _read_page(self) -> None:
        with self._store.reading() as reader:
            if self._conversation is None:
                page = list(islice(reader.every_event(self._after), _PAGE))
            else:
                page = list(reader.events(self._conversation, after=self._after, limit=_PAGE))
        if page:
            last = page[-1]
            self._after = last.position if self._conversation is None else last.version
            self._pause = _SHORTEST_PAUSE
        if len(page) < _PAGE:
            # The position polled before the page was read: a later event makes the next poll find news.
            self._read_upto = self._polled
        self._pending.extend(page)
