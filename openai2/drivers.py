"""The drivers of a request: they perform the effects that `request.flow` yields, one blocking, one awaiting.

Invariants:
- However a request ends, its end goes on record. An exception goes into the flow, which closes the request
  and raises it again. If the caller leaves (stream dropped, task cancelled, Ctrl-C) or the chat is closed,
  the flow gets `CallerLeft`, and what it then records is written first.
- Any thread can stop a request: it needs neither the thread nor the event loop that reads the stream. After
  that, only the job in the store's transaction touches the flow.
- A cancelled task waits for a transaction that has begun.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from openai2.api.exchange import AsyncExchange, Exchange
from openai2.api.options import OnReasoning
from openai2.core.request_events import CallerLeft, RequestError
from openai2.errors import Refused, StoreError
from openai2.handle import StoreHandle, finalize
from openai2.history import drafts
from openai2.history.stream_cache import Decide
from openai2.request.effects import (
    Answer,
    Close,
    Effect,
    Emit,
    Flow,
    Open,
    Opened,
    Pause,
    Receive,
    Send,
    Think,
)
from openai2.store import Store, Transaction
from openai2.store.group_commit import NoThread, no_thread

if TYPE_CHECKING:
    from typing import TypeGuard

T = TypeVar("T")
Job = Callable[[Transaction], T]


class RequestLog(Protocol):
    """Where a request goes on record: a `Conversation`, or a `PendingFork`."""

    @property
    def store(self) -> Store: ...
    @property
    def id(self) -> str: ...
    def begin_job(self, opening: Open) -> Job[Opened]: ...
    def end_job(self, request: int, decide: Decide) -> Job[None]: ...
    def is_open(self, tx: Transaction, request: int) -> bool: ...


class _Request(ABC):
    """A request that runs: its flow, the effect that is being performed, and if it was stopped.

    *owner* is what its chat calls itself by, to stop the requests that are its own.
    """

    def __init__(
        self,
        flow: Flow,
        log: RequestLog,
        handle: StoreHandle,
        owner: object,
        on_reasoning: OnReasoning | None,
    ) -> None:
        self.owner = owner
        self.answer: Answer | None = None
        self._flow = flow
        self._log = log
        self._handle = handle
        self._on_reasoning = on_reasoning
        self._drafts = drafts.draft_writer(log.store)
        self._effect: Effect | None = None
        self._has_begun = self._is_flowing = self._is_over = False
        self._is_stopped = self._is_recorded = False
        self._lock = threading.RLock()  # held while the flow runs
        self._reading = threading.Lock()  # held by the thread or task that reads
        self._pid = os.getpid()

    # -- the reader

    def _begin_reading(self) -> None:
        if not self._reading.acquire(blocking=False):
            raise Refused("this stream is being read by another thread or task")
        if not self._has_begun:
            self._has_begun = True
            try:
                self._handle.add(self)
            except StoreError:
                self._flow.close()
                self._is_over = True
                self._reading.release()
                raise

    def _advance(self, result: object, error: Exception | None = None) -> Effect:
        """Give the flow the result of its effect, or the *error*, and return its next effect."""
        with self._lock:
            if self._is_stopped and not self._is_recorded:
                raise _stopped()
            self._is_flowing = True
            try:
                effect = self._flow.send(result) if error is None else self._flow.throw(error)
            except BaseException:
                self._finish()
                raise
            finally:
                self._is_flowing = False
            self._effect = effect
            if self._is_stopped:  # by what the flow called
                raise _stopped()
            return effect

    def _job(self, effect: Open | Close) -> Job[Opened | None]:
        """Return the job that puts the start or the end of the request on record."""
        if isinstance(effect, Open):
            self._drafts.start()
            begin = self._log.begin_job(effect)

            def open_job(tx: Transaction) -> Opened:
                if self._is_stopped:
                    raise _stopped()
                return begin(tx)

            return open_job
        self._drafts.forget(self._log.id, effect.request)

        def close_job(tx: Transaction) -> None:
            if self._effect is effect:  # else `stop` has recorded it
                self._record_end(tx, effect)

        return close_job

    def _record_end(self, tx: Transaction, effect: Close) -> None:
        """Record the end that the flow asked for by itself."""
        self._effect = None
        self._log.end_job(effect.request, effect.decide)(tx)
        self._is_recorded = True

    def _watch(self, effect: Open | Close) -> None:
        if isinstance(effect, Open) and effect.opened is not None:
            self._drafts.watch(self._log.id, effect.opened.request.request, effect.partial)

    def _report(self, effect: Think) -> None:
        if self._on_reasoning is not None:
            self._on_reasoning(effect.text)

    def _finish(self) -> None:
        self._is_over = True
        self._effect = None
        self._handle.discard(self)

    # -- the end

    @abstractmethod
    def stop(self) -> None:
        """Put on record what came of the request, and end it; a reader gets StoreError."""

    def _claim(self) -> bool:
        """Take the request from its reader; return False if there is nothing to record."""
        if self._pid != os.getpid():  # it is the parent's
            return False
        with self._lock:
            if self._is_over or not self._has_begun:
                return False
            self._is_stopped = True
            return not self._is_flowing  # else `_advance`, below in this thread, goes on with it

    def record_stop(self) -> None:
        """Put on record what came of the request, if it is open."""
        if self._claim():
            try:
                self._log.store.transact(self._stop_job)
            finally:
                self._finish()

    def _stop_job(self, tx: Transaction) -> None:
        """Put on record what came, unless the reader did so first."""
        effect, self._effect = self._effect, None
        if effect is None:  # nothing is recorded yet, or the end is
            return
        if isinstance(effect, Close):
            self._record_end(tx, effect)
            return
        if isinstance(effect, Open) and effect.opened is not None:
            request = effect.opened.request.request
            if not self._log.is_open(tx, request):  # its transaction was rolled back
                effect.opened = None
        with suppress(CallerLeft, StopIteration):
            effect = self._flow.throw(CallerLeft())
            if isinstance(effect, Close):
                self._drafts.forget(self._log.id, effect.request)
                self._log.end_job(effect.request, effect.decide)(tx)


def _stopped() -> StoreError:
    return StoreError(
        "the request was stopped when its chat or event loop was closed: what had arrived is on record"
    )


# -- blocking


class Request(_Request):
    """A request that blocks the thread that reads its answer."""

    def __init__(
        self,
        flow: Flow,
        log: RequestLog,
        handle: StoreHandle,
        exchange: Exchange,
        owner: object = None,
        on_reasoning: OnReasoning | None = None,
    ) -> None:
        super().__init__(flow, log, handle, owner, on_reasoning)
        self._exchange = exchange
        self._thread: int | None = None  # reads now
        self._woken: threading.Event | None = None  # ends a pause

    def run(self) -> Answer:
        """Read to the end. Raises the failure's `openai` exception."""
        while self.next_text() is not None:
            pass
        assert self.answer is not None
        return self.answer

    def next_text(self) -> str | None:
        """Return the next piece of the answer's text; None at the end. Raises as `run`."""
        self._begin_reading()
        self._thread = threading.get_ident()
        failure: BaseException | None = None
        try:
            effect = self._advance(None)
            while not isinstance(effect, Emit):
                try:
                    result = self._perform(effect)
                except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                    effect = self._advance(None, error)
                else:
                    effect = self._advance(result)
            return effect.text
        except StopIteration as end:
            self.answer = end.value
        except RequestError as error:
            failure = _for_caller(error, self._exchange)
        except BaseException:
            self.stop()
            raise
        finally:
            self._thread = None
            if self._is_over or self._is_stopped:
                self._exchange.close()
            self._reading.release()
        if failure is not None:
            # Raised out here: the RequestError and its frames do not become the exception's context.
            raise failure from failure.__cause__
        return None

    def _perform(self, effect: Effect) -> object:
        if isinstance(effect, Receive):
            return self._exchange.receive(effect.until)
        if isinstance(effect, Send):
            self._exchange.send(effect)
        elif isinstance(effect, Think):
            self._report(effect)
        elif isinstance(effect, Pause):
            self._woken = threading.Event()
            if not self._is_stopped:
                self._woken.wait(effect.seconds)
        elif isinstance(effect, (Open, Close)):
            result = self._log.store.transact(self._job(effect))
            self._watch(effect)
            return result
        return None

    def stop(self) -> None:
        """Put on record what came of the request, and end it; a thread that reads gets StoreError."""
        self.record_stop()
        if not self._is_stopped:
            return
        reader = self._thread
        if reader is None:
            self._exchange.close()
        elif reader != threading.get_ident():
            if self._woken is not None:
                self._woken.set()
            self._exchange.abort()


