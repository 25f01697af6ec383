"""Test programs that use the `openai` client with recorded responses.

    with recorded("tests/recordings/greeting.jsonl"):
        assert greet("Tony") == "Hello, Tony!"

The first run sends requests to the API and writes the file. Later runs send nothing over the network. To
record again, set OPENAI2_RECORD=1 or pass `record=True`. In pytest, the fixture `openai2_recording` does this
with one file for each test.

Invariants:
- All clients of `httpx2` in the process are replayed, sync and async, whenever they were made. Only a client
  with a custom transport is not.
- A request gets the first equal recorded one that was not used yet, so parallel requests may have any order.
- A request that differs fails at once and says how. Recorded requests that were not made fail at the end.
  Both raise `Differs`, which neither `except Exception` nor a retry loop catches.
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
from openai2.recording import from_log
from openai2.recording import transport as recording_transport
from openai2.recording.format import Exchange, Request, Response

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Differs", "RecordingError", "recorded"]

#: The environment variable that asks to record again.
ENVIRONMENT = "OPENAI2_RECORD"


class Differs(BaseException):
    """A program made a request that is not recorded, or did not make a recorded one."""


class recorded:  # noqa: N801 - used as a function: with recorded(path)
    """A context, `with` or `async with`, in which requests are answered from a recording.

    - *source*: the path of a recording; or a `Conversation`; or an `Engine`, or the path of a store, with the
      *conversation* to replay.
    - *ignore*: what is not compared: fields of the body, such as "model", "messages.0.content" or
      "messages.*.name"; "path" for the method and path.
    - *record*: True records again, False never records. None records if the file does not exist or
      OPENAI2_RECORD is set.
    - *partly*: allow that recorded requests are not made.

    Raises RecordingError if the recording is empty, from a newer openai2, or not a recording.
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
            raise BadInput('ignore: expected a list of names, as in ("model",)')
        self.ignore = tuple(ignore)
        self.partly = partly
        self.exchanges: list[Exchange] = []
        self.path: Path | None = None
        self.recording = False
        self._used: set[int] = set()
        self._lock = threading.Lock()
        self._difference: Differs | None = None
        if isinstance(source, (Engine, Conversation)) or conversation is not None:
            if record:
                raise BadInput("record=True is for files: a conversation in a log is recorded already")
            self.exchanges = _read_log(source, conversation)
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
        """End the context: write the recording, or check that all requests were made.

        If the program *failed*, do neither.
        """
        recording_transport.end(self)
        if failed:
            return
        if self._difference is not None:  # the program caught it
            raise self._difference
        if self.path is not None and self.recording:
            if not self.exchanges:
                raise RecordingError("no request was made, so {path} was not written", path=self.path)
            ended = [item for item in self.exchanges if item.response.status or item.response.failure]
            recording_format.write(self.path, ended)
        elif not self.partly:
            unused = [self.exchanges[index] for index in self._unused()]
            if unused:
                lines = "\n".join(f"  {item.place}: {_summary(item.request)}" for item in unused[:10])
                count = f"{len(unused)} of {len(self.exchanges)}"
                raise Differs(f"{count} recorded requests were not made:\n{lines}")

    def _unused(self) -> list[int]:
        return [index for index in range(len(self.exchanges)) if index not in self._used]

    # -- for the transport

    def find(self, request: Request) -> Response:
        """Return the response to a request. Raises Differs if the request is not recorded."""
        with self._lock:
            unused = self._unused()
            for index in unused:
                exchange = self.exchanges[index]
                if not differences(exchange, request, self.ignore):
                    self._used.add(index)
                    is_stream = is_dict(request.body) and bool(request.body.get("stream"))
                    # Only a log does not record whether a request was for a stream.
                    return (
                        from_log.as_stream(exchange.response)
                        if exchange.ignore and is_stream
                        else exchange.response
                    )
            self._difference = Differs(self._explanation(request, unused))
        raise self._difference

    def _explanation(self, request: Request, unused: list[int]) -> str:
        number = len(self._used) + 1
        if not unused:
            end = f"request {number} is not in the recording, which ends with request {number - 1}"
            return f"{end}:\n  {_summary(request)}"
        next_exchange = self.exchanges[unused[0]]
        lines = differences(next_exchange, request, self.ignore)
        head = f"request {number} differs from the recording ({next_exchange.place}):"
        return "\n  ".join([head, *lines])

    def start(self, request: Request) -> Exchange:
        """Begin the recording of an exchange."""
        exchange = Exchange(request, Response(pieces=[]))
        with self._lock:
            self.exchanges.append(exchange)
        return exchange


def _read_log(
    source: str | os.PathLike[str] | Engine | Conversation, conversation: str | None
) -> list[Exchange]:
    if isinstance(source, Conversation):
        return from_log.exchanges_of(source)
    if conversation is None:
        raise BadInput("name the conversation to replay: recorded(engine, conversation)")
    if isinstance(source, Engine):
        return from_log.exchanges_of(source.find(conversation))
    with Engine(source) as engine:
        return from_log.exchanges_of(engine.find(conversation))


# -- differences


def differences(recorded: Exchange, request: Request, ignore: Sequence[str]) -> list[str]:
    """Return how a request differs from a recorded one, a line for each difference."""
    old, ignored = recorded.request, {*ignore, *recorded.ignore}
    lines: list[str] = []
    if (old.method, old.path) != (request.method, request.path) and "path" not in ignored:
        lines.append(f"path: recorded {old.method} {old.path}, asked {request.method} {request.path}")
    return [*lines, *_compare("", old.body, request.body, [name.split(".") for name in ignored])]


_MISSING = object()


def _compare(name: str, old: Any, new: Any, ignore: list[list[str]]) -> Iterator[str]:
    if old == new and type(old) is type(new):
        return
    pairs: list[tuple[str, Any, Any]]
    if is_dict(old) and is_dict(new):
        pairs = [(key, old.get(key, _MISSING), new.get(key, _MISSING)) for key in {**old, **new}]
    elif is_list(old) and is_list(new):
        size = max(len(old), len(new))
        padded = [[*items, *[_MISSING] * (size - len(items))] for items in (old, new)]
        pairs = [(str(n), left, right) for n, (left, right) in enumerate(zip(*padded, strict=True))]
    else:
        yield f"{name or 'body'}: {_difference(old, new)}"
        return
    for key, left, right in pairs:
        deeper = [path[1:] for path in ignore if path[0] in (key, "*")]
        if [] not in deeper:
            yield from _compare(f"{name}.{key}" if name else key, left, right, deeper)


def _difference(old: Any, new: Any) -> str:
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


def _summary(request: Request) -> str:
    messages = request.body.get("messages") if is_dict(request.body) else None
    last = f" … {_json(messages[-1])}" if is_list(messages) and messages else ""
    return f"{request.method} {request.path}{last}"
