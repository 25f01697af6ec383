"""One request from start to end, as a generator that yields effects and performs none itself.

The generator yields `Open`, `Send`, `Receive`, `Emit`, `Think`, `Pause` and `Close`. A driver, one sync and
one async, performs each effect and sends its result in, or throws the failure in.

Invariants:
- Sync and async requests put the same events on record. A complete answer joins the view together with its
  question. `CallerLeft` thrown in keeps what was received. Any other failure leaves the view as it was.
- A server can send any JSON. What it makes the code that reads it raise becomes a `RequestError`, by
  `_reading` and nowhere else: a failed request, on record. Exceptions of the caller's code pass unchanged.
- This is the only retry loop; the SDK's clients never retry. A server failure (no connection, 5xx, 408, 409)
  is retried `retries` times with growing backoff. A pool changes to its next key at once on 401, 403 and 429,
  and waits for the key that is free first. With a single key, a 429 counts as one of the retries. A request
  is not sent again once the caller has received a piece of the answer.
- A request, with retries and waits, ends within `timeout`. A stream may last longer: its `timeout` is the
  time until the next piece of the answer (text, reasoning, a tool call). Comments and empty chunks do not
  extend it, and the consumer's time does not count. After a complete answer, the rest of a stream (the token
  count) gets `TAIL` seconds.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.core import messages, request_events
from openai2.core.request_events import (
    REASONING,
    CallerLeft,
    OpenRequest,
    RequestError,
    RequestSpec,
    StreamState,
)
from openai2.core.typeguards import is_int, is_list, is_mapping
from openai2.errors import NotAMessage, Openai2Error, Refused
from openai2.keys import masking
from openai2.keys.classify import Outcome, Verdict, backoff_seconds, classify_failure
from openai2.keys.pool import AKPool
from openai2.keys.source import KeySource
from openai2.request.attempts import AttemptPolicy, RequestProgress
from openai2.request.deltas import name_calls
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
from openai2.request.response import broken
from openai2.request.sse import SSEDecoder

#: Seconds for the rest of a stream after a complete answer.
TAIL = 5.0
#: Seconds for the end of a stream after `[DONE]`; then its connection is dropped.
DRAIN = 0.1
#: Characters of an error message that go on record; some servers send whole pages.
MAX_ERROR_LENGTH = 4000

_encode = msgspec.json.Encoder().encode

_Steps = Generator[Effect, Any, str]
_Effects = Generator[Effect, Any, None]


def converse(spec: RequestSpec, keys: KeySource, policy: AttemptPolicy) -> Flow:
    """Run a request, put its start and end on record, and return its `Answer`.

    Raises what the driver throws in, after it is on record: `RequestError` for a failed request. Raises
    Refused if the answer, though on record, could not join the view.
    """
    progress = RequestProgress(policy)
    opening = Open(spec, progress.partial)
    opened: Opened | None = None
    try:
        opened = yield opening
        assert opened is not None
        text = yield from _attempts(progress, opened, keys)
        with _reading(progress):
            ending = _answered(opened.request, progress)
    except CallerLeft:
        if opening.opened is not None:  # not *opened*: the caller can leave before the result is sent in
            yield _close_stopped(opening.opened.request, progress)
        raise
    except Exception as error:
        if opened is not None:
            yield _close_failed(opened.request, progress, error)
        raise
    try:
        with _reading(progress):
            yield Close(opened.request.request, ending)
    except RequestError as error:  # the store cannot hold the answer
        yield _close_failed(opened.request, progress, error)
        raise
    if ending.refusal is not None:
        raise ending.refusal
    return Answer(progress.mask_text(text), ending.message)


@contextmanager
def _reading(progress: RequestProgress) -> Generator[None]:
    """Raise RequestError for each exception that reading an answer leads to."""
    try:
        yield
    except (RequestError, Openai2Error):
        raise
    except Exception as error:
        if error is progress.caller_error:
            raise
        failure = broken(f"the server's answer cannot be read: {type(error).__name__}", error)
        failure.final = True
        raise failure from error


def _attempts(progress: RequestProgress, opened: Opened, keys: KeySource) -> _Steps:
    pool = keys if isinstance(keys, AKPool) else None
    tried: set[str] = set()
    error: RequestError | None = None
    while True:
        key = keys.checkout(tried)
        if key is None and error is None and pool is not None and not _is_worth_waiting(progress, pool):
            key = pool.fetch_key()  # no key works: let the provider's response say why
        if key is None:
            yield from _wait_for_key(progress, keys, tried, error)
            continue
        key = masking.Hidden(key)
        progress.use(key)
        try:
            text = yield from _attempt(progress, opened, key)
        except RequestError as failure:
            failure.message = progress.mask_text(failure.message)
            verdict = _classify(failure, progress)
            keys.report(key, verdict)
            error = failure
        else:
            keys.report(key, _usage(progress))
            return text
        if progress.has_output or error.final or verdict.final:
            raise error
        if pool is not None and verdict.another:
            tried.add(key)
            progress.note_attempt(key, error, verdict.reason)
            continue
        wait = _pause_before_retry(progress, verdict)
        if wait is None:
            raise error
        progress.note_attempt(key, error, verdict.reason)
        yield Pause(wait)


def _classify(error: RequestError, progress: RequestProgress) -> Verdict:
    return classify_failure(
        status=error.status,
        code=error.code,
        type=error.type,
        headers=error.headers,
        message=error.message,
        wall_now=progress.policy.wall(),
    )


def _usage(progress: RequestProgress) -> Outcome:
    usage = progress.response.usage or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Outcome(
        prompt_tokens=prompt if is_int(prompt, 0) else 0,
        completion_tokens=completion if is_int(completion, 0) else 0,
    )


def _pause_before_retry(progress: RequestProgress, verdict: Verdict) -> float | None:
    """Return the seconds to wait before the same key is tried again; None if it is not."""
    if not verdict.retry and verdict.reason != "rate_limit":
        return None
    if progress.retries >= progress.policy.retries:
        return None
    wait = backoff_seconds(progress.retries, random=progress.policy.random)
    wait = max(wait, verdict.backoff if verdict.retry else verdict.rest or 0.0)
    progress.retries += 1
    return wait if progress.has_time_for(wait) else None


def _is_worth_waiting(progress: RequestProgress, keys: KeySource) -> bool:
    wait = keys.wakes_in()
    return wait is not None and progress.has_time_for(wait)


def _wait_for_key(
    progress: RequestProgress, keys: KeySource, tried: set[str], error: RequestError | None
) -> _Effects:
    """Wait for the key that is free first; raise *error* if that takes longer than the request may."""
    wait = keys.wakes_in(tried)
    if wait is None or not progress.has_time_for(wait):
        assert error is not None
        progress.attempts.pop()  # the last attempt goes on record as the failure itself
        raise error
    yield Pause(wait)


def _attempt(progress: RequestProgress, opened: Opened, key: str) -> _Steps:
    spec = opened.request.spec
    yield Send(key or None, opened.messages, progress.deadline())
    with _reading(progress):
        if spec.stream:
            return (yield from _receive_stream(progress, spec))
        body = yield Receive(progress.deadline())
        return (yield from _read_body(progress, body or b"", emit=False))


def _read_body(progress: RequestProgress, body: bytes, *, emit: bool) -> _Steps:
    text = progress.response.feed_body(body)
    message = progress.response.message() or {}
    for reasoning in [message[name] for name in REASONING if isinstance(message.get(name), str)][:1]:
        yield from _to_caller(progress, Think(progress.mask_text(reasoning)))
    if emit and text:
        yield from _hand_out(progress, Emit(progress.mask_text(text)))
    return text


def _hand_out(progress: RequestProgress, piece: Emit | Think) -> _Effects:
    progress.has_output = True
    yield from _to_caller(progress, piece)
    progress.mark_progress()  # the consumer's time does not count


def _to_caller(progress: RequestProgress, piece: Emit | Think) -> _Effects:
    try:
        yield piece
    except Exception as error:
        progress.caller_error = error
        raise


def _receive_stream(progress: RequestProgress, spec: RequestSpec) -> _Steps:
    response, decoder = progress.response, SSEDecoder()
    asked = spec.options.get("n")
    choices = asked if is_int(asked, 1) else 1
    texts: list[str] = []
    deadline = progress.deadline()
    has_answer = False
    piece: bytes | None = None
    while not response.is_done:
        try:
            piece = yield Receive(deadline)
        except RequestError:
            if not has_answer:
                raise
            piece = None  # the tail is lost, not the answer
            break
        for data in decoder.finish() if piece is None else decoder.feed(piece):
            if text := response.feed_chunk(data):
                texts.append(text)
            if response.new_reasoning:
                yield from _hand_out(progress, Think(progress.mask_text(response.new_reasoning)))
            if text:
                yield from _hand_out(progress, Emit(progress.mask_text(text)))
            if response.has_advanced:
                progress.mark_progress()
            if response.is_done:
                break
        if piece is None:
            break
        deadline = progress.deadline()
        if response.has_answer(choices) and not has_answer:
            has_answer = True
            progress.mark_progress()
        if has_answer:
            tail = progress.last_progress + TAIL
            deadline = tail if deadline is None else min(deadline, tail)
    if decoder.not_sse is not None:  # the server does not stream
        return (yield from _read_body(progress, b"".join(decoder.not_sse), emit=True))
    response.check_finished(decoder.stray)
    if piece is not None:
        yield from _drain(progress)
    return "".join(texts)


def _drain(progress: RequestProgress) -> _Effects:
    """Read the last bytes after `[DONE]`, so that the connection can be reused."""
    deadline = progress.policy.clock() + DRAIN
    try:
        while (yield Receive(deadline)) is not None:
            pass
    except RequestError:
        pass


class _Answered:
    """Decides the events that record an answer; *refusal* is then why it did not join the view, or None."""

    def __init__(self, request: OpenRequest, message: bytes, answer: ev.Answer) -> None:
        self.message = message
        self.refusal: Refused | None = None
        self._request = request
        self._answer = answer

    def __call__(self, state: StreamState) -> list[ev.Event]:
        events = request_events.answered(self._request, state, self.message, self._answer)
        self.refusal = request_events.refusal(events, state)
        return events


def _checked(message: dict[str, Any]) -> bytes:
    """Return an answer encoded. Raises RequestError if it is not a message that can be sent back."""
    calls, call = message.get("tool_calls"), message.get("function_call")
    if calls is not None and not (is_list(calls) and all(is_mapping(each) for each in calls)):
        raise broken("the server's answer is not a message: its tool_calls are not a list of objects")
    if call is not None and not is_mapping(call):
        raise broken("the server's answer is not a message: its function_call is not an object")
    try:
        return messages.encode(message, "the answer")
    except NotAMessage as error:
        raise broken(f"the server's answer is not a message: {error}", error) from error


def _answered(request: OpenRequest, progress: RequestProgress) -> _Answered:
    answer = progress.answer()
    message = progress.response.message()
    if message is None:
        raise broken("the server's answer is empty")
    name_calls(message, request.request)
    encoded = progress.mask(_checked(message))
    without_reasoning, reasoning = request_events.split_reasoning(encoded)
    assert without_reasoning is not None
    if reasoning is not None and not request.spec.send_reasoning:
        encoded, answer = without_reasoning, msgspec.structs.replace(answer, reasoning=reasoning)
    return _Answered(request, encoded, answer)


def _close_stopped(request: OpenRequest, progress: RequestProgress) -> Close:
    try:
        partial, answer = progress.partial(), progress.answer()
        if partial is not None:
            _checked(messages.decode(partial))
    except Exception:  # noqa: BLE001 - what cannot be read cannot be kept
        partial, answer = None, progress.costs()

    def decide(state: StreamState) -> list[ev.Event]:
        return request_events.stopped(request, state, partial, answer)

    return Close(request.request, decide)


def _close_failed(request: OpenRequest, progress: RequestProgress, error: Exception) -> Close:
    costs = progress.costs()
    try:
        partial = progress.partial()
    except Exception:  # noqa: BLE001 - what cannot be read cannot be kept
        partial = None
    failure = error if isinstance(error, RequestError) else RequestError(type(error).__name__, str(error))
    code = None if failure.code is None else progress.mask_text(failure.code)[:100]
    message = progress.mask_text(failure.message)[:MAX_ERROR_LENGTH]
    recorded = RequestError(failure.kind, message, status=failure.status, code=code)

    def decide(state: StreamState) -> list[ev.Event]:
        return request_events.failed(request, partial, costs, recorded)

    return Close(request.request, decide)
