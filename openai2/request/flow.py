"""One request from beginning to end, as a generator that asks for effects and does none itself.

The generator yields what it wants done (`Open`, `Send`, `Receive`, `Emit`, `Think`, `Pause`, `Close`) and
is sent what came of it, or has thrown into it what went wrong. A driver of a dozen lines, one sync and one
async, does the work; so both put the same things on record, whatever happens:

- an answer that is whole joins the view together with its question;
- `CallerLeft` thrown in (the caller left) keeps what came; anything else that fails leaves the view.

Who tries again. This is the only loop that does; the SDK's own clients never retry. A server's fault (no
connection, 5xx, 408, 409) is tried `retries` times again, with a growing pause; a pool goes to its next key
at once on 401, 403 and 429 and waits for the one that wakes first; with a single key a 429 is waited out as
one of the retries. Nothing is asked again once a piece of the answer was handed out.

How long. All of a request, its retries and waits included, ends within `patience`. A stream may go on for
as long as it brings something: there `patience` is the time until the next piece of the answer (text,
reasoning, a tool call), which comments and empty chunks do not extend, and the time that the consumer takes
does not count. Once the answer is whole, the rest (the count of tokens) is given `TAIL` seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.core import request_events
from openai2.core.request_events import (
    REASONING,
    CallerLeft,
    OpenRequest,
    RequestError,
    RequestSpec,
    StreamState,
)
from openai2.core.typeguards import is_int
from openai2.keys import masking
from openai2.keys.classify import Outcome, Verdict, backoff_seconds, classify_failure
from openai2.keys.pool import AKPool, fingerprint
from openai2.keys.source import KeySource
from openai2.request.attempts import RequestProgress
from openai2.request.effects import (
    Close,
    Effect,
    Emit,
    Flow,
    Open,
    Opened,
    Pause,
    Policy,
    Receive,
    Send,
    Think,
)
from openai2.request.response import broken
from openai2.request.sse import Events

#: Seconds that a stream is listened to once its answer is whole.
TAIL = 5.0
#: Seconds that the end of a stream may take after `[DONE]`, before its connection is dropped.
DRAIN = 0.1
#: Characters of an error's sentence that go on record; some servers send whole pages.
MOST_SAID = 4000

_encode = msgspec.json.Encoder().encode


def converse(ask: RequestSpec, keys: KeySource, policy: Policy, said: list[bytes] | None = None) -> Flow:
    """Ask, and put on record what comes of it; the generator's return value is the answer's text.

    The answer's message, encoded as it joins the view, is put into *said*. Raises what the driver throws
    in, after it is on record: `RequestError` for a failed request.
    """
    progress = RequestProgress(policy)
    opening = Open(ask, progress.partial)
    try:
        yield opening
        opened = opening.opened
        assert opened is not None
        text = yield from _exchange(progress, opened, keys)
        closing = _close_answered(opened.begun, progress, said)
    except CallerLeft:
        if opening.opened is not None:
            yield _close_stopped(opening.opened.begun, progress)
        raise
    except Exception as error:
        if opening.opened is not None:
            yield _close_failed(opening.opened.begun, progress, error)
        raise
    yield closing
    return masking.text(text, progress.secrets)


def _exchange(progress: RequestProgress, opened: Opened, keys: KeySource) -> Generator[Effect, Any, str]:
    pool = keys if isinstance(keys, AKPool) else None
    tried: set[str] = set()
    last: RequestError | None = None
    while True:
        key = keys.checkout(tried)
        if key is None and last is None and pool is not None and not _worth_waiting(progress, pool):
            key = pool.fetch_key()  # the provider's own answer says best what is wrong with them all
        if key is None:
            yield from _wait_for_a_key(progress, keys, tried, last)
            continue
        key = masking.Hidden(key)
        progress.use(key)
        try:
            text = yield from _try(progress, opened, key)
        except RequestError as fault:
            fault.message = masking.text(fault.message, progress.secrets)
            verdict = _verdict(fault, progress)
            keys.report(key, verdict)
            last = fault
        else:
            usage = progress.reply.usage or {}
            keys.report(
                key,
                Outcome(
                    prompt_tokens=_count(usage.get("prompt_tokens")),
                    completion_tokens=_count(usage.get("completion_tokens")),
                ),
            )
            return text
        if progress.handed_out or last.final or verdict.final:
            raise last
        if pool is not None and verdict.another:
            tried.add(key)
            progress.attempts.append(_attempt(key, last, verdict.reason, progress.secrets))
            continue
        wait = _pause_before_retry(progress, verdict)
        if wait is None:
            raise last
        progress.attempts.append(_attempt(key, last, verdict.reason, progress.secrets))
        yield Pause(wait)


def _verdict(fault: RequestError, progress: RequestProgress) -> Verdict:
    return classify_failure(
        status=fault.status,
        code=fault.code,
        type=fault.type,
        headers=fault.headers,
        message=fault.message,
        wall_now=progress.policy.wall(),
    )


def _pause_before_retry(progress: RequestProgress, verdict: Verdict) -> float | None:
    """Seconds to wait before the same key is tried again; None where it is not."""
    if not verdict.retry and verdict.reason != "rate_limit":
        return None
    if progress.faults >= progress.policy.retries:
        return None
    wait = backoff_seconds(progress.faults, random=progress.policy.random)
    wait = max(wait, verdict.backoff if verdict.retry else verdict.rest or 0.0)
    progress.faults += 1
    return wait if progress.affords(wait) else None


def _worth_waiting(progress: RequestProgress, keys: KeySource) -> bool:
    wait = keys.wakes_in()
    return wait is not None and progress.affords(wait)


def _count(value: Any) -> int:
    return value if is_int(value, 0) else 0


def _attempt(key: str, fault: RequestError, reason: str, secrets: Collection[str]) -> dict[str, Any]:
    attempt: dict[str, Any] = {"error": fault.kind, "reason": reason}
    if key:
        attempt["key"] = fingerprint(key)
    if fault.status is not None:
        attempt["status"] = fault.status
    if fault.code is not None:
        attempt["code"] = masking.text(fault.code, secrets)[:100]
    return attempt


def _wait_for_a_key(
    progress: RequestProgress, keys: KeySource, tried: set[str], last: RequestError | None
) -> Generator[Effect, Any, None]:
    """Wait for the key that wakes first, if that is within the request's time; else give up."""
    wait = keys.wakes_in(tried)
    if wait is None or not progress.affords(wait):
        assert last is not None
        progress.attempts.pop()  # it is told as the failure itself
        raise last
    yield Pause(wait)


