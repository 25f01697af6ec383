"""Drivers: who does what a `flow` asks for; one blocks and one awaits.

Rules: whatever ends a request, its end goes on record. An exception goes into the flow, which closes the
request and raises it again; a caller that leaves (the iterator dropped, the task cancelled, Ctrl-C) is
told to the flow as `CallerLeft`, and what it then wants on record is done before anything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TypeVar

from openai2.api import exchange as provider
from openai2.conversation import Conversation
from openai2.core.request_events import CallerLeft, RequestError
from openai2.history import drafts
from openai2.request.effects import Close, Effect, Emit, Flow, Open, Pause, Receive, Send, Think
from openai2.store import Store, Transaction

T = TypeVar("T")

#: Is told the model's reasoning as it comes.
OnReasoning = Callable[[str], object] | None


def drive(
    flow: Flow,
    conversation: Conversation,
    exchange: provider.Exchange,
    on_reasoning: OnReasoning = None,
) -> Generator[str, None, str]:
    """Run the flow, hand out its texts, return the whole. Raises the `openai` exception of a failure."""
    seen: BaseException
    try:
        effect = next(flow)
        while True:
            try:
                result = None
                if isinstance(effect, Receive):
                    result = exchange.receive(effect.until)
                elif isinstance(effect, Emit):
                    yield effect.text
                elif isinstance(effect, Think):
                    if on_reasoning is not None:
                        on_reasoning(effect.text)
                elif isinstance(effect, Send):
                    exchange.send(effect)
                elif isinstance(effect, Pause):
                    time.sleep(effect.seconds)
                else:
                    _record(conversation, effect)
            except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                effect = flow.throw(error)
            except BaseException:
                _leave(flow, conversation)
                raise
            else:
                effect = flow.send(result)
    except StopIteration as end:
        return str(end.value)
    except RequestError as fault:
        seen = _caller_sees(fault, exchange)
    finally:
        exchange.close()
    # Out here, so that the fault and its frames do not hang on the exception as its context.
    raise seen from seen.__cause__


def _record(conversation: Conversation, effect: Open | Close) -> None:
    if isinstance(effect, Open):
        conversation.begin(effect)
        _watch(conversation, effect)
    else:
        drafts.draft_writer(conversation.store).forget(conversation.id, effect.request)
        conversation.end(effect.request, effect.decide)


def _watch(conversation: Conversation, opening: Open) -> None:
    if opening.opened is not None:
        request = opening.opened.begun.request
        drafts.draft_writer(conversation.store).watch(conversation.id, request, opening.partial)


def _leave(flow: Flow, conversation: Conversation) -> None:
    """The caller left: put on record what came, whatever else is going on."""
    try:
        effect: Effect = flow.throw(CallerLeft())
        while isinstance(effect, (Open, Close)):
            _record(conversation, effect)
            effect = flow.send(None)
    except (CallerLeft, StopIteration):
        pass


async def adrive(
    flow: Flow,
    conversation: Conversation,
    exchange: provider.AsyncExchange,
    outcome: list[str],
    on_reasoning: OnReasoning = None,
) -> AsyncGenerator[str, None]:
    """The same, awaited; the whole text is put into *outcome*, since an async generator returns nothing."""
    seen: BaseException
    try:
        effect = next(flow)
        while True:
            try:
                result = None
                if isinstance(effect, Receive):
                    result = await exchange.receive(effect.until)
                elif isinstance(effect, Emit):
                    yield effect.text
                elif isinstance(effect, Think):
                    if on_reasoning is not None:
                        on_reasoning(effect.text)
                elif isinstance(effect, Send):
                    await exchange.send(effect)
                elif isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                else:
                    await _arecord(conversation, effect)
            except Exception as error:  # noqa: BLE001 - the flow puts it on record and raises it
                effect = flow.throw(error)
            except BaseException:
                await _aleave(flow, conversation)
                raise
            else:
                effect = flow.send(result)
    except StopIteration as end:
        outcome.append(str(end.value))
        return
    except RequestError as fault:
        seen = _caller_sees(fault, exchange)
    finally:
        await exchange.close()
    raise seen from seen.__cause__


async def _arecord(conversation: Conversation, effect: Open | Close) -> None:
    if isinstance(effect, Open):
        try:
            await run_in_store(conversation.store, conversation.begin_job(effect))
        except Exception:
            effect.opened = None  # it is not on record, and nothing is to be closed
            raise
        finally:
            _watch(conversation, effect)
    else:
        drafts.draft_writer(conversation.store).forget(conversation.id, effect.request)
        await run_in_store(conversation.store, conversation.end_job(effect.request, effect.decide))


async def _aleave(flow: Flow, conversation: Conversation) -> None:
    try:
        effect: Effect = flow.throw(CallerLeft())
        while isinstance(effect, (Open, Close)):
            await _arecord(conversation, effect)
            effect = flow.send(None)
    except (CallerLeft, StopIteration):
        pass


async def run_in_store(store: Store, job: Callable[[Transaction], T]) -> T:
    """Run *job* in a transaction of *store* and return its result; raise a cancellation after the commit."""
    loop = asyncio.get_running_loop()
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


def _caller_sees(fault: RequestError, exchange: provider.Exchange | provider.AsyncExchange) -> BaseException:
    """The exception for the caller."""
    return exchange.fault_of(fault).error or fault
