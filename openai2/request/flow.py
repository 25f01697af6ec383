"""One request from beginning to end, as a generator that asks for effects and does none itself.

The generator yields what it wants done (`Open`, `Send`, `Receive`, `Emit`, `Think`, `Pause`, `Close`) and
is sent what came of it, or has thrown into it what went wrong. A driver of a dozen lines, one sync and one
async, does the work; so both put the same things on record, whatever happens:

- an answer that is whole joins the view together with its question;
- `Stopped` thrown in (the caller left) keeps what came; anything else that fails leaves the view.

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
from openai2.core.request_events import REASONING, Ask, Begun, Fault, State, Stopped
from openai2.core.typeguards import is_whole
from openai2.keys import masking
from openai2.keys.classify import Outcome, Verdict, backoff_seconds, judge
from openai2.keys.pool import AKPool, fingerprint
from openai2.request.attempts import Tries
from openai2.request.effects import (
    Close,
    Effect,
    Emit,
    Flow,
    Keys,
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


def converse(ask: Ask, keys: Keys, policy: Policy, said: list[bytes] | None = None) -> Flow:
    """Ask, and put on record what comes of it; the generator's return value is the answer's text.

    The answer's message, encoded as it joins the view, is put into *said*. Raises what the driver throws
    in, after it is on record: `Fault` for a failed request.
    """
    tries = Tries(policy)
    opening = Open(ask, tries.partial)
    try:
        yield opening
        opened = opening.opened
        assert opened is not None
        text = yield from _exchange(tries, opened, keys)
        closing = _close_answered(opened.begun, tries, said)
    except Stopped:
        if opening.opened is not None:
            yield _close_stopped(opening.opened.begun, tries)
        raise
    except Exception as error:
        if opening.opened is not None:
            yield _close_failed(opening.opened.begun, tries, error)
        raise
    yield closing
    return masking.text(text, tries.secrets)


def _exchange(tries: Tries, opened: Opened, keys: Keys) -> Generator[Effect, Any, str]:
    pool = keys if isinstance(keys, AKPool) else None
    tried: set[str] = set()
    last: Fault | None = None
    while True:
        key = keys.checkout(tried)
        if key is None and last is None and pool is not None and not _worth_waiting(tries, pool):
            key = pool.fetch_key()  # the provider's own answer says best what is wrong with them all
        if key is None:
            yield from _wait_for_a_key(tries, keys, tried, last)
            continue
        key = masking.Hidden(key)
        tries.use(key)
        try:
            text = yield from _try(tries, opened, key)
        except Fault as fault:
            fault.message = masking.text(fault.message, tries.secrets)
            verdict = _verdict(fault, tries)
            keys.report(key, verdict)
            last = fault
        else:
            usage = tries.reply.usage or {}
            keys.report(
                key,
                Outcome(
                    prompt_tokens=_count(usage.get("prompt_tokens")),
                    completion_tokens=_count(usage.get("completion_tokens")),
                ),
            )
            return text
        if tries.handed_out or last.final or verdict.final:
            raise last
        if pool is not None and verdict.another:
            tried.add(key)
            tries.attempts.append(_attempt(key, last, verdict.reason, tries.secrets))
            continue
        wait = _pause_before_retry(tries, verdict)
        if wait is None:
            raise last
        tries.attempts.append(_attempt(key, last, verdict.reason, tries.secrets))
        yield Pause(wait)


def _verdict(fault: Fault, tries: Tries) -> Verdict:
    return judge(
        status=fault.status,
        code=fault.code,
        type=fault.type,
        headers=fault.headers,
        message=fault.message,
        wall_now=tries.policy.wall(),
    )


def _pause_before_retry(tries: Tries, verdict: Verdict) -> float | None:
    """Seconds to wait before the same key is tried again; None where it is not."""
    if not verdict.retry and verdict.reason != "rate_limit":
        return None
    if tries.faults >= tries.policy.retries:
        return None
    wait = backoff_seconds(tries.faults, random=tries.policy.random)
    wait = max(wait, verdict.backoff if verdict.retry else verdict.rest or 0.0)
    tries.faults += 1
    return wait if tries.affords(wait) else None


def _worth_waiting(tries: Tries, keys: Keys) -> bool:
    wait = keys.wakes_in()
    return wait is not None and tries.affords(wait)


def _count(value: Any) -> int:
    return value if is_whole(value, 0) else 0


def _attempt(key: str, fault: Fault, reason: str, secrets: Collection[str]) -> dict[str, Any]:
    attempt: dict[str, Any] = {"error": fault.kind, "reason": reason}
    if key:
        attempt["key"] = fingerprint(key)
    if fault.status is not None:
        attempt["status"] = fault.status
    if fault.code is not None:
        attempt["code"] = masking.text(fault.code, secrets)[:100]
    return attempt


def _wait_for_a_key(
    tries: Tries, keys: Keys, tried: set[str], last: Fault | None
) -> Generator[Effect, Any, None]:
    """Wait for the key that wakes first, if that is within the request's time; else give up."""
    wait = keys.wakes_in(tried)
    if wait is None or not tries.affords(wait):
        assert last is not None
        tries.attempts.pop()  # it is told as the failure itself
        raise last
    yield Pause(wait)