class TextStream(Iterator[str]):
    """The texts of a request. Dropped or closed before its end, it stops the request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_over = False

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        try:
            text = self._request.next_text()
        except BaseException:
            self._is_over = True
            raise
        if text is None:
            self._is_over = True
            raise StopIteration
        return text

    def close(self) -> None:
        """End the request; what was received is stored as the answer, marked as stopped."""
        self._is_over = True
        self._request.stop()

    def __del__(self) -> None:
        if not self._is_over:
            finalize(self.close)


# -- awaiting


class AsyncRequest(_Request):
    """A request whose answer a task reads."""

    def __init__(
        self,
        flow: Flow,
        log: RequestLog,
        handle: StoreHandle,
        exchange: AsyncExchange,
        owner: object = None,
        on_reasoning: OnReasoning | None = None,
    ) -> None:
        super().__init__(flow, log, handle, owner, on_reasoning)
        self._exchange = exchange
        self._loop: Any = None  # of asyncio, or trio's token
        self._wait: _Cancellable | None = None  # for the server
        self._is_woken = False

    async def run(self) -> Answer:
        """Read to the end. Raises the failure's `openai` exception."""
        while await self.next_text() is not None:
            pass
        assert self.answer is not None
        return self.answer

    async def next_text(self) -> str | None:
        """Return the next piece of the answer's text; None at the end. Raises as `run`."""
        self._begin_reading()
        failure: BaseException | None = None
        is_dropped = False
        try:
            if self._loop is None:
                self._loop = _running_loop()
                (await _open_requests(self._loop)).add(self)
            effect = self._advance(None)
            while not isinstance(effect, Emit):
                try:
                    result = await self._perform(effect)
                except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                    effect = self._advance(None, error)
                else:
                    effect = self._advance(result)
            return effect.text
        except StopIteration as end:
            self.answer = end.value
        except RequestError as error:
            failure = _for_caller(error, self._exchange)
        except GeneratorExit:  # the coroutine was dropped: nothing can be awaited
            is_dropped = True
            finalize(self.stop)
            raise
        except BaseException as error:
            if self._is_woken and isinstance(error, asyncio.CancelledError) and not _was_cancelled_twice():
                raise _stopped() from None
            await self._stop()
            raise
        finally:
            self._reading.release()
            if (self._is_over or self._is_stopped) and not is_dropped:
                await self._exchange.close()
        if failure is not None:
            raise failure from failure.__cause__
        return None

    async def _perform(self, effect: Effect) -> object:
        if isinstance(effect, (Open, Close)):
            job = self._job(effect)
            try:
                result = await run_in_store(self._log.store, job)
            except NoThread:
                if isinstance(effect, Open):
                    raise
                return self._log.store.transact(job)
            self._watch(effect)
            return result
        if isinstance(effect, Think):
            self._report(effect)
            return None
        if not _is_asyncio(self._loop):
            return await self._wait_in_trio(effect)
        self._wait = asyncio.current_task()
        try:
            return await self._wait_for_server(effect)
        finally:
            self._wait = None

    async def _wait_in_trio(self, effect: Send | Receive | Emit | Pause) -> object:
        import anyio

        with anyio.CancelScope() as scope:
            self._wait = scope
            try:
                return await self._wait_for_server(effect)
            finally:
                self._wait = None
        raise _stopped()

    async def _wait_for_server(self, effect: Send | Receive | Emit | Pause) -> object:
        if self._is_stopped:
            raise _stopped()
        if isinstance(effect, Receive):
            return await self._exchange.receive(effect.until)
        if isinstance(effect, Send):
            await self._exchange.send(effect)
        elif isinstance(effect, Pause):
            import anyio

            await anyio.sleep(effect.seconds)
        return None

    async def _stop(self) -> None:
        """`stop`, by the task that reads."""
        if self._claim():
            try:
                await run_in_store(self._log.store, self._stop_job)
            except NoThread:
                self._log.store.transact(self._stop_job)
            finally:
                self._finish()

    def stop(self) -> None:
        """Put on record what came of the request, and end it; a task that reads gets StoreError."""
        self.record_stop()
        if self._is_stopped and self._loop is not None:
            try:
                _call_soon(self._loop, self._wake)
            except RuntimeError:  # the loop is closed, and the connection with it
                with suppress(Exception):
                    closing = self._exchange.close()
                    closing.send(None)
                    closing.close()

    def _wake(self) -> None:
        """End the reader's wait for the server; without one, free the connection. In the loop's thread."""
        if self._wait is not None:
            self._is_woken = True
            self._wait.cancel()
        elif not self._reading.locked():
            _start_task(self._loop, self._exchange.close)

    async def aclose(self) -> None:
        """Stop the request, and free its connection."""
        await self._stop()
        if self._wait is None:
            await self._exchange.close()
        else:
            self._wake()