def _try(progress: RequestProgress, opened: Opened, key: str) -> Generator[Effect, Any, str]:
    ask = opened.begun.asked
    yield Send(key or None, opened.messages, progress.until())
    if not ask.stream:
        body = yield Receive(progress.until())
        return (yield from _whole(progress, body or b"", emit=False))
    return (yield from _stream(progress, ask))


def _whole(progress: RequestProgress, body: bytes, *, emit: bool) -> Generator[Effect, Any, str]:
    text = progress.reply.feed_body(body)
    message = progress.reply.message() or {}
    for thought in [message[name] for name in REASONING if isinstance(message.get(name), str)][:1]:
        yield Think(masking.text(thought, progress.secrets))
    if emit and text:
        yield from _hand_out(progress, Emit(masking.text(text, progress.secrets)))
    return text


def _hand_out(progress: RequestProgress, piece: Emit | Think) -> Generator[Effect, Any, None]:
    progress.handed_out = True
    yield piece
    progress.moved = progress.policy.clock()  # the consumer took its time; that is not the server's


def _stream(progress: RequestProgress, ask: RequestSpec) -> Generator[Effect, Any, str]:
    reply, events = progress.reply, Events()
    wanted = ask.options.get("n")
    choices = wanted if is_int(wanted, 1) else 1
    shown: list[str] = []
    until = progress.until()
    complete = False
    piece: bytes | None = None
    while not reply.done:
        try:
            piece = yield Receive(until)
        except RequestError:
            if not complete:
                raise
            piece = None  # what was lost is the tail, not the answer
            break
        for data in events.finish() if piece is None else events.feed(piece):
            if text := reply.feed_chunk(data):
                shown.append(text)
            if reply.thought:
                yield from _hand_out(progress, Think(masking.text(reply.thought, progress.secrets)))
            if text:
                yield from _hand_out(progress, Emit(masking.text(text, progress.secrets)))
            if reply.moved:
                progress.moved = progress.policy.clock()
            if reply.done:
                break
        if piece is None:
            break
        until = progress.until()
        if reply.complete(choices) and not complete:
            complete = True
            progress.moved = progress.policy.clock()
        if complete:
            tail = progress.moved + TAIL
            until = tail if until is None else min(until, tail)
    if events.whole is not None:  # it does not stream, whatever it is asked
        return (yield from _whole(progress, b"".join(events.whole), emit=True))
    reply.check_finished()
    if piece is not None:
        yield from _drain(progress)
    return "".join(shown)


def _drain(progress: RequestProgress) -> Generator[Effect, Any, None]:
    """Read the last bytes after `[DONE]`, so that the connection can be used again."""
    soon = progress.policy.clock() + DRAIN
    try:
        while (yield Receive(soon)) is not None:
            pass
    except RequestError:
        pass


def _close_answered(begun: OpenRequest, progress: RequestProgress, said: list[bytes] | None) -> Close:
    answer = progress.answer()
    message = progress.reply.message()
    if message is None:
        raise broken("the server's answer is empty")
    encoded = progress.scrubbed(_encode(message))
    told, reasoning = request_events.split_reasoning(encoded)
    assert told is not None
    if reasoning is not None and not begun.asked.send_reasoning:
        encoded, answer = told, msgspec.structs.replace(answer, reasoning=reasoning)
    if said is not None:
        said.append(encoded)

    def decide(state: StreamState) -> list[ev.Event]:
        return request_events.answered(begun, state, encoded, answer)

    return Close(begun.request, decide)


def _close_stopped(begun: OpenRequest, progress: RequestProgress) -> Close:
    partial, answer = progress.partial(), progress.answer()

    def decide(state: StreamState) -> list[ev.Event]:
        return request_events.stopped(begun, state, partial, answer)

    return Close(begun.request, decide)


def _close_failed(begun: OpenRequest, progress: RequestProgress, error: Exception) -> Close:
    partial, answer = progress.partial(), progress.bill()
    fault = error if isinstance(error, RequestError) else RequestError(type(error).__name__, str(error))
    code = None if fault.code is None else masking.text(fault.code, progress.secrets)[:100]
    said = masking.text(fault.message, progress.secrets)[:MOST_SAID]
    told = RequestError(fault.kind, said, status=fault.status, code=code)

    def decide(state: StreamState) -> list[ev.Event]:
        return request_events.failed(begun, partial, answer, told)

    return Close(begun.request, decide)
