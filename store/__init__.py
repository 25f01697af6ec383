"""Where events live: the store, and how to name one.

A store holds streams of events. What a store can do is written down in `Store`; SQLite does it today.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from openai2.errors import BadInput
from openai2.store.reader import NO_HASH, Draft, Listed, Reader
from openai2.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from openai2.core import events as ev
    from openai2.store.group_commit import Loop
    from openai2.store.transaction import Transaction

T = TypeVar("T")


@runtime_checkable
class Store(Protocol):
    """What the engine asks of a store.

    `append` is the one way in: atomic, refused where the stream is at another version, durable once it
    returns. `transact` runs a job that reads and appends in one transaction; `submit` does so without
    making the caller, or an event loop, wait.
    """

    name: str
    read_only: bool
    epoch: int

    def reading(self, still: bool = False) -> AbstractContextManager[Reader]: ...
    def transact(self, job: Callable[[Transaction], T]) -> T: ...
    def submit(
        self,
        job: Callable[[Transaction], T],
        done: Callable[[Callable[[], T]], None],
        loop: Loop | None = None,
        *,
        short: bool = False,
    ) -> None: ...
    def append(
        self, conversation: str, expected_version: int, events: Sequence[ev.Event]
    ) -> list[ev.Recorded]: ...
    def scrub(self) -> bool: ...
    def close(self) -> None: ...


Db = str | os.PathLike[str] | Store | None

_shared: dict[tuple[int, str], SqliteStore] = {}
_lock = threading.RLock()  # the garbage collector may close a chat while we hold it


def open_store(db: str | os.PathLike[str] | None, *, synchronous: str = "FULL") -> SqliteStore:
    """The store that *db* names: a path, `sqlite:///path`, or None for one in memory."""
    return SqliteStore(path_of(db), synchronous=synchronous)


def path_of(db: str | os.PathLike[str] | None) -> str | None:
    """The path that *db*, a path or URL, names; None for memory. Raises BadInput for other schemes."""
    if db is None:
        return None
    path = os.fspath(db)
    if "://" in path:
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(path)
        if parts.scheme != "sqlite" or parts.netloc:
            raise BadInput("{url} names no store: sqlite:///PATH does", url=f"{parts.scheme}://…")
        path = unquote(parts.path.removeprefix("/"))
    if path in (":memory:", ""):
        return None
    return os.path.expanduser(path)


def share(db: str | os.PathLike[str] | SqliteStore | None) -> tuple[SqliteStore, Callable[[], None]]:
    """A store and how to let go of it; the last one to let go closes it.

    Everybody in this process who names the same file shares one store.
    """
    if isinstance(db, SqliteStore):
        store = db
        with _lock:
            store.users += 1
    elif (path := path_of(db)) is None:
        store = SqliteStore(None)
        store.users = 1
    else:
        key = (os.getpid(), os.path.realpath(path))
        with _lock:
            known = _shared.get(key)
            if known is None or known.is_orphan():  # its file was deleted: this path is another's now
                known = _shared[key] = SqliteStore(path)
            known.users += 1
            store = known
    held = [os.getpid()]

    def let_go() -> None:
        with _lock:
            if not held or held.pop() != os.getpid():
                return
            store.users -= 1
            if store.users:
                return
            for key in [key for key, shared in _shared.items() if shared is store]:
                del _shared[key]
        store.close()

    return store, let_go


def __getattr__(name: str) -> object:
    # What knows of events comes late: the list of conversations is read without it.
    if name != "Transaction":
        raise AttributeError(f"module 'openai2.store' has no attribute {name!r}")
    from openai2.store.transaction import Transaction

    globals()[name] = Transaction
    return Transaction


__all__ = [
    "NO_HASH",
    "Db",
    "Draft",
    "Listed",
    "Reader",
    "SqliteStore",
    "Store",
    "Transaction",
    "open_store",
    "path_of",
    "share",
]