class AsyncTextStream(AsyncIterator[str]):
    """The texts of an async request. Dropped or closed before its end, it stops the request.

    Not an async generator, whose end would depend on the event loop.
    """

    def __init__(self, request: AsyncRequest) -> None:
        self._request = request
        self._is_over = False

    async def __anext__(self) -> str:
        if self._is_over:
            raise StopAsyncIteration
        try:
            text = await self._request.next_text()
        except BaseException:
            self._is_over = True
            raise
        if text is None:
            self._is_over = True
            raise StopAsyncIteration
        return text

    async def aclose(self) -> None:
        """End the request; what was received is stored as the answer, marked as stopped."""
        self._is_over = True
        await self._request.aclose()

    def __del__(self) -> None:
        if not self._is_over:
            finalize(self._request.stop)


# -- event loops: of asyncio, or trio's


class _Cancellable(Protocol):
    """A task of asyncio, or a scope of trio."""

    def cancel(self) -> object: ...


_Open = weakref.WeakSet[AsyncRequest]
#: Per event loop: its open requests, and the generator that stops them when the loop ends.
_by_loop: dict[Any, tuple[_Open, AsyncGenerator[None, None]]] = {}
_tasks: set[asyncio.Task[None]] = set()


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from anyio.lowlevel import current_token

        return current_token().native_token


