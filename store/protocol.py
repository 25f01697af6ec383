"""What the engine needs of a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from openai2.core import events as ev
    from openai2.store.group_commit import Loop, Ticket
    from openai2.store.reader import Reader
    from openai2.store.transaction import Transaction

T = TypeVar("T")


@runtime_checkable
class Store(Protocol):
    """A log of events, in streams.

    `append` and `transact` are atomic, and durable once they return. `submit` does not make the caller, or
    an event loop, wait. *is_durable* is False if the log ends with the process. *epoch* counts the
    transactions that were rolled back: state cached before one may show events that do not exist. `close`
    first calls what was given to `on_close`.
    """

    name: str
    read_only: bool
    is_durable: bool

    @property
    def epoch(self) -> int: ...

    def reading(self, snapshot: bool = False) -> AbstractContextManager[Reader]: ...
    def transact(self, job: Callable[[Transaction], T]) -> T: ...
    def submit(
        self, job: Callable[[Transaction], T], notify: Callable[[], object], loop: Loop
    ) -> Ticket[T]: ...
    def append(
        self, conversation: str, expected_version: int, events: Sequence[ev.Event]
    ) -> list[ev.Recorded]: ...
    def scrub(self) -> bool: ...
    def on_close(self, callback: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


#: What names a store: a path, a URL, the store itself, or None for one in memory.
Db = str | os.PathLike[str] | Store | None