def _try(tries: Tries, opened: Opened, key: str) -> Generator[Effect, Any, str]:
    ask = opened.begun.asked
    yield Send(key or None, opened.messages, ask, tries.until())
    if not ask.stream:
        body = yield Receive(tries.until())
        return (yield from _whole(tries, body or b"", emit=False))
    return (yield from _stream(tries, ask))


def _whole(tries: Tries, body: bytes, *, emit: bool) -> Generator[Effect, Any, str]:
    text = tries.reply.feed_body(body)
    message = tries.reply.message() or {}
    for thought in [message[name] for name in REASONING if isinstance(message.get(name), str)][:1]:
        yield Think(masking.text(thought, tries.secrets))
    if emit and text:
        yield from _hand_out(tries, Emit(masking.text(text, tries.secrets)))
    return text


def _hand_out(tries: Tries, piece: Emit | Think) -> Generator[Effect, Any, None]:
    tries.handed_out = True
    yield piece
    tries.moved = tries.policy.clock()  # the consumer took its time; that is not the server's


def _stream(tries: Tries, ask: Ask) -> Generator[Effect, Any, str]:
    reply, events = tries.reply, Events()
    wanted = ask.options.get("n")
    choices = wanted if is_whole(wanted, 1) else 1
    shown: list[str] = []
    until = tries.until()
    complete = False
    piece: bytes | None = None
    while not reply.done:
        try:
            piece = yield Receive(until)
        except Fault:
            if not complete:
                raise
            piece = None  # what was lost is the tail, not the answer
            break
        for data in events.finish() if piece is None else events.feed(piece):
            if text := reply.feed_chunk(data):
                shown.append(text)
            if reply.thought:
                yield from _hand_out(tries, Think(masking.text(reply.thought, tries.secrets)))
            if text:
                yield from _hand_out(tries, Emit(masking.text(text, tries.secrets)))
            if reply.moved:
                tries.moved = tries.policy.clock()
            if reply.done:
                break
        if piece is None:
            break
        until = tries.until()
        if reply.complete(choices) and not complete:
            complete = True
            tries.moved = tries.policy.clock()
        if complete:
            tail = tries.moved + TAIL
            until = tail if until is None else min(until, tail)
    if events.whole is not None:  # it does not stream, whatever it is asked
        return (yield from _whole(tries, b"".join(events.whole), emit=True))
    reply.check_finished()
    if piece is not None:
        yield from _drain(tries)
    return "".join(shown)


def _drain(tries: Tries) -> Generator[Effect, Any, None]:
    """Read the last bytes after `[DONE]`, so that the connection can be used again."""
    soon = tries.policy.clock() + DRAIN
    try:
        while (yield Receive(soon)) is not None:
            pass
    except Fault:
        pass


def _close_answered(begun: Begun, tries: Tries, said: list[bytes] | None) -> Close:
    answer = tries.answer()
    message = tries.reply.message()
    if message is None:
        raise broken("the server's answer is empty")
    encoded = tries.scrubbed(_encode(message))
    told, reasoning = request_events.told_apart(encoded)
    assert told is not None
    if reasoning is not None and not begun.asked.send_reasoning:
        encoded, answer = told, msgspec.structs.replace(answer, reasoning=reasoning)
    if said is not None:
        said.append(encoded)

    def decide(state: State) -> list[ev.Event]:
        return request_events.answered(begun, state, encoded, answer)

    return Close(begun.request, decide)


def _close_stopped(begun: Begun, tries: Tries) -> Close:
    partial, answer = tries.partial(), tries.answer()

    def decide(state: State) -> list[ev.Event]:
        return request_events.stopped(begun, state, partial, answer)

    return Close(begun.request, decide)


def _close_failed(begun: Begun, tries: Tries, error: Exception) -> Close:
    partial, answer = tries.partial(), tries.bill()
    fault = error if isinstance(error, Fault) else Fault(type(error).__name__, str(error))
    code = None if fault.code is None else masking.text(fault.code, tries.secrets)[:100]
    said = masking.text(fault.message, tries.secrets)[:MOST_SAID]
    told = Fault(fault.kind, said, status=fault.status, code=code)

    def decide(state: State) -> list[ev.Event]:
        return request_events.failed(begun, partial, answer, told)

    return Close(begun.request, decide)
