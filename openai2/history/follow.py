"""Following a log: the events of any process, as they are appended.

Rules: positions have no gaps and are given out in the order of commit, so whoever goes on from the last
position seen loses nothing and sees nothing twice. Nothing is held while the caller thinks. Between two
looks there is a pause, short after an event and up to *poll* where nothing happens: a look asks the store
for its last position, which touches one page.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.typeguards import is_int
from openai2.errors import BadInput

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from openai2.engine import Engine

#: Seconds between two looks while nothing happens, and right after something did.
POLL, SOON = 0.05, 0.001
_PAGE = 256  # events


class Following(Iterator[ev.Recorded], AsyncIterator[ev.Recorded]):
    """Recorded events as they come, for `for` and for `async for`; made by `Engine.follow`.

    `stop()`, from any thread, ends it: what was found already is still handed out, then the iteration is
    over. It holds the store open until then.
    """

    def __init__(
        self, engine: Engine, conversation: str | Conversation | None, after: int | None, poll: float
    ) -> None:
        if after is not None and not is_int(after, 0):
            raise BadInput("to follow from somewhere, name the event before it: 0 or more, not {after}",
                           after=after)  # fmt: skip
        if not poll > 0:
            raise BadInput("the pause between two looks is more than 0 seconds, not {poll}", poll=poll)
        if isinstance(conversation, str):
            conversation = engine.open(conversation)
        self._conversation = None if conversation is None else conversation.id
        self._poll = poll
        self._wait = SOON
        self._found: deque[ev.Recorded] = deque()
        self._stopped = threading.Event()
        self._engine = engine.share()
        self._let_go = weakref.finalize(self, self._engine.close)
        with self._engine.store.reading() as reader:
            self._looked = reader.last_position()
            if self._conversation is not None:
                self._after = reader.head(self._conversation)[0] if after is None else after
            else:
                self._after = self._looked if after is None else after
        self._seen = self._looked
        if after is not None:
            self._looked = -1  # there may be something already

    def stop(self) -> None:
        """End the following; from any thread or task, as often as you like."""
        self._stopped.set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ev.Recorded:
        while not self._found:
            if self._over():
                raise StopIteration
            if self._news():
                self._read()
            if not self._found:
                self._stopped.wait(self._pause())
        return self._found.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ev.Recorded:
        while not self._found:
            if self._over():
                raise StopAsyncIteration
            if self._news():
                await asyncio.to_thread(self._read)
            if not self._found:
                await asyncio.sleep(self._pause())
        return self._found.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._let_go()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    # -- inside

    def _over(self) -> bool:
        if self._stopped.is_set():
            self._let_go()
            return True
        return False

    def _pause(self) -> float:
        wait = min(self._wait, self._poll)
        self._wait = min(wait * 2, self._poll)
        return wait

    def _news(self) -> bool:
        """Whether the store has grown since the last page was read to its end."""
        with self._engine.store.reading() as reader:
            position = reader.last_position()
        if position == self._looked:
            return False
        self._seen = position
        return True

    def _read(self) -> None:
        """Read one page of what is new."""
        with self._engine.store.reading() as reader:
            if self._conversation is None:
                page = list(islice(reader.every_event(self._after), _PAGE))
            else:
                page = list(reader.events(self._conversation, after=self._after, limit=_PAGE))
        if page:
            last = page[-1]
            self._after = last.position if self._conversation is None else last.version
            self._wait = SOON
        if len(page) < _PAGE:
            # Taken before the page was read: what came in between only makes the next look find news.
            self._looked = self._seen
        self._found.extend(page)
