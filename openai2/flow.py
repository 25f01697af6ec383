"""One request from beginning to end, as a generator that asks for effects and does none itself.

The generator yields what it wants done (`Open`, `Send`, `Receive`, `Emit`, `Pause`, `Close`) and is sent
what came of it, or has thrown into it what went wrong. A driver of a dozen lines, one sync and one
async, does the work; so both put the same things on record, whatever happens:

- an answer that is whole joins the view together with its question;
- `Stopped` thrown in (the caller left) keeps what came; anything else that fails leaves the view.

Nothing is asked again once a piece of the answer was handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import Any, NamedTuple, Protocol

import msgspec

from openai2 import events as ev
from openai2 import turn
from openai2.keys import AKPool, fingerprint, mask
from openai2.turn import Ask, Begun, Fault, State, Stopped
from openai2.verdicts import Outcome, backoff_seconds, judge
from openai2.wire import Events, Reply, broken, usage_in_few

_encode = msgspec.json.Encoder().encode


class Open:
    """Put the request on record. The driver's store fills *opened* in, so that it is known even if the
    caller left while the disk was at work. *partial* gives what has come so far, for the draft."""

    __slots__ = ("ask", "opened", "partial")

    def __init__(self, ask: Ask, partial: Callable[[], bytes | None]) -> None:
        self.ask = ask
        self.partial = partial
        self.opened: Opened | None = None


class Opened(NamedTuple):
    """A request on record, and the encoded messages to send."""

    begun: Begun
    messages: list[bytes]


class Send(NamedTuple):
    """Send this to the API with *key* (None: the client's own). The result is when it was sent."""

    key: str | None
    messages: list[bytes]
    ask: Ask


class Receive(NamedTuple):
    """Give the next piece of the answer; of one that is not streamed, all of it. None: that was all."""


class Emit(NamedTuple):
    """Hand this text to the caller."""

    text: str


class Pause(NamedTuple):
    """Let so many seconds pass."""

    seconds: float


class Close(NamedTuple):
    """Put on record how the request ended: the events that *decide* makes of the state as it is then."""

    request: int
    decide: Callable[[State], list[ev.Event]]


Effect = Open | Send | Receive | Emit | Pause | Close
Flow = Generator[Effect, Any, str]


class Keys(Protocol):
    """Where keys come from: a pool, or the one key of a chat."""

    def checkout(self, tried: Collection[str] = ()) -> str | None: ...
    def wakes_in(self, tried: Collection[str] | None = None) -> float | None: ...
    def report(self, key: str, outcome: Outcome) -> None: ...


class OneKey:
    """A single key: the client's own retries are the only ones."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def checkout(self, tried: Collection[str] = ()) -> str | None:
        return None if tried else self.key

    def wakes_in(self, tried: Collection[str] | None = None) -> float | None:
        return None

    def report(self, key: str, outcome: Outcome) -> None:
        pass

    def __repr__(self) -> str:
        return f"<key {fingerprint(self.key)}>"


class Policy(NamedTuple):
    """How often and how long a request is tried: server's faults so many times again, waits for a key
    within so many seconds. *clock* gives seconds, *wall* seconds since 1970, *random* 0 up to 1."""

    clock: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]
    retries: int = 2
    patience: float = 600.0


class _Tries:
    """What is known of the request while it runs."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.started = policy.clock()
        self.reply = Reply()
        self.key: str | None = None
        self.attempts: list[dict[str, Any]] = []
        self.handed_out = False
        self.faults = 0

    def partial(self) -> bytes | None:
        partial = self.reply.partial()
        return None if partial is None else self.without_key(partial)

    def without_key(self, encoded: bytes) -> bytes:
        """What goes on record, in case a server echoes the key."""
        if self.key is None or self.key.encode() not in encoded:
            return encoded
        return encoded.replace(self.key.encode(), mask(self.key).encode())

    def spent(self) -> float:
        return self.policy.clock() - self.started

    def answer(self) -> ev.Answer:
        reply = self.reply
        return ev.Answer(
            model=reply.model,
            id=reply.id,
            finish_reason=reply.finish_reason,
            usage=usage_in_few(reply.usage),
            seconds=round(self.spent(), 6),
            key=None if self.key is None else fingerprint(self.key),
            attempts=self.attempts,
            choices=reply.choices(),
            logprobs=reply.logprobs(),
        )


def converse(ask: Ask, keys: Keys, policy: Policy) -> Flow:
    """Ask, and put on record what comes of it; the generator's return value is the answer's text.

    Raises what the driver throws in, after it is on record: `Fault` for a failed request.
    """
    tries = _Tries(policy)
    opening = Open(ask, tries.partial)
    text = ""
    try:
        yield opening
        opened = opening.opened
        assert opened is not None
        text = yield from _exchange(tries, opened, keys)
    except Stopped:
        if opening.opened is not None:
            yield _close_stopped(opening.opened.begun, tries)
        raise
    except Exception as error:
        if opening.opened is not None:
            yield _close_failed(opening.opened.begun, tries, error)
        raise
    yield _close_answered(opened.begun, tries)
    return text


def _exchange(tries: _Tries, opened: Opened, keys: Keys) -> Generator[Effect, Any, str]:
    tried: set[str] = set()
    last: Fault | None = None
    while True:
        key = keys.checkout(tried)
        if key is None and last is None and isinstance(keys, AKPool) and not _worth_waiting(tries, keys):
            key = keys.fetch_key()  # the provider's own answer says best what is wrong with them all
        if key is None:
            yield from _wait_for_a_key(tries, keys, tried, last)
            continue
        tries.key = key or None
        try:
            text = yield from _try(tries, opened, key)
        except Fault as fault:
            if tries.key is not None:
                fault.message = fault.message.replace(key, mask(key))
            last = fault
            verdict = judge(
                status=fault.status,
                code=fault.code,
                type=fault.type,
                headers=fault.headers,
                message=fault.message,
                wall_now=tries.policy.wall(),
            )
            keys.report(key, verdict)
            if tries.handed_out or verdict.final or not isinstance(keys, AKPool):
                raise
            tries.attempts.append(_attempt(key, fault, verdict.reason))
            if verdict.retry:
                tries.faults += 1
                if tries.faults > tries.policy.retries:
                    tries.attempts.pop()
                    raise
                wait = max(verdict.backoff, backoff_seconds(tries.faults - 1, random=tries.policy.random))
                if tries.spent() + wait > tries.policy.patience:
                    tries.attempts.pop()
                    raise
                yield Pause(wait)
            else:
                tried.add(key)
            tries.reply = Reply()
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


def _worth_waiting(tries: _Tries, keys: Keys) -> bool:
    wait = keys.wakes_in()
    return wait is not None and wait <= tries.policy.patience


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _attempt(key: str, fault: Fault, reason: str) -> dict[str, Any]:
    attempt: dict[str, Any] = {"key": fingerprint(key), "error": fault.kind, "reason": reason}
    if fault.status is not None:
        attempt["status"] = fault.status
    if fault.code is not None:
        attempt["code"] = fault.code
    return attempt


def _wait_for_a_key(
    tries: _Tries, keys: Keys, tried: set[str], last: Fault | None
) -> Generator[Effect, Any, None]:
    """Wait for the key that wakes first, if that is within the request's patience; else give up."""
    wait = keys.wakes_in(tried)
    if wait is None or tries.spent() + wait > tries.policy.patience:
        assert last is not None
        tries.attempts.pop()
        raise last
    yield Pause(wait)


def _try(tries: _Tries, opened: Opened, key: str) -> Generator[Effect, Any, str]:
    ask = opened.begun.asked
    reply = tries.reply
    yield Send(key or None, opened.messages, ask)
    if not ask.stream:
        body = yield Receive()
        return reply.feed_body(body or b"")
    events = Events()
    shown: list[str] = []
    while (piece := (yield Receive())) is not None:
        for data in events.feed(piece):
            if text := reply.feed_chunk(data):
                tries.handed_out = True
                shown.append(text)
                yield Emit(text)
            if reply.done:
                break
        if reply.done:
            break
    else:
        for data in events.finish():
            if text := reply.feed_chunk(data):
                tries.handed_out = True
                shown.append(text)
                yield Emit(text)
    reply.check_finished()
    return "".join(shown)


def _close_answered(begun: Begun, tries: _Tries) -> Close:
    answer = tries.answer()
    message, reasoning = _told_apart(tries.reply.message())
    if reasoning:
        answer = msgspec.structs.replace(answer, reasoning=reasoning)
    encoded = tries.without_key(_encode(message))

    def decide(state: State) -> list[ev.Event]:
        return turn.answered(begun, state, encoded, answer)

    return Close(begun.request, decide)


def _close_stopped(begun: Begun, tries: _Tries) -> Close:
    partial, answer = tries.partial(), tries.answer()

    def decide(state: State) -> list[ev.Event]:
        return turn.stopped(begun, state, partial, answer)

    return Close(begun.request, decide)


def _close_failed(begun: Begun, tries: _Tries, error: Exception) -> Close:
    partial, answer = tries.partial(), tries.answer()
    fault = error if isinstance(error, Fault) else Fault(type(error).__name__, str(error))

    def decide(state: State) -> list[ev.Event]:
        return turn.failed(begun, partial, answer, fault)

    return Close(begun.request, decide)


def _told_apart(message: dict[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """The message that is sent back next time, and the reasoning, which is not."""
    if message is None:
        raise broken("the server's answer is empty")
    names = ("reasoning_content", "reasoning")
    reasoning = [str(message.pop(name)) for name in names if isinstance(message.get(name), str)]
    return message, reasoning[0] if reasoning else None
