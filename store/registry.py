"""Open stores by path or URL; all users of a file in this process share one store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from openai2.errors import BadInput
from openai2.store.sqlite import SqliteStore

_shared: dict[tuple[int, str], SqliteStore] = {}
_lock = threading.RLock()  # reentrant: the garbage collector may close a chat while this thread holds it


def open_store(db: str | os.PathLike[str] | None, *, synchronous: str = "FULL") -> SqliteStore:
    """Open the store at *db*: a path, `sqlite:///path`, or None for a new one in memory."""
    return SqliteStore(path_of(db), synchronous=synchronous)


def path_of(db: str | os.PathLike[str] | None) -> str | None:
    """Return the path that *db*, a path or URL, names; None for memory. Raises BadInput for other schemes."""
    if db is None:
        return None
    path = os.fspath(db)
    if "://" in path:
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(path)
        if parts.scheme != "sqlite" or parts.netloc:
            raise BadInput("cannot open {url}: expected a path or sqlite:///PATH", url=f"{parts.scheme}://…")
        path = unquote(parts.path.removeprefix("/"))
    if path in (":memory:", ""):
        return None
    return os.path.expanduser(path)


def share(db: str | os.PathLike[str] | SqliteStore | None) -> tuple[SqliteStore, Callable[[], None]]:
    """Return the shared store at *db*, and the function that releases it; the last release closes it."""
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
            if known is None or known.is_orphan():
                known = _shared[key] = SqliteStore(path)
            known.users += 1
            store = known
    owners = [os.getpid()]  # emptied by the first release; a forked child does not release the parent's store

    def release() -> None:
        with _lock:
            if not owners or owners.pop() != os.getpid():
                return
            store.users -= 1
            if store.users:
                return
            for key in [key for key, shared in _shared.items() if shared is store]:
                del _shared[key]
        store.close()

    return store, release
