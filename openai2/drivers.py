"""The drivers of a request: they perform the effects that `request.flow` yields, one blocking, one awaiting.

Invariants:
- However a request ends, its end goes on record. An exception goes into the flow, which closes the request
  and raises it again. If the caller leaves (iterator dropped, task cancelled, Ctrl-C), the flow gets
  `CallerLeft`, and what it then records is written first.
- A cancelled task waits for a transaction that has begun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from functools import partial
from typing import Protocol, TypeVar

from openai2.api.exchange import AsyncExchange, Exchange
from openai2.api.options import OnReasoning
from openai2.core.request_events import CallerLeft, RequestError
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


# -- blocking


def drive(
    flow: Flow, log: RequestLog, exchange: Exchange, on_reasoning: OnReasoning | None = None
) -> Generator[str, None, Answer]:
    """Run *flow*: yield the answer's texts, return the `Answer`. Raises the failure's `openai` exception."""
    try:
        effect = next(flow)
        while True:
            try:
                result: object = None
                if isinstance(effect, Receive):
                    result = exchange.receive(effect.until)
                elif isinstance(effect, Emit):
                    yield effect.text
                elif isinstance(effect, Think):
                    _report(effect, on_reasoning)
                elif isinstance(effect, Send):
                    exchange.send(effect)
                elif isinstance(effect, Pause):
                    time.sleep(effect.seconds)
                else:
                    result = _record(log, effect)
            except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                effect = flow.throw(error)
            except BaseException:
                _leave(flow, log)
                raise
            else:
                effect = flow.send(result)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    except RequestError as error:
        failure = _for_caller(error, exchange)
    finally:
        exchange.close()
    # Raised out here: the RequestError and its frames do not become the exception's context.
    raise failure from failure.__cause__


def _record(log: RequestLog, effect: Open | Close) -> Opened | None:
    if isinstance(effect, Close):
        log.store.transact(_end_job(log, effect))
        return None
    try:
        opened = log.store.transact(log.begin_job(effect))
    except Exception:
        raise
    except BaseException:  # Ctrl-C, before or after the commit
        if effect.opened is not None and not _is_open(log, effect.opened.request.request):
            effect.opened = None
        raise
    _watch(log, effect, opened)
    return opened


def _is_open(log: RequestLog, request: int) -> bool:
    with log.store.reading() as reader:
        return any(draft.request == request for draft in reader.drafts(log.id))


def _leave(flow: Flow, log: RequestLog) -> None:
    """Record what was received when the caller leaves."""
    try:
        effect: Effect = flow.throw(CallerLeft())
        while isinstance(effect, (Open, Close)):
            effect = flow.send(_record(log, effect))
    except (CallerLeft, StopIteration):
        pass


# -- awaiting


async def adrive(
    flow: Flow, log: RequestLog, exchange: AsyncExchange, on_reasoning: OnReasoning | None = None
) -> AsyncGenerator[str | Answer, None]:
    """Run *flow* as `drive` does; the last item is the `Answer`."""
    answer: Answer | None = None
    failure: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                result: object = None
                if isinstance(effect, Receive):
                    result = await exchange.receive(effect.until)
                elif isinstance(effect, Emit):
                    yield effect.text
                elif isinstance(effect, Think):
                    _report(effect, on_reasoning)
                elif isinstance(effect, Send):
                    await exchange.send(effect)
                elif isinstance(effect, Pause):
                    await _sleep(effect.seconds)
                else:
                    result = await _arecord(log, effect)
            except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                effect = flow.throw(error)
            except BaseException:
                await _aleave(flow, log)
                raise
            else:
                effect = flow.send(result)
    except StopIteration as end:
        answer = end.value
    except RequestError as error:
        failure = _for_caller(error, exchange)
    finally:
        await exchange.close()
    if failure is not None:
        raise failure from failure.__cause__
    assert answer is not None
    yield answer


async def _arecord(log: RequestLog, effect: Open | Close) -> Opened | None:
    if isinstance(effect, Close):
        await run_in_store(log.store, _end_job(log, effect))
        return None
    opened = await run_in_store(log.store, log.begin_job(effect))
    _watch(log, effect, opened)
    return opened


async def _aleave(flow: Flow, log: RequestLog) -> None:
    try:
        effect: Effect = flow.throw(CallerLeft())
        while isinstance(effect, (Open, Close)):
            effect = flow.send(await _arecord(log, effect))
    except (CallerLeft, StopIteration):
        pass


class TextStream(AsyncIterator[str]):
    """The texts that `adrive` yields, without the `Answer`.

    Not a generator around a generator: at the end of a loop, asyncio closes both at once, and one of them
    would fail.
    """

    def __init__(self, pieces: AsyncGenerator[str | Answer, None]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> str:
        async for piece in self._pieces:
            if isinstance(piece, str):
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the request; what was received is stored as the answer, marked as stopped."""
        await self._pieces.aclose()


async def run_in_store(store: Store, job: Job[T]) -> T:
    """Run *job* in a transaction of *store* and return its result; raise a cancellation after the commit."""
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
    with anyio.CancelScope(shield=True):
        result.append(await anyio.to_thread.run_sync(function))
    return result[0]


async def _sleep(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


# -- the same for both


def _report(effect: Think, on_reasoning: OnReasoning | None) -> None:
    if on_reasoning is not None:
        on_reasoning(effect.text)


def _watch(log: RequestLog, opening: Open, opened: Opened) -> None:
    drafts.draft_writer(log.store).watch(log.id, opened.request.request, opening.partial)


def _end_job(log: RequestLog, closing: Close) -> Job[None]:
    drafts.draft_writer(log.store).forget(log.id, closing.request)
    return log.end_job(closing.request, closing.decide)


def _for_caller(error: RequestError, exchange: Exchange | AsyncExchange) -> BaseException:
    return exchange.fault_of(error).error or error
