"""Recorded dialogues as tests: a program that uses the `openai` client, answered from a recording.

    with recorded("tests/recordings/greeting.jsonl"):
        assert greet("Tony") == "Hello, Tony!"

The first run asks the API and writes the file; from then on nothing goes over the network. Run with
OPENAI2_RECORD=1 in the environment, or `record=True`, to record anew. In pytest, the fixture
`openai2_recording` does this with a file for each test.

Rules: it stands in at the transport, for every client of `httpx2` in the process, sync and async, made
before or inside; only a client with a transport of its own is left alone. A request is answered by the
first recorded one that is equal and has not been used, so that what runs in parallel may come in any
order. A request that differs fails at once, with what differs; so do recorded requests that were not made,
at the end. Both raise `Differs`, which no `except Exception` and no retry loop swallows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.conversation import Conversation
from openai2.core.textdiff import compare, marked
from openai2.core.typeguards import is_dict, is_list
from openai2.engine import Engine
from openai2.errors import BadInput, RecordingError
from openai2.recording import format as recording_format
from openai2.recording import transport as recording_transport
from openai2.recording.format import Answered, Asked, Exchange

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Differs", "RecordingError", "recorded"]

#: The variable that asks for recordings to be made anew.
ENVIRONMENT = "OPENAI2_RECORD"


class Differs(BaseException):
    """A program asked what is not in its recording, or did not ask what is."""


class recorded:  # noqa: N801 - it reads as what it does: with recorded(path)
    """A context, `with` or `async with`, in which requests are answered from a recording.

    - *source*: the recording's path; or an `Engine`, or the path of a store, whose *conversation* answers,
      or a `Conversation`;
    - *ignore*: what is not compared: fields of the body, as "model", "temperature" or, deeper,
      "messages.0.content" and "messages.*.name"; "path" for the address;
    - *record*: True to record anew, False never to record; None: where there is no recording yet, or where
      OPENAI2_RECORD is set;
    - *partly*: recorded requests that are not made are no failure.

    Raises RecordingError for a recording that is empty, from a newer openai2, or none.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Engine | Conversation,
        conversation: str | None = None,
        *,
        ignore: Sequence[str] = (),
        record: bool | None = None,
        partly: bool = False,
    ) -> None:
        if isinstance(ignore, str):
            raise BadInput('what to ignore is a list of names, as ("model",)')
        self.ignore = tuple(ignore)
        self.partly = partly
        self.exchanges: list[Exchange] = []
        self.path: Path | None = None
        self.recording = False
        self._used: set[int] = set()
        self._lock = threading.Lock()
        self._wrong: Differs | None = None
        if isinstance(source, (Engine, Conversation)) or conversation is not None:
            if record:
                raise BadInput("a conversation in a log records itself: record=True is for a file")
            self.exchanges = _from_log(source, conversation)
            return
        self.path = Path(source)
        asked_for = os.environ.get(ENVIRONMENT, "").lower() not in ("", "0", "no", "false")
        self.recording = (asked_for or not self.path.exists()) if record is None else record
        if not self.recording:
            self.exchanges = recording_format.read(self.path)

    def __repr__(self) -> str:
        return f"<{'recording' if self.recording else 'recorded'} {len(self.exchanges)} exchanges>"

    def __enter__(self) -> Self:
        recording_transport.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    def close(self, *, failed: bool = False) -> None:
        """End it: write what was recorded, or see that all was asked. What *failed* is left as it is."""
        recording_transport.end(self)
        if failed:
            return
        if self._wrong is not None:  # somebody swallowed it
            raise self._wrong
        if self.recording:
            if not self.exchanges:
                raise RecordingError("nothing was asked, so there is nothing to record in {path}",
                                     path=self.path)  # fmt: skip
            assert self.path is not None
            ended = [held for held in self.exchanges if held.answered.status or held.answered.failure]
            recording_format.write(self.path, ended)
        elif not self.partly:
            self._check_all_were_made()

    def _check_all_were_made(self) -> None:
        left = [held for place, held in enumerate(self.exchanges) if place not in self._used]
        if left:
            told = "\n".join(f"  {held.place}: {_in_short(held.asked)}" for held in left[:10])
            raise Differs(f"{len(left)} of {len(self.exchanges)} recorded requests were not made:\n{told}")

    # -- what the transport asks

    def find(self, asked: Asked) -> Answered:
        """The answer to a request. Raises Differs where it is not in the recording."""
        with self._lock:
            left = [place for place in range(len(self.exchanges)) if place not in self._used]
            for place in left:
                if not differences(self.exchanges[place], asked, self.ignore):
                    self._used.add(place)
                    return self._fitting(self.exchanges[place], asked)
            self._wrong = Differs(self._told(asked, left))
        raise self._wrong

    def _fitting(self, exchange: Exchange, asked: Asked) -> Answered:
        wants_stream = is_dict(asked.body) and bool(asked.body.get("stream"))
        if exchange.loose and wants_stream:
            return recording_format.streamed(exchange.answered)
        return exchange.answered

    def _told(self, asked: Asked, left: list[int]) -> str:
        number = len(self._used) + 1
        if not left:
            return (
                f"request {number} is not in the recording, which ends with request {number - 1}:"
                f"\n  {_in_short(asked)}"
            )
        nearest = self.exchanges[left[0]]
        lines = differences(nearest, asked, self.ignore)
        return f"request {number} differs from the recording ({nearest.place}):\n" + "\n".join(
            f"  {line}" for line in lines
        )

    def start(self, asked: Asked) -> Exchange:
        """Begin the recording of an exchange."""
        exchange = Exchange(asked, Answered(pieces=[]))
        with self._lock:
            self.exchanges.append(exchange)
        return exchange


