"""What an audit has to know of the log before it judges an event: what was redacted, and what forks.

Rules: no I/O. Both halves of an audit, its chain and its meaning, go by it. Nothing that decodes events is
imported before there is one to decode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai2.core import events as ev
    from openai2.store.audit_reader import Noted


class Beforehand:
    """Made of what `Scan.noted` gives, or `Scan.redactions` where nobody asks for `forks`."""

    def __init__(self, noted: Iterable[Noted]) -> None:
        self.noted = list(noted)
        self._redactions: dict[bytes, dict[int, list[ev.Redacted]]] = {}
        for note in self.noted:
            if note.type == "redacted" and (redacted := _redacted(note.data)) is not None:
                known = self._redactions.setdefault(note.conversation, {})
                known.setdefault(redacted.version, []).append(redacted)

    def redactions(self, conversation: bytes, version: int) -> list[ev.Redacted]:
        """Those of one event, the first that was recorded first."""
        return self._redactions.get(conversation, {}).get(version, [])

    def fork(self, conversation: bytes, data: bytes) -> ev.Forked | None:
        """The first event of a fork, whose data is or was *data*; None where it cannot be read."""
        if data:
            return _forked(data)
        left = (_forked(bytes(redacted.left)) for redacted in self.redactions(conversation, 1))
        return next(filter(None, left), None)

    def forks(self) -> Iterator[ev.Forked]:
        """The first events of all forks, as far as they can be read."""
        first = (note for note in self.noted if note.type == "forked" and note.version == 1)
        return filter(None, (self.fork(note.conversation, note.data) for note in first))


def _redacted(data: bytes) -> ev.Redacted | None:
    from openai2.core import events as ev

    event = _decoded("redacted", data)
    return event if isinstance(event, ev.Redacted) else None


def _forked(data: bytes) -> ev.Forked | None:
    from openai2.core import events as ev

    event = _decoded("forked", data)
    return event if isinstance(event, ev.Forked) else None


def _decoded(tag: str, data: bytes) -> ev.Event | None:
    import msgspec

    from openai2.core import events as ev

    try:
        return ev.decode(tag, data)
    except msgspec.DecodeError:
        return None
