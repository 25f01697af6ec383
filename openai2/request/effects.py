"""The effects that a request in progress yields: the vocabulary between `flow` and the drivers. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core.request_events import OpenRequest, RequestSpec, StreamState

#: Decides which events to append, given the state inside the appending transaction.
Decide = Callable[[StreamState], list[ev.Event]]


class Opened(NamedTuple):
    """A request on record, and the encoded messages to send."""

    request: OpenRequest
    messages: list[bytes]


class Open:
    """Put the request on record. The result is an `Opened`.

    *opened* keeps the result for a caller that leaves while the transaction runs. *partial* returns the
    message received so far, for the draft.
    """

    __slots__ = ("opened", "partial", "spec")

    def __init__(self, spec: RequestSpec, partial: Callable[[], bytes | None]) -> None:
        self.spec = spec
        self.partial = partial
        self.opened: Opened | None = None

    def set_opened(self, request: OpenRequest, messages: list[bytes]) -> Opened:
        """Keep the result, and return it."""
        self.opened = Opened(request, messages)
        return self.opened


class Send(msgspec.Struct, frozen=True):
    """Send *messages* with *key* (None: the client's own) until *until*, a time of the policy's clock."""

    key: str | None
    messages: list[bytes]
    until: float | None = None


class Receive(msgspec.Struct, frozen=True):
    """Receive the next piece of the response, or all of it if it is not streamed. The result is None at the
    end."""

    until: float | None = None


class Emit(msgspec.Struct, frozen=True):
    """Hand a piece of the answer's text to the caller."""

    text: str


class Think(msgspec.Struct, frozen=True):
    """Hand a piece of the model's reasoning to the caller's callback."""

    text: str


class Pause(msgspec.Struct, frozen=True):
    """Wait."""

    seconds: float


class Close(msgspec.Struct, frozen=True):
    """Put the end of a request on record: the events that *decide* returns."""

    request: int
    decide: Decide


class Answer(NamedTuple):
    """The result of a request: the text, and the encoded message as it joins the view."""

    text: str
    message: bytes


Effect = Open | Send | Receive | Emit | Think | Pause | Close
Flow = Generator[Effect, Any, Answer]