def _from_log(
    source: str | os.PathLike[str] | Engine | Conversation, conversation: str | None
) -> list[Exchange]:
    if isinstance(source, Conversation):
        return recording_format.of(source)
    if conversation is None:
        raise BadInput("name the conversation that answers: recorded(engine, conversation)")
    if isinstance(source, Engine):
        return recording_format.of(source.find(conversation))
    with Engine(source) as engine:
        return recording_format.of(engine.find(conversation))


# -- what differs


def differences(recorded: Exchange, made: Asked, ignore: Sequence[str]) -> list[str]:
    """What is other than recorded, a line each."""
    lost = {*ignore, *recorded.loose}
    old, new = recorded.asked, made
    lines: list[str] = []
    if (old.method, old.path) != (new.method, new.path) and "path" not in lost:
        lines.append(f"path: recorded {old.method} {old.path}, asked {new.method} {new.path}")
    lines += _between("", old.body, new.body, [name.split(".") for name in lost])
    return lines


_MISSING = object()


def _between(name: str, old: Any, new: Any, ignore: list[list[str]]) -> Iterator[str]:
    if old == new and type(old) is type(new):
        return
    inner: list[tuple[str, Any, Any]]
    if is_dict(old) and is_dict(new):
        inner = [(key, old.get(key, _MISSING), new.get(key, _MISSING)) for key in {**old, **new}]
    elif is_list(old) and is_list(new):
        size = max(len(old), len(new))
        inner = [
            (str(n), old[n] if n < len(old) else _MISSING, new[n] if n < len(new) else _MISSING)
            for n in range(size)
        ]
    else:
        yield f"{name or 'body'}: {_told(old, new)}"
        return
    for key, left, right in inner:
        deeper = [path[1:] for path in ignore if path[0] in (key, "*")]
        if [] not in deeper:
            yield from _between(f"{name}.{key}" if name else key, left, right, deeper)


def _told(old: Any, new: Any) -> str:
    if isinstance(old, str) and isinstance(new, str) and len(old) + len(new) > 20:
        return marked(compare(old, new))
    if old is _MISSING:
        return f"not recorded, asked {_json(new)}"
    if new is _MISSING:
        return f"recorded {_json(old)}, not asked"
    return f"recorded {_json(old)}, asked {_json(new)}"


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 400 else f"{text[:400]}…"


def _in_short(asked: Asked) -> str:
    messages = asked.body.get("messages") if is_dict(asked.body) else None
    last = f" … {_json(messages[-1])}" if is_list(messages) and messages else ""
    return f"{asked.method} {asked.path}{last}"