def _is_asyncio(loop: object) -> TypeGuard[asyncio.AbstractEventLoop]:
    return isinstance(loop, asyncio.AbstractEventLoop)


def _call_soon(loop: Any, callback: Callable[[], None]) -> None:
    """Have the loop call *callback*. Raises RuntimeError if the loop has ended."""
    if _is_asyncio(loop):
        loop.call_soon_threadsafe(callback)
    else:
        loop.run_sync_soon(callback)


def _start_task(loop: Any, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with suppress(Exception):  # the task has no caller
            await function()

    if _is_asyncio(loop):
        task = loop.create_task(run())
        _tasks.add(task)  # a loop alone keeps no task alive
        task.add_done_callback(_tasks.discard)
    else:
        import_module("trio").lowlevel.spawn_system_task(run)


def _was_cancelled_twice() -> bool:
    """Take back one cancellation of the current task; return True if there was another one."""
    uncancel: Callable[[], int] | None = getattr(asyncio.current_task(), "uncancel", None)  # Python 3.11
    return uncancel is not None and uncancel() > 0


async def _open_requests(loop: Any) -> _Open:
    known = _by_loop.get(loop)
    if known is None:
        _stop_in_closed_loops()
        requests: _Open = weakref.WeakSet()
        guard = _stop_at_end_of(loop, requests)
        known = _by_loop[loop] = requests, guard
        await anext(guard)
    return known[0]


def _stop_in_closed_loops() -> None:
    for loop in [loop for loop in list(_by_loop) if _is_asyncio(loop) and loop.is_closed()]:
        for request in list(_by_loop.pop(loop)[0]):
            request.stop()


async def _stop_at_end_of(loop: Any, requests: _Open) -> AsyncGenerator[None, None]:
    # asyncio.run() and trio.run() close suspended async generators just before they close the loop.
    try:
        yield
    finally:
        _by_loop.pop(loop, None)
        left = list(requests)
        for request in left:
            request.record_stop()
        for request in left:
            await request.aclose()


async def run_in_store(store: Store, job: Job[T]) -> T:
    """Run *job* in a transaction of *store* and return its result; raise a cancellation after the commit.

    Raises NoThread, a StoreUnavailable, if a thread is needed and cannot be started.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio
        return await _run_in_thread(partial(store.transact, job))
    waiter: asyncio.Future[None] = loop.create_future()

    def notify() -> None:
        if not waiter.done():
            waiter.set_result(None)

    ticket = store.submit(job, notify, loop)
    cancelled: asyncio.CancelledError | None = None
    while not ticket.is_done:
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
            waiter = loop.create_future()
    result = ticket.outcome()
    if cancelled is not None:
        raise cancelled
    return result


async def _run_in_thread(function: Callable[[], T]) -> T:
    import anyio.to_thread

    result: list[T] = []
    has_started = False

    def run() -> None:
        nonlocal has_started
        has_started = True
        result.append(function())

    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(run)
        except RuntimeError as error:
            if has_started:
                raise
            raise no_thread(error) from error
    return result[0]


def _for_caller(error: RequestError, exchange: Exchange | AsyncExchange) -> BaseException:
    return exchange.fault_of(error).error or error
