"""Events that the checks need before they reach them: redactions, and the first events of forks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from openai2.core import events as ev
from openai2.store.audit_reader import Noted

_Kind = TypeVar("_Kind", bound=ev.Event)


class Prescan:
    """An index over *noted*, the events that `Scan.noted` returns."""

    def __init__(self, noted: Iterable[Noted]) -> None:
        self.noted = list(noted)
        self._redactions: dict[bytes, dict[int, list[ev.Redacted]]] = {}
        for note in self.noted:
            if note.type == "redacted" and (event := _decode(ev.Redacted, note.data)) is not None:
                of_stream = self._redactions.setdefault(note.conversation, {})
                of_stream.setdefault(event.version, []).append(event)

    def redactions(self, conversation: bytes, version: int) -> list[ev.Redacted]:
        """Return the redactions of one event, oldest first."""
        return self._redactions.get(conversation, {}).get(version, [])

    def fork(self, conversation: bytes, data: bytes) -> ev.Forked | None:
        """Decode *data*, of a fork's first event, or what a redaction left of it; None if that fails."""
        if data:
            return _decode(ev.Forked, data)
        left = (_decode(ev.Forked, bytes(event.left)) for event in self.redactions(conversation, 1))
        return next(filter(None, left), None)

    def forks(self) -> Iterator[ev.Forked]:
        """Yield the first event of each fork that can be decoded."""
        first = (note for note in self.noted if note.type == "forked" and note.version == 1)
        return filter(None, (self.fork(note.conversation, note.data) for note in first))


def _decode(kind: type[_Kind], data: bytes) -> _Kind | None:
    try:
        event = ev.decode(kind.type, data)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, kind) else None
