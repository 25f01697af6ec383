"""What a request in progress asks of the world, and what it is given to go by.

The vocabulary between `flow`, which says what is to be done, and `drivers`, which do it. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core.request_events import OpenRequest, RequestSpec, StreamState


class Open:
    """Put the request on record. The driver's store fills *opened* in, so that it is known even if the
    caller left while the disk was at work. *partial* gives what has come so far, for the draft."""

    __slots__ = ("ask", "opened", "partial")

    def __init__(self, ask: RequestSpec, partial: Callable[[], bytes | None]) -> None:
        self.ask = ask
        self.partial = partial
        self.opened: Opened | None = None

    def be(self, begun: OpenRequest, messages: list[bytes]) -> None:
        """It is on record as *begun*, and these messages are to be sent."""
        self.opened = Opened(begun, messages)


class Opened(NamedTuple):
    """A request on record, and the encoded messages to send."""

    begun: OpenRequest
    messages: list[bytes]


class Send(msgspec.Struct, frozen=True):
    """Send this to the API with *key* (None: the client's own); give up at *until*, on the policy's clock."""

    key: str | None
    messages: list[bytes]
    until: float | None = None


class Receive(msgspec.Struct, frozen=True):
    """Give the next piece of the answer; of one that is not streamed, all of it. None: that was all."""

    until: float | None = None


class Emit(msgspec.Struct, frozen=True):
    """Hand this text to the caller."""

    text: str


class Think(msgspec.Struct, frozen=True):
    """Hand this piece of the model's reasoning to whoever wants it."""

    text: str


class Pause(msgspec.Struct, frozen=True):
    """Let so many seconds pass."""

    seconds: float


class Close(msgspec.Struct, frozen=True):
    """Put on record how the request ended: the events that *decide* makes of the state as it is then."""

    request: int
    decide: Callable[[StreamState], list[ev.Event]]


Effect = Open | Send | Receive | Emit | Think | Pause | Close
Flow = Generator[Effect, Any, str]


class Policy(msgspec.Struct, frozen=True):
    """How often and how long a request is tried; see the module's text.

    *clock* gives seconds, *wall* seconds since 1970, *random* 0 up to 1. *secrets* are sent along besides
    the key, in headers of the caller's own.
    """

    clock: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]
    retries: int = 2
    patience: float | None = 600.0
    secrets: tuple[str, ...] = ()
