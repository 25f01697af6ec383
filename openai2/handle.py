"""A handle keeps a store open for all that is handed out, and knows the requests that run on it.

Invariants:
- Engines, conversations and streams refer to their handle. It closes when `close` is called, when nothing
  refers to it any more, or when the program ends.
- A handle that closes first puts on record what came of its open requests.
- A finalizer may run at any line of any thread, also where that thread holds a lock. What it does then runs
  in a thread of its own, so that no lock is waited for.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from openai2.errors import StoreError
from openai2.store import Store
from openai2.store.group_commit import NoThread, start_thread


class Stoppable(Protocol):
    """A request that runs. *owner* is what its chat calls itself by."""

    owner: object

    def stop(self) -> None:
        """Put on record what came of the request, and end it. Stopping twice is fine."""


class StoreHandle:
    """A use of *store*, which *release* ends."""

    def __init__(self, store: Store, release: Callable[[], None]) -> None:
        self.store = store
        self._release = release
        self._requests: set[Stoppable] = set()
        self._is_closed = False
        self._pid = os.getpid()
        _handles.add(self)
        _deferred.run()

    def add(self, request: Stoppable) -> None:
        """Register a request that starts. Raises StoreError if the handle is closed."""
        self._requests.add(request)
        if self._is_closed:  # checked last: `close` sets it before it looks for requests
            self._requests.discard(request)
            raise StoreError("{name} is closed", name=self.store.name)

    def discard(self, request: Stoppable) -> None:
        """Forget a request whose end is on record."""
        self._requests.discard(request)

    def stop_requests(self, owner: object = None) -> None:
        """Stop the open requests of *owner* (None: all), and return when their ends are on record."""
        errors: list[Exception] = []
        for request in list(self._requests):
            if owner is None or request.owner is owner:
                try:
                    request.stop()
                except Exception as error:  # noqa: BLE001 - the other requests are stopped first
                    errors.append(error)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Stop the open requests, then release the store. Closing twice is fine."""
        if self._pid != os.getpid():  # the parent's requests and files are the parent's
            return
        self._is_closed = True
        try:
            self.stop_requests()
        finally:
            self._release()

    def __del__(self) -> None:
        if not self._is_closed:
            finalize(self.close)


# -- finalizers

#: Modules that hold locks while their functions run, or what these call.
_LOCKING = (
    *("openai2.api", "openai2.conversation", "openai2.handle", "openai2.history", "openai2.store"),
    *("httpcore", "httpx"),
)


class _Deferred:
    """Calls that finalizers left to another thread."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Call *call* in another thread; if none can be started, in the next `run`."""
        self._calls.append(call)
        if self._thread is None:
            with suppress(NoThread):
                self._thread = start_thread(self._serve, "openai2-finalizer")

    def run(self) -> None:
        """Run the calls that wait."""
        while self._calls:
            with suppress(IndexError):  # another thread took it
                _call(self._calls.popleft())

    def join(self) -> None:
        """Run the calls that wait, and wait for the thread."""
        thread = self._thread
        if thread is not None:
            thread.join()
        self.run()

    def forget(self) -> None:
        """Forget the parent's calls, in a forked process."""
        self._calls.clear()
        self._thread = None

    def _serve(self) -> None:
        while self._calls:
            self.run()
            # If `add` sees this, it starts another thread; if not, the loop sees its call.
            self._thread = None


_deferred = _Deferred()
_handles: weakref.WeakSet[StoreHandle] = weakref.WeakSet()


def finalize(close: Callable[[], None]) -> None:
    """Call *close* in a finalizer: at once, or in another thread if this one may hold locks."""
    if _may_hold_locks():
        _deferred.add(close)
    else:
        close()


def _may_hold_locks() -> bool:
    frame = sys._getframe(2).f_back  # pyright: ignore[reportPrivateUsage]  # the caller of the finalizer
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_LOCKING):
            return True
        frame = frame.f_back
    return False


def _call(call: Callable[[], None]) -> None:
    """Call *call*, and report its exception as an uncaught one: it has no caller."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        sys.excepthook(type(error), error, error.__traceback__)


def _close_all() -> None:
    _deferred.join()
    for handle in _open_handles():
        _call(handle.close)


def _open_handles() -> list[StoreHandle]:
    while True:
        with suppress(RuntimeError):  # another thread opened one
            return list(_handles)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_deferred.forget)
